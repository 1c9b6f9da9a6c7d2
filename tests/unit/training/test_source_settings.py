"""Settings of sources: augmentations, normalisation layers of their own, importance weights."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from polytask import Recipe, load
from polytask.errors import DataError, PolytaskError, RecipeError
from polytask.models.source_norms import SourceNorm, give_own_norms
from polytask.training.data_sets import ArrayData
from polytask.training.importance import density_ratio
from polytask.training.loop import Training
from polytask.training.opening import prepare_recipe


def sources(n: int = 60, shift: float = 3.0) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(0)
    made = {}
    for name, middle in (("near", 0.0), ("far", shift)):
        x = rng.normal(size=(n, 2)) + middle
        made[name] = pd.DataFrame(
            {
                "x0": x[:, 0],
                "x1": x[:, 1],
                "colour": np.where(x[:, 1] > middle, "red", "green"),
                "trust": rng.uniform(0.5, 2, n),
                name + " y": x @ [1.0, -1.0] + 0.1 * rng.normal(size=n),
            }
        )
    return made


def recipe(near=None, far=None, **changes) -> Recipe:
    inputs = {"inputs": ["x0", "x1", "colour"]}
    settings = {
        "tasks": {"near y": "regression", "far y": "regression"},
        "data": {"near": {**inputs, **(near or {})}, "far": {**inputs, **(far or {})}},
        "encoder": {"name": "tabular", "width": 8},
        "training": {"epochs": 2, "batch_size": 16},
    }
    return Recipe(**{**settings, **changes})


def batches_of(asked: Recipe, data) -> list:
    seen = []
    original = Training.step

    def step(self, batches):
        seen.extend(batches)
        original(self, batches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "step", step)
        asked.run(data)
    return seen


def test_only_the_training_batches_of_the_source_are_varied():
    plain, varied = (
        batches_of(recipe(near={"augment": a}), sources()) for a in ([], ["mixup", {"name": "noise", "std": 0.5}])
    )
    assert len(plain) == len(varied)
    for before, after in zip(plain, varied, strict=True):
        changed = not torch.equal(before.inputs["numeric"], after.inputs["numeric"])
        assert changed == (after.source == "near") == (after.mix is not None)
        assert all(torch.equal(before.targets[task], after.targets[task]) for task in before.targets)
    again = batches_of(recipe(near={"augment": ["mixup", {"name": "noise", "std": 0.5}]}), sources())
    assert all(torch.equal(a.inputs["numeric"], b.inputs["numeric"]) for a, b in zip(varied, again, strict=True))
    first = [b.inputs["numeric"] for b in varied if b.source == "near"][:2]
    assert not torch.equal(*(x[:4] for x in first))


def test_images_are_moved_and_turned():
    rng = np.random.default_rng(0)
    images = (rng.random((40, 1, 16, 12)) * 255).astype(np.uint8)
    data = ArrayData("pictures", images, {"y": images.mean((1, 2, 3))})

    def seen(*augment):
        asked = Recipe(
            tasks={"y": "regression"},
            data={"pictures": {"augment": list(augment)}},
            encoder="cnn",
            training={"epochs": 1, "batch_size": 10},
        )
        return batches_of(asked, data)

    varied = seen({"name": "shift", "most": 0.25}, "rotate", "cutout")
    for before, after in zip(seen(), varied, strict=True):
        assert after.inputs.dtype == torch.float32
        assert after.inputs.shape == before.inputs.shape
        assert all(not torch.equal(one, other) for one, other in zip(before.inputs, after.inputs, strict=True))
        assert before.motion is None
        assert after.motion.shape == (len(after), 2, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment": "mixupp"}, "No augmentation named 'mixupp'. Did you mean 'mixup'"),
        ({"augment": {"name": "noise", "sd": 1}}, "No option of augmentation 'noise' named 'sd'"),
        ({"augment": "rotate"}, r"'rotate' varies images .* 'near' has numeric of shape"),
        ({"importance": {"to": "there"}}, "No other source for importance weights named 'there'"),
        ({"importance": {"from": "far"}}, "No option of importance of source 'near' named 'from'"),
        ({"importance": {"to": "far", "clip": 0.5}}, "Source 'near': importance needs a clip of at least 1"),
        ({"importance": {}}, "Source 'near': importance needs a `column`"),
        ({"importance": "truth"}, "'truth'"),
    ],
)
def test_what_cannot_be_used_is_said(settings, message):
    with pytest.raises(PolytaskError, match=message):
        recipe(near=settings).run(sources())


def test_sources_have_their_own_normalisation(tmp_path):
    asked = recipe(far={"own_norms": True}, encoder={"name": "tabular", "width": 8}, balancer="pcgrad")
    run = asked.run(sources(), out=tmp_path / "run")
    model = run.bundle.models[0].model
    norms = [m for m in model.modules() if isinstance(m, SourceNorm)]
    assert norms
    for norm in norms:
        assert list(norm.own) == ["far"]
        assert not torch.equal(norm.common.weight, norm.own["far"].weight), "both are trained, on other rows"
    again = load(tmp_path / "run")
    for source in ("near", "far"):
        rows = sources()[source]
        ours, theirs = run.bundle.predict(rows, source=source), again.predict(rows, source=source)
        assert all(np.array_equal(ours[task].values, theirs[task].values) for task in ours)


def test_statistics_of_batch_norms_are_those_of_each_source():
    stem = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1, momentum=None), nn.ReLU())
    nn.init.ones_(stem[0].weight), nn.init.zeros_(stem[0].bias)
    give_own_norms(stem, ["b"])
    for source, middle in (("a", 0.0), ("b", 50.0), ("c", 10.0)):
        stem[1].source = source
        stem(torch.tensor([[middle - 1.0], [middle + 1.0]]))
    assert stem[1].common.running_mean.item() == pytest.approx(5.0), "a and c share one"
    assert stem[1].own["b"].running_mean.item() == pytest.approx(50.0)
    with pytest.raises(RecipeError, match="no normalisation layer"):
        give_own_norms(nn.Linear(1, 1), ["b"])
    twice = nn.ModuleDict({"a": (norm := nn.LayerNorm(2)), "b": nn.ModuleDict({"c": norm})})
    give_own_norms(twice, ["s"])
    assert twice["a"] is twice["b"]["c"], "a layer in two places stays one"


def test_a_density_ratio_is_that_of_the_distributions():
    """Of N(1, 1) over N(0, 1): exp(x - 1/2); the mean of a function under the weights is that of the other sample."""
    rng = np.random.default_rng(0)
    here, there = rng.normal(size=4000), rng.normal(size=3000) + 1.0
    found = density_ratio(pd.DataFrame({"x": here}), pd.DataFrame({"x": there}), clip=1e9)
    inner = np.abs(here) < 2
    assert np.max(np.abs(np.log(found[inner]) - (here[inner] - 0.5))) < 0.3
    assert found.mean() == pytest.approx(1.0, abs=0.1)
    assert np.average(here, weights=found) == pytest.approx(1.0, abs=0.15)
    wide = density_ratio(pd.DataFrame({"x": here}), pd.DataFrame({"x": 1.5 * rng.normal(size=3000)}), clip=1e9)
    truth = np.log(1 / 1.5) + here**2 / 2 * (1 - 1 / 1.5**2)
    assert np.max(np.abs(np.log(wide[inner]) - truth[inner])) < 0.3


def test_categories_and_missing_values_count_in_a_density_ratio():
    rng = np.random.default_rng(1)
    kinds = [rng.choice(["a", "b", "missing"], 2000, p=p) for p in ([0.5, 0.4, 0.1], [0.2, 0.4, 0.4])]
    found = density_ratio(
        *(pd.DataFrame({"kind": k, "x": np.where(rng.random(2000) < 0.2, np.nan, 0.0)}) for k in kinds)
    )
    for kind, ratio in (("a", 0.4), ("b", 1.0), ("missing", 4.0)):
        assert found[kinds[0] == kind].mean() == pytest.approx(ratio, rel=0.15)
    with pytest.raises(DataError, match="5 rows of each source"):
        density_ratio(pd.DataFrame({"x": [1.0]}), pd.DataFrame({"x": [1.0] * 9}))


def test_importance_weights_have_mean_one_and_join_those_of_the_rows():
    data = sources(shift=1.0)
    asked = recipe(near={"importance": {"to": "far"}, "row_weights": "trust"})
    prepared = prepare_recipe(asked, data)
    rows = prepared.splits["near"].train
    trust = data["near"]["trust"].to_numpy()[rows]
    weights = prepared.train["near"].row_weights.numpy() / trust
    assert weights.mean() == pytest.approx(1.0, rel=1e-4)
    towards = data["near"][["x0", "x1"]].mean(axis=1).to_numpy()[rows]
    assert np.corrcoef(weights, towards)[0, 1] > 0.5, "rows that look like the other source weigh more"
    assert any("are worth" in note and "likeness to those of 'far'" in note for note in prepared.notes)
    assert prepared.train["far"].row_weights is None
    assert np.array_equal(prepared.validation["near"].row_weights.numpy(), data["near"]["trust"].to_numpy(dtype=np.float32)[
        prepared.splits["near"].validation])  # fmt: skip
    by_column = prepare_recipe(recipe(near={"importance": "trust"}), data).train["near"].row_weights
    assert np.allclose(by_column.numpy(), trust / trust.mean(), rtol=1e-5)


def test_images_have_density_ratios_too():
    rng = np.random.default_rng(0)
    one, other = (
        ArrayData(name, rng.normal(m, 1, (50, 2)), {name: rng.normal(size=50)}) for name, m in (("a", 0), ("b", 1))
    )
    asked = Recipe(
        tasks={"a": "regression", "b": "regression"}, data={"a": {"importance": {"to": "b"}}}, encoder="mlp",
        training={"epochs": 1},
    )  # fmt: skip
    assert prepare_recipe(asked, [one, other]).train["a"].row_weights.std() > 0.1
    strange = ArrayData("b", {"sound": rng.normal(size=(50, 2))}, {"b": rng.normal(size=50)})
    with pytest.raises(DataError, match="no input in common"):
        prepare_recipe(asked, [one, strange])
