r"""Where the head of a new task starts: which old tasks it resembles, and how their heads become its own.

With :math:`z_t(x)` the outputs of an old task on the rows that have the new label, and :math:`y` the outputs that would
be right for those labels, a ridge regression :math:`y \approx A_t z_t + b` says how much the old task knows about the
new one: its resemblance is the share of the squared error that it takes away, each row left out in turn,

.. math:: 1 - \frac{\sum_i (y_i - \hat y_{-i})^2}{\sum_i (y_i - \bar y_{-i})^2}.

Where both heads are linear, :math:`A_t W_t` and :math:`A_t b_t + b` are the head that gives these answers.

Note:
    The measures of the room ``affinity`` are not asked. Those that train networks need more rows than a new task has;
    ``label_correlation`` needs old labels on the new rows; the frozen representation, whose CKA one could take, is one
    for all old tasks under hard sharing. With the old network's answers in place of labels and features both can be
    read, and for one column each linear CKA is :math:`r^2`, the share above without leaving rows out and without the
    penalty. ``bench/resemblance.py`` compares them on two tables by what the chosen start is worth on other rows. With
    40 labels the ridge measure misses least on both (oes10: 0.005 of the squared error, against 0.008 by CKA and 0.013
    by label correlation; breast cancer: 0.061, 0.085, 0.136). With 10 labels it does not (0.030, 0.029, 0.021; 0.064,
    0.039, 0.098): there the fresh start beside the closest one is what guards against a wrong choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from polytask.data.batch import Source
from polytask.models.model import MultiTaskModel
from polytask.shapes import Bool, Float, Tensor
from polytask.tasks.task import Task
from polytask.training.evaluation import outputs_of
from polytask.training.layers import only_reached_by

__all__ = ["Line", "lines_from", "start_from"]

_RIDGE = 1.0
"""Weight of the penalty on standardised outputs: as much as one row has."""


@dataclass(frozen=True)
class Line:
    """The new task's outputs as a linear function of an old task's.

    Args:
        task: The old task.
        slope: ``[O_new, O_old]``.
        offset: ``[O_new]``.
        resemblance: Share of the squared error that it takes away, each row left out in turn; at most 1, and below 0
            if the mean is the better guess.
    """

    task: str
    slope: Float[Tensor, "N O"]
    offset: Float[Tensor, " N"]
    resemblance: float


def lines_from(model: MultiTaskModel, sources: Mapping[str, Source], new: Task, old: Sequence[str]) -> list[Line]:
    """The linear map from each old task to the new one, the closest first; empty if fewer than two rows have a label.

    It is also empty where labels do not say which outputs of a row would be right: for elements of rows, and for
    outputs that are no numbers of the label's own, such as embeddings.

    Args:
        model: The network.
        sources: Rows with labels of the new task.
        new: The new task, fitted.
        old: Names of the old tasks.
    """
    old = [task for task in old if task not in model.element_tasks]
    inputs: dict[str, list[Tensor]] = {task: [] for task in old}
    wanted: list[Tensor] = []
    if new.of_elements or not old:
        return []
    for source in sources.values():
        if new.name not in source.tasks:
            continue
        batch = source.batch(torch.arange(len(source)))
        target, observed = batch.targets[new.name], batch.observed[new.name]
        if new.link == "identity" and not target.is_floating_point():
            return []
        rows = observed if observed.ndim == 1 else observed.flatten(1).all(1)
        if not bool(rows.any()):
            continue
        outputs = outputs_of(model, source, old)[0]
        wanted.append(_right_outputs(new, target[rows]))
        for task in old:
            inputs[task].append(outputs[task][rows].double())
    if sum(map(len, wanted)) < 2:
        return []
    right = torch.cat(wanted)
    found = [_line(task, torch.cat(parts), right) for task, parts in inputs.items()]
    return sorted(found, key=lambda line: -line.resemblance)


def start_from(model: MultiTaskModel, new: str, line: Line) -> bool:
    """Start the new task from an old one: its own parameters below the head, and its head composed with the line.

    Returns:
        Whether it could be done: both heads must be one linear layer.
    """
    ours, theirs = model.heads.by_task[new], model.heads.by_task[line.task]
    if isinstance(ours, nn.Sequential) or type(ours) is not type(theirs):
        return False
    _take_private(model, new, line.task)
    weight, bias = (getattr(theirs, name).detach().double() for name in ("weight", "bias"))
    with torch.no_grad():
        # An ensemble has a layer for each member, as [k, D, O].
        is_one = weight.ndim == 2
        made = line.slope @ weight if is_one else torch.einsum("no,kdo->kdn", line.slope, weight)
        ours.weight.copy_(made)  # type: ignore[operator, union-attr]
        ours.bias.copy_(bias @ line.slope.T + line.offset)  # type: ignore[operator, union-attr]
    return True


def _take_private(model: MultiTaskModel, new: str, old: str) -> None:
    """Copy adapters, gates or towers of the old task to the new one's, where they are of one form."""
    ours, theirs = only_reached_by(model.sharing, new), only_reached_by(model.sharing, old)
    if [p.shape for p in ours] == [p.shape for p in theirs]:
        with torch.no_grad():
            for mine, given in zip(ours, theirs, strict=True):
                mine.copy_(given)


def _line(task: str, z: Float[Tensor, "M O"], y: Float[Tensor, "M N"]) -> Line:
    """Ridge regression with an intercept, and its error with each row left out, in closed form."""
    mean, scale = z.mean(0), z.std(0, unbiased=False).clamp_min(1e-9)
    x = (z - mean) / scale
    centre = y.mean(0)
    inverse = torch.linalg.inv(x.T @ x + _RIDGE * torch.eye(x.shape[1], dtype=x.dtype))
    slope = (inverse @ x.T @ (y - centre)).T
    leverage = (x @ inverse * x).sum(1) + 1 / len(x)
    left_out = (y - centre - x @ slope.T) / (1 - leverage).clamp_min(1e-9)[:, None]
    plain = (y - centre) * len(y) / (len(y) - 1)
    total = plain.square().sum().item()
    resemblance = 1 - left_out.square().sum().item() / total if total > 0 else 0.0
    slope = slope / scale
    return Line(task, slope, centre - slope @ mean, resemblance if math.isfinite(resemblance) else 0.0)


def _right_outputs(task: Task, targets: Tensor) -> Float[Tensor, "M O"]:
    """Outputs that would be right for encoded labels; probabilities stay about a tenth away from 0 and 1."""
    n, width = len(targets), task.n_outputs
    if task.link == "softmax":
        sure = functional.one_hot(targets.long(), width).double() * 0.9 + 0.1 / width
        return sure.log() - sure.log().mean(1, keepdim=True)
    if task.link == "logit":
        return torch.logit(targets.double().reshape(n, -1) * 0.8 + 0.1).expand(n, width)
    if task.link == "steps":
        levels = torch.arange(width)
        beyond: Bool[Tensor, "M O"] = targets.long()[:, None] > levels
        reached: Bool[Tensor, "M O"] = targets.long()[:, None] >= levels
        return torch.where(beyond, 2.2, torch.where(reached, -2.2, 0.0)).double()
    if task.link == "log":
        counts = targets.double().reshape(n, -1)
        return ((counts + 0.5) / (counts.mean() + 0.5)).log().expand(n, width) + task.initial_bias().double()
    return targets.double().reshape(n, -1).expand(n, width)
