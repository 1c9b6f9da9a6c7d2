r"""What learning in stages left: backward and forward transfer, forgetting, intransigence.

With :math:`R_{i,j}` the metric of task :math:`j` after stage :math:`i` of :math:`S` (signed so that higher is better),
:math:`b_j` that before the first stage, :math:`p(j)` and :math:`q(j)` the first and the last stage that trains the
task, and :math:`J_j` the joint model's metric:

.. math::

    \mathrm{backward}_j = R_{S,j} - R_{q(j),j} \quad (q(j) < S), \qquad
    \mathrm{forward}_j = R_{p(j)-1,j} - b_j \quad (p(j) > 1),

    \mathrm{forgetting}_j = \max_{i < S} R_{i,j} - R_{S,j} \quad (q(j) < S), \qquad
    \mathrm{intransigence}_j = J_j - R_{q(j),j}.

The means over tasks are those of the papers where each task is trained in one stage.

Note:
    A head that was never trained has drawn weights, so that ``forward`` says little where each task has a head of its
    own; ``intransigence``, and the single models beside it, say what earlier tasks did for a later one.

References:
    Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017, equations 2 and 3 (backward
    and forward transfer); Chaudhry et al., "Riemannian Walk for Incremental Learning: Understanding Forgetting and
    Intransigence", ECCV 2018, section 3 (forgetting, intransigence).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from polytask.records import SequenceResult, StageRecord, without_nan

if TYPE_CHECKING:
    from polytask.training.stages import Stages

__all__ = ["sequence_of", "transfer", "with_joint"]


def transfer(
    after: Sequence[float], trained: Sequence[bool], before: float, joint: float = math.nan
) -> dict[str, float | None]:
    """The four differences of one task, from its metric after each stage; ``None`` where one is not defined.

    Args:
        after: The task's metric after each stage, higher is better.
        trained: Whether each stage trained it.
        before: Its metric before the first stage.
        joint: The joint model's.

    Example:
        >>> transfer([0.9, 0.6, 0.7], [True, False, False], 0.1)["backward"]
        -0.2
        >>> found = transfer([0.2, 0.8, 0.5], [False, True, False], 0.1, joint=0.9)
        >>> {name: round(value, 3) for name, value in found.items()}
        {'backward': -0.3, 'forward': 0.1, 'forgetting': 0.3, 'intransigence': 0.1}
    """
    found: dict[str, float] = {}
    stages = [i for i, is_trained in enumerate(trained) if is_trained]
    if stages and stages[-1] < len(after) - 1:
        found["backward"] = after[-1] - after[stages[-1]]
    if stages and stages[0] > 0:
        found["forward"] = after[stages[0] - 1] - before
    if stages and stages[-1] < len(after) - 1:
        found["forgetting"] = max(after[:-1]) - after[-1]
    if stages:
        found["intransigence"] = joint - after[stages[-1]]
    rounded = {name: round(value, 12) for name, value in found.items() if math.isfinite(value)}
    return {name: rounded.get(name) for name in ("backward", "forward", "forgetting", "intransigence")}


def sequence_of(schedule: str, stages: Stages) -> SequenceResult:
    """The record of the stages, without a joint model yet."""
    records = tuple(
        StageRecord(
            result.stage.name,
            result.stage.tasks,
            without_nan(result.metrics),
            result.epochs,
            result.best,
            round(result.seconds, 3),
        )
        for result in stages.done
    )
    names = tuple(type(remedy).__module__.rpartition(".")[2] for remedy in stages.remedies)
    found = SequenceResult(schedule, names, without_nan(stages.before), records)
    metrics = {task.name: (task.metrics[0].name, task.metrics[0].higher_is_better) for task in stages.prepared.tasks}
    return with_joint(found, metrics, {})


def with_joint(
    sequence: SequenceResult,
    metrics: Mapping[str, tuple[str, bool]],
    joint: Mapping[str, Mapping[str, float | None]],
) -> SequenceResult:
    """The same record with backward and forward transfer, forgetting and intransigence worked out.

    Args:
        sequence: The stages.
        metrics: Per task, the name of the metric that counts, and whether higher is better.
        joint: Metrics of the joint model; may be empty.
    """
    by_task: dict[str, dict[str, float | None]] = {}
    for task, (metric, higher) in metrics.items():
        sign = 1.0 if higher else -1.0

        def of(found: Mapping[str, Mapping[str, float | None]], task: str = task, metric: str = metric,
               sign: float = sign) -> float:  # fmt: skip
            value = found.get(task, {}).get(metric)
            return math.nan if value is None else sign * value

        after = [of(stage.metrics) for stage in sequence.stages]
        trained = [task in stage.tasks for stage in sequence.stages]
        by_task[task] = transfer(after, trained, of(sequence.before), of(joint))
    kinds = ("backward", "forward", "forgetting", "intransigence")
    means: dict[str, float | None] = {}
    if len({metric for metric, _ in metrics.values()}) == 1:
        for kind in kinds:
            values = [value for found in by_task.values() if (value := found[kind]) is not None]
            means[kind] = sum(values) / len(values) if values else None
    return SequenceResult(
        sequence.schedule,
        sequence.remedies,
        sequence.before,
        sequence.stages,
        **{kind: {task: found[kind] for task, found in by_task.items()} for kind in kinds},
        means=means,
    )
