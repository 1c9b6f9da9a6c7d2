"""From a measure's findings to groups, beside their controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from polytask.affinity.grouping import EXACT_UP_TO, GroupBudget, arrangement, group_tasks, random_groups
from polytask.affinity.grouping.score import Group
from polytask.affinity.record import Arrangement, Found, Grouping, how_verified
from polytask.training.progress import Progress

__all__ = ["gains_of", "make_grouping"]

Verify = Callable[[Mapping[str, Arrangement]], Mapping[str, Arrangement]]


def gains_of(found: Found) -> np.ndarray:
    """The gains with NaN where not known."""
    return np.array([[np.nan if v is None else v for v in row] for row in found.gains], dtype=float)


def make_grouping(
    measure: str,
    found: Found,
    names: Sequence[str],
    budget: GroupBudget,
    *,
    verify: Verify | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Grouping:
    """Groups within a budget by one measure, with controls: all together, all alone, groups at random.

    Args:
        measure: The measure's name.
        found: What it found.
        names: The tasks.
        budget: What may be spent.
        verify: Trains and tests arrangements; they are only predicted if ``None``.
        seed: Of the random groups.
        progress: Told how far the search for the groups is.
    """
    gains = gains_of(found)
    chosen = group_tasks(gains, names, budget, seed=seed, progress=progress)
    every = {"chosen": chosen, **_controls(chosen, gains, names, budget, seed)}
    if verify is not None:
        every = dict(verify(every))
    chosen = every.pop("chosen")
    return Grouping(
        measure=measure,
        budget={"models": budget.models, "cost": budget.cost, "head_cost": budget.head_cost},
        is_exact=len(names) <= EXACT_UP_TO,
        chosen=chosen,
        controls=every,
        words=_words(chosen, every),
        notes=tuple(_notes(measure, found, gains)),
    )


def _controls(
    chosen: Arrangement, gains: np.ndarray, names: Sequence[str], budget: GroupBudget, seed: int
) -> dict[str, Arrangement]:
    """All tasks together, each alone, and different groups at random of the chosen sizes, as far as there are such."""
    place = {name: i for i, name in enumerate(names)}
    groups = [
        Group(frozenset(place[t] for t in tasks), frozenset(place[t] for t in serves))
        for tasks, serves in zip(chosen.groups, chosen.serves, strict=True)
    ]
    everything = frozenset(range(len(names)))
    alone = [Group(frozenset([j]), frozenset([j])) for j in sorted(everything)]
    controls = {
        "all together": arrangement([Group(everything, everything)], gains, names, budget),
        "all alone": arrangement(alone, gains, names),
    }
    if not 1 < len(groups) < len(names):
        return controls
    rng = np.random.default_rng(seed)
    known = {frozenset(groups)}  # what was chosen is no control of itself, and none is drawn twice
    for _ in range(_MOST_DRAWS):
        if len(known) > _RANDOM:
            break
        drawn = random_groups(groups, len(names), rng)
        if frozenset(drawn) not in known:
            controls[f"random {len(known)}"] = arrangement(drawn, gains, names, budget)
            known.add(frozenset(drawn))
    return controls


def _notes(measure: str, found: Found, gains: np.ndarray) -> list[str]:
    """Why the groups may mean little."""
    off = ~np.eye(len(gains), dtype=bool)
    unknown = int((~np.isfinite(gains[off])).sum())
    notes = []
    if unknown:
        notes.append(f"{unknown} of {off.sum()} values are not known and count as neither good nor bad.")
    if not found.has_zero:
        notes.append(f"{measure} has no natural zero: a pair whose value is in the middle of all counts as neutral.")
    if not found.structure.is_found:
        notes.append(f"Do not rely on the groups. {found.structure.words}")
    return notes


def _words(chosen: Arrangement, controls: Mapping[str, Arrangement]) -> str:
    """What was chosen, and how it did beside the controls."""
    shown = "; ".join(_group_words(*pair) for pair in zip(chosen.groups, chosen.serves, strict=True))
    text = f"{len(chosen.groups)} {'group' if len(chosen.groups) == 1 else 'groups'}: {shown}."
    return f"{text} {how_verified(chosen, controls)}".rstrip()


def _group_words(tasks: Sequence[str], serves: Sequence[str]) -> str:
    helpers = [task for task in tasks if task not in serves]
    shown = ", ".join(serves[:_MOST]) + (f" and {len(serves) - _MOST} more" if len(serves) > _MOST else "")
    if not helpers:
        return shown
    return f"{shown} (helped by {', '.join(helpers[:_MOST])}{' ...' if len(helpers) > _MOST else ''})"


_MOST = 8
_RANDOM = 3
_MOST_DRAWS = 100
"""Of few tasks there may be fewer arrangements than are asked for; so many draws hardly miss one of them."""
