"""The passes of a step: forward to its losses, and back to one gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from polytask.balancing.backward import balanced_backward
from polytask.balancing.balancer import Balancer
from polytask.balancing.ghost import Ghost
from polytask.balancing.outcome import Outcome
from polytask.data.batch import Batch
from polytask.errors import NonFiniteError, RecipeError
from polytask.models.model import MultiTaskModel
from polytask.models.sharing.sharing import Features
from polytask.shapes import Tensor
from polytask.training.constraints import Constraints
from polytask.training.extra_batches import ExtraBatches
from polytask.training.guards import CALM
from polytask.training.objective import Objective
from polytask.training.own_ways import OwnWays
from polytask.training.position import Position
from polytask.training.ranks import here
from polytask.training.settings import Settings
from polytask.training.skips import Skips

__all__ = ["Passes"]

_PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Passes:
    """Makes the gradient of a step from its batches: everything between reading rows and changing parameters.

    Args:
        model: The network.
        objective: Turns outputs into losses.
        balancer: Turns the losses into one gradient.
        settings: Which mode of the engine, and how often a task may be left out.
        extra: Further batches, if the balancer asks for them.
        own: Tasks whose losses are warmed up, or that have stopped.
        constraints: Whose violations are losses too.

    Attributes:
        skips: Batches that tasks were left out of; part of the checkpoint.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        objective: Objective,
        balancer: Balancer,
        settings: Settings,
        extra: ExtraBatches,
        own: OwnWays,
        constraints: Constraints,
    ):
        self.model, self.objective, self.balancer, self.settings = model, objective, balancer, settings
        self.extra, self.own, self.constraints = extra, own, constraints
        self.ranks = here()
        self.shared = model.shared_parameters()
        owners = {name: name for name in model.tasks} | {bound.name: bound.task.name for bound in constraints.bounds}
        self.heads = {name: model.reached_by(of) for name, of in owners.items()} if self.ranks.size > 1 else None
        # One way back for all tasks, as there was one there. A constraint may move the head of a task without a loss.
        model.heads.together = objective.together = balancer.needs <= {"losses"} and not constraints.names
        model.precision = _PRECISIONS[settings.precision]
        model.pieces = settings.accumulate if settings.recompute or settings.accumulate > 1 else 0
        self._refuse()
        self.skips = Skips()
        self._ghost: Ghost | None = None

    def _refuse(self) -> None:
        """Raise if the settings contradict each other or the network."""
        model, settings = self.model, self.settings
        if settings.mode == "matrix_free" and (model.pieces or model.precision is not None):
            raise RecipeError(
                "The mode 'matrix_free' goes back through the backward pass, which needs kept activations in full "
                "precision: take training.recompute, accumulate and precision out, or another mode."
            )
        if settings.accumulate > 1 and (model.sharing.has_elements or model.sharing.reads_rows):
            what = "represents words, padded batch by batch" if model.sharing.has_elements else "has a penalty on rows"
            raise RecipeError(
                f"training.accumulate divides batches by their rows, and the network {what}, so that the pieces are "
                "not the batch: take it out, or make batch_size smaller."
            )

    def why_whole(self) -> str:
        """Why batches cannot go through the network in more pieces; empty if they can."""
        if self.ranks.size > 1:
            return "the other processes would wait for this one"
        if self.settings.mode == "matrix_free":
            return "the mode 'matrix_free' keeps all activations"
        if self.model.sharing.has_elements or self.model.sharing.reads_rows:
            return "what the network does with a row depends on the other rows"
        return ""

    def divide(self, n_pieces: int) -> None:
        """From now on batches go through the shared part in so many pieces."""
        self.model.pieces = n_pieces
        if self._ghost is not None:  # it would see every piece twice
            self._ghost.remove()
            self._ghost = None

    def __call__(self, batches: Sequence[Batch], at: Position, scaler: torch.amp.GradScaler | None = None) -> Outcome:
        """Forward and backward: afterwards ``.grad`` holds the balanced gradient of all tasks and constraints.

        With a gradient scaler ``.grad`` is scaled; what the balancer sees is not.

        Raises:
            NonFiniteError: If a loss is NaN or infinite and its task cannot be left out; names the task and the step.
        """
        features, losses = self.losses(batches, at.step)
        outcome = self._backward(batches, features, losses, at, scaler)
        if self.model.heads.together:
            self._forget_absent(losses, outcome)
        return outcome

    def losses(
        self, batches: Sequence[Batch], step: int, *, counts: bool = True
    ) -> tuple[Features | None, dict[str, Tensor | None]]:
        """Each task's loss, each constraint's violation; the features, unless each of several batches has its own.

        In data parallel the losses of the processes have the loss of the joined batch as their mean.
        """
        losses: dict[str, Tensor | None] = {}
        features: Features | None = None
        seen: list[tuple[Mapping[str, Tensor], Batch]] = []
        for batch in batches:
            names = self.objective.by_source[batch.source]
            features, outputs = self.model.features_and_outputs(batch.inputs, names, batch.source)
            seen.append((self._plainly(outputs, batch), batch))
            for name, loss in self.objective(outputs, batch).items():
                known = losses.get(name)
                losses[name] = loss if known is None else known if loss is None else known + loss
        if self.ranks.size > 1:
            losses = {name: None if loss is None else loss * self.ranks.size for name, loss in losses.items()}
        losses = self.own.weigh(losses, step)
        losses |= self.constraints.violations(seen, counts=counts)
        is_one_pass = len(batches) == 1 and seen[0][0] is outputs
        return (features if is_one_pass else None), losses

    def _plainly(self, outputs: Mapping[str, Tensor], batch: Batch) -> Mapping[str, Tensor]:
        """What constraints are measured by: answers to mixtures of rows are answers to no row."""
        if batch.unmixed is None or not self.constraints.bounds:
            return outputs
        if self.settings.mode == "features":
            raise RecipeError(
                "Constraints beside mixup are measured on a pass of their own, and the mode 'features' looks at one "
                "pass only: take the mode 'exact', or mixup out."
            )
        bound = {bound.task.name for bound in self.constraints.bounds}
        names = [name for name in self.objective.by_source[batch.source] if name in bound]
        return self.model(batch.unmixed, names, batch.source) if names else outputs

    def _backward(
        self,
        batches: Sequence[Batch],
        features: Features | None,
        losses: dict[str, Tensor | None],
        at: Position,
        scaler: torch.amp.GradScaler | None,
    ) -> Outcome:
        """One gradient of the losses; a task whose loss is no number is taken out of them."""
        further = self.extra.losses(batches, at.step) if self.extra.needs else {}
        for name, loss in losses.items():
            if loss is not None and not loss.requires_grad:
                losses[name] = None  # a stage froze all that the task reaches
        sources = ", ".join(repr(batch.source) for batch in batches)
        where = f"Step {at.step} (epoch {at.epoch}, a batch of {sources})"
        while True:
            try:
                outcome = balanced_backward(
                    losses,
                    self.shared,
                    features,
                    balancer=self.balancer,
                    mode=self.settings.mode,
                    step=at.step,
                    epoch=at.epoch,
                    ghost=self._ghost,
                    check=self._look,
                    heads=self.heads,
                    group=self.ranks.group,
                    counts=None if self.ranks.group is None else [1] * len(self.balancer.tasks),
                    sketch=self.settings.sketch,
                    scaler=scaler,
                    **further,
                )
            except NonFiniteError as error:
                try:
                    self.skips.leave_out(error, losses, self._present(losses), self.settings.skips, where)
                except NonFiniteError as stop:
                    raise NonFiniteError(f"{stop} {CALM}", stop.tasks) from error
                continue
            self.skips.were_numbers(name for name in outcome.tasks if name not in outcome.report.absent)
            return outcome

    def _look(self, names: Sequence[str], values: Sequence[float]) -> None:
        """See whether a task's loss exploded; constraints are violated or not, and know no usual."""
        n_tasks = len(self.balancer.tasks) - len(self.constraints.names)
        if len(names) > n_tasks or self.constraints.names:
            known = set(self.balancer.tasks[:n_tasks])
            pairs = [(name, value) for name, value in zip(names, values, strict=True) if name in known]
            names, values = [name for name, _ in pairs], [value for _, value in pairs]
        self.skips.look(names, values, self.settings.explosion)

    def _present(self, losses: Mapping[str, Tensor | None]) -> set[str]:
        """Names of the tasks that some process has a loss of."""
        names = self.balancer.tasks
        there = self.ranks.any(*(losses.get(name) is not None for name in names))
        return {name for name, is_there in zip(names, there, strict=True) if is_there}

    def _forget_absent(self, losses: Mapping[str, Tensor | None], outcome: Outcome) -> None:
        """Zeros that a layer of all heads gave to tasks without a label are no gradients, and move nothing."""
        for task in losses:
            if task in outcome.report.absent:
                for parameter in self.model.heads.reached_by(task):
                    parameter.grad = None

    @torch.no_grad()
    def tell_losses_after(self, batches: Sequence[Batch], outcome: Outcome, step: int) -> None:
        """The losses of the batch after the step, for the balancers that learn from them: one more forward pass."""
        if "losses_after" not in self.balancer.needs or outcome.signals is None:
            return
        _, losses = self.losses(batches, step, counts=False)
        # Those of the step and no others: what was left out of it has no loss before the step to compare with.
        present = [losses.get(self.balancer.tasks[i]) for i in outcome.signals.index.tolist()]
        after = torch.stack([torch.zeros(()).double() if loss is None else loss.double().cpu() for loss in present])
        after = self.ranks.sum(after) / self.ranks.size
        self.balancer.after_step(replace(outcome.signals, losses=after))

    @contextmanager
    def ghosts(self) -> Iterator[None]:
        """Inside, inner products without weight gradients, where the balancer needs no more and it is cheaper."""
        needs = self.balancer.needs
        is_plain = self.model.precision is None and not self.model.pieces and self.ranks.size == 1
        if not is_plain or "gramian" not in needs or "rows" in needs or self.settings.mode not in ("exact", "every_k"):
            yield
            return
        with Ghost(self.model.sharing) as self._ghost:
            try:
                yield
            finally:
                self._ghost = None
