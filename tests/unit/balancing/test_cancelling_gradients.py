"""Where gradients cancel, what is left is zero and not rounding."""

import itertools

import numpy as np
import pytest
import torch

from polytask.balancing import Signals, registry
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
