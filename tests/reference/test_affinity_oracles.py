"""Measures against independent oracles: float64 autograd, scipy, closed forms."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge

from polytask.affinity.ground import Ground
from polytask.affinity.measures.cka import cka_matrix
from polytask.affinity.measures.label_correlation import LabelCorrelation, correlation
from polytask.affinity.measures.lookahead import Lookahead
from polytask.affinity.measures.pairwise_gain import PairwiseGain
from polytask.affinity.measures.rsa import rsa_matrix
from polytask.affinity.measures.transfer import _components, _head, ahp
from polytask.affinity.probe import Probe, gramian, has_own_rows, probes
from polytask.affinity.trace import cosines
from polytask.data.generators import clustered_tasks
from polytask.recipe import Recipe
from polytask.tasks.regression import Regression
from polytask.training.evaluation import constant_losses, mean_losses
from polytask.training.opening import prepare_recipe
from polytask.training.planning import plan_of

NETWORK = {
    "encoder": {"name": "mlp", "widths": [8, 8], "dropout": 0.3},
    "training": {"epochs": 3, "batch_size": 32, "learning_rate": 0.01},
}


@pytest.fixture
def ground():
    return ground_of(missing=0.3)


def ground_of(missing: float) -> Ground:
    made = clustered_tasks((2, 1), 240, n_inputs=6, missing=missing, noise=0.3)
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


@pytest.mark.parametrize(("missing", "own_rows"), [(0.3, False), (0.6, True)])
def test_the_gramian_of_a_probe_is_that_of_double_precision_autograd(missing, own_rows):
    ground = ground_of(missing)
    seen = []

    def look(probe: Probe):
        assert has_own_rows(probe) == own_rows
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


@pytest.mark.parametrize("step", ["sgd", "optimiser"])
def test_lookahead_is_one_minus_the_ratio_of_the_losses_after_and_before(ground, step):
    """Equation 1 of Fifty et al., written out in double precision on a copy of the network."""
    seen = []

    def look(probe: Probe):
        mine = Lookahead(step=step).look(probe)
        optimiser = probe.training.optimisation.optimiser
        group = optimiser.param_groups[0]
        wanted = np.full_like(mine, np.nan)
        for i in range(len(mine)):
            twin, losses = losses64(probe.training.model, probe)
            shared = twin.shared_parameters()
            gradients = torch.autograd.grad(losses[i], shared)
            before = [loss.item() for loss in losses]
            # One step of a new optimiser without momentum, which has taken over the second moments.
            with torch.no_grad():
                for p, g, original in zip(shared, gradients, probe.training.passes.shared, strict=True):
                    if step == "optimiser" and (state := optimiser.state.get(original)):
                        v = state["exp_avg_sq"].double() / (1 - group["betas"][1] ** state["step"].item())
                        g = g / (v.sqrt() + group["eps"])
                    elif step == "optimiser":
                        g = g / (g.abs() + group["eps"])
                    p -= group["lr"] * g
            _, after = losses64_of(twin, probe)
            for j in range(len(mine)):
                if i != j:
                    wanted[i, j] = 1 - after[j].item() / before[j]
        seen.append((mine, wanted))

    probes(ground, look)
    assert len(seen) > 1
    for mine, wanted in seen:
        np.testing.assert_allclose(mine, wanted, atol=2e-5)


def losses64_of(twin, probe):
    held = probe.training.model
    probe.training.model = twin
    try:
        return losses64(twin, probe)
    finally:
        probe.training.model = held


def test_lookahead_with_a_small_step_is_the_inner_product_of_gradients(ground):
    """First order: the change of j is the rate times the product of the gradients of i and j, over the loss of j."""
    seen = []

    def look(probe: Probe):
        group = probe.training.optimisation.optimiser.param_groups
        rates = [g["lr"] for g in group]
        for g in group:
            g["lr"] = 1e-3
        mine = Lookahead(step="sgd").look(probe)
        for g, rate in zip(group, rates, strict=True):
            g["lr"] = rate
        losses = [loss.item() for loss in probe.losses()[1].values()]
        wanted = 1e-3 * gramian(probe).numpy() / np.array(losses)[None, :]
        seen.append((mine, wanted))

    probes(ground, look)
    off = ~np.eye(3, dtype=bool)
    for mine, wanted in seen:
        np.testing.assert_allclose(mine[off], wanted[off], atol=2e-5 + 0.05 * np.abs(wanted[off]).max())


def test_cka_is_the_formula_over_features_and_keeps_its_identities():
    draw = torch.Generator().manual_seed(0)
    x, y = (torch.randn(60, d, dtype=torch.float64, generator=draw) for d in (5, 9))
    turned = x @ torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=draw))[0]
    found = cka_matrix({"x": x, "y": y, "turned": 7 * turned + 3, "constant": torch.ones(60, 2).double()})
    a, b = x - x.mean(0), y - y.mean(0)
    wanted = (a.T @ b).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())
    assert found[0, 1] == pytest.approx(wanted.item())
    assert found[0, 2] == pytest.approx(1.0)
    assert found[1, 2] == pytest.approx(wanted.item())
    assert np.isnan(found[3]).all()
    # Of one column each, it is the squared correlation.
    single = cka_matrix({"x": x[:, :1], "y": y[:, :1]})
    assert single[0, 1] == pytest.approx(np.corrcoef(x[:, 0], y[:, 0])[0, 1] ** 2)


def test_rsa_is_spearmans_correlation_of_scipys_distances():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(40, 6)), rng.normal(size=(40, 4))
    y[:, 0] += x[:, 0]
    found = rsa_matrix({"x": torch.tensor(x), "y": torch.tensor(y)})
    wanted = spearmanr(pdist(x, "correlation"), pdist(y, "correlation")).statistic
    assert found[0, 1] == pytest.approx(wanted)


def test_the_head_of_transfer_is_ridge_regression():
    rng = np.random.default_rng(3)
    x = torch.tensor(rng.normal(size=(80, 5)), dtype=torch.float32)
    y = x @ torch.tensor([1.0, -2, 0, 0.5, 3]) + 0.1 * torch.tensor(rng.normal(size=80), dtype=torch.float32)
    task = Regression(name="y")
    task.fit(y.numpy())
    targets, observed = (torch.from_numpy(a) for a in task.encode(y.numpy()))
    weights, bias = _head(task, x, targets, observed, 0.01)
    # Mean of squares plus half the penalty is the sum plus half the penalty times the rows.
    factor = task.label_losses(torch.zeros(1, 1), torch.ones(1)).item()
    ridge = Ridge(alpha=0.01 / 2 * 80 / factor).fit(x.numpy(), targets.numpy())
    np.testing.assert_allclose(weights.numpy()[:, 0], ridge.coef_, atol=1e-3)
    assert bias.item() == pytest.approx(float(ridge.intercept_), abs=1e-3)


def test_components_span_the_features():
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(50, 3, dtype=torch.float64, generator=draw) @ torch.randn(
        3, 20, dtype=torch.float64, generator=draw
    )
    train, validation = _components(x[:40], x[40:], 3)
    assert train[:, 0].std(unbiased=False).item() == pytest.approx(1.0, abs=1e-5)
    together = torch.cat([train, validation]).double()
    left = x - x[:40].mean(0)
    solution = torch.linalg.lstsq(together, left).solution
    assert (together @ solution - left).abs().max() < 1e-4


def test_ahp_orders_by_who_wins_and_is_the_closed_form_for_two():
    rng = np.random.default_rng(4)
    losses = rng.random((2, 400)) + np.array([[0.0], [0.3]])
    share = (losses[0] < losses[1]).mean()
    # [[1, r], [1/r, 1]] has the principal eigenvector (r, 1) / (1 + r).
    r = share / (1 - share)
    np.testing.assert_allclose(ahp(losses), [r / (1 + r), 1 / (1 + r)])
    three = ahp(rng.random((3, 500)) + np.array([[0.4], [0.0], [0.2]]))
    assert three.argsort().tolist() == [0, 2, 1]
    assert three.sum() == pytest.approx(1.0)


def test_pairwise_gain_is_the_difference_of_trainings(ground):
    found = PairwiseGain().read(ground).values
    held = ground.prepared.validation
    constant = constant_losses(ground.tasks, held)
    task = ground.tasks[1]
    alone, pair = (mean_losses(ground.trained(g).model, [task], held)["y1"] for g in (["y1"], ["y0", "y1"]))
    assert found[0, 1] == pytest.approx((alone - pair) / constant["y1"], abs=1e-6)


def test_pairwise_gain_within_a_limit_says_what_is_left(ground):
    ground.seconds = 1e-9
    reading = PairwiseGain().read(ground)
    assert np.isnan(reading.values).all()
    assert reading.notes == ("3 of 3 pairs were not trained within 0 s.",)
