"""What every measure of affinity must keep, as one call for authors of new ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from polytask.affinity.ground import Ground
from polytask.affinity.measure import Measure, Reading
from polytask.data.batch import ArraySource
from polytask.recipe import Recipe
from polytask.training.opening import prepare_recipe
from polytask.training.planning import plan_of
from polytask.training.preparation import Prepared

__all__ = ["check_measure"]

_NETWORK: dict[str, Any] = {
    "encoder": {"name": "mlp", "widths": [8, 8]},
    "training": {"epochs": 2, "batch_size": 64, "learning_rate": 0.01},
}


_REPEATED = ("half of the labels",)
"""Read twice; once for each case would be twice as long for nothing."""


def check_measure(make: Callable[[], Measure]) -> None:
    """Check a measure against the contract of :class:`polytask.affinity.Measure`.

    On small data with all labels, with many missing ones, of several sources, with a task that has hardly a label, of
    kinds that differ, and of one task: the matrix has a row and a column for each task and nothing infinite; it is
    symmetric unless it is directed; the same seed gives the same values; neither the data nor PyTorch's generator is
    changed; what is not known is said; a measure that trains counts what it costs.

    Args:
        make: Makes the measure, always the same.

    Raises:
        AssertionError: If the measure breaks the contract; the message says how.

    Example:
        >>> from polytask.affinity.measures import LabelCorrelation
        >>> check_measure(LabelCorrelation)
    """
    one = make()
    assert isinstance(one, Measure), f"{one!r} is no Measure"
    assert one.words, "a measure says in words what a value means"
    for what, prepared in _cases():
        _check(one, make(), what, prepared)


def _check(one: Measure, again: Measure, what: str, prepared: Prepared) -> None:
    n_tasks = len(prepared.tasks)
    untouched = {name: {**source.targets, **source.observed} for name, source in prepared.train.items()}
    copies = {name: {key: t.clone() for key, t in tensors.items()} for name, tensors in untouched.items()}
    state = torch.get_rng_state()
    ground = _ground(prepared)
    reading = one.read(ground)
    assert torch.equal(torch.get_rng_state(), state), f"{what}: PyTorch's generator was changed"
    for name, tensors in copies.items():
        for key, tensor in tensors.items():
            assert torch.equal(untouched[name][key], tensor), f"{what}: the data were changed"
    _check_values(one, reading, n_tasks, what)
    trained = ground.cost.trainings > 0 and ground.cost.forward > 0
    assert trained == one.trains or n_tasks == 1, f"{what}: trains={one.trains}, but the cost is {ground.cost}"
    if what not in _REPEATED:
        return
    repeated = again.read(_ground(prepared)).values
    assert np.array_equal(repeated, reading.values, equal_nan=True), f"{what}: the same seed gave other values"


def _check_values(one: Measure, reading: Reading, n_tasks: int, what: str) -> None:
    values = reading.values
    assert values.shape == (n_tasks, n_tasks), f"{what}: {n_tasks} tasks, but a matrix of {values.shape}"
    assert values.dtype == np.float64, f"{what}: values must be float64, got {values.dtype}"
    assert not np.isinf(values).any(), f"{what}: an infinite value"
    off = ~np.eye(n_tasks, dtype=bool)
    if not one.directed:
        assert np.allclose(values, values.T, equal_nan=True), f"{what}: not directed, but not symmetric"
    if np.isnan(values[off]).any():
        assert reading.notes, f"{what}: a value is not known, and no note says why"
    if "all labels" in what:
        assert np.isfinite(values[off]).all(), f"{what}: every pair must be known: {values}"
    gains = one.gains(values)
    assert gains.shape == values.shape, f"{what}: gains must keep the shape"
    assert np.array_equal(np.isnan(gains[off]), np.isnan(values[off])), f"{what}: gains must be known where values are"


def _ground(prepared: Prepared) -> Ground:
    recipe = Recipe(tasks=[task.name for task in prepared.tasks], **_NETWORK)
    return Ground(_without_test(prepared), plan_of(recipe, prepared), seed=3)


def _without_test(prepared: Prepared) -> Prepared:
    """Test rows that cannot be read unnoticed."""
    spoiled = {
        name: ArraySource(name, torch.full((1, 1), float("nan")), source.targets, source.observed)
        for name, source in prepared.test.items()
    }
    return replace(prepared, test=spoiled)


def _cases() -> list[tuple[str, Prepared]]:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(160, 4))
    frame = pd.DataFrame(x, columns=["x0", "x1", "x2", "x3"])
    frame["a"] = x[:, 0] + x[:, 1] + 0.1 * rng.normal(size=160)
    frame["b"] = x[:, 0] - x[:, 1] + 0.1 * rng.normal(size=160)
    frame["c"] = np.where(x[:, 2] > 0, "yes", "no")
    frame["d"] = np.array(["u", "v", "w"])[np.digitize(x[:, 0], [-0.5, 0.5])]
    sparse = frame.copy()
    for name in "abcd":
        sparse.loc[rng.random(160) < 0.5, name] = None
    rare = frame.copy()
    rare.loc[3:, "a"] = None
    never_both = frame[["x0", "x1", "x2", "x3", "a", "b"]].copy()
    never_both.loc[::2, "a"] = None
    never_both.loc[1::2, "b"] = None
    kinds = {"a": "regression", "b": "regression", "c": "binary", "d": "multiclass"}
    first, second = frame[["x0", "x1", "x2", "x3", "a", "c"]][:80], frame[["x0", "x1", "x2", "x3", "b", "c"]][80:]
    return [
        ("all labels", _prepared(kinds, frame)),
        ("half of the labels", _prepared(kinds, sparse)),
        ("a task with three labels", _prepared(kinds, rare)),
        ("no row with two labels", _prepared({"a": "regression", "b": "regression"}, never_both)),
        ("two sources", _prepared({k: kinds[k] for k in "abc"}, {"one": first, "two": second})),
        ("one task", _prepared({"a": "regression"}, frame[["x0", "x1", "x2", "x3", "a"]])),
    ]


def _prepared(tasks: dict[str, str], data: Any) -> Prepared:
    return prepare_recipe(Recipe(tasks=tasks, **_NETWORK), data)
