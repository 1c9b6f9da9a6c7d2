"""Dropout that gets weaker as the tasks are learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from polytask.models.dropout import Dropout
from polytask.models.model import MultiTaskModel
from polytask.tasks.task import Task
from polytask.training.evaluation import constant_losses
from polytask.training.feed import Feed

__all__ = ["Fading", "constant_in_training"]


_BEGINS = 0.25
_STEPS = 64


class Fading:
    r"""Dropout with the probability :math:`p \min(1, 4 u)`, where :math:`u` is the share of the loss not yet explained.

    Dropout is noise, which keeps a network from learning that of the labels. Labels that hold next to none, such as the
    results of a simulation, it keeps from being learned exactly. So it fades where less than a quarter is left to be
    explained: :math:`u` is the lowest mean over tasks, so far, of the loss over that of the constant prediction.

    An epoch that says nothing of one of the tasks, because it had no label of it or its loss is no number, changes
    nothing: the tasks that are left may be the easy ones.

    Args:
        model: The network, of which each :class:`~polytask.models.dropout.Dropout` follows.
        constant: Loss of each task's constant prediction on the rows by which it is judged; tasks that are not among
            them do not count.
        is_on: Whether to follow. The strength stays 1 if not, and if the network has no such dropout above 0.

    Example:
        >>> from polytask.models.building import build_model
        >>> from polytask.models.spec import ModelSpec
        >>> from polytask.models.inputs import Field, InputShape
        >>> spec = ModelSpec({"main": InputShape({"numeric": Field((3,))})}, {"a": 1, "b": 1}, encoder="tabm")
        >>> fading = Fading(build_model(spec), {"a": 2.0, "b": 4.0})
        >>> fading.follow(1.0, {"a": 1.0, "b": 1.0}), fading.strength
        (0.375, 1.0)
        >>> fading.follow(0.375, {"a": 0.25, "b": 0.5}), fading.strength
        (0.125, 0.5)

    Note:
        Ours; the quarter was settled by measuring, see docs/results.md.
    """

    def __init__(self, model: MultiTaskModel, constant: Mapping[str, float], *, is_on: bool = True):
        self.constant = {task: max(loss, 1e-12) for task, loss in constant.items()}
        self.dropouts = [module for module in model.modules() if isinstance(module, Dropout) and module.p > 0.0]
        self.is_on = is_on and bool(self.dropouts)
        self.strength = 1.0
        self.set(1.0)

    def set(self, unexplained: float) -> None:
        """Set the strength of dropout for this unexplained share."""
        # In steps, so that the last bits of a loss, which a stack computes in another order, decide no mask.
        self.strength = round(min(1.0, unexplained / _BEGINS) * _STEPS) / _STEPS if self.is_on else 1.0
        for dropout in self.dropouts:
            dropout.strength = self.strength

    def follow(self, unexplained: float, losses: Mapping[str, float]) -> float:
        """Set the strength after an epoch.

        Args:
            unexplained: The share before.
            losses: Loss of each task in the epoch, of the kind that the constant ones are.

        Returns:
            The share after it, which is never larger.
        """
        shares = np.array([losses.get(task, np.nan) / constant for task, constant in self.constant.items()])
        if self.is_on and len(shares) and np.isfinite(shares).all():
            unexplained = min(unexplained, max(float(shares.mean()), 0.0))
        self.set(unexplained)
        return unexplained


def constant_in_training(tasks: Sequence[Task], feed: Feed) -> dict[str, float]:
    """Training loss of each task's constant prediction, weighted as in an epoch; used without validation rows."""
    if feed.draws_per_step == 1:
        return constant_losses(tasks, feed.sources, weighted=True)
    # A step has a batch of every source, whose mean losses are added.
    each = [constant_losses(tasks, {name: source}, weighted=True) for name, source in feed.sources.items()]
    return {t.name: sum(one.get(t.name, 0.0) for one in each) for t in tasks if any(t.name in one for one in each)}
