"""Losses against independent ones: scikit-learn, PyTorch, SciPy, closed forms; gradients against finite differences."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk
from sklearn.utils.class_weight import compute_class_weight

from polytask.tasks import Binary, Count, Multiclass, Multilabel, Ordinal, Quantile, Regression, registry

RNG = np.random.default_rng(7)
N = 200


def fitted(task, labels):
    task.fit(labels)
    targets, observed = task.encode(labels)
    assert observed.all()
    return task, torch.as_tensor(targets)


def normal(*shape):
    return torch.as_tensor(RNG.normal(size=shape))


def test_binary_is_log_loss():
    task, y = fitted(Binary(name="t"), RNG.integers(0, 2, N))
    z = 2 * normal(N, 1)
    expected = sk.log_loss(y.numpy(), torch.sigmoid(z[:, 0]).numpy())
    assert task.label_losses(z, y).mean().item() == pytest.approx(expected, rel=1e-12)


def test_binary_smoothing_is_the_loss_of_a_softer_label():
    task, y = fitted(Binary(name="t", label_smoothing=0.2), RNG.integers(0, 2, N))
    z = normal(N, 1)
    p = 1 / (1 + np.exp(-z[:, 0].numpy()))
    soft = 0.8 * y.double().numpy() + 0.1
    expected = -soft * np.log(p) - (1 - soft) * np.log1p(-p)
    np.testing.assert_allclose(task.label_losses(z, y).numpy(), expected, rtol=1e-7)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_multiclass_is_torch_cross_entropy(smoothing):
    task, y = fitted(Multiclass(name="t", label_smoothing=smoothing), RNG.integers(0, 6, N))
    z = 3 * normal(N, 6)
    expected = torch.nn.functional.cross_entropy(z, y, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(task.label_losses(z, y), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kind", "n_classes"), [(Binary, 2), (Multiclass, 5), (Ordinal, 5)])
def test_balanced_class_weights_are_scikit_learn_s(kind, n_classes):
    labels = RNG.choice(n_classes, N, p=np.arange(1, n_classes + 1) / np.arange(1, n_classes + 1).sum())
    task = kind(name="t", class_weight="balanced")
    task.fit(labels)
    expected = compute_class_weight("balanced", classes=np.unique(labels), y=labels)
    np.testing.assert_allclose(task.class_weights_, expected, rtol=1e-12)


def test_class_weights_multiply_the_loss_of_their_class():
    labels = np.array(["a", "a", "a", "b", "b", "c"])
    task, y = fitted(Multiclass(name="t", class_weight={"a": 1, "b": 2, "c": 5}), labels)
    plain, _ = fitted(Multiclass(name="t"), labels)
    z = normal(6, 3)
    # The weights are over their mean on the training labels, (3 + 4 + 5) / 6.
    expected = torch.tensor([1, 1, 1, 2, 2, 5]) / 2
    torch.testing.assert_close(task.label_losses(z, y) / plain.label_losses(z, y), expected.double())


def test_multilabel_is_a_binary_task_for_each_column():
    labels = RNG.random((N, 4)) < [0.1, 0.3, 0.5, 0.9]
    many, y = fitted(
        Multilabel(name="t", target=("a", "b", "c", "d"), class_weight="balanced", label_smoothing=0.1), labels
    )
    z = normal(N, 4)
    losses = many.label_losses(z, y)
    for k in range(4):
        one, y_k = fitted(Binary(name="t", class_weight="balanced", label_smoothing=0.1), labels[:, k])
        torch.testing.assert_close(losses[:, k], one.label_losses(z[:, [k]], y_k), rtol=1e-6, atol=1e-6)
        assert many.initial_bias()[k].item() == pytest.approx(one.initial_bias().item(), abs=1e-6)


def test_regression_objectives_are_torch_s():
    labels = 100 + 30 * RNG.normal(size=N)
    z = 3 * normal(N, 1)
    for objective, expected in {
        "squared": lambda a, b: torch.nn.functional.mse_loss(a, b, reduction="none"),
        "absolute": lambda a, b: torch.nn.functional.l1_loss(a, b, reduction="none"),
        "huber": lambda a, b: 2 * torch.nn.functional.huber_loss(a, b, reduction="none", delta=1.345),
    }.items():
        task, y = fitted(Regression(name="t", objective=objective), labels)
        torch.testing.assert_close(task.label_losses(z, y), expected(z[:, 0], y.double()))


def test_standard_units_are_scipy_s():
    labels = RNG.gamma(2, 3, N)
    np.testing.assert_allclose(fitted(Regression(name="t"), labels)[1], stats.zscore(labels), atol=1e-6)
    robust = fitted(Regression(name="t", scaling="robust"), labels)[1]
    expected = (labels - np.median(labels)) / stats.iqr(labels, scale="normal")
    np.testing.assert_allclose(robust, expected, atol=1e-6)


def test_the_huber_centre_is_statsmodels_like_m_estimate():
    labels = np.concatenate([RNG.normal(size=N), [50.0, 80.0]])
    task, y = fitted(Regression(name="t", objective="huber"), labels)
    grid = torch.linspace(-1, 1, 20001, dtype=torch.float64)
    costs = torch.stack([task.label_losses(c.expand(len(y), 1), y).mean() for c in grid[::20]])
    assert task.initial_bias().item() == pytest.approx(grid[::20][costs.argmin()].item(), abs=2e-3)


def test_quantile_transform_gives_normal_scores():
    labels = np.exp(RNG.normal(size=1001))
    y = fitted(Regression(name="t", transform="quantile"), labels)[1].numpy()
    ranks = stats.rankdata(labels)
    inner = (ranks > 1) & (ranks < 1001)
    scores = stats.norm.ppf((ranks[inner] - 1) / 1000)
    assert np.corrcoef(y[inner], scores)[0, 1] == pytest.approx(1.0, abs=1e-9)


def test_count_is_poisson_deviance():
    labels = RNG.poisson(3.0, N)
    task, y = fitted(Count(name="t"), labels)
    z = 0.5 * normal(N, 1) + 1
    null = sk.mean_poisson_deviance(labels, np.full(N, labels.mean()))
    expected = sk.mean_poisson_deviance(labels, torch.exp(z[:, 0]).numpy()) / null
    assert task.label_losses(z, y).mean().item() == pytest.approx(expected, rel=1e-12)


def test_count_has_the_gradient_of_the_poisson_likelihood():
    labels = RNG.poisson(4.0, N)
    task, y = fitted(Count(name="t"), labels)
    z = normal(N, 1).requires_grad_()
    task.label_losses(z, y).sum().backward()
    mine, z.grad = z.grad, None
    torch.nn.functional.poisson_nll_loss(z[:, 0], y.double(), reduction="sum").backward()
    ratio = mine / z.grad
    torch.testing.assert_close(ratio, torch.full_like(ratio, ratio[0].item()), rtol=1e-9, atol=0)


def test_count_keeps_its_digits_for_large_counts():
    labels = RNG.poisson(1e6, N).astype(float)
    task, y = fitted(Count(name="t"), labels)
    z = torch.log(torch.as_tensor(labels)) + 1e-4 * normal(N)
    single = task.label_losses(z.float()[:, None], y)
    double = task.label_losses(z.float().double()[:, None], y)
    torch.testing.assert_close(single.double(), double, rtol=0.02, atol=1e-3)


def test_count_goes_on_straight_where_the_rate_would_overflow():
    task, _ = fitted(Count(name="t"), RNG.poisson(4.0, N))
    z = torch.tensor([[29.999], [30.0], [30.001], [5e5]], requires_grad=True)
    losses = task.label_losses(z, torch.zeros(4))
    losses.sum().backward()
    assert losses.isfinite().all()
    assert (losses.diff() > 0).all()
    np.testing.assert_allclose(z.grad[1:], z.grad[1].item() * np.ones((3, 1)), rtol=1e-6)
    assert z.grad[0].item() == pytest.approx(z.grad[1].item(), rel=2e-3)


def test_ordinal_is_the_likelihood_of_the_product_of_steps():
    task, y = fitted(Ordinal(name="t"), np.concatenate([np.arange(5), RNG.integers(0, 5, N)]))
    z = 2 * normal(len(y), 4)
    steps = torch.sigmoid(z).numpy()
    p = np.empty((len(y), 5))
    for k in range(5):
        p[:, k] = steps[:, :k].prod(1) * (1 - steps[:, k] if k < 4 else 1)
    np.testing.assert_allclose(task.decode(z).probabilities, p, rtol=1e-10)
    expected = -np.log(p[np.arange(len(y)), y])
    np.testing.assert_allclose(task.label_losses(z, y).numpy(), expected, rtol=1e-8)


def test_ordinal_sum_is_the_loss_of_the_corn_paper():
    """Equation 5 as a loop over the K - 1 conditional training subsets, before its division by their sizes."""
    task, y = fitted(Ordinal(name="t"), np.concatenate([np.arange(4), RNG.integers(0, 4, N)]))
    z = normal(len(y), 3)
    total = 0.0
    for k in range(3):
        subset = y > k - 1
        f = torch.sigmoid(z[subset, k])
        beyond = y[subset] > k
        total -= (torch.log(f) * beyond + torch.log(1 - f) * ~beyond).sum().item()
    assert task.label_losses(z, y).sum().item() == pytest.approx(total, rel=1e-10)


def test_quantile_is_mean_pinball_loss():
    labels = RNG.normal(size=N) * 7 + 50
    task, y = fitted(Quantile(name="t", quantiles=(0.1, 0.5, 0.8)), labels)
    z = normal(N, 3)
    expected = np.mean([sk.mean_pinball_loss(y, z[:, k], alpha=q) for k, q in enumerate(task.quantiles)])
    assert task.label_losses(z, y).mean().item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("kind", registry.names())
@pytest.mark.parametrize("options", [{}, {"class_weight": "balanced", "label_smoothing": 0.1, "objective": "huber"}])
def test_gradients_against_finite_differences(kind, options):
    known = {name: value for name, value in options.items() if hasattr(registry.load(kind), name)}
    if kind == "dense_regression" and known:
        known["objective"] = "absolute"  # it has no huber
    labels = np.array([0, 1] * 6)
    task, y = fitted(registry.create(kind, name="t", **known), labels)
    z = normal(12, task.n_outputs).requires_grad_()
    y = y.double() if y.is_floating_point() else y
    assert torch.autograd.gradcheck(lambda outputs: task.label_losses(outputs, y), (z,))
    observed = torch.as_tensor(RNG.random(task.encode(labels)[1].shape) < 0.5)
    observed[0] = True
    assert torch.autograd.gradcheck(lambda outputs: task.loss(outputs, y, observed), (z,))


def test_gradients_of_ordinal_and_multiclass_with_several_classes():
    for task in (
        Ordinal(name="t", class_weight="balanced"),
        Multiclass(name="t", class_weight={0: 4.0}, label_smoothing=0.1),
    ):
        task, y = fitted(task, np.arange(12) % 4)
        z = normal(12, task.n_outputs).requires_grad_()
        assert torch.autograd.gradcheck(lambda outputs, t=task, y=y: t.label_losses(outputs, y), (z,))
