"""Tasks that go their own way in a joint training: warm-up of their weight, early stopping, learning rates."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn

from polytask.models.model import MultiTaskModel
from polytask.shapes import Tensor
from polytask.training.layers import only_reached_by
from polytask.training.settings import Settings
from polytask.training.task_control import TaskControl

__all__ = ["OwnWays", "plateau_notes"]


class OwnWays:
    """Follows the tasks that have settings of their own; nothing for all the others.

    Args:
        controls: Settings by task.
        model: The network.
        settings: The training's.
        n_steps: Steps of the whole training.

    Attributes:
        stopped: Per task that has stopped, after how many epochs.
        best: Per task with a patience of its own, its best epoch.
        states: Per best epoch of such a task, the network as it was then, once for all tasks that were best there.
    """

    def __init__(self, controls: Mapping[str, TaskControl], model: MultiTaskModel, settings: Settings, n_steps: int):
        self.controls = {name: control for name, control in controls.items() if name in model.tasks}
        self.model, self.settings, self.n_steps = model, settings, n_steps
        self.stopped: dict[str, int] = {}
        self.lowest: dict[str, float] = {}
        self.best: dict[str, int] = {}
        self.states: dict[int, dict[str, Tensor]] = {}
        self._frozen: list[nn.Parameter] = []

    @property
    def patient(self) -> tuple[str, ...]:
        """Tasks with a patience of their own, which the training's stop rule does not look at."""
        return tuple(name for name, control in self.controls.items() if control.patience is not None)

    def rates(self, factors: Mapping[nn.Parameter, float]) -> dict[nn.Parameter, float]:
        """Factors on the learning rates of parameters: the given ones, times those of tasks with own rates."""
        found = dict(factors)
        for name, control in self.controls.items():
            if control.learning_rate is not None:
                for parameter in self.owned_by(name):
                    factor = control.learning_rate / self.settings.learning_rate
                    found[parameter] = factor * found.get(parameter, 1.0)
        return found

    def schedules(self) -> dict[str, str]:
        """Schedules of learning rates by task, of the tasks that have one of their own."""
        return {name: control.schedule for name, control in self.controls.items() if control.schedule is not None}

    def owners(self) -> dict[nn.Parameter, str]:
        """For parameters whose learning rate has a schedule of its own, the task."""
        return {parameter: name for name in self.schedules() for parameter in self.owned_by(name)}

    def owned_by(self, task: str) -> list[nn.Parameter]:
        """Parameters that no other task reaches: the head, and what is private in the sharing."""
        below = {id(p) for p in self.model.shared_parameters()} if len(self.model.tasks) == 1 else set()
        return [p for p in only_reached_by(self.model, task) if id(p) not in below]

    def weigh(self, losses: dict[str, Tensor | None], step: int) -> dict[str, Tensor | None]:
        """The losses with the warm-up's factors, and without those of tasks that have stopped."""
        for name, control in self.controls.items():
            loss = losses.get(name)
            if loss is None:
                continue
            factor = self._warmth(control, step)
            losses[name] = None if name in self.stopped else loss if factor == 1.0 else loss * factor
        return losses

    def unweighed(self, losses: Mapping[str, float], steps: Sequence[int]) -> dict[str, float]:
        """Mean losses over these steps as they were without the warm-up's factors, by the mean of these.

        Args:
            losses: By task, with the factors.
            steps: Numbers of the steps; at least one.
        """
        found = dict(losses)
        for name, control in self.controls.items():
            if name in found and self._warmth(control, steps[0]) < 1.0:
                found[name] *= len(steps) / sum(self._warmth(control, step) for step in steps)
        return found

    def _warmth(self, control: TaskControl, step: int) -> float:
        """The warm-up's factor on a loss."""
        return min((step + 1) / (control.warmup * self.n_steps + 1), 1.0)

    def end_epoch(self, epoch: int, losses: Mapping[str, float]) -> None:
        """Keep the network where a task was best, and stop tasks that were not for too long; NaN counts as worst."""
        for name, control in self.controls.items():
            if name in self.stopped or (control.patience is None and control.schedule != "plateau"):
                continue
            if name not in losses:  # no validation labels; a note of the run says so
                continue
            loss = math.inf if math.isnan(losses[name]) else losses[name]
            if name not in self.lowest or loss < self.lowest[name]:
                self.lowest[name], self.best[name] = loss, epoch
                if control.patience is not None and epoch not in self.states:
                    self.states[epoch] = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
            elif control.patience is not None and epoch - self.best[name] >= control.patience:
                self.stopped[name] = epoch + 1
                self._freeze(name)
        needed = {self.best[name] for name in self.patient if name in self.best}
        self.states = {epoch: state for epoch, state in self.states.items() if epoch in needed}

    def since_best(self, epoch: int) -> dict[str, tuple[int, int]]:
        """Per task with a ``plateau``, the epochs without a better one, and its patience or that of the training."""
        found = {}
        for name, control in self.controls.items():
            patience = control.patience or self.settings.patience
            if control.schedule == "plateau" and name in self.best and patience is not None:
                found[name] = (epoch - self.best[name], patience)
        return found

    def all_stopped(self, tasks: Sequence[str]) -> bool:
        """Whether there is nothing left to train."""
        return bool(tasks) and all(task in self.stopped for task in tasks)

    def release(self) -> None:
        """Let parameters be trained again that were frozen because their tasks stopped, and no others."""
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        self._frozen = []

    def _freeze(self, name: str) -> None:
        for parameter in self.owned_by(name):
            if parameter.requires_grad:
                parameter.requires_grad_(False)
                self._frozen.append(parameter)
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {name: getattr(self, name) for name in ("stopped", "lowest", "best", "states")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        for name in ("stopped", "lowest", "best", "states"):
            setattr(self, name, dict(state[name]))
        for name in self.stopped:
            self._freeze(name)


def plateau_notes(settings: Settings, controls: Mapping[str, TaskControl], validated: Collection[str]) -> list[str]:
    """A sentence for each ``plateau`` that could lower no rate: it needs a patience and validation labels.

    Args:
        settings: The training's.
        controls: Settings by task.
        validated: Tasks with validation labels.

    Example:
        >>> plateau_notes(Settings(patience=None), {"a": TaskControl(schedule="plateau")}, ["a"])
        ["The learning rate's schedule plateau of task 'a' needs a patience, and has none: the rate stayed as it was."]
    """
    asked = {"the training": (settings.schedule, settings.patience, bool(validated))}
    for name, control in controls.items():
        asked[f"task {name!r}"] = (control.schedule or "", control.patience or settings.patience, name in validated)
    found = []
    for who, (schedule, patience, is_validated) in asked.items():
        if schedule == "plateau" and (patience is None or not is_validated):
            what = "a patience, and has none" if patience is None else "validation labels, and there are none"
            found.append(f"The learning rate's schedule plateau of {who} needs {what}: the rate stayed as it was.")
    return found
