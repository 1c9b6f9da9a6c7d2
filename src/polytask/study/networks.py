"""Training the networks of the arms that are networks, and what their histories tell."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from polytask.errors import NonFiniteError
from polytask.study.arm import Arm, FittedArm, FoldData
from polytask.training.run import Fitted, Plan, fit
from polytask.training.stacked import Asked, fit_stacked

__all__ = ["NetworkArm", "asked", "best_epochs", "conflict_of", "curves_of", "notes_of", "train", "weights_of", "whole"]

_POINTS = 60
"""At most this many epochs are kept of a curve."""


class NetworkArm(Arm):
    """An arm that is made of networks: it names its trainings, and assembles what was trained.

    So the trainings of several arms and folds can be done together, those of one shape at once, see
    :mod:`polytask.training.stacked`.
    """

    @abstractmethod
    def trainings(self, fold: FoldData, settled: Mapping[str, float] | None = None) -> list[Asked]:
        """The trainings on a fold; see :meth:`fit` for the arguments."""

    @abstractmethod
    def assemble(self, fold: FoldData, fitted: Sequence[Fitted]) -> FittedArm:
        """The arm from its trained networks, in the order of :meth:`trainings`."""

    def fit(self, fold: FoldData, settled: Mapping[str, float] | None = None) -> FittedArm:
        """Train the networks, and assemble the arm."""
        return self.assemble(fold, whole(fit_stacked(self.trainings(fold, settled)).fitted))


def whole(fitted: Sequence[Fitted | NonFiniteError]) -> list[Fitted]:
    """The trained networks.

    Raises:
        NonFiniteError: If the training of one of them diverged.
    """
    found = []
    for one in fitted:
        if isinstance(one, NonFiniteError):
            raise one
        found.append(one)
    return found


def asked(fold: FoldData, plan: Plan, title: str, epochs: float | None) -> Asked:
    """One training with the fold's seed; for the given number of epochs if there are no validation rows to stop by."""
    settings = replace(plan.settings, seed=fold.seed)
    if not fold.has_validation and epochs is not None:
        settings = replace(settings, epochs=max(round(epochs), 1), patience=None)
    return Asked(fold.prepared, replace(plan, settings=settings), title)


def train(fold: FoldData, plan: Plan, title: str, epochs: float | None) -> Fitted:
    """One training of :func:`asked`, by itself."""
    one = asked(fold, plan, title, epochs)
    return fit(one.prepared, one.plan, title=one.title)


def notes_of(fitted: Sequence[Fitted]) -> list[str]:
    """The notes of the trainings, each once."""
    return list(dict.fromkeys(note for one in fitted for note in one.notes))


def best_epochs(fitted: Fitted) -> float:
    """Epochs up to the one that was kept."""
    return float(fitted.epochs if fitted.best_epoch is None else fitted.best_epoch + 1)


def curves_of(history: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> dict[str, Any]:
    """Per task, training and validation losses by epoch, thinned out."""
    kept = _thin(history)
    return {
        task: {
            "epoch": [line["epoch"] for line in kept],
            "train": [_rounded(line["train"].get(task)) for line in kept],
            "validation": [_rounded(line["validation"].get(task)) for line in kept],
        }
        for task in tasks
    }


def weights_of(history: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> dict[str, Any]:
    """The weights of the tasks' losses by epoch, thinned out."""
    kept = _thin(history)
    return {
        "epoch": [line["epoch"] for line in kept],
        "tasks": {task: [_rounded(line["weights"].get(task)) for line in kept] for task in tasks},
    }


def conflict_of(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Cosines between the tasks' gradients by epoch, if the balancer saw gradients."""
    kept = [line for line in _thin(history) if line.get("cosines")]
    pairs = dict.fromkeys(pair for line in kept for pair in line["cosines"])
    if not pairs:
        return {}
    return {
        "epoch": [line["epoch"] for line in kept],
        "pairs": {pair: [_rounded(line["cosines"].get(pair)) for line in kept] for pair in pairs},
    }


def _thin(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    step = max(-(-len(history) // _POINTS), 1)
    return list(history[::step])


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
