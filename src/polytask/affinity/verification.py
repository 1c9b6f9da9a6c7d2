"""Whether groups keep what the affinity promises: trained, and tested on rows that no measure saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from polytask.affinity.ground import Ground, Groups
from polytask.affinity.keeping import Kept
from polytask.affinity.record import Arrangement
from polytask.training.evaluation import constant_losses
from polytask.training.preparation import Prepared
from polytask.training.progress import Progress
from polytask.training.run import Plan

__all__ = ["verified"]


def verified(
    arrangements: Mapping[str, Arrangement],
    prepared: Prepared,
    plan: Plan,
    seeds: Sequence[int],
    progress: Progress | None = None,
    kept: Kept | None = None,
    groups: Groups | None = None,
) -> dict[str, Arrangement]:
    """The arrangements with their skill on the test rows; a group that comes twice is trained once.

    Args:
        arrangements: By name.
        prepared: The data, test rows included; networks learn from training and validation rows only.
        plan: Architecture and settings of each network.
        seeds: A training of every group for each.
        progress: Told about the trainings.
        kept: Skills that are known already, and where new ones are kept.
        groups: Groups of the training rows, if none may be on two sides.

    Note:
        The skill of a task is the share of the constant prediction's test loss that its network takes away: 1 is
        perfect, 0 is no skill. Tasks without a test label have none.
    """
    store = kept or Kept()
    constant = constant_losses(prepared.tasks, prepared.test)
    skills: dict[str, list[dict[str, float]]] = {name: [] for name in arrangements}
    for seed in seeds:
        ground = Ground(prepared, plan, seed, groups=groups, progress=progress)
        known: dict[tuple[str, ...], dict[str, float]] = {}
        for name, arrangement in arrangements.items():
            found: dict[str, float] = {}
            for group, serves in zip(arrangement.groups, arrangement.serves, strict=True):
                if group not in known:
                    what = {"skills": list(group), "seed": seed}
                    known[group] = store.once(what, partial(_skills, ground, prepared, group, constant))
                found |= {task: known[group][task] for task in serves if task in known[group]}
            skills[name].append(found)
    names = [task.name for task in prepared.tasks]
    return {name: _with_skill(arrangement, skills[name], names) for name, arrangement in arrangements.items()}


def _skills(
    ground: Ground, prepared: Prepared, group: Sequence[str], constant: Mapping[str, float]
) -> dict[str, float]:
    fitted = ground.trained(group)
    only = prepared.only(list(group))
    losses = fitted.mean_losses(only.tasks, only.test)
    return {task: 1.0 - loss / constant[task] for task, loss in losses.items() if constant.get(task, 0.0) > 0}


def _with_skill(arrangement: Arrangement, found: Sequence[Mapping[str, float]], names: Sequence[str]) -> Arrangement:
    means = [float(np.mean(list(skills.values()))) for skills in found if skills]
    by_task = {task: [skills[task] for skills in found if task in skills] for task in names}
    return replace(
        arrangement,
        verified=round(float(np.mean(means)), 6) if means else None,
        skill={task: round(float(np.mean(own)), 6) if own else None for task, own in by_task.items()},
        spread=round(float(np.std(means, ddof=1)), 6) if len(means) > 1 else None,
    )
