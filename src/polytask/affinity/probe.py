"""Looking at a training from its side: the same rows for all tasks, no chance, nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from polytask.affinity.ground import Ground
from polytask.balancing.backward import balanced_backward
from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.ghost import Ghost
from polytask.data.batch import ArraySource, Batch
from polytask.models.model import MultiTaskModel
from polytask.models.sharing.sharing import Features
from polytask.shapes import Float, Tensor, labelled
from polytask.training.loop import Training
from polytask.training.objective import Objective

__all__ = ["Probe", "gramian", "gramians", "has_own_rows", "probes", "still"]

_ROWS = 512
_LABELS = 48
_GROWTH = 1.5
_NUMBERS = 25_000_000
"""Gradients of all tasks together that are held at once."""
_CHANCE = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_RUNNING = nn.modules.batchnorm._BatchNorm


class Probe:
    """Rows of every source, on which the losses of all tasks are looked at in one moment of a training.

    Args:
        training: The training.
        seed: Of the choice of the rows.
        rows: Rows of each source; further ones are added for tasks that have fewer labels than ``labels`` among them.
        labels: See ``rows``.
    """

    def __init__(self, training: Training, seed: int, rows: int = _ROWS, labels: int = _LABELS):
        self.training = training
        self.seed = seed
        sources = {
            name: source.take(_chosen(source, rows, labels, seed))
            for name, source in training.feed.sources.items()
            if isinstance(source, ArraySource)
        }
        self.sources = sources
        # The shares of observed labels are those of the probe, so that a loss is the mean over its observed labels.
        self.objective = Objective(training.tasks, sources, training.model.n_members)
        self.batches: list[Batch] = [
            source.batch(torch.arange(len(source))).to(training.device) for source in sources.values()
        ]
        self.n_rows = sum(map(len, sources.values()))

    def losses(self) -> tuple[Features | None, dict[str, Tensor | None]]:
        """Features (where there is one batch) and each task's mean loss; ``None`` without an observed label."""
        model = self.training.model
        losses: dict[str, list[Tensor]] = {}
        features: Features | None = None
        with still(model, self.seed):
            for batch in self.batches:
                names = self.objective.by_source[batch.source]
                features, outputs = model.features_and_outputs(batch.inputs, names, batch.source)
                for name, loss in self.objective(outputs, batch).items():
                    losses.setdefault(name, []).extend([] if loss is None else [loss])
        # A task of several sources counts each of them alike.
        found = {name: torch.stack(own).mean() if own else None for name, own in losses.items()}
        return (features if len(self.batches) == 1 else None), found


@contextmanager
def still(model: MultiTaskModel, seed: int) -> Iterator[None]:
    """Inside, forward passes draw no chance of their own and leave no trace in running statistics.

    The model stays in training mode, in which the members of an ensemble have losses of their own.
    """
    quiet = [part for part in model.modules() if isinstance(part, (*_CHANCE, _RUNNING)) and part.training]
    for part in quiet:
        part.training = False
    try:
        # Inputs that are spoiled for reconstruction are drawn; the same ones each time.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        for part in quiet:
            part.training = True


class _Plain(Balancer):
    """Plain summation that asks for the Gramian."""

    needs = frozenset({"gramian"})

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        return torch.ones_like(signals.losses)


def gramian(probe: Probe) -> Float[Tensor, "T T"]:
    """Inner products of the tasks' gradients at the shared parameters; NaN for tasks without a label in the probe."""
    return _of_own_rows(probe) if has_own_rows(probe) else _of_all_rows(probe)


def has_own_rows(probe: Probe) -> bool:
    """Whether tasks have labels of different rows, as schools in a long table do, and gradients that fit in memory."""
    training = probe.training
    if len(probe.sources) != 1 or training.model.corruptions:
        return False
    n_numbers = len(training.tasks) * sum(p.numel() for p in training.passes.shared)
    return len(training.tasks) > 2 and _n_labelled(probe) <= 2 * probe.n_rows and n_numbers <= _NUMBERS


def _n_labelled(probe: Probe) -> int:
    """Labels of all tasks in the probe, those of one task and row counted once."""
    tasks = probe.training.tasks
    return sum(
        int(labelled(source.observed[t.name]).sum())
        for source in probe.sources.values()
        for t in tasks
        if t.name in source.tasks
    )


def _of_own_rows(probe: Probe) -> Float[Tensor, "T T"]:
    """Each task forward and back through its own rows only: passes over all rows once, and not once for each task."""
    training = probe.training
    model, shared = training.model, training.passes.shared
    (source,) = probe.sources.values()
    rows = [labelled(source.observed[task.name]).nonzero().flatten() for task in training.tasks]
    g_TP = torch.zeros(len(rows), sum(p.numel() for p in shared), device=training.device)
    with still(model, probe.seed):
        for g_P, task, mine in zip(g_TP, training.tasks, rows, strict=True):
            if len(mine):
                own = source.take(mine)
                batch = own.batch(torch.arange(len(own))).to(training.device)
                outputs = model(batch.inputs, [task.name], batch.source)
                loss = Objective([task], {batch.source: own}, model.n_members)(outputs, batch)[task.name]
                assert loss is not None  # every row of its own has a label
                found = torch.autograd.grad(loss, shared, allow_unused=True, materialize_grads=True)
                torch.cat([part.flatten() for part in found], out=g_P)
    g_TP = g_TP.double()
    found_TT = (g_TP @ g_TP.t()).cpu()
    absent = torch.tensor([not len(mine) for mine in rows])
    return found_TT.masked_fill(absent.unsqueeze(1) | absent, float("nan"))


def _of_all_rows(probe: Probe) -> Float[Tensor, "T T"]:
    """By the balancing engine."""
    training = probe.training
    n_tasks = len(training.tasks)
    with Ghost(training.model.sharing) as ghost:
        features, losses = probe.losses()
        held = {id(p): p.grad for p in training.model.parameters()}
        for parameter in training.model.parameters():
            parameter.grad = None
        balancer = _Plain()
        balancer.bind([task.name for task in training.tasks])
        outcome = balanced_backward(losses, training.passes.shared, features, balancer=balancer, ghost=ghost)
        for parameter in training.model.parameters():
            parameter.grad = held[id(parameter)]
    found = torch.full((n_tasks, n_tasks), float("nan"), dtype=torch.float64)
    if outcome.gramian is not None:
        there = outcome.losses.isfinite()
        found[there.unsqueeze(1) & there] = outcome.gramian[there.unsqueeze(1) & there]
    return found


def probes(ground: Ground, look: Callable[[Probe], Any], most: int = 10) -> list[Any]:
    """Train one network of all tasks and look at it after 1, 2, 3, 4, 6, 9 ... epochs, each time 1.5 times as late.

    Args:
        ground: The rows and the plan.
        look: Called with new rows each time.
        most: No more looks than this.
    """
    found: list[Any] = []
    marks = _marks(most)

    def watch(training: Training, batches: Sequence[Batch]) -> None:
        is_first = training.feed.plan.steps_done <= training.feed.draws_per_step
        if len(found) < most and is_first and training.at.epoch in marks:
            probe = Probe(training, 1000 * ground.seed + training.at.epoch)
            found.append(look(probe))

    ground.watched(watch)
    # Before the first step the heads are random, and so is what they ask of the shared part.
    return found[1:] or found


def gramians(ground: Ground, most: int = 10) -> list[Float[Tensor, "T T"]]:
    """The Gramian of the tasks' gradients at each look of :func:`probes`; one training for all measures of a seed."""

    def look(probe: Probe) -> Float[Tensor, "T T"]:
        passes = _n_labelled(probe) / probe.n_rows if has_own_rows(probe) else len(probe.training.tasks)
        ground.charge(probe.n_rows, forward=1, backward=passes)
        return gramian(probe)

    found: list[Float[Tensor, "T T"]] = ground.once(f"gramians {most}", lambda: probes(ground, look, most))
    return found


def _marks(most: int) -> set[int]:
    marks, epoch = {0}, 1.0
    while len(marks) < most:
        marks.add(round(epoch))
        epoch = max(epoch * _GROWTH, epoch + 1)
    return marks


def _chosen(source: ArraySource, rows: int, labels: int, seed: int) -> Tensor:
    """Rows at random, and more of those that have the labels which are rare among them."""
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(source), generator=draw)
    chosen = torch.zeros(len(source), dtype=torch.bool)
    chosen[order[:rows]] = True
    for observed in source.observed.values():
        seen = labelled(observed)
        lacking = labels - int((seen & chosen).sum())
        if lacking > 0:
            rest = order[(seen & ~chosen)[order]]
            chosen[rest[:lacking]] = True
    return chosen.nonzero().flatten()
