"""Where gradients cancel, what is left is zero and not rounding."""

import itertools

import numpy as np
import pytest
import torch

from polytask.balancing import Signals, registry
from polytask.balancing.solvers.cone import project_one
from polytask.balancing.solvers.conflict_averse import conflict_averse
from polytask.balancing.solvers.equiangular import equiangular
from polytask.balancing.solvers.gramian import ScaledGramian


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
def test_two_against_two_ask_for_nothing_and_not_for_rounding(order):
    rows = np.array([[1.0], [1.0], [-1.0], [-2.0]])[list(order)]
    np.testing.assert_array_equal(equiangular(ScaledGramian(rows @ rows.T), np.ones(4)), 0.0)


def test_it_is_the_least_squares_answer_of_least_norm():
    rows = np.random.default_rng(0).normal(size=(5, 3))
    scaled = ScaledGramian(rows @ rows.T)
    expected = np.linalg.lstsq(scaled.cosines, np.ones(5), rcond=1e-10)[0]
    np.testing.assert_allclose(equiangular(scaled, np.ones(5)), expected, rtol=1e-9)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [0, 1, 2, 4, 3], [4, 0, 3, 1, 2]])
def test_long_steps_do_not_blow_up_the_rounding_of_gradients_that_cancel(order):
    rows = torch.tensor([[0.0], [0.0], [0.0], [1.0], [-1.0]], dtype=torch.float64)[order]
    balancer = registry.create("sdmgrad")
    balancer.bind(["a", "b", "c", "d", "e"])
    weights = balancer(Signals(torch.arange(5), torch.full((5,), 0.25, dtype=torch.float64), rows @ rows.T, rows))
    torch.testing.assert_close(weights, torch.full((5,), 0.2, dtype=torch.float64))


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_a_zero_gradient_does_not_hold_up_the_search_where_others_cancel(order):
    rows = 0.25 * np.array([[0.0, 0.0], [0.0, 1.0], [0.0, -1.0], [2.0, 1.0]])[list(order)]
    found = conflict_averse(rows @ rows.T, 0.5)
    assert not found.reason
    np.testing.assert_allclose(found.weights @ rows, [0.125, 0.0], atol=1e-12)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_a_zero_gradient_takes_no_weight_in_a_projection(order):
    rows = 0.25 * np.array([[0.0, 0.0], [0.0, 1.0], [0.0, -1.0], [2.0, 1.0]])[list(order)]
    gramian = rows @ rows.T
    for scale in (1.0, 1.0 / gramian.max()):
        found = project_one(scale * gramian, np.full(4, 0.25))
        np.testing.assert_allclose(found.weights @ rows, [0.125, 0.0], atol=1e-12)


def test_one_task_that_has_to_lose_beside_a_zero_gradient():
    """Out of reach of a small radius: the answer is that of the tasks with a gradient, near the same average."""
    rows = np.array([[0.0, 0.0], [4.0, 0.0], [-1.0, 0.2]])
    w = np.linspace(0.0, 1.0, 200_001)[:, None]
    mixtures, average = w * rows[1] + (1 - w) * rows[2], rows.mean(axis=0)
    kappa = 0.1 * np.linalg.norm(average)
    best = mixtures[np.argmin(mixtures @ average + kappa * np.linalg.norm(mixtures, axis=1))]
    found = conflict_averse(rows @ rows.T, 0.1)
    assert not found.reason
    np.testing.assert_allclose(found.weights @ rows, average + kappa * best / np.linalg.norm(best), rtol=1e-4)
