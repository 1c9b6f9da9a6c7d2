"""What arms, and means of arms, did on a fold: errors, losses and outputs, each computed once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from polytask.bundle.blend import blended
from polytask.shapes import Tensor
from polytask.study.store import Answers, KeptFold, Trial
from polytask.study.trials import losses_of

__all__ = ["CONSTANT", "Candidate", "FoldScores", "name_of"]

Candidate = tuple[str, ...]
"""Arms whose mean answer serves a task; mostly one."""

CONSTANT: Candidate = ("constant",)
"""The best constant of the training labels: a candidate on every fold, whether it is an arm of the study or not."""


def name_of(candidate: Candidate) -> str:
    """As it is shown: ``boosting + joint``."""
    return " + ".join(candidate)


class FoldScores:
    """Errors and losses of arms, and of means of arms, on one fold.

    Args:
        kept: The fold.
        trials: What the arms did on it, by name.
        answers: Their answers.
        validation_groups: By task, the group of each validation label; empty if rows are not kept together.
    """

    def __init__(
        self,
        kept: KeptFold,
        trials: Mapping[str, Trial],
        answers: Mapping[str, Answers],
        validation_groups: Mapping[str, np.ndarray] | None = None,
    ):
        self.kept, self.trials, self.answers = kept, trials, answers
        self.validation_groups = validation_groups or {}
        self._outputs: dict[tuple[Candidate, str, str], Tensor | None] = {}
        self._errors: dict[tuple[Candidate, str, str], float] = {}

    def outputs(self, candidate: Candidate, part: str, task: str) -> Tensor | None:
        """Outputs on the rows with an observed label; ``None`` if the candidate does not serve the task here."""
        key = (candidate, part, task)
        if key not in self._outputs:
            parts = [self._answer(arm, part, task) for arm in candidate]
            there = [out for out in parts if out is not None and bool(out.isfinite().all())]
            has_answer = len(there) == len(parts) and (len(parts) == 1 or self.kept.tasks[task].has_mean)
            self._outputs[key] = blended(self.kept.tasks[task], there) if has_answer else None
        return self._outputs[key]

    def _answer(self, arm: str, part: str, task: str) -> Tensor | None:
        if (arm,) != CONSTANT:
            return self.answers[arm].get(part, {}).get(task)
        if self.kept.tasks[task].of_elements or task not in self.kept.truth.get(part, {}):
            return None  # of elements there is no constant that a model without inputs could give
        return self.kept.tasks[task].constant_outputs(self.kept.truth[part][task][0])

    def error(self, candidate: Candidate, part: str, task: str) -> float:
        """Relative error; NaN if the candidate does not serve the task here."""
        key = (candidate, part, task)
        if key not in self._errors:
            out = self.outputs(candidate, part, task)
            found = np.nan
            if out is not None and len(out):
                targets, observed = self.kept.truth[part][task]
                found = self.kept.tasks[task].evaluate(out, targets, observed)["relative_error"]
            self._errors[key] = found
        return self._errors[key]

    def losses(self, candidate: Candidate, task: str, part: str = "validation") -> np.ndarray | None:
        """The losses on a part, see :func:`losses_of`."""
        out = self.outputs(candidate, part, task)
        return None if out is None else losses_of(self.kept, part, task, out)

    def groups(self, task: str) -> np.ndarray:
        """The number of what each test label belongs to: its group, or its row where there are no groups."""
        observed = self.kept.truth["test"][task][1]
        is_by_row = observed.ndim == 1 or self.kept.tasks[task].of_elements
        rows = (torch.arange(len(observed)) if is_by_row else observed.nonzero()[:, 0]).numpy()
        known = self.kept.groups.get(task)
        return rows if known is None else known[rows]

    def constant_loss(self, task: str) -> float:
        """Mean loss of the best constant of the training labels on the test rows."""
        constant = self.kept.tasks[task].constant_outputs(self.kept.truth["test"][task][0])
        return float(losses_of(self.kept, "test", task, constant).mean())
