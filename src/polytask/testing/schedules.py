"""What every schedule and every remedy must keep, as one call each for authors of new ones."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from polytask.recipe import Recipe
from polytask.shapes import Tensor
from polytask.storage import load_tree, save_tree
from polytask.training.building import network_of
from polytask.training.evaluation import mean_losses
from polytask.training.opening import prepare_recipe
from polytask.training.planning import plan_of
from polytask.training.preparation import Prepared
from polytask.training.remedy import Remedy
from polytask.training.run import stages_of
from polytask.training.schedule import Schedule, Stage, StageResult
from polytask.training.schedules.sequential import Sequential
from polytask.training.stages import Stages

__all__ = ["check_remedy", "check_schedule"]

_MOST = 1000
_LOSSES = ({"a": 0.9, "b": 0.5, "c": 0.7}, {"a": 0.6, "b": 0.6, "c": 0.6}, {"a": 0.7, "b": 0.2, "c": 0.5})


def check_schedule(make: Callable[[], Schedule], tasks: Sequence[str] = ("a", "b", "c")) -> None:
    """Check a schedule against the contract of :class:`polytask.training.schedule.Schedule`.

    It comes to an end; each stage trains tasks that there are; stages have distinct names, unless there is only one;
    what comes next depends on options and results alone, so that two schedules made alike say the same however often
    they are asked; no stage has more epochs than the settings allow; tasks that it never trains are in no stage.

    Args:
        make: Makes the schedule, always the same, for the given tasks.
        tasks: Names of tasks; three.

    Raises:
        AssertionError: If the schedule breaks the contract; the message says how.

    Example:
        >>> from polytask.training.schedules import Sequential
        >>> check_schedule(Sequential)
    """
    assert isinstance(make(), Schedule), f"{make()!r} is no Schedule"
    for epochs in (1, 10):
        schedule = make()
        done: list[StageResult] = []
        while (stage := schedule.next_stage(tasks, epochs, 3, tuple(done))) is not None:
            assert isinstance(stage, Stage), f"a stage must be a Stage, got {stage!r}"
            assert set(stage.tasks) <= set(tasks), f"{stage} trains tasks that there are not"
            assert stage.epochs is None or stage.epochs <= epochs, f"{stage} has more epochs than the {epochs} allowed"
            for again in (schedule, make()):
                other = again.next_stage(tasks, epochs, 3, tuple(done))
                assert other == stage, f"asked again, the schedule gives {other}, not {stage}: it must keep no state"
            losses = dict(zip(tasks, _LOSSES[len(done) % len(_LOSSES)].values(), strict=True))
            done.append(StageResult(stage, losses=losses, epochs=stage.epochs or epochs))
            assert len(done) < _MOST, f"no end after {_MOST} stages"
        assert done, "there must be at least one stage"
        trained = {task for result in done for task in result.stage.tasks}
        never = make().never_trains(tasks)
        assert not trained & set(never), f"it says that it never trains {never}, and trains some of them"
        names = [result.stage.name for result in done]
        assert len(set(names)) == len(names), f"stages need distinct names, got {names}"
        assert len(done) == 1 or all(names), "where there are several stages, each needs a name"


def check_remedy(make: Callable[..., Remedy], sharing: str | Mapping[str, Any] = "hard") -> None:
    """Check a remedy against the contract of :class:`polytask.training.remedy.Remedy`.

    On two sources with missing labels, one task after another: at a strength of 0 the parameters are those without the
    remedy, bit for bit; in the first stage nothing is done; with it, the first task ends better on its training rows
    than without; all stays finite; the state, saved and loaded, is complete; a task that has no labels in a source does
    no harm.

    Args:
        make: Makes the remedy; takes ``strength``.
        sharing: Name of the sharing, or with options, that it needs.

    Raises:
        AssertionError: If the remedy breaks the contract; the message says how.

    Example:
        >>> from polytask.training.remedies import EWC
        >>> check_remedy(EWC)
    """
    assert isinstance(make(), Remedy), f"{make()!r} is no Remedy"
    prepared = _prepared()
    plain, none = _plain(json.dumps(sharing)), _trained(prepared, sharing, [make(strength=0.0)])
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, none.model.state_dict()[name]), f"at a strength of 0, {name} is not that without it"
    remedy = make()
    with_it = _trained(prepared, sharing, [remedy])
    assert all(p.isfinite().all() for p in with_it.model.parameters()), "a parameter is not finite"
    first = [stages.done[0].losses for stages in (plain, with_it)]
    assert first[0] == first[1], "in the first stage there is nothing to keep, so nothing may be done"
    lost = [mean_losses(s.model, prepared.tasks, prepared.train)["first"] for s in (plain, with_it)]
    assert lost[1] < lost[0], f"the first task ends with a loss of {lost[1]:.4f}, and without it with {lost[0]:.4f}"
    _check_state(make, remedy)


def _check_state(make: Callable[..., Remedy], remedy: Remedy) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        save_tree(path, remedy.state_dict())
        other = make()
        other.begin(remedy.here)
        other.load_state_dict(load_tree(path))
        save_tree(Path(folder) / "again", other.state_dict())
        before, after = load_tree(path), load_tree(Path(folder) / "again")
    assert _equal(before, after), "the state is another after it was saved and loaded"


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, Mapping):
        return set(one) == set(other) and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def _prepared() -> Prepared:
    rng = np.random.default_rng(0)

    def table(n: int) -> pd.DataFrame:
        x = rng.normal(size=(n, 3))
        first = x @ [2.0, -1.0, 0.0] + 0.1 * rng.normal(size=n)
        second = np.where(x @ [-1.0, 0.0, 2.0] > 0, "yes", "no").astype(object)
        first[rng.random(n) < 0.3] = np.nan
        second[rng.random(n) < 0.3] = None
        return pd.DataFrame({"x": x[:, 0], "y": x[:, 1], "z": x[:, 2], "first": first, "second": second})

    data = {"both": table(120), "one": table(60).drop(columns="second")}
    return prepare_recipe(_recipe("hard"), data)


def _recipe(sharing: str | Mapping[str, Any]) -> Recipe:
    return Recipe(
        tasks={"first": "regression", "second": "binary"},
        encoder={"name": "tabular", "width": 8, "n_blocks": 1, "dropout": 0.0},
        sharing=sharing,
        training={"epochs": 16, "batch_size": 16, "learning_rate": 0.003, "patience": None},
    )


@lru_cache(maxsize=4)
def _plain(sharing: str) -> Stages:
    """Without a remedy; the same for all remedies, so that it is trained once."""
    return _trained(_prepared(), json.loads(sharing), [])


def _trained(prepared: Prepared, sharing: str | Mapping[str, Any], remedies: Sequence[Remedy]) -> Stages:
    before = torch.get_rng_state()
    torch.manual_seed(0)
    try:
        plan = plan_of(_recipe(sharing), prepared)
        model = network_of(prepared, plan)[1]
        stages = stages_of(model, prepared, plan, Sequential(), remedies)
        stages.run("check")
    finally:
        torch.set_rng_state(before)
    return stages
