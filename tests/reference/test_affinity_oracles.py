"""Measures against independent oracles: float64 autograd, scipy, closed forms."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from polytask.affinity.ground import Ground
from polytask.affinity.measures.label_correlation import LabelCorrelation, correlation
from polytask.affinity.probe import Probe, gramian, probes
from polytask.affinity.trace import cosines
from polytask.data.generators import clustered_tasks
from polytask.recipe import Recipe
from polytask.training.running import plan_of, prepare_recipe

NETWORK = {
    "encoder": {"name": "mlp", "widths": [8, 8], "dropout": 0.3},
    "training": {"epochs": 3, "batch_size": 32, "learning_rate": 0.01},
}


@pytest.fixture
def ground():
    made = clustered_tasks((2, 1), 240, n_inputs=6, missing=0.3, noise=0.3)
    recipe = Recipe(tasks=list(made.targets), **NETWORK)
    prepared = prepare_recipe(recipe, made.frame)
    return Ground(prepared, plan_of(recipe, prepared), 1)


def losses64(model, probe):
    """Mean losses over the observed labels of the probe, in double precision, without dropout."""
    twin = copy.deepcopy(model).double().eval()
    (batch,) = probe.batches
    outputs = twin({k: v.double() for k, v in batch.inputs.items()} if isinstance(batch.inputs, dict) else batch.inputs)
    found = []
    for task in probe.training.tasks:
        seen = batch.observed[task.name]
        found.append((outputs[task.name][seen, 0] - batch.targets[task.name][seen].double()).square().mean())
    return twin, found


def test_the_gramian_of_a_probe_is_that_of_double_precision_autograd(ground):
    seen = []

    def look(probe: Probe):
        mine = cosines(gramian(probe).numpy())
        twin, losses = losses64(probe.training.model, probe)
        shared = twin.shared_parameters()
        rows = torch.stack(
            [torch.cat([g.flatten() for g in torch.autograd.grad(loss, shared, retain_graph=True)]) for loss in losses]
        )
        unit = rows / rows.norm(dim=1, keepdim=True)
        wanted = (unit @ unit.T).numpy()
        np.fill_diagonal(wanted, np.nan)
        seen.append((mine, wanted))

    probes(ground, look)
    assert seen
    for mine, wanted in seen:
        np.testing.assert_allclose(mine, wanted, atol=1e-5)


def test_looking_changes_nothing(ground):
    plain = ground.watched(lambda training, batches: None).model.state_dict()
    other = Ground(ground.prepared, ground.plan, ground.seed)
    looked = []
    fitted = other.watched(lambda training, batches: looked.append(gramian(Probe(training, 0))))
    assert looked
    for name, tensor in fitted.model.state_dict().items():
        assert torch.equal(tensor, plain[name]), name


def test_label_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    frame = pd.DataFrame(x, columns=["x0", "x1", "x2"])
    frame["a"] = np.exp(x[:, 0])
    frame["b"] = -(x[:, 0] ** 3) + rng.normal(size=400)
    frame.loc[::3, "b"] = np.nan
    recipe = Recipe(tasks={"a": "regression", "b": "regression"}, **NETWORK)
    prepared = prepare_recipe(recipe, frame)
    found = LabelCorrelation().read(Ground(prepared, plan_of(recipe, prepared)))
    train = frame.iloc[prepared.splits["data"].train]
    wanted = spearmanr(train["a"], train["b"], nan_policy="omit").statistic
    assert found.values[0][1] == pytest.approx(wanted, abs=1e-12)
    assert found.values[1][0] == pytest.approx(wanted, abs=1e-12)


def test_correlation_of_classes_does_not_depend_on_their_order():
    rng = np.random.default_rng(1)
    classes = rng.integers(0, 3, 200)
    number = (classes == 1) + 0.1 * rng.normal(size=200)
    a = np.eye(3)[classes]
    assert correlation(a, number[:, None]) == pytest.approx(correlation(a[:, [2, 0, 1]], number[:, None]))
    assert correlation(a, a) == pytest.approx(1.0)
    # Two columns that say the same, one the reverse of the other: the absolute correlation.
    two = np.eye(2)[(classes == 1).astype(int)]
    r = np.corrcoef(classes == 1, number)[0, 1]
    assert correlation(two, number[:, None]) == pytest.approx(abs(r))
    assert np.isnan(correlation(np.ones((5, 1)), number[:5, None]))
