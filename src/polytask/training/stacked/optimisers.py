"""The optimisers of a stack: one for all members while they go in step, else each member's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from polytask.shapes import Bool, Tensor
from polytask.training.optimisation import optimiser_of
from polytask.training.settings import Settings
from polytask.training.stacked.program import Program

__all__ = ["Optimisers"]


class Optimisers:
    """Takes the steps of all members.

    One optimiser over the stacked parameters, and what balancers learn, does it as long as all members have the same
    constant rate, no gradient is clipped, and every task has a label in every batch. From the first step in which a
    task is absent for a member, its own parameters must not move, and each member goes on with an optimiser of its own,
    whose state is taken over.

    Args:
        program: The members and their parameters.
    """

    def __init__(self, program: Program):
        self.program = program
        self.together: torch.optim.Optimizer | None = None
        members = [member.training for member in program.members]
        settings = members[0].settings
        same = all(_without_seed(member.settings) == _without_seed(settings) for member in members)
        steady = settings.schedule == "constant" and not settings.warmup and settings.clip_norm is None
        if same and steady:
            self.together = self._made()

    def before_step(self) -> None:
        """Set the learning rates of the step."""
        if self.together is None:
            for member in self.program.members:
                member.training.optimisation.before_step(member.training.at.step)

    def step(self, present: Sequence[Bool[Tensor, " T"] | None]) -> None:
        """Move all parameters and forget the gradients.

        Args:
            present: For each member, the tasks that had labels; ``None`` for all.
        """
        absent = [None if seen is None or bool(seen.all()) else seen for seen in present]
        if self.together is not None and any(seen is not None for seen in absent):
            self._part()
        if self.together is not None:
            self.together.step()
            self.together.zero_grad(set_to_none=True)
            return
        grads = {name: None if leaf.grad is None else leaf.grad.unbind(0) for name, leaf in self.program.leaves.items()}
        for i, (member, seen) in enumerate(zip(self.program.members, absent, strict=True)):
            model = member.training.model
            reached = None
            if seen is not None:
                there = [name for name, is_there in zip(member.names, seen.tolist(), strict=True) if is_there]
                reached = {id(p) for name in there for p in model.reached_by(name)}
            for name, parameter in model.named_parameters():
                parts = grads[name]
                skipped = parts is None or (reached is not None and id(parameter) not in reached)
                parameter.grad = None if skipped or parts is None else parts[i]
            member.training.optimisation.step()
        for leaf in self.program.leaves.values():
            leaf.grad = None

    def keep(self, positions: Sequence[int], before: dict[str, Tensor]) -> None:
        """Keep the state of the members that stay.

        Args:
            positions: Those that stay.
            before: The stacked parameters that were.
        """
        if self.together is None:
            return
        old, self.together = self.together, self._made()
        for name, leaf in self.program.leaves.items():
            state = old.state.get(before[name])
            if state:
                self.together.state[leaf] = {
                    key: value[list(positions)] if value.shape == before[name].shape else value
                    for key, value in state.items()
                }
        for learned in self._learned():
            if learned in old.state:
                self.together.state[learned] = old.state[learned]

    def _learned(self) -> list[torch.nn.Parameter]:
        """What the members' balancers learn themselves."""
        members = self.program.members
        return [p for member in members for p in member.training.balancer.parameters() if p.requires_grad]

    def _made(self) -> torch.optim.Optimizer:
        """An optimiser over the stacked parameters with the groups that a member's own has."""
        training = self.program.members[0].training
        name_of = {id(p): name for name, p in training.model.named_parameters()}
        groups = [
            {"params": [self.program.leaves[name_of[id(p)]] for p in group["params"] if id(p) in name_of],
             "weight_decay": group["weight_decay"]}
            for group in training.optimisation.optimiser.param_groups
        ]  # fmt: skip
        groups.append({"params": self._learned(), "weight_decay": 0.0})
        return optimiser_of(training.settings, [group for group in groups if group["params"]])

    def _part(self) -> None:
        """Give each member's own optimiser the member's part of the state."""
        assert self.together is not None
        for i, member in enumerate(self.program.members):
            own = member.training.optimisation.optimiser.state
            for name, parameter in member.training.model.named_parameters():
                leaf = self.program.leaves[name]
                state = self.together.state.get(leaf)
                if state:
                    own[parameter] = {
                        key: value[i].clone() if value.shape == leaf.shape else value.clone()
                        for key, value in state.items()
                    }
            for learned in member.training.balancer.parameters():
                if learned in self.together.state:
                    own[learned] = self.together.state[learned]
        self.together = None


def _without_seed(settings: Settings) -> Settings:
    return replace(settings, seed=0)
