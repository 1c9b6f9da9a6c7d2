import json

import numpy as np
import pandas as pd
import pytest
import torch

from polytask.data import TableTransform, open_table
from polytask.data.kinds import infer_kind
from polytask.errors import InputError, RecipeError
from polytask.training.known_data import KnownTable

RNG = np.random.default_rng(0)
N = 60
TRAIN = pd.DataFrame(
    {
        "age": RNG.normal(40, 10, N),
        "income": np.where(RNG.random(N) < 0.2, np.nan, RNG.lognormal(10, 1, N)),
        "smokes": RNG.choice([True, False], N),
        "town": RNG.choice(["Bern", "Graz", "Oslo"], N),
        "visit": pd.date_range("2023-11-01", periods=N, freq="7D"),
        "constant": 1,
        "empty": None,
        "id": [f"person {i}" for i in range(N)],
    }
)


@pytest.fixture
def fitted():
    return TableTransform().fit(TRAIN)


def test_what_is_left_out_is_said(fitted):
    assert [note.split("'")[1] for note in fitted.notes] == ["constant", "empty", "id"]
    assert "--set kinds.id=categorical takes each as a thing of its own" in fitted.notes[2]
    assert fitted.cardinalities == {"town": 5}
    assert fitted.numeric_names[:4] == ("age", "income", "income (missing)", "smokes")
    assert "visit (day of year, sine)" in fitted.numeric_names
    assert "visit (hour)" not in fitted.numeric_names  # always midnight


def test_numbers_are_scaled_by_the_training_rows():
    rows = np.arange(0, N, 2)
    out = TableTransform(["age", "income"]).fit(TRAIN, rows).transform(TRAIN)["numeric"].numpy()
    train = TRAIN.iloc[rows]
    np.testing.assert_allclose(out[:, 0], (TRAIN.age - train.age.mean()) / train.age.std(ddof=0), rtol=1e-5)
    expected = ((TRAIN.income - train.income.mean()) / train.income.std(ddof=0)).fillna(0)
    np.testing.assert_allclose(out[:, 1], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(out[:, 2], TRAIN.income.isna())


def test_rows_of_transform(fitted):
    rows = np.array([5, 3, 3])
    whole, part = fitted.transform(TRAIN), fitted.transform(TRAIN, rows)
    assert all(torch.equal(whole[key][rows], part[key]) for key in whole)
    assert whole["numeric"].dtype == torch.float32
    assert whole["categorical"].dtype == torch.int64


def test_booleans_are_signs():
    data = {"b": pd.array([True, False, None, True], dtype="boolean"), "c": ["true", "False", "TRUE", None]}
    out = TableTransform().fit_transform(data)["numeric"]
    assert out.tolist() == [[1, 0, 1, 0], [-1, 0, -1, 0], [0, 1, 1, 0], [1, 0, 0, 1]]


def test_categories_missing_rare_unseen():
    train = {"c": ["a", "a", "b", "b", "once", None]}
    transform = TableTransform(kinds={"c": "categorical"}).fit(train)
    assert transform.transform({"c": ["a", "b", "once", "never", None]})["categorical"][:, 0].tolist() == [
        2,
        3,
        1,
        1,
        0,
    ]
    fewer = TableTransform(min_count=1, max_categories=1).fit({"c": ["a", "b", "b", "c"]})
    assert fewer.transform({"c": ["a", "b", "c"]})["categorical"][:, 0].tolist() == [1, 2, 1]


def test_a_category_is_the_same_however_it_was_read():
    transform = TableTransform(kinds={"c": "categorical"}).fit({"c": [1, 1, 2, 2]})
    for values in ([1.0, 2.0, np.nan], ["1", "2", None], pd.array([1, 2, None], dtype="Int64"), ["1.0", " 2", None]):
        assert transform.transform({"c": values})["categorical"][:, 0].tolist() == [2, 3, 0]


def test_dates():
    transform = TableTransform(["day"]).fit({"day": ["2024-02-29T06:00:00", "2023-07-01T18:00:00", None]})
    assert len(transform.numeric_names) == 8
    texts = transform.transform({"day": ["2024-02-29T06:00:00"]})
    stamps = transform.transform({"day": pd.to_datetime(["2024-02-29T08:00:00+02:00"])})
    assert torch.equal(texts["numeric"], stamps["numeric"])
    with pytest.raises(InputError, match=r"'day' holds dates, but row 1 has 'soon'"):
        transform.transform({"day": ["2024-01-01", "soon"]})
    with pytest.raises(InputError, match="got numbers"):
        transform.transform({"day": [3.0]})


def test_a_value_that_was_never_missing_is_imputed_and_counted():
    transform = TableTransform(["age"]).fit({"age": [1.0, 2.0, 30.0]})
    notes = []
    out = transform.transform({"age": [np.nan, 2.0, None]}, notes=notes)["numeric"][:, 0]
    assert out[0] == out[1] == out[2]
    assert notes == ["Column 'age': 2 missing replaced by the training median."]


def test_robust_scaling_and_its_way_out():
    out = TableTransform(scaling="robust").fit_transform({"a": [0.0, 1, 2, 3, 1000], "b": [0.0, 0, 0, 0, 5]})["numeric"]
    assert out[:, 0].tolist() == [-1, -0.5, 0, 0.5, 499]
    assert torch.isfinite(out).all()


def test_quantile_scaling_is_normal_and_clipped():
    values = RNG.lognormal(0, 2, 5000)
    transform = TableTransform(scaling="quantile").fit({"a": values})
    out = transform.transform({"a": values})["numeric"][:, 0]
    assert abs(out.mean()) < 0.02
    assert abs(out.std() - 1) < 0.05
    edge = transform.transform({"a": [1e30, -1e30, np.median(values)]})["numeric"][:, 0]
    assert edge[0] == -edge[1] > 5
    assert abs(edge[2]) < 0.01
    ties = TableTransform(scaling="quantile").fit_transform({"a": [0.0] * 50 + list(range(1, 51))})["numeric"][:, 0]
    assert abs(ties[0] + 0.67) < 0.05  # the middle of the lower half


@pytest.mark.parametrize("scaling", ["standard", "robust", "quantile"])
def test_state_survives_json(scaling):
    transform = TableTransform(scaling=scaling).fit(TRAIN)
    again = TableTransform().load_state(json.loads(json.dumps(transform.state())))
    first, second = transform.transform(TRAIN), again.transform(TRAIN)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert again.state() == transform.state()
    assert again.notes == transform.notes


def test_missing_columns_are_named(fitted):
    with pytest.raises(InputError, match=r"lacks 'age', 'town', which training had"):
        fitted.transform(TRAIN.drop(columns=["age", "town"]))
    fitted.transform(TRAIN.drop(columns=["constant", "id"]))  # nobody needs them


def test_arrays_need_the_same_number_of_columns():
    transform = TableTransform().fit(np.random.default_rng(0).normal(size=(9, 3)))
    assert transform.transform(np.zeros((2, 3)))["numeric"].shape == (2, 3)
    for width in (2, 4):
        with pytest.raises(InputError, match=f"has {width} columns, but training had 3"):
            transform.transform(np.zeros((2, width)))
    named = TableTransform().fit({"a": [1.0, 2.0], "b": [3.0, 5.0]})
    by_name, by_place = named.transform({"b": [5.0], "a": [1.0]}), named.transform(np.array([[1.0, 5.0]]))
    assert torch.equal(by_name["numeric"], by_place["numeric"])


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("age", np.inf, "'age', row 1: the value is infinite"),
        ("age", -np.inf, "'age', row 1: the value is infinite"),
        ("age", 1e300, "'age', row 1: .* too large"),
        ("age", "old", "'age' holds numbers, but row 1 has 'old'"),
        ("smokes", "perhaps", "'smokes' holds true and false, but row 1 has 'perhaps'"),
        ("smokes", 2, "'smokes' holds true and false, but row 1 has 2"),
    ],
)
def test_bad_values(fitted, column, value, words):
    new = TRAIN.iloc[:3].astype({column: object}).reset_index(drop=True)
    new.loc[1, column] = value
    with pytest.raises(InputError, match=words):
        fitted.transform(new)


def test_errors_count_rows_in_the_table(fitted):
    rows = np.array([2, 2, 50, 59])
    for column, value in (("age", np.inf), ("age", 1e300), ("age", "old"), ("smokes", "perhaps"), ("visit", "soon")):
        new = TRAIN.astype({column: object})
        new.loc[50, column] = value
        with pytest.raises(InputError, match="row 50"):
            fitted.transform(new, rows)
    days = TRAIN.assign(visit=TRAIN["visit"].astype(str)).replace({"visit": {"2023-11-15": "15 Nov 2023"}})
    part = {key: tensor[rows] for key, tensor in fitted.transform(TRAIN).items()}
    assert all(torch.equal(tensor, part[key]) for key, tensor in fitted.transform(days, rows).items())


def test_bad_training_values():
    with pytest.raises(InputError, match="'a', row 2: the value is infinite"):
        TableTransform().fit({"a": [1.0, 2.0, np.inf]})
    with pytest.raises(InputError, match="too large to scale"):
        TableTransform(scaling="robust").fit({"a": [-1.7e308, -1.6e308, 1.6e308, 1.7e308]})
    with pytest.raises(InputError, match="'a' holds values of type list"):
        TableTransform().fit({"a": pd.Series([[1], [2]])})
    with pytest.raises(InputError, match="complex"):
        TableTransform().fit({"a": [1j, 2j]})
    with pytest.raises(InputError, match=r"No input column is left.*'a' is left out"):
        TableTransform().fit({"a": [1, 1]})
    with pytest.raises(InputError, match=r"'agee'. Did you mean 'age'"):
        TableTransform(["agee"]).fit(TRAIN)
    with pytest.raises(InputError, match=r"holds numbers, but row 0 has 'Bern'|holds numbers, but row 0 has"):
        TableTransform(["town"], kinds={"town": "numeric"}).fit(TRAIN)
    with pytest.raises(InputError, match="fitted"):
        TableTransform().transform(TRAIN)


def test_bad_options():
    with pytest.raises(RecipeError, match=r"No scaling named 'standrd'. Did you mean 'standard'"):
        TableTransform(scaling="standrd")
    with pytest.raises(RecipeError, match="column kind"):
        TableTransform(kinds={"a": "number"})
    with pytest.raises(RecipeError, match="at least 1"):
        TableTransform(min_count=0)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "numeric"),
        (["1", " 2.5", None], "numeric"),
        ([0, 1, 1], "numeric"),
        ([True, None], "boolean"),
        (["true", "False"], "boolean"),
        (["a", "b"], "categorical"),
        (pd.Categorical([1, 2]), "categorical"),
        (pd.to_timedelta(["1h", "2h"]), "numeric"),
        (pd.to_datetime(["2024-01-01"]), "date"),
        (["2024-01-01", "2024-13-01"], "categorical"),
        (["2024", "2025"], "numeric"),
        ([None, None], "empty"),
        ([f"text {i}" for i in range(30)], "text"),
        ([f"text {i}" for i in range(30)] * 3, "categorical"),
    ],
)
def test_kinds(values, kind):
    assert infer_kind(pd.Series(values), "c") == kind


def test_columns_are_read_one_at_a_time(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    TRAIN.drop(columns="empty").to_parquet(path)
    table = open_table(path)
    monkeypatch.setattr(type(table), "frame", lambda self: pytest.fail("the whole table was read"))
    from_file, from_frame = TableTransform().fit_transform(table), TableTransform().fit_transform(TRAIN)
    assert all(torch.equal(from_file[key], from_frame[key]) for key in from_frame)


def test_hashed_identifiers_that_training_did_not_see_have_codes_that_differ_and_stay():
    users = [f"u{i}" for i in range(50) for _ in range(1 + 3 * (i < 5))]
    transform = TableTransform(kinds={"user": "hashed"}, min_count=2, buckets=16).fit({"user": users})
    (size,) = transform.cardinalities.values()
    assert size == 5 + 1 + 16
    new = {"user": [f"n{i}" for i in range(200)] + ["u1", "u1", None]}
    codes = transform.transform(new)["categorical"][:, 0]
    assert set(codes[:200].tolist()) == {1, *range(7, 22)}  # every bucket is used, and nothing else
    assert codes[200] == codes[201] == 3
    assert codes[202] == 0
    again = TableTransform().load_state(json.loads(json.dumps(transform.state())))
    assert torch.equal(again.transform(new)["categorical"], transform.transform(new)["categorical"])
    assert not transform.read["user"].unknown(pd.Series(new["user"])).any()
    notes: list[str] = []
    KnownTable("new", new, transform, []).fit([], np.arange(203), notes)
    assert notes == [], "no new user is read as a rare one"
    assert TableTransform(kinds={"user": "hashed"}).fit({"user": [f"u{i}" for i in range(9)]}).cardinalities
    with pytest.raises(RecipeError, match="buckets"):
        TableTransform(buckets=0)


def test_free_text_becomes_the_words_it_holds():
    notes = [
        "The pump is loud",
        "pump broken, LOUD noise",
        "all fine",
        "Fine. All fine!",
        "loud pump",
        None,
        "all fine",
    ]
    table = {"note": notes, "x": [float(i) for i in range(7)]}
    transform = TableTransform(kinds={"note": "words"}).fit(table)
    bits = transform.transform(table)["molecule"]
    (column,) = transform._molecules
    assert column.bits == ("all", "fine", "loud", "pump")
    assert bits.tolist() == [
        [0, 0, 1, 1],
        [0, 0, 1, 1],
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 1, 1],
        [0] * 4,
        [1, 1, 0, 0],
    ]
    again = TableTransform().load_state(json.loads(json.dumps(transform.state())))
    new = {"note": ["a LOUD one", 5, None], "x": [1.0, 2.0, 3.0]}
    assert torch.equal(again.transform(new)["molecule"], transform.transform(new)["molecule"])
    assert transform.positions(["note"])["molecule"] == (0, 1, 2, 3)
    left_out = TableTransform(kinds={"note": "words"}).fit({"note": ["a", "b", "c", "d"], "x": [1.0, 2.0, 3.0, 4.0]})
    assert "no word comes" in left_out.notes[0]


def test_what_keeps_a_column_from_being_numbers_is_said():
    load = [f"{row},{row:03d}" if row % 2 else str(row) for row in range(60)]
    frame = pd.DataFrame({"load": load, "name": [f"V{row}" for row in range(60)], "a": np.arange(60.0)})
    notes = TableTransform().fit(frame).notes
    assert "50 % of them are numbers, but not '1,001'" in notes[0]
    assert "are numbers" not in notes[1]


def test_numbers_that_only_name_the_rows_are_noted() -> None:
    n = 80
    order = np.random.default_rng(0).permutation(n)
    table = {"customer": order + 1000, "year": order % 40, "x": order / 7, "square": order**2, "asked": order + 5}
    transform = TableTransform(kinds={"asked": "numeric"}).fit(table)
    assert [note.split("'")[1] for note in transform.notes] == ["customer"]
    assert "--drop customer" in transform.notes[0]
