"""The training loop: one for every run.

It only puts its parts in order; what each of them does stands in a file of its own:

``feed``          the rows of each step: reading, varying
``passes``        forward to the losses, back to one gradient
``optimisation``  learning rates, clipping, the update
``memory``        what is done when it runs out
``guards``        what is checked while it goes on
``epoch_end``     validation, the best epoch so far, its line of the history
``stopping``      the best epoch, and when to wait for a better one no longer
``fading``        dropout that gets weaker as the tasks are learned
``additions``     remedies, constraints, settings of single tasks
``interruption``  Ctrl-C
``checkpoint``    all that the next step depends on
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from polytask.balancing.balancer import Balancer
from polytask.data.batch import Batch, Source
from polytask.errors import RecipeError
from polytask.models.model import MultiTaskModel
from polytask.shapes import Tensor
from polytask.tasks.task import Task
from polytask.training import checkpoint, epoch_end
from polytask.training.additions import Additions
from polytask.training.allocation import keep_freed_memory
from polytask.training.epoch_sums import EpochSums, by_name
from polytask.training.evaluation import constant_losses
from polytask.training.extra_batches import ExtraBatches
from polytask.training.fading import Fading, constant_in_training
from polytask.training.feed import Feed
from polytask.training.guards import FiniteParameters, Guard
from polytask.training.interruption import Interrupted, Interruption
from polytask.training.listeners import Listeners
from polytask.training.memory import InPieces
from polytask.training.objective import Objective, penalty_of
from polytask.training.optimisation import Optimisation
from polytask.training.own_ways import OwnWays
from polytask.training.passes import Passes
from polytask.training.position import Position
from polytask.training.ranks import here
from polytask.training.settings import Settings
from polytask.training.skips import Skips
from polytask.training.stopping import StopRule
from polytask.wording import counted

__all__ = ["Training"]


class Training:
    """Trains a network on the batches of a feed, keeps the best epoch, and can go on after any interruption.

    Args:
        model: The network; ends with the parameters of the best epoch.
        tasks: The tasks, fitted.
        feed: The batches of each step.
        validation: Validation sources by name; may be empty, and then the last epoch is kept.
        balancer: Turns the losses into one gradient.
        settings: How to train.
        additions: What stands beside plain training: remedies, constraints, settings of single tasks.
        listeners: Who is told: the run folder, the progress bar.

    Attributes:
        guards: What is checked in each step and epoch.

    Note:
        A resumed training equals the uninterrupted one bit for bit on the CPU: the checkpoint holds parameters,
        optimiser, balancer, the plan's position and generators, PyTorch's generator, and the sums of the epoch so far.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        tasks: Sequence[Task],
        feed: Feed,
        validation: Mapping[str, Source],
        balancer: Balancer,
        settings: Settings,
        additions: Additions | None = None,
        listeners: Listeners | None = None,
    ):
        additions = additions or Additions()
        self.model, self.tasks, self.feed, self.validation = model, list(tasks), feed, validation
        self.balancer, self.settings, self.listeners = balancer, settings, listeners or Listeners()
        self.ranks = here()
        self.device = torch.device(settings.device)
        self.model.to(self.device)
        self.constraints = additions.constraints
        self.remedies = [remedy for remedy in additions.remedies if remedy.strength]
        if self.remedies and settings.precision == "fp16":
            raise RecipeError(
                "Remedies look at gradients as they are, not scaled: take training.precision bf16 or fp32."
            )
        self.balancer.bind([*(task.name for task in tasks), *self.constraints.names])
        self.objective = Objective(tasks, feed.sources, model.n_members)
        self.penalty = penalty_of(model, settings.regularisers)
        self.own = OwnWays(additions.controls, model, settings, settings.epochs * feed.n_steps)
        extra = ExtraBatches(balancer, model, self.objective, feed.sources, validation, settings.seed)
        self.passes = Passes(model, self.objective, balancer, settings, extra, self.own, self.constraints)
        rates, schedules = self.own.rates(additions.factors), self.own.schedules()
        self.optimisation = Optimisation(model, balancer, settings, feed.n_steps, rates, self.own.owners(), schedules)
        self.memory = InPieces(self.passes, self.optimisation)
        self.constant = constant_losses(tasks, validation)
        judged_by = self.constant if validation or not settings.dropout_fades else constant_in_training(tasks, feed)
        # A task of weight 0 is no objective, so that what is left of it keeps nothing from fading.
        wanted = {task.name: judged_by[task.name] for task in tasks if task.weight > 0.0 and task.name in judged_by}
        self.fading = Fading(model, wanted, is_on=settings.dropout_fades)
        told = {"is_measured": bool(validation), "is_bound": bool(self.constraints.bounds)}
        self.stop_rule = StopRule(settings, tasks, self.constant, self.own.patient, **told)
        self.guards: list[Guard] = [FiniteParameters()]
        self.at = Position()
        self.best_state: dict[str, Tensor] | None = None
        self.sums = EpochSums(balancer.tasks, len(self.constraints.bounds))
        self.interruption = Interruption()

    @property
    def skips(self) -> Skips:
        """Batches that tasks were left out of, because their losses were no numbers."""
        return self.passes.skips

    def resume(self) -> bool:
        """Go on from the folder's checkpoint; tells whether there was one."""
        folder = self.listeners.folder
        if folder is None:
            return False
        state = folder.load_checkpoint()
        if state is not None:
            self.load_state_dict(state)
        folder.truncate_history(self.at.history_lines)
        return state is not None

    def run(self, title: str = "training") -> list[dict[str, Any]]:
        """Train to the end and leave the best epoch's parameters in the model.

        Returns:
            The history, a dict per epoch that was trained now.

        Raises:
            NonFiniteError: If a loss is NaN or infinite; names the task and the step.
            Interrupted: After Ctrl-C, when a whole checkpoint is written.
        """
        history: list[dict[str, Any]] = []
        progress, message = self.listeners.progress, ""
        progress.start(title, self.settings.epochs * self.feed.n_steps, self.at.step)
        saved = time.monotonic()
        keep_freed_memory()
        self._begin_alike()
        try:
            with self.interruption.noted(), self.passes.ghosts():
                while not self.at.is_done:
                    history.append(self.epoch())
                    is_due = time.monotonic() - saved >= self.settings.checkpoint_seconds
                    if self.at.is_done or self.ranks.any(is_due)[0]:
                        self._save()
                        saved = time.monotonic()
            message = f"{title}: {self.at.why} after {counted(self.at.epoch, 'epoch')}, {self.at.seconds:.1f} s"
        finally:
            progress.stop(message)
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
        for batches in self.feed.epoch(self.at.step):
            self.step(batches)
            self.at.seconds = time.monotonic() - began
            most = self.settings.max_seconds
            asked, late = self.ranks.any(self.interruption.is_asked, most is not None and self.at.seconds >= most)
            if asked:
                self._save()
                raise Interrupted.after(self.at.step, self.listeners.folder)
            if late:
                self.at.end("out of time")
                break
        return self.end_epoch()

    def step(self, batches: Sequence[Batch]) -> None:
        """One update of the parameters; all of its order is here.

        Raises:
            NonFiniteError: If a loss is NaN or infinite; names the task and the step.
        """
        at = self.at
        if self.device.type != "cpu":
            batches = [batch.to(self.device) for batch in batches]
        if self.listeners.watch is not None:
            self.listeners.watch(self, batches)
        self.optimisation.before_step(at.step)
        outcome = self.memory(batches, at)
        for remedy in self.remedies:
            remedy.after_losses()
        for term in self._further_terms(batches):
            if term is not None and term.requires_grad:
                self.optimisation.backward(term)
        is_finite = self.optimisation.unscale()
        for remedy in self.remedies:
            remedy.before_update(batches, at.step)
        for guard in self.guards if is_finite else ():  # the scaler leaves this step out
            guard.before_update(self, outcome)
        self.optimisation.step()
        for remedy in self.remedies:
            remedy.after_update()
        self.constraints.project()
        self.passes.tell_losses_after(batches, outcome, at.step)
        self.ranks.mean_statistics(self.model)
        at.step += 1
        self.sums.add(outcome)
        losses = outcome.losses
        self.listeners.progress.step(lambda: by_name(outcome.tasks, losses, losses.isfinite()), at.epoch)

    def _further_terms(self, batches: Sequence[Batch]) -> Iterator[Tensor | None]:
        """What is added beside the tasks' losses; what reads rows is a part of its sum over the processes."""
        parameters = self.optimisation.parameters
        penalty = self.penalty()
        if self.model.sharing.reads_rows and penalty is not None:
            yield self.ranks.sum_of(penalty * batches[-1].part, parameters)
        else:
            yield penalty
        for remedy in self.remedies:
            term = remedy.term(batches, self.at.step)
            yield self.ranks.sum_of(term, parameters) if remedy.reads_rows and term is not None else term

    def end_epoch(self, validation: Mapping[str, float] | None = None) -> dict[str, Any]:
        """Validate, keep the epoch if it is the best, see whether to stop; returns the epoch's line of the history.

        Args:
            validation: The validation losses, if the caller has them already.
        """
        return epoch_end.end_epoch(self, validation)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return checkpoint.state_of(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave.

        Raises:
            RunFolderError: If another number of processes gave it, or another version of polytask.
        """
        checkpoint.restore(self, state)

    def _begin_alike(self) -> None:
        """In data parallel: the same network and the same batches, and from here on a generator for each process."""
        if self.ranks.size == 1:
            return
        arguments = self.feed.plan.state_dict()
        self.ranks.check_same("rows or settings", arguments, self.settings.options(), [t.name for t in self.tasks])
        self.ranks.check_same("parameters", *self.model.state_dict().values())
        if self.at.step == 0:
            self.ranks.part_ways(self.settings.seed)

    def _save(self) -> None:
        if self.listeners.folder is not None:
            self.listeners.folder.save_checkpoint(self.state_dict())
