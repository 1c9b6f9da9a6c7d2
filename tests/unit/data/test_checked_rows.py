"""Rows that were checked cell by cell become the same tensors, bit for bit, as the table that holds them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from polytask.data.checked import CheckedRows
from polytask.data.transform import TableTransform
from polytask.errors import InputError


def columns(n: int, seed: int, missing: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def some(values, nothing):
        return np.where(rng.random(n) < missing, nothing, values)

    return {
        "x": some(rng.normal(size=n) * 10, np.nan),
        "y": some(rng.lognormal(size=n), np.nan),
        "yes": some(rng.integers(0, 2, n).astype(float), np.nan),
        "town": some(rng.choice(["Graz", "Linz", "1", "rare" + str(seed)], n).astype(object), None),
        "day": some(np.datetime64("2020-01-01T00:00:00", "s") + rng.integers(0, 10**8, n), np.datetime64("NaT", "s")),
    }


def frame(given: dict[str, np.ndarray]) -> pd.DataFrame:
    truths = pd.Series(given["yes"], dtype=object).map({1.0: True, 0.0: False})
    return pd.DataFrame({**given, "yes": truths})


@pytest.mark.parametrize("scaling", ["standard", "robust", "quantile"])
@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("seen_missing", [0.0, 0.3])
def test_the_same_tensors(scaling, missing, seen_missing):
    transform = TableTransform(scaling=scaling, kinds={"yes": "boolean"}).fit(frame(columns(200, 0, seen_missing)))
    for seed, n in ((1, 1), (2, 1), (3, 7), (4, 50)):
        given, notes, other = columns(n, seed, missing), [], []
        expected = transform.transform(frame(given), notes=notes)
        found = transform.transform(CheckedRows(given, "The request"), notes=other)
        assert notes == other
        assert expected.keys() == found.keys() == {"numeric", "categorical"}
        assert all(torch.equal(expected[name], found[name]) for name in expected)
        at = np.array([n - 1, 0])
        some, same = transform.transform(frame(given), at), transform.transform(CheckedRows(given, "The request"), at)
        assert all(torch.equal(some[name], same[name]) for name in some)


def test_a_number_that_is_too_large_is_named():
    transform = TableTransform().fit({"x": [1.0, 2.0, 3.0]})
    with pytest.raises(InputError, match=r"'x', row 1: .*1e\+300.* too large"):
        transform.transform(CheckedRows({"x": np.array([1.0, 1e300])}, "The request"))
    with pytest.raises(InputError, match="The request lacks 'x'"):
        transform.transform(CheckedRows({"z": np.array([1.0])}, "The request"))
