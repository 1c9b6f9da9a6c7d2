"""What one balanced backward did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from polytask.balancing.balancer import Signals
from polytask.shapes import Float, Tensor

__all__ = ["Outcome", "Report"]


@dataclass(frozen=True)
class Report:
    """How a balanced backward came about; plain data, ready for a run record.

    Args:
        mode: The mode that was asked for.
        route: How it was done: ``one_backward`` (weights known beforehand), ``rows`` (one gradient a task),
            ``ghost`` (some layers without weight gradients), ``sketch``, ``features``, ``matrix_free``, ``nothing`` (no
            task).
        passes: How often the shared part was gone through backwards.
        absent: Tasks without an observed label in the batch.
        fallbacks: One line for each solver that did not converge in this step.
        own_graphs: Whether every task had a graph of its own, so that nothing was retained.
        overflow: Whether the scaled gradients overflowed, so that the scaler will skip the step.
        layers: For each layer that a ghost watches, ``ghost`` or ``native: <why>``.
        notes: What else a careful reader wants to know, e.g. features that a task goes around.
        sent: Bytes that this process gave to be summed over the processes.
    """

    mode: str
    route: str
    passes: int = 0
    absent: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    own_graphs: bool = False
    overflow: bool = False
    layers: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sent: int = 0


@dataclass(frozen=True)
class Outcome:
    """Weights, Gramian and report of one balanced backward.

    Args:
        tasks: The names of all tasks, in the order of the weights.
        weights: Weight of each task on the shared parameters, float64; zero for an absent task.
        gramian: Inner products of the tasks' gradients, float64, zero rows for absent tasks; ``None`` if the step
            did not need them.
        losses: The loss values, float64, NaN for absent tasks.
        report: How it came about.
        signals: What the balancer saw; ``None`` if no task was present. Give it back with the losses after the
            step to :meth:`Balancer.after_step` for methods that need them.
    """

    tasks: tuple[str, ...]
    weights: Float[Tensor, " T"]
    gramian: Float[Tensor, "T T"] | None
    losses: Float[Tensor, " T"]
    report: Report
    signals: Signals | None
