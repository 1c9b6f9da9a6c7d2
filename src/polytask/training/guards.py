"""What is checked while a training goes on, so that it stops, or is mended, before anything is lost."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

import torch

from polytask.balancing.outcome import Outcome
from polytask.errors import NonFiniteError

if TYPE_CHECKING:
    from polytask.training.loop import Training

__all__ = ["CALM", "FiniteParameters", "Guard"]

CALM = "A lower training.learning_rate, or training.clip_norm, may help; the last checkpoint is whole."


class Guard:
    """Looks at a training from step to step; may raise, or change the training where that mends it.

    Everything does nothing by default. Its state is part of the checkpoint, so that a resumed training equals the
    uninterrupted one.

    A task whose loss is no number is dealt with earlier, where the gradient is made
    (:class:`~polytask.training.skips.Skips` in :mod:`polytask.training.passes`).
    """

    def before_update(self, training: Training, outcome: Outcome) -> None:
        """``.grad`` holds everything; ``outcome`` tells losses and weights. No parameter was changed yet."""

    def end_epoch(self, training: Training) -> None:
        """An epoch's steps are done, and nothing was measured or saved yet."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that later steps depend on: tensors and JSON values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""


class FiniteParameters(Guard):
    """Stops before a checkpoint holds NaN or infinite parameters: a gradient may overflow though its loss did not."""

    @torch.no_grad()
    def end_epoch(self, training: Training) -> None:
        """Look at all parameters that are trained.

        Raises:
            NonFiniteError: If one is NaN or infinite.
        """
        # Of all at once first: a norm is finite only if all its numbers are. One that overflowed itself is looked into.
        if all(map(isfinite, torch._foreach_norm(tuple(training.optimisation.parameters)))):
            return
        for name, parameter in training.model.named_parameters():
            if not bool(parameter.isfinite().all()):
                raise NonFiniteError(f"Parameter {name} became NaN or infinite in epoch {training.at.epoch}. {CALM}")
