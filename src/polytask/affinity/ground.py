"""What the measures of one seed read and train: rows, networks trained once, and what they cost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from polytask.data.joined import joined_values
from polytask.errors import DataError
from polytask.tasks.task import Task
from polytask.training.listeners import Watch
from polytask.training.preparation import Prepared
from polytask.training.progress import Progress
from polytask.training.run import Fitted, Plan, fit

__all__ = ["Cost", "Ground", "Groups", "half"]

Groups = Mapping[str, np.ndarray]
"""By source, the group of each training row, such as a patient; one group may be in several sources."""

_HELD_BACK = 0.15
_SMALLEST_BATCH = 16


@dataclass
class Cost:
    """What a measure cost. A pass is one over all training rows, so that measures with other batches compare.

    Args:
        forward: Forward passes.
        backward: Backward passes.
        trainings: Networks trained.
        seconds: Time.
    """

    forward: float = 0.0
    backward: float = 0.0
    trainings: int = 0
    seconds: float = 0.0

    def add(self, other: Cost) -> None:
        """Add another to this one."""
        self.forward += other.forward
        self.backward += other.backward
        self.trainings += other.trainings
        self.seconds += other.seconds


class Ground:
    """The rows of one seed, the plan of its networks, and the networks that several measures share.

    Args:
        prepared: Tasks and sources; test rows are taken out. Where there are no validation rows, some training rows
            take their place.
        plan: Architecture and settings.
        seed: Of everything random.
        groups: Groups of the training rows, if none may be on two sides.
        seconds: Time that a measure may take, for those that can do with less; no limit if ``None``.
        progress: Told about the trainings.
    """

    def __init__(
        self,
        prepared: Prepared,
        plan: Plan,
        seed: int = 0,
        *,
        groups: Groups | None = None,
        seconds: float | None = None,
        progress: Progress | None = None,
    ):
        self.prepared = _held_back(replace(prepared, test={}), seed, groups)
        settings = replace(plan.settings, seed=seed)
        # Affinity is about learning at the same time: stages one after the other would be another question.
        self.plan = replace(plan, settings=settings, schedule="joint", schedule_options={})
        self.seed, self.seconds, self.progress = seed, seconds, progress
        self.cost = Cost()
        self._made: dict[str, tuple[Any, Cost]] = {}

    @property
    def tasks(self) -> list[Task]:
        """The tasks, fitted."""
        return self.prepared.tasks

    @property
    def names(self) -> list[str]:
        """Their names, in the order of rows and columns."""
        return [task.name for task in self.prepared.tasks]

    @property
    def n_rows(self) -> int:
        """Training rows of all sources."""
        return max(sum(map(len, self.prepared.train.values())), 1)

    def charge(self, rows: float, forward: float = 0.0, backward: float = 0.0) -> None:
        """Count passes over so many rows."""
        self.cost.forward += forward * rows / self.n_rows
        self.cost.backward += backward * rows / self.n_rows

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, made once; its cost is charged each time, because each measure would have to pay it."""
        if key not in self._made:
            before, began = replace(self.cost), time.perf_counter()
            made = make()
            spent = Cost(
                self.cost.forward - before.forward,
                self.cost.backward - before.backward,
                self.cost.trainings - before.trainings,
                time.perf_counter() - began,
            )
            self._made[key] = (made, spent)
        else:
            self.cost.add(self._made[key][1])
        return self._made[key][0]

    def watched(self, watch: Watch) -> Fitted:
        """Train one network of all tasks, with somebody watching every step."""
        return self._fit(self.prepared, self.plan, "joint, watched", watch)

    def trained(self, names: Sequence[str]) -> Fitted:
        """The network of these tasks, trained on the rows that have a label of one of them; once a seed.

        Its cost is charged to every measure that asks for it, because each would have to pay it alone.
        """
        key = [name for name in self.names if name in set(names)]
        plan = self.plan.of(key) if len(key) > 1 else self.plan.alone()
        title = " + ".join(key) if len(key) < 4 else f"{len(key)} tasks"

        def train() -> Fitted:
            rows = self.prepared.only(key)
            return self._fit(rows, self._with_as_many_steps(plan, rows), title, None)

        fitted: Fitted = self.once("trained " + json.dumps(key), train)
        return fitted

    def held_out_losses(self, fitted: Fitted, names: Sequence[str]) -> dict[str, float]:
        """Mean validation losses; tasks without a validation label are left out."""
        tasks = [task for task in self.tasks if task.name in names]
        held = self.prepared.only(list(names)).validation
        self.charge(sum(map(len, held.values())), forward=1)
        return fitted.mean_losses(tasks, held)

    def _with_as_many_steps(self, plan: Plan, rows: Prepared) -> Plan:
        """Batches as much smaller as there are fewer rows, so that a model of few labels is not short of steps."""
        share = sum(map(len, rows.train.values())) / self.n_rows
        size = plan.settings.batch_size
        smaller = max(min(_SMALLEST_BATCH, size), round(size * share))
        return replace(plan, settings=replace(plan.settings, batch_size=smaller))

    def _fit(self, prepared: Prepared, plan: Plan, title: str, watch: Watch | None) -> Fitted:
        fitted = fit(prepared, plan, progress=self.progress, title=title, watch=watch)
        rows = sum(map(len, prepared.train.values()))
        held = sum(map(len, prepared.validation.values()))
        # A balancer that looks at gradients goes backwards once a task, which no history counts; an epoch is one pass.
        self.charge(fitted.epochs * rows, forward=1, backward=1)
        self.charge(fitted.epochs * held, forward=1)
        self.cost.trainings += 1
        return fitted


def half(prepared: Prepared, seed: int, which: int, groups: Groups | None = None) -> tuple[Prepared, Groups | None]:
    """Half of the training rows of each source, and their groups; ``which`` 0 and 1 have no row in common.

    Args:
        prepared: The data.
        seed: Of the division.
        which: The one half or the other.
        groups: Groups of the training rows: no group is in both halves, in whatever sources its rows are.

    Raises:
        DataError: If a source has rows of one half's groups only.
    """
    if groups is None:
        rows = {}
        for position, (name, source) in enumerate(prepared.train.items()):
            order = torch.randperm(len(source), generator=torch.Generator().manual_seed(7919 * seed + position))
            rows[name] = order[which::2] if len(source) > 1 else order
    else:
        rows = _rows_of(groups, lambda counts, order: _lighter(counts, order) == which, 7919 * seed)
        for name, mine in rows.items():
            if not 0 < len(mine) < len(groups[name]):
                raise DataError(
                    f"Two readings take two halves of the rows with no group in both, and all rows of {name!r} would "
                    "be in one of them: it has too few groups. Take one reading (--seeds 1), or more groups."
                )
    train = {name: prepared.train[name].take(mine) for name, mine in rows.items()}
    kept = None if groups is None else {name: groups[name][mine.numpy()] for name, mine in rows.items()}
    return replace(prepared, train=train), kept


def _rows_of(
    groups: Groups, chosen: Callable[[np.ndarray, np.ndarray], np.ndarray], seed: int
) -> dict[str, torch.Tensor]:
    """By source, the rows of the groups that are chosen by their rows in each source and a random order of them."""
    codes, values = pd.factorize(joined_values(list(groups.values())))
    # By their texts, so that the division does not depend on the order of the rows.
    codes = np.argsort(np.argsort(values.astype(str), kind="stable"))[codes]
    ends = np.cumsum([len(column) for column in groups.values()])[:-1]
    counts = np.array([np.bincount(part, minlength=len(values)) for part in np.split(codes, ends)])
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed)).numpy()
    parts = zip(groups, np.split(chosen(counts, order)[codes], ends), strict=True)
    return {name: torch.from_numpy(np.flatnonzero(part)) for name, part in parts}


def _lighter(counts: np.ndarray, order: np.ndarray) -> np.ndarray:
    """For each group 0 or 1: in order, each goes to the half that lacks its sources, or else has fewer rows so far."""
    side, totals = np.zeros(counts.shape[1], dtype=np.int64), np.zeros((2, len(counts)))
    for group in order:
        mine = counts[:, group] > 0
        lacks = (totals[:, mine] == 0).sum(1)
        rows = totals.sum(1)
        side[group] = int((-lacks[1], rows[1]) < (-lacks[0], rows[0]))
        totals[side[group]] += counts[:, group]
    return side


def _held_back(prepared: Prepared, seed: int, groups: Groups | None) -> Prepared:
    """Validation rows out of the training rows, where there are none."""
    if prepared.validation:
        return prepared
    train, validation = {}, {}
    held = None if groups is None else _rows_of(groups, _few, seed)
    stay = None if groups is None else _rows_of(groups, lambda counts, order: ~_few(counts, order), seed)
    for name, source in prepared.train.items():
        if held is None or stay is None:
            order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))
            n_held = int(_HELD_BACK * len(source))
            mine, rest = order[:n_held], order[n_held:]
        else:
            mine, rest = held[name], stay[name]
        train[name] = source.take(rest) if len(rest) else source
        if len(mine) and len(rest):
            validation[name] = source.take(mine)
    return replace(prepared, train=train, validation=validation)


def _few(counts: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Whether a group is held back: in order, each that still fits into few rows and leaves rows of every source.

    If none fits, the smallest of several is: it has no more than half of the rows.
    """
    few, sizes, all_rows = np.zeros(counts.shape[1], dtype=bool), counts.sum(0), counts.sum(1)

    def leaves_rows(group: int) -> bool:
        held = counts[:, few].sum(1) + counts[:, group]
        return bool((held < all_rows)[all_rows > 0].all())

    for group in order:
        if sizes[few].sum() + sizes[group] <= _HELD_BACK * sizes.sum() and leaves_rows(group):
            few[group] = True
    if not few.any():
        few[[group for group in order[np.argsort(sizes[order], kind="stable")] if leaves_rows(group)][:1]] = True
    return few
