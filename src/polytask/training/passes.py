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
from polytask.training.settings import Settings
from polytask.training.skips import Skips

__all__ = ["Passes"]


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
        self.shared = model.shared_parameters()
        # One way back for all tasks, as there was one there. A constraint may move the head of a task without a loss.
        model.heads.together = objective.together = balancer.needs <= {"losses"} and not constraints.names
        self.skips = Skips()
        self._ghost: Ghost | None = None

    def __call__(self, batches: Sequence[Batch], at: Position) -> Outcome:
        """Forward and backward: afterwards ``.grad`` holds the balanced gradient of all tasks and constraints.

        Raises:
            NonFiniteError: If a loss is NaN or infinite and its task cannot be left out; names the task and the step.
        """
        features, losses = self.losses(batches, at.step)
        outcome = self._backward(batches, features, losses, at)
        if self.model.heads.together:
            self._forget_absent(losses)
        return outcome

    def losses(
        self, batches: Sequence[Batch], step: int, *, counts: bool = True
    ) -> tuple[Features | None, dict[str, Tensor | None]]:
        """Each task's loss, each constraint's violation; the features, unless each of several batches has its own."""
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
        self, batches: Sequence[Batch], features: Features | None, losses: dict[str, Tensor | None], at: Position
    ) -> Outcome:
        """One gradient of the losses; a task whose loss is no number is taken out of them."""
        further = self.extra.losses(batches, at.step) if self.extra.needs else {}
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

    def _look(self, names: Sequence[str], values: Sequence[float]) -> None:
        """See whether a task's loss exploded; constraints are violated or not, and know no usual."""
        n_tasks = len(self.balancer.tasks) - len(self.constraints.names)
        if len(names) > n_tasks or self.constraints.names:
            known = set(self.balancer.tasks[:n_tasks])
            pairs = [(name, value) for name, value in zip(names, values, strict=True) if name in known]
            names, values = [name for name, _ in pairs], [value for _, value in pairs]
        self.skips.look(names, values, self.settings.explosion)

    def _forget_absent(self, losses: Mapping[str, Tensor | None]) -> None:
        """Zeros that a layer of all heads gave to tasks without a label here are no gradients, and move nothing."""
        for task, loss in losses.items():
            if loss is None:
                for parameter in self.model.heads.reached_by(task):
                    parameter.grad = None

    @torch.no_grad()
    def tell_losses_after(self, batches: Sequence[Batch], outcome: Outcome, step: int) -> None:
        """The losses of the batch after the step, for the balancers that learn from them: one more forward pass."""
        if "losses_after" not in self.balancer.needs or outcome.signals is None:
            return
        _, losses = self.losses(batches, step, counts=False)
        # Those of the step and no others: what was left out of it has no loss before the step to compare with.
        present = [losses[self.balancer.tasks[i]] for i in outcome.signals.index.tolist()]
        after = torch.stack([loss.double() for loss in present if loss is not None])
        self.balancer.after_step(replace(outcome.signals, losses=after))

    @contextmanager
    def ghosts(self) -> Iterator[None]:
        """Inside, inner products without weight gradients, where the balancer needs no more and it is cheaper."""
        needs = self.balancer.needs
        if "gramian" not in needs or "rows" in needs or self.settings.mode not in ("exact", "every_k"):
            yield
            return
        with Ghost(self.model.sharing) as self._ghost:
            try:
                yield
            finally:
                self._ghost = None
