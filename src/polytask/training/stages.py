"""Running the stages of a schedule over one network, from any interruption on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from polytask.errors import RecipeError
from polytask.models.model import MultiTaskModel
from polytask.tasks.task import Task
from polytask.training.determinism import deterministic
from polytask.training.evaluation import constant_losses, evaluate, mean_losses
from polytask.training.layers import layers_of
from polytask.training.listeners import Listeners
from polytask.training.loop import Training
from polytask.training.preparation import Prepared
from polytask.training.remedy import Remedy, Scene
from polytask.training.run_folder import RunFolder
from polytask.training.schedule import Schedule, Stage, StageResult, check_names
from polytask.training.settings import Settings
from polytask.training.skips import Skips

__all__ = ["StageFolder", "Stages"]

MakeTraining = Callable[..., Training]
"""Makes the training of a stage: from its data, settings, listeners, remedies and factors of learning rates."""


class StageFolder(RunFolder):
    """The run folder as one stage sees it: checkpoints and lines of the history of other stages are not its own.

    Args:
        folder: The run's folder.
        stage: Position of the stage.
        name: Its name, for the lines of the history.
        lines_before: Lines that the stages before it wrote.
        around: What a checkpoint holds beside the state of the training.
    """

    def __init__(self, folder: RunFolder, stage: int, name: str, lines_before: int, around: Callable[[], Any]):
        super().__init__(folder.path)
        self.stage, self.name, self.lines_before, self._around = stage, name, lines_before, around

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Write the training's state and what is around it."""
        super().save_checkpoint({**state, "schedule": {"stage": self.stage, **self._around()}})

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The newest state, if it is of this stage."""
        state = super().load_checkpoint()
        return state if state is not None and state["schedule"]["stage"] == self.stage else None

    def append_history(self, line: dict[str, Any]) -> None:
        """Add a line, with the stage's name if it has one."""
        super().append_history({"stage": self.name, **line} if self.name else line)

    def truncate_history(self, n_lines: int) -> None:
        """Keep the lines of the stages before, and the first ones of this stage."""
        super().truncate_history(self.lines_before + n_lines)


@dataclass
class Stages:
    """The stages of one run.

    Args:
        model: The network; ends as the last stage left it.
        prepared: The data.
        schedule: Which stage comes next.
        remedies: What keeps the tasks of earlier stages.
        settings: How each stage is trained.
        make: Makes the training of a stage.
        listeners: Who is told; each stage gets the run's folder as a :class:`StageFolder`.
        known: Tasks that the network learned before the first stage.

    Attributes:
        done: Results of the stages so far.
        before: Metrics of every task before the first stage; empty if there is only one stage.
        resumed: Whether the run went on from a checkpoint.
        last: The last stage's training.
    """

    model: MultiTaskModel
    prepared: Prepared
    schedule: Schedule
    remedies: Sequence[Remedy]
    settings: Settings
    make: MakeTraining
    listeners: Listeners = field(default_factory=Listeners)
    known: Sequence[Task] = ()
    done: list[StageResult] = field(default_factory=list, init=False)
    before: dict[str, dict[str, float]] = field(default_factory=dict, init=False)
    history: list[dict[str, Any]] = field(default_factory=list, init=False)
    resumed: bool = field(default=False, init=False)
    last: Training = field(init=False)

    def __post_init__(self) -> None:
        self.layers = layers_of(self.model)
        self._trainable = [p for p in self.model.parameters() if p.requires_grad]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of all tasks, in order."""
        return tuple(task.name for task in self.prepared.tasks)

    def run(self, title: str) -> None:
        """Train all stages; goes on from the folder's checkpoint if there is one.

        Raises:
            PolytaskError: If a stage cannot be trained.
            Interrupted: After Ctrl-C, when a whole checkpoint is written.
        """
        folder = self.listeners.folder
        saved = folder.load_checkpoint() if folder else None
        if saved is not None:
            self._take(saved["schedule"])
            self.resumed = True
        while (stage := self._next()) is not None:
            if stage.name and not self.done and not self.before:
                self.before = self._metrics()
            self._train(stage, title, saved)
            saved = None

    @property
    def epochs(self) -> int:
        """Epochs trained in all stages."""
        return sum(result.epochs for result in self.done)

    @property
    def best(self) -> int | None:
        """The epoch whose parameters were kept in the end, counted over all stages."""
        last = self.done[-1]
        return None if last.best is None else self.epochs - last.epochs + last.best

    @property
    def seconds(self) -> float:
        """Time of all trainings."""
        return sum(result.seconds for result in self.done)

    @property
    def skips(self) -> Skips:
        """Batches that tasks were left out of, in all stages."""
        total: Counter[str] = Counter()
        for result in self.done:
            total.update(result.skipped)
        return Skips(dict(total))

    def _next(self) -> Stage | None:
        stage = self.schedule.next_stage(self.tasks, self.settings.epochs, len(self.layers), self.done)
        if stage is not None:
            check_names(f"stage {stage.name!r}", stage.tasks, self.tasks)
        elif not self.done:
            raise RecipeError(f"Schedule {type(self.schedule).__name__} has no stage for the tasks {self.tasks}.")
        return stage

    def _train(self, stage: Stage, title: str, saved: Mapping[str, Any] | None) -> None:
        number = len(self.done)
        scene = self._scene(stage, number)
        for remedy in self.remedies:
            remedy.begin(scene)
        if saved is not None:
            for remedy, state in zip(self.remedies, saved["schedule"]["remedies"], strict=True):
                remedy.load_state_dict(state)
        factors = self._open(stage, scene)
        settings = self._settings(stage, number)
        whole = self.listeners.folder
        folder = StageFolder(whole, number, stage.name, self.epochs, self._around) if whole else None
        listeners = replace(self.listeners, folder=folder)
        if number:
            torch.manual_seed(settings.seed)
        part = self.prepared if set(stage.tasks) == set(self.tasks) else self.prepared.only(stage.tasks)
        self.last = training = self.make(part, settings, listeners, self.remedies, factors)
        training.resume()
        with deterministic(settings.deterministic):
            lines = training.run(f"{title}, stage {number + 1}: {stage.name}" if stage.name else title)
        self.history += [{"stage": stage.name, **line} if stage.name else line for line in lines]
        for remedy in self.remedies:
            remedy.end()
        self.model.train_only(None)
        at = training.at
        losses, metrics = (self._losses(), self._metrics()) if stage.name else ({}, {})
        self.done.append(
            StageResult(
                stage,
                losses,
                metrics,
                at.epoch,
                at.best,
                at.seconds,
                dict(training.skips.total),
                steps=at.step,
                steps_per_epoch=training.feed.n_steps,
                n_rows=sum(map(len, part.train.values())),
            )
        )

    def _scene(self, stage: Stage, number: int) -> Scene:
        earlier = dict.fromkeys(task.name for task in self.known)
        earlier |= dict.fromkeys(task for result in self.done for task in result.stage.tasks)
        (seed,) = np.random.SeedSequence([self.settings.seed, 7, number]).generate_state(1, np.uint32)
        return Scene(
            model=self.model,
            tasks={task.name: task for task in [*self.known, *self.prepared.tasks]},
            train=self.prepared.train,
            stage=stage,
            number=number,
            learned=tuple(task for task in earlier if task not in stage.tasks),
            seed=int(seed),
        )

    def _open(self, stage: Stage, scene: Scene) -> dict[nn.Parameter, float]:
        """Let the stage's parameters be trained, and no others; gives the factors of their learning rates."""
        active = [remedy for remedy in self.remedies if remedy.strength]
        every = set(stage.tasks) == set(self.tasks) and not scene.learned
        reached = [p for task in stage.tasks for p in self.model.reached_by(task)]
        wanted = dict.fromkeys(self._trainable if every else reached, stage.rate)
        wanted |= {p: stage.rate for remedy in active for p in remedy.opens(scene)}
        for distance, layer in enumerate(reversed(self.layers), start=1):
            factor = stage.decay**distance if stage.depth is None or distance <= stage.depth else 0.0
            for parameter in layer:
                if parameter in wanted:
                    wanted[parameter] *= factor
        for remedy in active:
            for parameter, factor in remedy.slows(scene).items():
                if parameter in wanted:
                    wanted[parameter] *= factor
        able = {id(p) for p in self._trainable}
        factors = {p: factor for p, factor in wanted.items() if factor and id(p) in able}
        if not factors:
            raise RecipeError(f"Stage {stage.name!r} trains no parameter: everything that its tasks reach is frozen.")
        if len(factors) < len(able):
            self.model.train_only(factors)
        return {p: factor for p, factor in factors.items() if factor != 1.0}

    def _settings(self, stage: Stage, number: int) -> Settings:
        changed: dict[str, Any] = {"epochs": stage.epochs or self.settings.epochs}
        if number:
            (seed,) = np.random.SeedSequence([self.settings.seed, number]).generate_state(1, np.uint32)
            changed["seed"] = int(seed)
        if self.settings.max_seconds is not None:
            # What is left of the time; a stage that has none trains one step, so that each stage leaves a result.
            changed["max_seconds"] = max(self.settings.max_seconds - self.seconds, 1e-9)
        # A stage without the task that decides; a name that is no task's at all is for the training to refuse.
        decides = self.settings.stop_rule.removeprefix("task:")
        if decides in self.tasks and decides not in stage.tasks:
            changed["stop_rule"] = "mean_rank"
        return replace(self.settings, **changed)

    def _metrics(self) -> dict[str, dict[str, float]]:
        held_out = self.prepared.test or self.prepared.validation
        return evaluate(self.model, self.prepared.tasks, held_out) if held_out else {}

    def _losses(self) -> dict[str, float]:
        validation, tasks = self.prepared.validation, self.prepared.tasks
        constant = constant_losses(tasks, validation)
        found = mean_losses(self.model, tasks, validation) if validation else {}
        return {name: loss / max(constant[name], 1e-12) for name, loss in found.items()}

    def _around(self) -> dict[str, Any]:
        return {
            "before": self.before,
            "done": [asdict(result) for result in self.done],
            "remedies": [remedy.state_dict() for remedy in self.remedies],
        }

    def _take(self, state: Mapping[str, Any]) -> None:
        self.before = state["before"]
        self.done = [StageResult(**{**result, "stage": Stage(**result["stage"])}) for result in state["done"]]
