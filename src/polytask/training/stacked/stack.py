"""A stack: trainings of one shape, advanced in step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from polytask.shapes import Bool, Float, Tensor
from polytask.training.allocation import keep_freed_memory
from polytask.training.stacked.losses import losses_of
from polytask.training.stacked.member import Member
from polytask.training.stacked.optimisers import Optimisers
from polytask.training.stacked.program import Program
from polytask.training.stacked.rows import Rows
from polytask.training.stacked.validation import mean_losses_of

__all__ = ["Stack"]

_PIECE = 1024
"""Rows of all members together that are judged at once."""


class Stack:
    """Trains its members to the end, each as it would be trained alone; who is done leaves.

    Args:
        members: Members of one shape.
        tell: Told the number of steps that members took, after each step.
    """

    def __init__(self, members: Sequence[Member], tell: Callable[[int], None] = lambda _: None):
        self.program = Program(members)
        self.optimisers = Optimisers(self.program)
        self.rows = Rows(members)
        self.tell = tell
        n_tasks = len(members[0].names)
        self.sums = torch.zeros(3, len(members), n_tasks, dtype=torch.float64)  # losses, steps, weights
        self.fallbacks = [0] * len(members)

    def run(self) -> None:
        """Train all members."""
        keep_freed_memory()
        while self.program.members:
            self.step()

    def step(self) -> None:
        """One step of every member."""
        began = time.perf_counter()
        members = self.program.members
        rows = [member.draw() for member in members]
        self.optimisers.before_step()
        present: list[Bool[Tensor, " T"] | None] = [None] * len(members)
        # Batches of one length run together; lengths differ only at the end of an epoch.
        by_length: dict[int, list[int]] = {}
        for i, mine in enumerate(rows):
            by_length.setdefault(len(mine), []).append(i)
        for at in by_length.values():
            self._backward(at, [rows[i] for i in at], present)
        self.optimisers.step(present)
        share = (time.perf_counter() - began) / len(members)
        ended = [i for i, member in enumerate(members) if not member.is_done and member.after_step(share)]
        self.tell(len(members))
        validation = self._validate(ended)
        for i in ended:
            self._end_epoch(i, validation.get(i))
        if any(member.is_done for member in members):
            self._repack()

    def _backward(self, at: list[int], rows: list[Tensor], present: list[Bool[Tensor, " T"] | None]) -> None:
        """Add the gradients of some members to the stacked parameters'."""
        members = [self.program.members[i] for i in at]
        n = members[0].training.model.n_members
        complete = all(member.is_complete for member in members)
        inputs, labels = self.rows.batch(at, rows, n, complete=complete)
        outputs = self.program.outputs(at, inputs)
        tasks = [member.training.tasks for member in members]
        losses = losses_of(outputs, labels, members[0].groups, tasks, n)
        values = losses.detach().double()
        weights = self._weights(at, values, labels.present)
        there = [None] * len(at) if labels.present is None else labels.present.tolist()
        for member, mine, seen in zip(members, values.tolist(), there, strict=True):
            member.look(mine, seen)
        if labels.present is not None:
            for i, found in zip(at, labels.present, strict=True):
                present[i] = found
        (losses * weights.to(losses)).sum().backward()  # type: ignore[no-untyped-call]

    def _weights(
        self, at: list[int], losses: Float[Tensor, "M T"], present: Bool[Tensor, "M T"] | None
    ) -> Float[Tensor, "M T"]:
        """Each member's weights by its own balancer; counts losses and weights into the sums of the epoch."""
        weights = torch.ones_like(losses)
        for j, i in enumerate(at):
            found = self.program.members[i].weigh(losses[j], None if present is None else present[j])
            if found is not None:
                weights[j], fallbacks = found
                self.fallbacks[i] += fallbacks
        there = torch.ones_like(losses) if present is None else present.double()
        self.sums[:, at] += torch.stack([losses * there, there, weights])
        return weights

    def _validate(self, ended: list[int]) -> dict[int, dict[str, float]]:
        """Validation losses of the members whose epoch ends, those with as many rows at once."""
        members = self.program.members
        found: dict[int, dict[str, float]] = {}
        by_rows: dict[int, list[int]] = {}
        for i in ended:
            held_out = members[i].held_out
            if held_out is not None:
                by_rows.setdefault(held_out.n_rows, []).append(i)
        for n_rows, at in by_rows.items():
            mine = [members[i] for i in at]
            held = [member.held_out for member in mine if member.held_out is not None]
            # No more rows at a time than one network alone is judged by, or than a step takes.
            size = max(_PIECE // len(at), mine[0].training.settings.batch_size)
            rows = [slice(start, start + size) for start in range(0, n_rows, size)]
            outputs = []
            for piece in rows:
                each = [one.fields(piece) for one in held]
                fields = {name: torch.stack([one[name] for one in each]) for name in each[0]}
                outputs.append(self.program.answers(at, fields))
            losses = mean_losses_of(outputs, rows, held, mine[0].groups, [one.training.tasks for one in mine])
            found |= dict(zip(at, losses, strict=True))
        return found

    def _end_epoch(self, i: int, validation: dict[str, float] | None) -> None:
        member = self.program.members[i]
        sums = member.training.sums
        sums.losses, sums.steps, sums.weights = (part.clone() for part in self.sums[:, i])
        sums.fallbacks = self.fallbacks[i]
        self.sums[:, i], self.fallbacks[i] = 0.0, 0
        member.end_epoch(validation)

    def _repack(self) -> None:
        """Let the members go that are done."""
        members, before = self.program.members, self.program.leaves
        stay = [i for i, member in enumerate(members) if not member.is_done]
        self.program.keep(stay)
        self.rows.keep(stay)
        for member in members:
            if member.is_done and member.error is None:
                member.training.keep_best()
        if stay:
            self.optimisers.keep(stay, before)
            self.sums, self.fallbacks = self.sums[:, stay], [self.fallbacks[i] for i in stay]
