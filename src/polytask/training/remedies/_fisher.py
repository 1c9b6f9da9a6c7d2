"""The diagonal of the empirical Fisher information of what a stage learned."""

from __future__ import annotations

import torch
from torch import nn

from polytask.data.batch import Batch, Source
from polytask.shapes import Int, Tensor, labelled
from polytask.tasks.task import Task
from polytask.training.ranks import here
from polytask.training.remedy import Scene

__all__ = ["anchors", "fisher", "quadratic", "reached"]


def reached(scene: Scene) -> dict[str, nn.Parameter]:
    """Parameters that the stage's tasks reach, by name, but for their own heads, which nobody else moves."""
    heads = {id(p) for task in scene.model.tasks for p in scene.model.heads.reached_by(task)}
    wanted = {id(p) for task in scene.stage.tasks for p in scene.model.reached_by(task)} - heads
    return {name: p for name, p in scene.model.named_parameters() if id(p) in wanted}


def anchors(parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Copies of the present values."""
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


def fisher(scene: Scene, parameters: dict[str, nn.Parameter], n_rows: int) -> dict[str, Tensor]:
    r"""Mean over rows of the squared gradient of each row's loss, for the tasks of the stage.

    .. math:: F_i = \sum_s \frac{1}{n_s} \sum_{n=1}^{n_s} \Big(\frac{\partial \ell(x_n, y_n)}{\partial \theta_i}\Big)^2

    with :math:`\ell` the sum of the losses of a row's observed labels (with the tasks' weights), over at most
    ``n_rows`` rows of each source :math:`s` that have one.

    Args:
        scene: The stage, over.
        parameters: With respect to which.
        n_rows: Most rows of each source; drawn without replacement.

    Note:
        A row at a time, because the gradient of a batch does not tell those of its rows apart; the network runs as in
        prediction. Processes share the rows out.
    """
    model, ranks = scene.model, here()
    was_training, model_device = model.training, next(model.parameters()).device
    before = [p.requires_grad for p in parameters.values()]
    model.eval()
    for p in parameters.values():
        p.requires_grad_(True)
    sums = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for position, source in enumerate(scene.train.values()):
        tasks = [scene.tasks[task] for task in scene.stage.tasks if task in source.tasks]
        generator = torch.Generator().manual_seed(scene.seed * 64 + position)
        rows = _labelled(source, tasks, n_rows, generator) if tasks else torch.zeros(0, dtype=torch.int64)
        for row in rows[ranks.rank :: ranks.size, None]:
            batch = source.batch(row).to(model_device)
            loss = _row_loss(model(batch.inputs, [t.name for t in tasks], batch.source), batch, tasks)
            grads = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for key, grad in zip(parameters, grads, strict=True):
                if grad is not None:
                    sums[key].addcmul_(grad, grad, value=1 / len(rows))
    for p, wanted in zip(parameters.values(), before, strict=True):
        p.requires_grad_(wanted)
    model.train(was_training)
    return {name: ranks.sum(total) for name, total in sums.items()}


def quadratic(
    parameters: dict[str, nn.Parameter], importance: dict[str, Tensor], centre: dict[str, Tensor]
) -> Tensor | None:
    """The sum of importance times squared distance, over the parameters that are trained at present."""
    terms = [
        (importance[name] * (parameters[name] - centre[name]).square()).sum()
        for name in importance
        if parameters[name].requires_grad
    ]
    return torch.stack(terms).sum() if terms else None


def _labelled(source: Source, tasks: list[Task], n_rows: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    """At most ``n_rows`` rows with an observed label, in random order."""
    kept: list[Tensor] = []
    for rows in torch.randperm(len(source), generator=generator).split(1024):
        observed = source.batch(rows).observed
        there = torch.stack([labelled(observed[task.name]) for task in tasks]).any(0)
        kept.append(rows[there])
        if sum(map(len, kept)) >= n_rows:
            break
    return torch.cat(kept)[:n_rows]


def _row_loss(outputs: dict[str, Tensor], batch: Batch, tasks: list[Task]) -> Tensor:
    terms = [
        task.loss(outputs[task.name], batch.targets[task.name], batch.observed[task.name]).sum() * task.weight
        for task in tasks
    ]
    return torch.stack(terms).sum()
