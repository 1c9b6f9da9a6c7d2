"""What single-task networks make of the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from polytask.affinity.ground import Ground
from polytask.affinity.measure import Reading
from polytask.data.batch import ArraySource
from polytask.models.model import MultiTaskModel
from polytask.shapes import Float, Tensor
from polytask.training.run import Fitted

__all__ = ["alike", "features_of", "with_sources"]

_PIECE = 1024


@torch.no_grad()
def features_of(model: MultiTaskModel, source: ArraySource) -> Float[Tensor, "N D"]:
    """The network's features, just below the head; those of an ensemble's members side by side."""
    was_training = model.training
    model.eval()
    parts = []
    for start in range(0, len(source), _PIECE):
        batch = source.batch(torch.arange(start, min(start + _PIECE, len(source))))
        found = model.sharing(batch.inputs, model.tasks, batch.source)[model.tasks[0]]
        parts.append(found.unflatten(0, (-1, model.n_members)).flatten(1).double())
    model.train(was_training)
    return torch.cat(parts)


def with_sources(ground: Ground) -> tuple[dict[str, Fitted], list[str]]:
    """The network of each task alone, and the tasks without one."""
    models: dict[str, Fitted] = {}
    without = []
    for task in ground.names:
        held = [s for s in ground.prepared.train.values() if task in s.tasks and bool(s.observed[task].any())]
        if held:
            models[task] = ground.trained([task])
        else:
            without.append(task)
    return models, without


def alike(ground: Ground, rows: int, likeness: Callable[[Mapping[str, Tensor]], np.ndarray]) -> Reading:
    """How alike the representations are, a mean over the sources that both networks of a pair can read.

    Args:
        ground: The rows.
        rows: At most so many rows of each source.
        likeness: From features by task to a matrix over these tasks.
    """
    names = ground.names
    fitted, without = with_sources(ground)
    models = {task: one.model for task, one in fitted.items()}
    total, count = np.zeros((2, len(names), len(names)))
    for source in ground.prepared.train.values():
        draw = torch.Generator().manual_seed(ground.seed)
        some = source.take(torch.randperm(len(source), generator=draw)[:rows])
        reads = [task for task in names if task in models and source.name in models[task].inputs]
        if not reads:
            continue
        ground.charge(len(some), forward=len(reads))
        found = likeness({task: features_of(models[task], some) for task in reads})
        at = np.ix_([names.index(t) for t in reads], [names.index(t) for t in reads])
        known = np.isfinite(found)
        total[at] += np.where(known, found, 0.0)
        count[at] += known
    values = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    np.fill_diagonal(values, np.nan)
    return Reading(values, notes_of(values, without))


def notes_of(values: np.ndarray, without: list[str]) -> tuple[str, ...]:
    """Why some values are not known."""
    notes = []
    if len(values) < 2:
        notes.append("There is one task only, so there is no pair.")
    if without:
        notes.append(f"{', '.join(without)}: no training label, so no network.")
    missing = int(np.isnan(values[~np.eye(len(values), dtype=bool)]).sum())
    if missing:
        notes.append(f"{missing} values are not known: no source that both networks read, or constant features.")
    return tuple(notes)
