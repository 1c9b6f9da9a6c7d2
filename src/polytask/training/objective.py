"""The joint loss: one number per task, missing labels left out, and penalties on parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from polytask.data.batch import Batch, Source
from polytask.data.sources import observed_of
from polytask.models.model import MultiTaskModel
from polytask.shapes import Float, Shaped, Tensor
from polytask.tasks.task import Task
from polytask.training.loss_groups import groups_of
from polytask.training.settings import Regulariser

__all__ = ["Objective", "penalty_of", "per_label"]


class Objective:
    r"""Losses of the tasks in a batch, each an unbiased estimate of the task's mean loss over its labels.

    With :math:`c_t` the share of the source's labels of task :math:`t` that are observed, :math:`K_t` labels a row
    (one, but for tasks with several target columns), and B rows in the batch,

    .. math:: L_t = \frac{w_t}{\max(c_t K_t B, 1)} \sum_{i\ \mathrm{observed}} \ell_t(i).

    Dividing by the expected number of labels, not by the number met, keeps the estimate unbiased: a task with few
    labels is not lost (as with a division by B), and a single label in a batch does not get the weight of a full
    batch (as with a division by the number met). Of a part of a batch (:attr:`Batch.part`), B are the rows of the whole
    one: the losses of its parts add up to its loss.

    Args:
        tasks: The tasks, fitted.
        sources: The training sources, for the shares :math:`c_t`.
        n_members: Members of an ensemble, whose outputs ``[B, k, O]`` have losses of their own; the mean counts.
    """

    def __init__(self, tasks: Sequence[Task], sources: Mapping[str, Source], n_members: int = 1):
        self.n_members = n_members
        self.tasks = {task.name: task for task in tasks}
        self.by_source = {name: [t for t in source.tasks if t in self.tasks] for name, source in sources.items()}
        shares = {
            (name, task): _share_observed(source, task)
            for name, source in sources.items()
            for task in self.by_source[name]
        }
        self.coverage = {key: share for key, (share, _) in shares.items()}
        self.complete = {key for key, (share, is_of_labels) in shares.items() if is_of_labels and share == 1.0}
        self.together = False
        """Whether tasks of one loss function are done in one call: faster, but not task by task going back."""
        self.groups = {name: self._groups(name) for name in sources}

    def __call__(self, outputs: Mapping[str, Float[Tensor, "B O"]], batch: Batch) -> dict[str, Tensor | None]:
        """The weighted loss of each task of the batch's source; ``None`` where no label is observed."""
        if batch.part == 0.0:
            return dict.fromkeys(self.by_source[batch.source])
        found = self._by_groups(outputs, batch) if self.together else {}
        for name in self.by_source[batch.source]:
            if name not in found:
                found[name] = self._loss(self.tasks[name], outputs[name], batch)
        return {name: found[name] for name in self.by_source[batch.source]}

    def _loss(self, task: Task, outs: Float[Tensor, "B O"], batch: Batch) -> Tensor | None:
        """The weighted loss of one task."""
        name = task.name
        if task.weight == 0.0:  # no objective: learned through constraints only, if at all
            return None
        coverage = self.coverage[batch.source, name]
        targets, observed = batch.targets[name], batch.observed[name]
        row_weights = batch.weights_of(name)
        if batch.mix is not None and batch.partner is not None:
            # Mixtures of two rows: each has the losses of both labels, which share its weight. Twice, because both
            # together count as one row in the mean.
            outs, targets, observed, row_weights = _with_partners(batch, outs, targets, observed, row_weights)
        if self.n_members > 1:  # each member's loss is its own: members are further rows with the same labels
            outs = outs.flatten(0, 1)
            targets, observed = (t.repeat_interleave(self.n_members, 0) for t in (targets, observed))
            if row_weights is not None:
                row_weights = row_weights.repeat_interleave(self.n_members, 0)
        # Where images were moved, labels of pixels may be missing that the source has.
        complete = (batch.source, name) in self.complete and batch.motion is None
        if not complete and not bool(observed.any()):
            return None
        labels = task.label_losses(outs, targets).flatten() if complete else task.loss(outs, targets, observed)
        if row_weights is not None:
            labels = labels * per_label(row_weights, observed)
        factor = task.weight
        if complete:
            loss, factor = labels.mean(), factor * batch.part
        else:
            loss = labels.sum() / max(coverage * observed.numel() / batch.part, 1.0)
        return loss if factor == 1.0 else loss * factor

    def _groups(self, source: str) -> list[list[Task]]:
        """Tasks of the source by loss function, those left out that are alone with theirs."""
        tasks = [self.tasks[name] for name in self.by_source[source]]
        tasks = [task for task in tasks if task.weight > 0.0 and not task.of_elements]
        groups = [[tasks[i] for i in group.positions] for group in groups_of(tasks) if group.is_common]
        return [group for group in groups if len(group) > 1]

    def _by_groups(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor | None]:
        """The losses that can be found in one call for several tasks."""
        losses: dict[str, Tensor | None] = {}
        if batch.task_weights or batch.mix is not None:
            return losses
        for group in self.groups[batch.source]:
            shares = [self.coverage[batch.source, task.name] for task in group]
            outs = torch.stack([outputs[task.name] for task in group], dim=-2)  # [B, (k), G, O]
            targets = torch.stack([batch.targets[task.name] for task in group], dim=1)
            if self.n_members > 1:
                targets = targets.unsqueeze(1)
                targets = targets.expand(*outs.shape[:-1], *targets.shape[3:])
            labels = group[0].label_losses(outs, targets)
            n_labels = labels.numel() // len(group)
            there = [True] * len(group)
            if batch.row_weights is not None or any((batch.source, task.name) not in self.complete for task in group):
                observed = torch.stack([batch.observed[task.name] for task in group], dim=1)  # [B, G, *K]
                there = observed.transpose(0, 1).flatten(1).any(1).tolist()
                if batch.row_weights is not None:
                    observed = observed * batch.row_weights.view(-1, *[1] * (observed.ndim - 1))
                labels = labels * (observed.unsqueeze(1) if self.n_members > 1 else observed)
            axis = outs.ndim - 2  # that of the tasks
            scales = [
                t.weight / max(share * n_labels / batch.part, 1.0) for t, share in zip(group, shares, strict=True)
            ]
            values = labels.sum([d for d in range(labels.ndim) if d != axis]) * labels.new_tensor(scales)
            # A loss that is no number is left out of the step, which only a graph of its own allows.
            if bool(values.isfinite().all()):
                found = zip(group, there, values.unbind(), strict=True)
                losses |= {task.name: value if is_there else None for task, is_there, value in found}
        return losses


def _with_partners(
    batch: Batch, outs: Tensor, targets: Tensor, observed: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Each row twice: with its own label, and with its partner's."""
    assert batch.mix is not None
    assert batch.partner is not None
    own, other = 2.0 * batch.mix, 2.0 * (1.0 - batch.mix)
    if weights is not None:
        own, other = own * weights, other * weights[batch.partner]
    targets, observed = (torch.cat([t, t[batch.partner]]) for t in (targets, observed))
    return torch.cat([outs, outs]), targets, observed, torch.cat([own, other])


def _share_observed(source: Source, task: str) -> tuple[float, bool]:
    """Share of the task's labels that are observed, and True; that of the rows with any, and False, if none are held.

    Where every row has a label, some of its elements may still be missing.
    """
    observed = observed_of(source, task)
    if observed is None:
        return source.coverage(task), False
    return float(observed.double().mean()), True


def per_label(row_weights: Float[Tensor, " B"], observed: Shaped[Tensor, "B ..."]) -> Float[Tensor, " n"]:
    """The factor of each observed label, in their order, where every row has one."""
    if observed.ndim == 1:
        return row_weights[observed]
    return row_weights.view(-1, *[1] * (observed.ndim - 1)).expand_as(observed)[observed]


def penalty_of(model: MultiTaskModel, regularisers: Sequence[Regulariser]) -> Callable[[], Tensor | None]:
    """The sum of the regularisers and of the sharing's own penalty, as a function to call in each step."""
    shared = {id(p) for p in model.shared_parameters()}
    trained = [p for p in model.parameters() if p.requires_grad]
    parts: dict[str, list[nn.Parameter]] = {
        "shared": [p for p in trained if id(p) in shared],
        "private": [p for p in trained if id(p) not in shared],
        "all": trained,
    }
    terms = [(r, parts[r.on]) for r in regularisers if r.strength > 0 and parts[r.on]]

    def penalty() -> Tensor | None:
        total = model.sharing.penalty()
        for regulariser, parameters in terms:
            term = regulariser.strength * _PENALTIES[regulariser.penalty](parameters)
            total = term if total is None else total + term
        return total

    return penalty


def _l1(parameters: Sequence[Tensor]) -> Tensor:
    return torch.stack([p.abs().sum() for p in parameters]).sum()


def _l2(parameters: Sequence[Tensor]) -> Tensor:
    return torch.stack([p.square().sum() for p in parameters]).sum() / 2


def _group_l21(parameters: Sequence[Tensor]) -> Tensor:
    # The norm of a column of zeros has no gradient; linalg.vector_norm gives the subgradient zero there.
    norms = [torch.linalg.vector_norm(p.flatten(2).transpose(0, 1).flatten(1), dim=1).sum() if p.ndim > 2
             else torch.linalg.vector_norm(p, dim=0).sum() for p in parameters if p.ndim > 1]  # fmt: skip
    return torch.stack(norms).sum() if norms else torch.zeros(())


_PENALTIES: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {"l1": _l1, "l2": _l2, "group_l21": _group_l21}
