"""The test for structure: it finds what is there, and its p-values are honest where nothing is."""

import numpy as np

from polytask.affinity.structure import structure_of


def noisy(signal, noise, rng):
    values = signal + noise * rng.normal(size=signal.shape)
    values = (values + values.T) / 2
    np.fill_diagonal(values, np.nan)
    return values


def test_clusters_are_structure():
    rng = np.random.default_rng(0)
    cluster = np.repeat([0, 1, 2], 3)
    signal = (cluster[:, None] == cluster).astype(float)
    found = structure_of([noisy(signal, 0.3, rng) for _ in range(2)], halves=True)
    assert found.is_found
    assert found.p < 0.01
    assert "There is structure" in found.words


def test_without_structure_the_level_is_kept():
    rng = np.random.default_rng(1)
    p = [structure_of([noisy(np.zeros((7, 7)), 1.0, rng) for _ in range(2)], halves=True).p for _ in range(60)]
    assert np.mean(np.array(p) <= 0.05) < 0.15
    assert 0.35 < np.mean(p) < 0.65


def test_only_halves_without_common_rows_are_compared():
    rng = np.random.default_rng(2)
    same = noisy(np.zeros((6, 6)), 1.0, rng)
    other = noisy(np.zeros((6, 6)), 1.0, rng)
    # The second pair agrees, the readings of different pairs are not compared.
    found = structure_of([same, other, other, same], halves=True)
    plain = structure_of([same, other, other, same], halves=False)
    assert plain.agreement > found.agreement
    assert "same rows" in plain.words


def test_what_cannot_be_told_is_said():
    one = np.full((3, 3), np.nan)
    assert "two seeds" in structure_of([one], halves=True).words
    assert "Too few" in structure_of([one, one], halves=True).words
    three = np.arange(9.0).reshape(3, 3)
    found = structure_of([three, three], halves=True)
    assert found.p is None
    assert "too few to tell" in found.words


def test_few_tasks_whose_readings_agree_are_not_said_to_disagree():
    """Two pairs of four tasks: a third of all renamings gives the same matrix again."""
    cluster = np.repeat([0, 1], 2)
    signal = np.where(np.eye(4), np.nan, cluster[:, None] == cluster)
    found = structure_of([signal, signal], halves=True)
    assert not found.is_found
    assert found.agreement == 1.0
    assert "It may be chance: independent readings agree" in found.words
