"""The training loop: one for every run."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from polytask.balancing.backward import balanced_backward
from polytask.balancing.balancer import Balancer
from polytask.balancing.ghost import Ghost
from polytask.balancing.outcome import Outcome
from polytask.data.batch import Batch, Source
from polytask.data.plan import BatchPlan
from polytask.errors import NonFiniteError, UnknownNameError
from polytask.models.model import MultiTaskModel
from polytask.models.sharing.sharing import Features
from polytask.shapes import Tensor
from polytask.tasks.task import Task
from polytask.training.allocation import keep_freed_memory
from polytask.training.constraints import Constraints
from polytask.training.epoch_sums import EpochSums, by_name
from polytask.training.evaluation import constant_losses, mean_losses
from polytask.training.extra_batches import ExtraBatches
from polytask.training.objective import Objective, penalty_of
from polytask.training.optimisation import Optimisation
from polytask.training.own_ways import OwnWays
from polytask.training.progress import Progress, Silent
from polytask.training.remedy import Remedy
from polytask.training.run_folder import RunFolder
from polytask.training.settings import Settings
from polytask.training.skips import Skips
from polytask.training.stopping import is_better, is_better_within, is_over
from polytask.training.task_control import TaskControl
from polytask.training.variation import Variation

__all__ = ["CALM", "Interrupted", "Training"]


CALM = "A lower learning rate, or clip_norm, may help; a checkpoint that was written before is whole."


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or a termination signal: the step was finished and, if there is a run folder, a checkpoint written."""


@dataclass
class _Progress:
    """Where a training is; plain numbers, part of the checkpoint."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: int | None = None
    validation: list[dict[str, float]] = field(default_factory=list)
    violations: list[float] = field(default_factory=list)
    history_lines: int = 0
    is_done: bool = False
    why: str = ""


class Training:
    """Trains a network on the batches of a plan, keeps the best epoch, and can go on after any interruption.

    Args:
        model: The network; ends with the parameters of the best epoch.
        tasks: The tasks, fitted.
        train: Training sources by name.
        validation: Validation sources by name; may be empty, and then the last epoch is kept.
        plan: Which rows of which source each step reads.
        balancer: Turns the losses into one gradient.
        settings: How to train.
        folder: Where history and checkpoints go; nothing is written if ``None``.
        progress: Told about each step.
        draws_per_step: Batches of the plan that make one step: 1, or as many as there are sources, which the plan then
            gives in turn, so that the balancer sees the tasks of all sources at once.
        remedies: What keeps the tasks of earlier stages; their state is not in this training's own.
        factors: Of the learning rate of some parameters.
        controls: Settings of single tasks.
        variation: How training batches are varied.
        constraints: What the training keeps; the balancer then is one that knows them
            (:class:`~polytask.balancing.Constrained`), unless they are rules for parameters only.

    Note:
        A resumed training equals the uninterrupted one bit for bit on the CPU: the checkpoint holds parameters,
        optimiser, balancer, the plan's position and generators, PyTorch's generator, and the sums of the epoch so far.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        tasks: Sequence[Task],
        train: Mapping[str, Source],
        validation: Mapping[str, Source],
        plan: BatchPlan,
        balancer: Balancer,
        settings: Settings,
        folder: RunFolder | None = None,
        progress: Progress | None = None,
        draws_per_step: int = 1,
        remedies: Sequence[Remedy] = (),
        factors: Mapping[nn.Parameter, float] | None = None,
        constraints: Constraints | None = None,
        controls: Mapping[str, TaskControl] | None = None,
        variation: Variation | None = None,
    ):
        self.model, self.tasks, self.train_sources, self.validation = model, list(tasks), train, validation
        self.plan, self.balancer, self.settings, self.folder = plan, balancer, settings, folder
        self.progress = progress or Silent()
        self.device = torch.device(settings.device)
        self.model.to(self.device)
        self.variation = variation or Variation({}, {}, settings.seed)
        self.constraints = constraints or Constraints([])
        self.balancer.bind([*(task.name for task in tasks), *self.constraints.names])
        self.objective = Objective(tasks, train, model.n_members)
        self.penalty = penalty_of(model, settings.regularisers)
        self.shared = model.shared_parameters()
        # One way back for all tasks, as there was one there. A constraint may move the head of a task without a loss.
        together = balancer.needs <= {"losses"} and not self.constraints.names
        model.heads.together = self.objective.together = together
        self.draws_per_step = draws_per_step
        self.extra = ExtraBatches(balancer, model, self.objective, train, validation, settings.seed)
        self.remedies = [remedy for remedy in remedies if remedy.strength]
        n_steps = plan.n_steps // draws_per_step
        self.own = OwnWays(controls or {}, model, settings, settings.epochs * n_steps)
        rates = dict(factors or {})
        rates |= {p: factor * rates.get(p, 1.0) for p, factor in self.own.factors().items()}
        schedules = {name: c.schedule for name, c in self.own.controls.items() if c.schedule is not None}
        self.optimisation = Optimisation(model, balancer, settings, n_steps, rates, self.own.schedules(), schedules)
        self.constant = constant_losses(tasks, validation)
        self._check_stop_rule()
        self.at = _Progress()
        self.skips = Skips()
        self.best_state: dict[str, Tensor] | None = None
        self.watch: Callable[[Training, Sequence[Batch]], None] | None = None
        """Called before each step with the training and the step's batches; it may look, and change nothing."""
        self.sums = self._no_sums()
        self._stop_asked = threading.Event()
        self._ghost: Ghost | None = None

    def resume(self) -> bool:
        """Go on from the folder's checkpoint; tells whether there was one."""
        state = self.folder.load_checkpoint() if self.folder else None
        if state is None:
            if self.folder:
                self.folder.truncate_history(0)
            return False
        self.load_state_dict(state)
        if self.folder:
            self.folder.truncate_history(self.at.history_lines)
        return True

    def run(self, title: str = "training") -> list[dict[str, Any]]:
        """Train to the end and leave the best epoch's parameters in the model.

        Returns:
            The history, a dict per epoch that was trained now.

        Raises:
            NonFiniteError: If a loss is NaN or infinite; names the task and the step.
            Interrupted: After Ctrl-C, when a whole checkpoint is written.
        """
        history: list[dict[str, Any]] = []
        n_steps = self.settings.epochs * self.plan.n_steps // self.draws_per_step
        self.progress.start(title, n_steps, self.at.step)
        message = ""
        saved = time.monotonic()
        keep_freed_memory()
        try:
            with self._signals(), self._ghosts():
                while not self.at.is_done:
                    history.append(self.epoch())
                    if self.at.is_done or time.monotonic() - saved >= self.settings.checkpoint_seconds:
                        self._save()
                        saved = time.monotonic()
            message = f"{title}: {self.at.why} after {self.at.epoch} epochs, {self.at.seconds:.1f} s"
        finally:
            self.progress.stop(message)
        self.keep_best()
        self.own.release()
        return history

    def keep_best(self) -> None:
        """Put the best epoch's parameters into the model."""
        if self.best_state is not None:
            self.model.load_state_dict(self.best_state)

    def epoch(self) -> dict[str, Any]:
        """Train what is left of the present epoch; returns its line of the history.

        Raises:
            NonFiniteError: If a loss is NaN or infinite; names the task and the step.
            Interrupted: If a stop was asked for; a whole checkpoint is written before.
        """
        began = time.monotonic() - self.at.seconds
        self.model.train()
        draws = self.plan.epoch()
        while together := list(itertools.islice(draws, self.draws_per_step)):
            batches = [self.train_sources[draw.source].batch(draw.rows) for draw in together]
            self._step(self.variation(batches, self.at.step))
            self.at.seconds = time.monotonic() - began
            if self._stop_asked.is_set():
                self._save()
                raise Interrupted(
                    f"Interrupted after step {self.at.step}. "
                    + (
                        f"Go on by --resume: {self.folder.path}."
                        if self.folder
                        else "There is no run folder to go on in."
                    )
                )
            if self.settings.max_seconds is not None and self.at.seconds >= self.settings.max_seconds:
                self.at.is_done, self.at.why = True, "out of time"
                break
        return self.end_epoch()

    def _no_sums(self) -> EpochSums:
        return EpochSums(self.balancer.tasks, len(self.constraints.bounds))

    def _losses(
        self, batches: Sequence[Batch], *, counts: bool = True
    ) -> tuple[Features | None, dict[str, Tensor | None]]:
        """Each task's loss, each constraint's violation; the features, unless each of several batches has its own."""
        losses: dict[str, Tensor | None] = {}
        features: Features | None = None
        seen: list[tuple[Mapping[str, Tensor], Batch]] = []
        for batch in batches:
            names = self.objective.by_source[batch.source]
            features, outputs = self.model.features_and_outputs(batch.inputs, names, batch.source)
            seen.append((outputs, batch))
            for name, loss in self.objective(outputs, batch).items():
                known = losses.get(name)
                losses[name] = loss if known is None else known if loss is None else known + loss
        losses = self.own.weigh(losses, self.at.step)
        losses |= self.constraints.violations(seen, counts=counts)
        return (features if len(batches) == 1 else None), losses

    def _step(self, batches: Sequence[Batch]) -> None:
        if self.device.type != "cpu":
            batches = [batch.to(self.device) for batch in batches]
        if self.watch is not None:
            self.watch(self, batches)
        self.optimisation.before_step(self.at.step)
        features, losses = self._losses(batches)
        outcome = self._backward(batches, features, losses)
        if self.model.heads.together:
            self._forget_absent(losses)
        for remedy in self.remedies:
            remedy.after_losses()
        for term in (self.penalty(), *(remedy.term(batches, self.at.step) for remedy in self.remedies)):
            if term is not None and term.requires_grad:
                term.backward()  # type: ignore[no-untyped-call]
        for remedy in self.remedies:
            remedy.before_update(batches, self.at.step)
        self.optimisation.step()
        for remedy in self.remedies:
            remedy.after_update()
        self.constraints.project()
        if "losses_after" in self.balancer.needs:
            self._tell_losses_after(batches, outcome)
        self.at.step += 1
        self._account(outcome)

    def _backward(
        self, batches: Sequence[Batch], features: Features | None, losses: dict[str, Tensor | None]
    ) -> Outcome:
        """One gradient of the losses; a task whose loss is no number is taken out of them."""
        further = self.extra.losses(batches, self.at.step) if self.extra.needs else {}
        where = f"Step {self.at.step} (epoch {self.at.epoch}, a batch of {_named(batches)})"
        while True:
            try:
                outcome = balanced_backward(
                    losses,
                    self.shared,
                    features,
                    balancer=self.balancer,
                    mode=self.settings.mode,
                    step=self.at.step,
                    epoch=self.at.epoch,
                    ghost=self._ghost,
                    **further,
                )
            except NonFiniteError as error:
                try:
                    self.skips.leave_out(error, losses, self.settings.skips, where)
                except NonFiniteError as stop:
                    raise NonFiniteError(f"{stop} {CALM}") from error
                continue
            self.skips.were_numbers(name for name, loss in losses.items() if loss is not None)
            return outcome

    def _forget_absent(self, losses: Mapping[str, Tensor | None]) -> None:
        """Zeros that a layer of all heads gave to tasks without a label here are no gradients, and move nothing."""
        pulled = {bound.task.name for bound in self.constraints.bounds if losses.get(bound.name) is not None}
        for task in self.tasks:
            if task.name in losses and losses[task.name] is None and task.name not in pulled:
                for parameter in self.model.heads.reached_by(task.name):
                    parameter.grad = None

    @torch.no_grad()
    def _tell_losses_after(self, batches: Sequence[Batch], outcome: Outcome) -> None:
        """The losses of the same batch after the step, for the methods that learn from them: one more forward pass."""
        if outcome.signals is None:
            return
        _, losses = self._losses(batches, counts=False)
        # Those of the step and no others: what was left out of it has no loss before the step to compare with.
        present = [losses[self.balancer.tasks[i]] for i in outcome.signals.index.tolist()]
        after = torch.stack([loss.double() for loss in present if loss is not None])
        self.balancer.after_step(replace(outcome.signals, losses=after))

    def _account(self, outcome: Outcome) -> None:
        self.sums.add(outcome)
        losses = outcome.losses
        self.progress.step(lambda: by_name(outcome.tasks, losses, losses.isfinite()), self.at.epoch)

    def end_epoch(self) -> dict[str, Any]:
        """Validate, keep the epoch if it is the best, see whether to stop; returns the epoch's line of the history."""
        at = self.at
        self._check_parameters()
        at.validation.append(mean_losses(self.model, self.tasks, self.validation) if self.validation else {})
        tracks_best = bool(self.validation) and (self.settings.patience is not None or self._each_is_patient)
        found: dict[str, Any] = {}
        if self.constraints.bounds:
            measured, violated = self.constraints.end_epoch(self.model, self.train_sources, self.validation)
            at.violations.append(violated)
            found = {"constraints": measured, "is_feasible": violated == 0.0}
        is_best = self._is_best(tracks_best)
        if is_best:
            at.best = at.epoch
            self.best_state = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
            for remedy in self.remedies:
                remedy.new_best()
        self.own.end_epoch(at.epoch, at.validation[-1])
        if self.own.stopped:
            found["stopped"] = dict(self.own.stopped)
        for name, (epochs, patience) in self.own.since_best(at.epoch).items():
            self.optimisation.no_better_for(epochs, patience, name)
        line = {
            "epoch": at.epoch,
            "step": at.step,
            "seconds": round(at.seconds, 3),
            "learning_rate": self.optimisation.learning_rate,
            "validation": at.validation[-1],
            **self.sums.line(),
            **found,
            "is_best": is_best,
        }
        for name, multiplier in line.pop("multipliers", {}).items():
            line["constraints"][name]["multiplier"] = multiplier
        self.sums = self._no_sums()
        at.epoch += 1
        since = at.epoch - 1 - (at.best if at.best is not None else at.epoch - 1)
        if tracks_best and self.settings.patience is not None:
            self.optimisation.no_better_for(since, self.settings.patience)
            # While no epoch is feasible, the multipliers still grow: only the last epoch can tell that none will be.
            hopes = bool(at.violations) and at.best is not None and at.violations[at.best] > 0.0
            waited = is_over(since, at.epoch - 1 - since, self.settings.patience, self.settings.patience_share)
            if waited and not (at.is_done or hopes or self._each_is_patient):
                at.is_done, at.why = True, f"nothing better for {since} epochs"
        if self.own.all_stopped([task.name for task in self.tasks]) and not at.is_done:
            at.is_done, at.why = True, "every task stopped"
        if at.epoch >= self.settings.epochs and not at.is_done:
            at.is_done, at.why = True, "all epochs done"
        if self.folder:
            self.folder.append_history(line)
            at.history_lines += 1
        return line

    @property
    def _each_is_patient(self) -> bool:
        """Whether every task has a patience of its own, so that these alone end the training."""
        return {task.name for task in self.tasks} <= {*self.own.patient}

    def _is_best(self, tracks_best: bool) -> bool:
        """Whether the newest epoch is to be kept for now."""
        at, rule = self.at, self.settings.stop_rule
        # A task of weight 0 is no objective: it may be as bad as its constraints allow.
        wanted = {task.name for task in self.tasks if task.weight > 0.0}
        if rule.startswith("task:"):
            wanted = {rule.removeprefix("task:")}
        elif not self._each_is_patient:  # one with a patience of its own has its own best epoch
            wanted -= {*self.own.patient}
        losses = [{name: loss for name, loss in epoch.items() if name in wanted} for epoch in at.validation]
        if not self.constraints.bounds:
            return tracks_best and is_better(rule, losses, at.best, self.constant)
        return is_better_within(rule if tracks_best else None, losses, at.violations, at.best, self.constant)

    def _check_parameters(self) -> None:
        """Raise before a checkpoint holds what no step can mend: a gradient may overflow though its loss did not."""
        for name, parameter in self.model.named_parameters():
            if not bool(parameter.isfinite().all()):
                raise NonFiniteError(f"Parameter {name} became NaN or infinite in epoch {self.at.epoch}. {CALM}")

    def _check_stop_rule(self) -> None:
        rule = self.settings.stop_rule
        if self.validation and self.settings.patience is not None and rule.startswith("task:"):
            name = rule.removeprefix("task:")
            if name not in self.constant:
                raise UnknownNameError("task with validation labels, for stop_rule,", name, self.constant)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "model": dict(self.model.state_dict()),
            "best": self.best_state,
            "optimisation": self.optimisation.state_dict(),
            "balancer": dict(self.balancer.state_dict()),
            "plan": self.plan.state_dict(),
            "generator": torch.get_rng_state(),
            "progress": dict(vars(self.at)),
            "skips": dict(vars(self.skips)),
            "sums": self.sums.state_dict(),
            "constraints": self.constraints.state_dict(),
            "own": self.own.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        self.model.load_state_dict(state["model"])
        self.best_state = state["best"]
        self.optimisation.load_state_dict(state["optimisation"])
        self.balancer.load_state_dict(state["balancer"])
        self.plan.load_state_dict(state["plan"])
        torch.set_rng_state(state["generator"])
        self.at = _Progress(**state["progress"])
        self.skips = Skips(**state.get("skips", {}))
        self.sums.load_state_dict(state["sums"])
        self.constraints.load_state_dict(state["constraints"])
        self.own.load_state_dict(state["own"])

    def _save(self) -> None:
        if self.folder:
            self.folder.save_checkpoint(self.state_dict())

    @contextmanager
    def _ghosts(self) -> Iterator[None]:
        """Inner products without weight gradients, where the balancer needs no more and it is cheaper."""
        needs = self.balancer.needs
        if "gramian" not in needs or "rows" in needs or self.settings.mode not in ("exact", "every_k"):
            yield
            return
        with Ghost(self.model.sharing) as self._ghost:
            try:
                yield
            finally:
                self._ghost = None

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first Ctrl-C or termination finishes the step and saves; a second one is as usual."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

        def ask(number: int, frame: Any) -> None:
            self._stop_asked.set()
            signal.signal(number, before[number])

        for number in before:
            signal.signal(number, ask)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _named(batches: Sequence[Batch]) -> str:
    return ", ".join(repr(batch.source) for batch in batches)
