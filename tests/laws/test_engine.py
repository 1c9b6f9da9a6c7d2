"""Laws of the engine, whatever the method: order, scale, absence and duplication of tasks."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from polytask.balancing import Ghost, Outcome, balanced_backward, registry

MODES = ("exact", "features", "every_k")


def _problem(seed: int, n_tasks: int) -> tuple[nn.Module, nn.ModuleList, Tensor, Tensor]:
    torch.manual_seed(seed)
    trunk = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 5)).double()
    heads = nn.ModuleList(nn.Linear(5, 1) for _ in range(n_tasks)).double()
    return trunk, heads, torch.randn(6, 4).double(), torch.randn(n_tasks, 6).double()


def _step(seed: int, order: list[int], factors: list[float], mode: str, present: list[bool]) -> tuple[Outcome, Tensor]:
    trunk, heads, x, y = _problem(seed, max(order) + 1)
    ghost = Ghost(trunk)
    z = trunk(x)
    losses = {
        str(k): (heads[i](z)[:, 0] - y[i]).square().mean() * factors[i] if present[i] else None
        for k, i in enumerate(order)
    }
    balancer = registry.create("nash_mtl")
    balancer.bind([str(k) for k in range(len(order))])
    outcome = balanced_backward(losses, trunk.parameters(), z, balancer=balancer, mode=mode, ghost=ghost)
    return outcome, torch.cat([p.grad.flatten() for p in trunk.parameters() if p.grad is not None])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.permutations(range(4)), st.sampled_from(MODES))
def test_order_of_tasks_does_not_matter(seed: int, order: list[int], mode: str) -> None:
    ones = [1.0] * 4
    first, gradient = _step(seed, [0, 1, 2, 3], ones, mode, [True] * 4)
    second, permuted = _step(seed, order, ones, mode, [True] * 4)
    torch.testing.assert_close(second.weights, first.weights[order], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(permuted, gradient, rtol=1e-6, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=4), st.sampled_from(MODES))
def test_gramian_scales_with_the_losses_and_the_direction_of_a_scale_free_method_does_not(
    seed: int, factors: list[float], mode: str
) -> None:
    plain, gradient = _step(seed, [0, 1, 2, 3], [1.0] * 4, mode, [True] * 4)
    scaled, other = _step(seed, [0, 1, 2, 3], factors, mode, [True] * 4)
    by = torch.tensor(factors, dtype=torch.float64)
    assert plain.gramian is not None
    assert scaled.gramian is not None
    torch.testing.assert_close(scaled.gramian, plain.gramian * by.outer(by), rtol=1e-6, atol=1e-9)
    if not plain.report.fallbacks and not scaled.report.fallbacks:
        torch.testing.assert_close(other / other.norm(), gradient / gradient.norm(), rtol=1e-4, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.booleans(), min_size=4, max_size=4), st.sampled_from(MODES))
def test_an_absent_task_is_a_task_left_out(seed: int, present: list[bool], mode: str) -> None:
    present = [True, *present[1:]]
    there = [i for i in range(4) if present[i]]
    with_gaps, gradient = _step(seed, [0, 1, 2, 3], [1.0] * 4, mode, present)
    trunk, heads, x, y = _problem(seed, 4)
    z = trunk(x)
    losses = [(heads[i](z)[:, 0] - y[i]).square().mean() for i in there]
    without = balanced_backward(losses, trunk.parameters(), z, balancer=registry.create("nash_mtl"), mode=mode)
    torch.testing.assert_close(with_gaps.weights[there], without.weights, rtol=1e-6, atol=1e-9)
    alone = torch.cat([p.grad.flatten() for p in trunk.parameters() if p.grad is not None])
    torch.testing.assert_close(gradient, alone, rtol=1e-6, atol=1e-9)
    assert all(with_gaps.weights[i] == 0 for i in range(4) if not present[i])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(MODES))
def test_a_duplicated_task_has_the_same_row(seed: int, mode: str) -> None:
    outcome, _ = _step(seed, [0, 1, 1], [1.0] * 3, mode, [True] * 3)
    assert outcome.gramian is not None
    torch.testing.assert_close(outcome.gramian[1], outcome.gramian[2])
    torch.testing.assert_close(outcome.gramian[1, 1], outcome.gramian[1, 2])
