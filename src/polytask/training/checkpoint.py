"""All that the next step of a training depends on, as a checkpoint holds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from polytask.errors import RunFolderError
from polytask.training.position import Position
from polytask.training.skips import Skips

if TYPE_CHECKING:
    from polytask.training.loop import Training

__all__ = ["FORMAT", "restore", "state_of"]

FORMAT = 1
"""Of checkpoints, those of stages included; raised whenever something in them means something else than before."""

_PARTS = ("model", "optimisation", "balancer", "sums", "constraints", "own", "memory")


def state_of(training: Training) -> dict[str, Any]:
    """The whole state of a training."""
    return {
        "format": FORMAT,
        **{name: dict(part.state_dict()) for name, part in _parts(training).items()},
        "best": training.best_state,
        "generators": training.ranks.gather(torch.get_rng_state()),
        "progress": dict(vars(training.at)),
        "skips": dict(vars(training.skips)),
        "guards": [guard.state_dict() for guard in training.guards],
    }


def restore(training: Training, state: Mapping[str, Any]) -> None:
    """Take back what :func:`state_of` gave.

    Raises:
        RunFolderError: If another number of processes gave it, or another version of polytask.
    """
    missing = state_of(training).keys() - state.keys()
    if missing or state["format"] != FORMAT:
        lacks = f"says nothing of {', '.join(sorted(missing))}"
        what = lacks if missing else f"has the format {state['format']} and not {FORMAT}"
        raise RunFolderError(
            f"The checkpoint {what}: another version wrote it. Go on "
            "with that version, or begin anew in another folder."
        )
    for name, part in _parts(training).items():
        part.load_state_dict(state[name])
    training.best_state = state["best"]
    generators, ranks = state["generators"], training.ranks
    if len(generators) != ranks.size:
        raise RunFolderError(
            f"The checkpoint is of a training by {len(generators)} processes, and this one has {ranks.size}: "
            f"go on with --processes {len(generators)} (torchrun: --nproc-per-node), or begin anew."
        )
    torch.set_rng_state(generators[ranks.rank])
    training.at = Position(**state["progress"])
    training.fading.set(training.at.unexplained)
    training.passes.skips = Skips(**state["skips"])
    for guard, its in zip(training.guards, state["guards"], strict=True):
        guard.load_state_dict(its)


def _parts(training: Training) -> dict[str, Any]:
    """The parts of a training that have a ``state_dict``."""
    return {"plan": training.feed.plan, **{name: getattr(training, name) for name in _PARTS}}
