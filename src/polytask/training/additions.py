"""What stands beside plain training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from polytask.training.constraints import Constraints
from polytask.training.remedy import Remedy
from polytask.training.task_control import TaskControl

__all__ = ["Additions"]


@dataclass
class Additions:
    """What a training does besides lowering the losses of its tasks; by default nothing.

    Args:
        remedies: What keeps the tasks of earlier stages; their state is not in the training's own.
        factors: Of the learning rate of some parameters.
        constraints: What the training keeps; the balancer then is one that knows them
            (:class:`~polytask.balancing.Constrained`), unless they are rules for parameters only.
        controls: Settings of single tasks.
    """

    remedies: Sequence[Remedy] = ()
    factors: Mapping[nn.Parameter, float] = field(default_factory=dict)
    constraints: Constraints = field(default_factory=lambda: Constraints([]))
    controls: Mapping[str, TaskControl] = field(default_factory=dict)
