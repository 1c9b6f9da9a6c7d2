"""What is done after the last step of an epoch: validate, keep the best parameters, see whether to go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from polytask.training.epoch_sums import EpochSums
from polytask.training.evaluation import mean_losses

if TYPE_CHECKING:
    from polytask.training.loop import Training

__all__ = ["end_epoch"]


def end_epoch(training: Training, validation: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Validate, keep the epoch if it is the best, see whether to stop; returns the epoch's line of the history.

    Args:
        training: The training, after the last step of the epoch.
        validation: The validation losses, if the caller has them already.
    """
    at, folder = training.at, training.listeners.folder
    for guard in training.guards:
        guard.end_epoch(training)
    if validation is None:
        sources = training.validation
        validation = mean_losses(training.model, training.tasks, sources) if sources else {}
    at.validation.append(dict(validation))
    found = _measure_constraints(training)
    is_best = training.stop_rule.is_best(at)
    if is_best:
        _keep_newest(training)
    training.own.end_epoch(at.epoch, at.validation[-1])
    line = _line(training, found, is_best)
    at.unexplained = training.fading.follow(at.unexplained, _losses_of_epoch(training, line["train"]))
    training.sums = EpochSums(training.sums.tasks, training.sums.n_constraints)
    at.epoch += 1
    _slow_or_stop(training)
    if folder is not None:
        folder.append_history(line)
        at.history_lines += 1
    return line


def _line(training: Training, constraints: Mapping[str, Any], is_best: bool) -> dict[str, Any]:
    """The epoch's line of the history."""
    at = training.at
    line = {
        "epoch": at.epoch,
        "step": at.step,
        "seconds": round(at.seconds, 3),
        "learning_rate": training.optimisation.learning_rate,
        "validation": at.validation[-1],
        **training.sums.line(),
        **({"pieces": training.model.pieces} if training.memory.halved else {}),
        **constraints,
        **({"stopped": dict(training.own.stopped)} if training.own.stopped else {}),
        "is_best": is_best,
    }
    for name, multiplier in line.pop("multipliers", {}).items():
        line["constraints"][name]["multiplier"] = multiplier
    return line


def _measure_constraints(training: Training) -> dict[str, Any]:
    """What the epoch's line says about the constraints; nothing if there are none."""
    constraints = training.constraints
    if not constraints.bounds:
        return {}
    measured, violated = constraints.end_epoch(training.model, training.feed.sources, training.validation)
    training.at.violations.append(violated)
    # A constraint that no row can measure is neither kept nor violated, as far as anybody knows.
    is_known = violated > 0.0 or all(one["violation"] is not None for one in measured.values())
    return {"constraints": measured, "is_feasible": violated == 0.0 if is_known else None}


def _keep_newest(training: Training) -> None:
    """The newest epoch is the best so far: its parameters are the ones to keep."""
    training.at.best = training.at.epoch
    training.best_state = {name: value.detach().clone() for name, value in training.model.state_dict().items()}
    for remedy in training.remedies:
        remedy.new_best()


def _losses_of_epoch(training: Training, train: Mapping[str, float]) -> Mapping[str, float]:
    """The losses that fading compares with those of constant predictions: without the factors of a warm-up."""
    at = training.at
    steps = range(at.epoch * training.feed.n_steps, at.step)
    return at.validation[-1] if training.validation else training.own.unweighed(train, steps)


def _slow_or_stop(training: Training) -> None:
    """Lower learning rates on a plateau, and end the training when patience, tasks or epochs are used up."""
    at, settings, own, optimisation = training.at, training.settings, training.own, training.optimisation
    for name, (epochs, patience) in own.since_best(at.epoch - 1).items():
        optimisation.no_better_for(epochs, patience, name)
    if training.stop_rule.tracks_best and settings.patience is not None:
        optimisation.no_better_for(at.since_best, settings.patience)
    if training.stop_rule.is_patience_over(at, training.fading.strength):
        at.end(f"nothing better for {at.since_best} epochs")
    if own.all_stopped([task.name for task in training.tasks]):
        at.end("every task stopped")
    if at.epoch >= settings.epochs:
        at.end("all epochs done")
