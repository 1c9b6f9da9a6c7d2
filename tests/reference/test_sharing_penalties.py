"""Penalties of soft sharing against NumPy, and their limits."""

import numpy as np
import pytest
import torch

from polytask.errors import RecipeError
from polytask.models.encoders import registry as encoders
from polytask.models.inputs import InputShape
from polytask.models.sharing import registry

TASKS = ["a", "b", "c"]


def build(name, encoder="mlp", shape=(5,), **options):
    torch.manual_seed(0)
    kwargs = {"widths": (6, 4)} if encoder == "mlp" else {"channels": (2,), "width": 4}
    made = encoders.create(encoder, {"main": InputShape.of(torch.zeros(1, *shape))}, **kwargs)
    sharing = registry.create(name, made, TASKS, **options).double()
    with torch.no_grad():
        for p in sharing.parameters():
            p += 0.3 * torch.randn(p.shape, dtype=p.dtype)
    return sharing


def layers(sharing):
    """Per place in the towers, one array a task."""
    each = [[p.detach().numpy() for p in sharing.towers[task].parameters()] for task in TASKS]
    return list(zip(*each, strict=True))


def nuclear(matrix):
    return np.linalg.svd(matrix, compute_uv=False).sum()


@pytest.mark.parametrize(("encoder", "shape"), [("mlp", (5,)), ("cnn", (1, 6, 6))])
@pytest.mark.parametrize("norm", ["last_axis", "tucker", "tensor_train"])
def test_tensor_trace_norms(norm, encoder, shape):
    sharing = build("soft_trace", encoder, shape, strength=0.3, norm=norm)
    total = 0.0
    for same in layers(sharing):
        w = np.stack(same, axis=-1)
        if w.ndim < 3:
            continue
        if norm == "last_axis":
            total += nuclear(w.reshape(-1, len(TASKS)))
        elif norm == "tucker":
            total += np.mean([nuclear(np.moveaxis(w, i, 0).reshape(w.shape[i], -1)) for i in range(w.ndim)])
        else:
            total += np.mean([nuclear(w.reshape(int(np.prod(w.shape[:i])), -1)) for i in range(1, w.ndim)])
    assert sharing.penalty().item() == pytest.approx(0.3 * total, rel=1e-12)


def test_trace_norm_gradient():
    """The gradient of a nuclear norm of full rank is U V'."""
    sharing = build("soft_trace", strength=1.0)
    sharing.penalty().backward()
    first = [next(sharing.towers[task].parameters()) for task in TASKS]
    w = torch.stack([p.detach() for p in first], -1).flatten(0, -2).numpy()
    u, _, vt = np.linalg.svd(w, full_matrices=False)
    got = torch.stack([p.grad for p in first], -1).flatten(0, -2).numpy()
    assert np.allclose(got, u @ vt, atol=1e-10)


def test_trace_norm_of_equal_towers_has_a_finite_gradient():
    sharing = build("soft_trace", strength=1.0, norm="tucker")
    with torch.no_grad():
        for task in TASKS[1:]:
            for mine, first in zip(sharing.towers[task].parameters(), sharing.towers["a"].parameters(), strict=True):
                mine.copy_(first)
    sharing.penalty().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in sharing.parameters())


def test_l2_penalty_and_gradient():
    sharing = build("soft_l2", strength=0.7)
    pairs = sum(
        ((same[s] - same[t]) ** 2).sum()
        for same in layers(sharing)
        for s in range(len(TASKS))
        for t in range(len(TASKS))
    )
    penalty = sharing.penalty()
    assert penalty.item() == pytest.approx(0.7 / (4 * len(TASKS)) * pairs, rel=1e-12)
    penalty.backward()
    for index, task in enumerate(TASKS):
        for p, same in zip(sharing.towers[task].parameters(), layers(sharing), strict=True):
            assert np.allclose(p.grad.numpy(), 0.7 * (same[index] - np.mean(same, axis=0)), atol=1e-12)


def fit(sharing, strength_steps=300):
    """Full-batch descent of three different regressions."""
    g = torch.Generator().manual_seed(3)
    x = torch.randn(40, 5, generator=g, dtype=torch.float64)
    y = {task: torch.randn(40, 4, generator=g, dtype=torch.float64) for task in TASKS}
    rate = 0.05 / (1 + getattr(sharing, "strength", 0.0))
    for _ in range(strength_steps):
        out = sharing(x)
        loss = torch.stack([(out[t] - y[t]).square().mean() for t in TASKS]).sum()
        penalty = sharing.penalty()
        (loss if penalty is None else loss + penalty).backward()
        with torch.no_grad():
            for p in sharing.parameters():
                p -= rate * p.grad
                p.grad = None
    return sharing, x


def spread(sharing):
    return max(float(np.ptp(np.stack(same), axis=0).max()) for same in layers(sharing))


def test_soft_sharing_without_strength_trains_alone():
    both, x = fit(build("soft_l2", strength=0.0))
    assert both.penalty() is None
    lone, _ = fit(build("hard", ratio=0.0))
    again = build("soft_l2", strength=0.0)
    with torch.no_grad():
        for mine, theirs in zip(again.parameters(), build("hard", ratio=0.0).parameters(), strict=True):
            mine.copy_(theirs)
    again, _ = fit(again)
    for task in TASKS:
        assert torch.allclose(again(x)[task], lone(x)[task], atol=1e-12)


def test_soft_sharing_of_great_strength_is_one_tower():
    assert spread(fit(build("soft_l2", strength=0.1))[0]) > 0.05
    strong = fit(build("soft_l2", strength=1e4), 400)[0]
    assert spread(strong) < 1e-3


@pytest.mark.parametrize("name", ["soft_l2", "soft_trace"])
def test_a_strength_below_zero_is_refused(name):
    with pytest.raises(RecipeError, match="strength of at least 0"):
        build(name, strength=-1.0)
