"""What fits into the time there is: which arms, and how often the folds are repeated."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from polytask.errors import RecipeError
from polytask.study.terms import SEARCHED
from polytask.wording import counted

__all__ = ["DEFAULT_ARMS", "NEEDED", "Budget", "seconds_of", "with_search"]

DEFAULT_ARMS = (
    "linear",
    "boosting",
    "joint",
    "single",
    "joint_forest",
    "forest",
    "joint:mmoe",
    "joint+uncertainty",
    "joint_linear",
    "chains",
    "pooled",
)
"""Tried in this order, for as long as the budget lasts: what is cheap and strong, what a verdict takes, the rest."""

NEEDED = ("single", "joint", "boosting")
"""Without the first two there is no verdict, and without the outsider that is strong on most tables no recommendation
worth having; they run whatever the budget is."""

_MOST_REPEATS = 4
_FEWEST_FOLDS = 3


def with_search(arms: Sequence[str]) -> list[str]:
    """The arms with those that search, which come after what is run in any case.

    Example:
        >>> with_search(["joint", "single", "forest"])
        ['joint', 'single', 'searched', 'tuned_weights', 'forest']
    """
    last = max((position for position, arm in enumerate(arms) if arm in NEEDED), default=-1)
    return [*arms[: last + 1], *SEARCHED, *arms[last + 1 :]]


def seconds_of(text: str | float | None) -> float | None:
    """A budget in seconds: ``90``, ``"90s"``, ``"10m"``, ``"1.5h"``; ``None`` for none.

    Raises:
        RecipeError: If it is none of these, or not above zero.

    Example:
        >>> seconds_of("10m"), seconds_of(90)
        (600.0, 90.0)
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(s|m|h)?\s*", str(text))
    seconds = float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2] or "s"] if found else 0.0
    if seconds <= 0:
        raise RecipeError(f"A budget is a time such as 90s, 10m or 1h; got {text!r}.")
    return seconds


class Budget:
    """Decides from measured times; the same times give the same decisions, so that a study can be gone on with.

    Args:
        seconds: The time for all trainings; ``None`` if there is no limit.
        n_folds: Trainings of each arm in one repetition.
        needed: Arms that are run in any case.
        workers: Trials that are trained at the same time. Last trainings are counted as if one worker did them all,
            since that of an arm is one worker's work.
    """

    def __init__(self, seconds: float | None, n_folds: int, needed: Collection[str] = NEEDED, workers: int = 1):
        self.seconds, self.n_folds, self.needed, self.workers = seconds, n_folds, needed, workers
        self.costs: dict[str, float] = {}
        self._left_out = self._searches = 0.0
        """Seconds of the trials of arms that were left out; those of searches done once, beyond a later training."""

    @property
    def planned(self) -> float:
        """Time of one repetition with all arms kept, and of one last training of each."""
        return (self._left_out + self._searches) / self.workers + self._whole(sum(self.costs.values()))

    def _whole(self, cost: float) -> float:
        """Time of all trainings of an arm whose training takes so long."""
        return cost * (self.n_folds / self.workers + 1)

    def why_not_try(self, arm: str) -> str:
        """Why an arm is not even tried; empty if it is."""
        if self.seconds is None or arm in self.needed or self.planned < 0.9 * self.seconds:
            return ""
        return f"not tried: the arms before it take about {self.planned:.0f} s of the budget of {self.seconds:g} s"

    def why_not_keep(self, arm: str, cost: float) -> str:
        """Count an arm in, after its first fold took this long; or why not, if it does not fit."""
        left = (self.seconds or 0) - self.planned
        if arm in self.needed or self.has_room(cost):
            self.costs[arm] = cost
            return ""
        self._left_out += cost
        return f"it would take about {self._whole(cost):.0f} s, and {max(left, 0):.0f} s of the budget are left"

    def has_room(self, cost: float) -> bool:
        """Whether all trainings of an arm fit in, if each takes this long."""
        return self.seconds is None or self._whole(cost) <= self.seconds - self.planned

    def first_only(self, arm: str, cost: float, later: float) -> bool:
        """Count an arm in that is dear on the first fold only, such as by a search; tells whether it fits."""
        if self.seconds is None or cost / self.workers + self._whole(later) > self.seconds - self.planned:
            return False
        self.costs[arm] = later
        self._searches += cost - later
        return True

    def folds(self) -> int:
        """How many of the folds can be gone through: all of them, or at least 3 if even those take too long."""
        cost = sum(self.costs.values())
        if self.seconds is None or self.planned <= self.seconds or cost <= 0:
            return self.n_folds
        left = self.seconds - (self._left_out + self._searches) / self.workers - cost
        return min(self.n_folds, max(_FEWEST_FOLDS, int(left * self.workers / cost)))

    def repeats(self, spent: float) -> int:
        """How often the folds can be gone through in all, after the trials of the first time took this long in sum."""
        if self.seconds is None or spent <= 0:
            return 1
        last = sum(self.costs.values())
        # The first fold of each arm tells less than all folds: another process may have come in between.
        one = max(last * self.n_folds, spent - self._searches) / self.workers
        left = self.seconds - (spent + self._left_out) / self.workers - last
        return max(1, min(_MOST_REPEATS, 1 + int(left / max(one, 1e-9))))

    def overrun(self, spent: float, elapsed: float = 0.0) -> str:
        """Why the trainings took longer than the budget; empty if they did not.

        Args:
            spent: Seconds of all trials of the arms that were kept, in sum; also those before an interruption.
            elapsed: Seconds on the clock since the trainings began, with the start of workers and what they wait for.
        """
        took = max((spent + self._left_out) / self.workers, elapsed)
        if self.seconds is None or took <= self.seconds:
            return ""
        needed = [arm for arm in self.costs if arm in self.needed]
        fewest = min(_FEWEST_FOLDS, self.n_folds)
        if fewest * sum(self.costs[arm] for arm in needed) / self.workers > self.seconds:
            times = "once" if fewest == 1 else f"at least {counted(fewest, 'time')}"
            why = f"whatever the budget is, {', '.join(needed)} are trained {times}"
        else:
            why = "they took longer than was planned from those of the first fold, such as on a busy machine"
        digits = next((n for n in range(3) if float(f"{took:.{n}f}") > self.seconds), 3)
        return (
            f"The trainings took about {took:.{digits}f} s, more than the budget of {self.seconds:g} s: {why}. To be "
            "faster, give fewer arms (--arms), fewer rows, or fewer epochs (--set training.epochs=20)."
        )
