"""Every penalty's proximal map, dual norm and conjugate fit together."""

import numpy as np
import pytest

from polytask.linear.clustered import ClusterNorm
from polytask.linear.penalties import Entries, Features, LargestPerFeature, SingularValues, Tasks, map_singular_values

PENALTIES = [kind(0.7) for kind in (SingularValues, Features, Tasks, Entries, LargestPerFeature)]
PENALTIES += [ClusterNorm(0.7, 2, 0.1), ClusterNorm(0.3, 1, 1.0), ClusterNorm(0.5, 9, 0.2)]


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (1, 5), (5, 1)])
@pytest.mark.parametrize("step", [0.01, 0.5, 3.0])
def test_proximal_map_satisfies_fenchels_equality(penalty, shape, step, rng):
    W = rng.normal(size=shape)
    P = penalty.prox(W, step)
    # P minimises iff (W - P) / step is a subgradient there: value and conjugate then add up to the inner product.
    Z = (W - P) / step
    assert penalty.gauge(Z) <= 1 + 1e-9
    assert penalty.value(P) + penalty.conjugate(Z) == pytest.approx(np.vdot(Z, P), abs=1e-9)


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_conjugate_bounds_every_product(penalty, rng):
    for _ in range(50):
        W, Z = rng.normal(size=(2, 4, 6)) * rng.lognormal(size=(2, 1, 1))
        Z = Z / max(1.0, penalty.gauge(Z))
        assert np.vdot(Z, W) <= penalty.value(W) + penalty.conjugate(Z) + 1e-9


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_zero(penalty):
    zero = np.zeros((3, 4))
    assert penalty.value(zero) == 0.0
    assert penalty.conjugate(zero) == 0.0
    np.testing.assert_array_equal(penalty.prox(zero, 0.5), zero)


def test_values_by_hand():
    W = np.array([[3.0, 0.0], [-4.0, 0.0]])
    assert SingularValues(2.0).value(W) == pytest.approx(10.0)
    assert Features(2.0).value(W) == pytest.approx(10.0)
    assert Tasks(2.0).value(W) == pytest.approx(14.0)
    assert Entries(2.0).value(W) == pytest.approx(14.0)
    assert LargestPerFeature(2.0).value(W) == pytest.approx(8.0)
    # One cluster, one direction: only the ridge is left, strength / 2 * eta * |W|^2.
    assert ClusterNorm(2.0, 1, 0.1).value(W) == pytest.approx(0.1 * 25.0)
    # Two equal directions share one cluster: theta = 0.6 each.
    assert ClusterNorm(2.0, 1, 0.1).value(5 * np.eye(2)) == pytest.approx(0.1 * 1.1 * 50 / 0.6)


def test_small_singular_values_are_not_lost_in_the_squares(rng):
    left, right = np.linalg.qr(rng.normal(size=(6, 4)))[0], np.linalg.qr(rng.normal(size=(4, 4)))[0]
    values = np.array([1.0, 1e-3, 1e-7, 1e-9])
    shrunk = SingularValues(1.0).prox((left * values) @ right.T, 5e-8)
    expected = np.maximum(values - 5e-8, 0)
    np.testing.assert_allclose(np.linalg.svd(shrunk, compute_uv=False), expected, atol=1e-15)
    both = [map_singular_values((left * values) @ right.T, lambda s: s / (s + 1), floor) for floor in (0.0, 1.0)]
    np.testing.assert_allclose(*both, atol=1e-9)
