"""One task after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polytask.training.schedule import Schedule, Stage, StageResult, check_names

__all__ = ["Sequential"]


@dataclass(frozen=True)
class Sequential(Schedule):
    """Trains one task after another, each from the network that the last one left.

    It shows what is forgotten, and what remedies are worth; where all data are at hand together, ``joint`` is usually
    the better one.

    Args:
        order: Names of the tasks in order; the recipe's order if empty. A recipe needs them all, because a task
            that no stage trains has no answers.
        decay: Factor on the learning rate from each layer to the one below it, in the stages after the first
            (discriminative learning rates).
        rate: Factor on the learning rate in the stages after the first.

    Raises:
        UnknownNameError: If the order names no task of the recipe.

    Example:
        >>> schedule = Sequential(order=["b", "a"])
        >>> first = schedule.next_stage(["a", "b"], 10, 2, [])
        >>> first.name, schedule.next_stage(["a", "b"], 10, 2, [StageResult(first)]).name
        ('b', 'a')

    Note:
        Every stage has the whole number of epochs, its own optimiser, and early stopping on its own task. It costs up
        to as many times the epochs of ``joint`` as there are tasks, each epoch of one task.

    References:
        McCloskey and Cohen, "Catastrophic Interference in Connectionist Networks: The Sequential Learning Problem",
        Psychology of Learning and Motivation 24, 1989; Howard and Ruder, "Universal Language Model Fine-tuning for Text
        Classification", ACL 2018, section 3.2 (discriminative learning rates).
    """

    order: Sequence[str] = ()
    decay: float = 1.0
    rate: float = 1.0

    def next_stage(self, tasks: Sequence[str], epochs: int, n_layers: int, done: Sequence[StageResult]) -> Stage | None:
        """The next task of the order."""
        order = check_names("the order of schedule 'sequential'", self.order or tasks, tasks)
        if len(done) == len(order):
            return None
        name = order[len(done)]
        return Stage(name, (name,), decay=self.decay, rate=self.rate) if done else Stage(name, (name,))
