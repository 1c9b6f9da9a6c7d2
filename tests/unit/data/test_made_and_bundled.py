import subprocess
import sys

import numpy as np
import pytest

from polytask.data import (
    TableTransform,
    bundled_digits,
    bundled_names,
    check_targets,
    clustered_tasks,
    fit_tasks,
    impressions,
    load_bundled,
    mmoe_synthetic,
    related_regressions,
    rendered_letters,
    table_source,
)
from polytask.errors import DataError, MissingExtraError, RecipeError


@pytest.mark.parametrize("relatedness", [0.0, 0.5, 1.0])
def test_related_regressions(relatedness):
    made = related_regressions(4, 20_000, relatedness=relatedness, noise=0.0, seed=1)
    weights = made.truth["weights"]
    np.testing.assert_allclose(weights @ weights.T, relatedness + (1 - relatedness) * np.eye(4), atol=1e-12)
    off = made.frame[list(made.targets)].corr().to_numpy()[np.triu_indices(4, 1)]
    assert np.abs(off - relatedness).max() < 0.03
    np.testing.assert_allclose(made.frame[list(made.inputs)] @ weights.T, made.frame[list(made.targets)], atol=1e-12)


def test_missing_labels_and_seeds():
    made = related_regressions(3, 5000, missing=0.3, seed=2)
    assert made.frame[list(made.targets)].isna().mean().to_numpy() == pytest.approx(0.3, abs=0.03)
    assert not made.frame[list(made.inputs)].isna().any().any()
    assert made.frame.equals(related_regressions(3, 5000, missing=0.3, seed=2).frame)
    assert not made.frame.equals(related_regressions(3, 5000, missing=0.3, seed=3).frame)


def test_a_hundred_tasks_and_as_many_inputs():
    made = clustered_tasks((10,) * 10, 20, n_inputs=120, missing=0.3)
    assert list(made.frame) == [*made.inputs, *made.targets]
    assert made.frame.shape == (20, 220)


def test_clustered_tasks():
    made = clustered_tasks((2, 3), 50, relatedness=0.9)
    cosines = made.truth["weights"] @ made.truth["weights"].T
    same = made.truth["clusters"][:, None] == made.truth["clusters"]
    np.testing.assert_allclose(cosines, np.where(np.eye(5) == 1, 1, np.where(same, 0.9, 0)), atol=1e-12)


@pytest.mark.parametrize("p", [-1.0, 0.0, 0.7, 1.0])
def test_mmoe_synthetic(p):
    made = mmoe_synthetic(p, 4000, n_inputs=20, n_sines=5, scale=2.0, seed=4)
    w, alpha, beta = (made.truth[name] for name in ("weights", "alpha", "beta"))
    np.testing.assert_allclose(w @ w.T, 4 * np.array([[1, p], [p, 1]]), atol=1e-9)
    x = made.frame[list(made.inputs)].to_numpy()
    for k in range(2):
        s = x @ w[k]
        clean = s + sum(np.sin(a * s + b) for a, b in zip(alpha, beta, strict=True))
        residual = made.frame[f"y{k}"].to_numpy() - clean
        assert residual.var() == pytest.approx(0.01, rel=0.1)


def test_impressions():
    made = impressions(50_000, click_rate=0.2, conversion_rate=0.3, relatedness=0.6, seed=5)
    frame, truth = made.frame, made.truth
    assert truth["click_chance"].mean() == pytest.approx(0.2, abs=1e-6)
    assert frame["click"].mean() == pytest.approx(0.2, abs=0.01)
    assert np.mean(truth["would_convert"]) == pytest.approx(0.3, abs=0.01)
    clicked = frame["click"] == 1
    assert (frame["conversion"].notna() == clicked).all()
    assert (frame.loc[clicked, "conversion"] == truth["would_convert"][clicked]).all()
    assert (frame["purchase"] == frame["click"] * truth["would_convert"]).all()
    assert frame.loc[clicked, "conversion"].mean() > 0.4  # clicked rows are not like the others


@pytest.mark.parametrize(
    "make",
    [
        lambda: related_regressions(3, relatedness=1.5),
        lambda: related_regressions(3, missing=-0.1),
        lambda: related_regressions(10, n_inputs=10),
        lambda: clustered_tasks((5, 5), n_inputs=11),
        lambda: mmoe_synthetic(1.1),
        lambda: mmoe_synthetic(n_inputs=1),
        lambda: impressions(click_rate=0.0),
        lambda: impressions(relatedness=2.0),
        lambda: rendered_letters(0),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(DataError):
        make()


@pytest.mark.parametrize("name", bundled_names())
def test_bundled_tables_are_ready_for_use(name):
    table = load_bundled(name)
    fit_tasks(table.tasks, table.frame)
    check_targets(table.frame, table.tasks, table.inputs)
    transform = TableTransform(table.inputs).fit(table.frame)
    assert transform.notes == []
    source = table_source(name, table.frame, table.tasks, transform)
    assert set(source.tasks) == {task.name for task in table.tasks}
    assert len({task.kind for task in table.tasks}) >= 2
    assert table.words


def test_bundled_tables_agree_with_statsmodels():
    raw = pytest.importorskip("statsmodels.datasets.fair").load_pandas().data
    frame = load_bundled("marriage").frame
    assert frame["affair"].mean() == pytest.approx((raw["affairs"] > 0).mean())
    assert frame["education"].tolist() == raw["educ"].tolist()
    insurance = load_bundled("insurance")
    assert len(insurance.frame) == 20_190
    assert 0.9 < insurance.frame["limited"].notna().mean() < 1
    assert insurance.groups == "person"


def test_the_tumours_are_those_of_scikit_learn():
    from sklearn.datasets import load_breast_cancer

    raw = load_breast_cancer()
    frame = load_bundled("tumours").frame
    assert (frame["diagnosis"] == "malignant").sum() == (raw.target == list(raw.target_names).index("malignant")).sum()
    assert (frame["diagnosis"].map({"malignant": 0, "benign": 1}) == raw.target).all()
    column = list(raw.feature_names).index("worst concave points")
    assert (frame["worst_concave_points"] == raw.data[:, column]).all()


def test_bundled_errors(monkeypatch):
    with pytest.raises(RecipeError, match="Did you mean 'marriage'"):
        load_bundled("mariage")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for make in (lambda: load_bundled("marriage"), bundled_digits, lambda: rendered_letters(3)):
        with pytest.raises(MissingExtraError, match=r"polytask\[demo\]"):
            make()


def test_digits():
    images, labels = bundled_digits()
    assert images.shape == (5000, 1, 28, 28)
    assert images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [500] * 10
    from sklearn.neighbors import KNeighborsClassifier

    flat = images.reshape(5000, -1)
    assert KNeighborsClassifier(3).fit(flat[::2], labels[::2]).score(flat[1::10], labels[1::10]) > 0.9


def test_letters_can_be_read_in_fonts_not_seen():
    letters = rendered_letters(2600, seed=1)
    assert set(np.unique(letters.labels, return_counts=True)[1]) == {100}
    seen = ~np.char.startswith(letters.fonts.astype(str), "cm")
    flat = letters.images.reshape(len(letters.images), -1)
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(3).fit(flat[seen], letters.labels[seen])
    assert model.score(flat[~seen], letters.labels[~seen]) > 0.35  # by chance 0.04
    again = rendered_letters(2600, seed=1)
    assert np.array_equal(letters.images, again.images)
    assert not np.array_equal(letters.images, rendered_letters(2600, seed=2).images)


def test_the_package_loads_nothing_heavy():
    code = (
        "import sys, polytask.data, polytask.data.samplers; "
        "assert polytask.data.samplers.registry.names(); dir(polytask.data); "
        "print([name for name in ('torch', 'pandas', 'numpy', 'sklearn') if name in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_every_public_name_is_there():
    import polytask.data

    for name in polytask.data.__all__:
        assert getattr(polytask.data, name).__name__ == name
    with pytest.raises(AttributeError):
        polytask.data.nothing  # noqa: B018
