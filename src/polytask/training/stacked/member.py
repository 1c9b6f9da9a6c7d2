"""A member of a stack: a training of its own that shares only the forward and backward passes with the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from math import isfinite

import torch

from polytask.balancing.balancer import Signals
from polytask.balancing.losses.equal import Equal
from polytask.data.batch import ArraySource
from polytask.data.plan import Draw
from polytask.errors import ExplodedError, NonFiniteError
from polytask.shapes import Bool, Float, Int, Tensor
from polytask.training.guards import CALM
from polytask.training.loss_groups import Group
from polytask.training.stacked.begun import Begun
from polytask.training.stacked.losses import Labels
from polytask.training.stacked.validation import HeldOut

__all__ = ["Member"]


@dataclass
class Member:
    """What is a member's own: data, order of rows, masks, balancer, optimiser, best epoch, history.

    Args:
        begun: The training.
        generator: Where its dropout masks come from, in the state that the training alone would find it in.
        groups: How the losses of a stack are computed.
    """

    begun: Begun
    generator: torch.Generator
    groups: list[Group]
    history: list[dict[str, object]] = field(default_factory=list)
    error: NonFiniteError | None = None

    def __post_init__(self) -> None:
        training = self.training = self.begun.training
        ((name, source),) = training.feed.sources.items()
        assert isinstance(source, ArraySource)
        self.source_name, self.source = name, source
        self.names = [task.name for task in training.tasks]
        self.inputs = {"": source.inputs} if isinstance(source.inputs, Tensor) else dict(source.inputs)
        shares = [training.objective.coverage[name, task] for task in self.names]
        self.labels = Labels(source, training.tasks, shares, self.groups)
        self.is_complete = all(share == 1.0 for share in shares)
        self.held_out = HeldOut.of(training.validation, training.tasks, self.groups)
        self._draws: Iterator[Draw] | None = None
        self._places = torch.arange(len(self.names))
        self.is_done = False

    def draw(self) -> Int[Tensor, " B"]:
        """The rows of the next step."""
        if self._draws is None:
            self._draws = self.training.feed.plan.epoch()
        return next(self._draws).rows

    def weigh(
        self, losses: Float[Tensor, " T"], present: Bool[Tensor, " T"] | None
    ) -> tuple[Float[Tensor, " T"], int] | None:
        """Weights of all tasks, zero for an absent one, and the number of fallbacks; ``None`` if all weigh one."""
        training, balancer = self.training, self.training.balancer
        if isinstance(balancer, Equal):
            return None if present is None else (present.double(), 0)
        balancer.calls = training.at.step + 1
        if present is None:
            balancer.fallbacks.clear()
            at = training.at
            return balancer(Signals(self._places, losses, step=at.step, epoch=at.epoch)), len(balancer.fallbacks)
        index = present.nonzero().squeeze(1)
        weights = torch.zeros(len(losses), dtype=torch.float64)
        if not len(index):
            return weights, 0
        balancer.fallbacks.clear()
        weights[index] = balancer(Signals(index, losses[index], step=training.at.step, epoch=training.at.epoch))
        return weights, len(balancer.fallbacks)

    def _fail(self, losses: Sequence[float]) -> None:
        """Leave the stack because of a loss that is not finite."""
        bad = ", ".join(f"{n!r} ({v})" for n, v in zip(self.names, losses, strict=True) if v - v != 0)
        at = self.training.at
        self.error = NonFiniteError(
            f"Step {at.step} (epoch {at.epoch}, a batch of {self.source_name!r}): The loss of task {bad} is not "
            f"finite, so no gradient was taken. {CALM}"
        )
        self.is_done = True

    def look(self, losses: Sequence[float], present: Sequence[bool] | None) -> None:
        """Leave the stack if a loss is not finite or exploded; alone, the training can leave that batch out and go on.

        Args:
            losses: Of each task, zero for an absent one.
            present: Which tasks are there; ``None`` for all.
        """
        if not all(map(isfinite, losses)):
            self._fail(losses)
            return
        there = [True] * len(losses) if present is None else present
        names, values = list(compress(self.names, there)), list(compress(losses, there))
        try:
            self.training.skips.look(names, values, self.training.settings.explosion)
        except ExplodedError as error:
            self.error, self.is_done = error, True

    def after_step(self, seconds: float) -> bool:
        """Count the step; whether it was the last one of the epoch."""
        at, plan = self.training.at, self.training.feed.plan
        at.step += 1
        at.seconds += seconds
        return plan.steps_done == plan.n_steps

    def end_epoch(self, validation: Mapping[str, float] | None = None) -> None:
        """See whether to stop, by validation losses that are known, or after validating."""
        assert self._draws is not None
        for _ in self._draws:  # nothing is left; the plan goes on to its next epoch
            raise AssertionError("an epoch had a batch left")
        self._draws = None
        try:
            self.history.append(self.training.end_epoch(validation))
        except NonFiniteError as error:
            self.error, self.is_done = error, True
            return
        self.is_done = self.training.at.is_done
