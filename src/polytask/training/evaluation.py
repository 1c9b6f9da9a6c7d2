"""Outputs, losses and metrics over whole sources, in pieces that fit in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from polytask.data.batch import ArraySource, Source
from polytask.data.reading import read_ahead
from polytask.models.model import MultiTaskModel
from polytask.shapes import Tensor
from polytask.tasks._ranking import ranking_metrics
from polytask.tasks.task import Task
from polytask.training.objective import per_label
from polytask.training.ranks import here

__all__ = ["constant_losses", "evaluate", "mean_losses", "outputs_of"]


@torch.no_grad()
def outputs_of(
    model: MultiTaskModel, source: Source, tasks: Sequence[str], piece: int = 1024
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Outputs, targets and ``observed`` of all rows of a source, on the CPU; in data parallel found by all processes.

    Args:
        model: The network; put into evaluation mode for the time being.
        source: The rows.
        tasks: Tasks to compute; targets come back for those the source has labels of.
        piece: Rows in one pass.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    outputs: dict[str, list[Tensor]] = {task: [] for task in tasks}
    targets: dict[str, list[Tensor]] = {task: [] for task in tasks if task in source.tasks}
    observed: dict[str, list[Tensor]] = {task: [] for task in targets}
    ranks = here()
    starts = range(0, len(source), piece)
    shared_out = ranks.size > 1 and len(starts) >= ranks.size  # each piece is one process's, as it would be without
    mine = starts[ranks.rank :: ranks.size] if shared_out else starts
    asked = ((source, torch.arange(start, min(start + piece, len(source)))) for start in mine)
    for batch in (read.to(device) for read in read_ahead(asked, depth=1)):
        for task, out in model(batch.inputs, tasks, batch.source).items():
            outputs[task].append(out.cpu())
        for task in targets:
            targets[task].append(batch.targets[task].cpu())
            observed[task].append(batch.observed[task].cpu())
    model.train(was_training)
    join = {name: {task: torch.cat(parts) for task, parts in group.items() if parts}
            for name, group in (("outputs", outputs), ("targets", targets), ("observed", observed))}  # fmt: skip
    if shared_out:
        join = {name: {t: _gathered(x, len(source), piece) for t, x in group.items()} for name, group in join.items()}
    return join["outputs"], join["targets"], join["observed"]


def _gathered(mine: Tensor, n_rows: int, piece: int) -> Tensor:
    """All rows in order, gathered from processes that took turns with the pieces."""
    ranks = here()
    sizes = [min(piece, n_rows - start) for start in range(0, n_rows, piece)]
    parts = ranks.gather(mine, [sum(sizes[rank :: ranks.size]) for rank in range(ranks.size)])
    pieces = [iter(part.split(sizes[rank :: ranks.size])) for rank, part in enumerate(parts)]
    return torch.cat([next(pieces[number % ranks.size]) for number in range(len(sizes))])


def mean_losses(model: MultiTaskModel, tasks: Sequence[Task], sources: Mapping[str, Source]) -> dict[str, float]:
    """Mean loss of each task over all observed labels of all sources; tasks without any are left out."""
    total: dict[str, float] = {}
    count: dict[str, int] = {}
    for source in sources.values():
        present = [task for task in tasks if task.name in source.tasks]
        outputs, targets, observed = outputs_of(model, source, [task.name for task in present])
        for task in present:
            if task.name in outputs:
                losses = task.loss(outputs[task.name], targets[task.name], observed[task.name])
                total[task.name] = total.get(task.name, 0.0) + losses.double().sum().item()
                count[task.name] = count.get(task.name, 0) + losses.numel()
    return {task.name: total[task.name] / count[task.name] for task in tasks if count.get(task.name)}


def constant_losses(
    tasks: Sequence[Task], sources: Mapping[str, Source], piece: int = 8192, *, weighted: bool = False
) -> dict[str, float]:
    """Mean loss of each task's constant prediction, the one its head's bias starts at.

    Args:
        tasks: The tasks, fitted.
        sources: The rows; tasks without any label there are left out.
        piece: Rows read at once.
        weighted: Whether rows and tasks have their factors, as they have in training.
    """
    total: dict[str, float] = {}
    count: dict[str, int] = {}
    for source in sources.values():
        present = [task for task in tasks if task.name in source.tasks]
        for start in range(0, len(source), piece):
            rows = torch.arange(start, min(start + piece, len(source)))
            batch = source.without_inputs(rows) if isinstance(source, ArraySource) else source.batch(rows)
            for task in present:
                targets = batch.targets[task.name]
                observed, weights = batch.observed[task.name], batch.weights_of(task.name)
                losses = task.loss(task.constant_outputs(targets), targets, observed)
                if weighted:
                    losses = task.weight * (losses if weights is None else losses * per_label(weights, observed))
                total[task.name] = total.get(task.name, 0.0) + losses.double().sum().item()
                count[task.name] = count.get(task.name, 0) + losses.numel()
    return {task.name: total[task.name] / count[task.name] for task in tasks if count.get(task.name)}


def evaluate(
    model: MultiTaskModel, tasks: Sequence[Task], sources: Mapping[str, Source]
) -> dict[str, dict[str, float]]:
    """Every metric of every task over the observed labels of all sources together, and those of rankings if asked."""
    gathered: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}
    ranked: dict[str, list[Tensor]] = {}
    for source in sources.values():
        present = [task.name for task in tasks if task.name in source.tasks]
        outputs, targets, observed = outputs_of(model, source, present)
        groups = source.ranked if isinstance(source, ArraySource) else {}
        for name in outputs:
            gathered.setdefault(name, []).append((outputs[name], targets[name], observed[name]))
            ranked.setdefault(name, []).append(groups.get(name, torch.full((len(source),), -1)))
    results: dict[str, dict[str, float]] = {}
    for task in tasks:
        if task.name in gathered:
            parts = [_joined(piece) for piece in zip(*gathered[task.name], strict=True)]
            results[task.name] = task.evaluate(parts[0], parts[1], parts[2])
            groups_of_rows = torch.cat(ranked[task.name])
            if bool((groups_of_rows >= 0).any()):
                results[task.name] |= _ranking(task, parts[0], parts[1], parts[2], groups_of_rows)
    return results


def _ranking(task: Task, outputs: Tensor, targets: Tensor, observed: Tensor, groups: Tensor) -> dict[str, float]:
    """How well a task ranks the rows of each group; relevance is the label in the user's units."""
    scores, relevance = outputs[observed], targets[observed]
    if task.kind == "regression":  # its targets are scaled, and a gain below zero means nothing
        relevance = torch.as_tensor(task.decode(relevance.unsqueeze(-1)).values)
        relevance[relevance.abs() < 1e-6 * relevance.abs().max()] = 0.0  # scaled in single precision, and back
    codes = groups[observed].numpy()
    binary = task.kind == "binary"
    return ranking_metrics(scores.squeeze(-1).double().numpy(), relevance.double().numpy(), codes, binary=binary)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Rows of several sources one after another; those of fewer elements are filled up with what is not observed."""
    if parts[0].ndim < 2 or len({part.shape[1] for part in parts}) == 1:
        return torch.cat(list(parts))
    longest = max(part.shape[1] for part in parts)
    return torch.cat([
        torch.nn.functional.pad(part, (*[0, 0] * (part.ndim - 2), 0, longest - part.shape[1])) for part in parts
    ])  # fmt: skip
