"""Learning to branch: a tree of stages whose shape is learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from polytask.errors import RecipeError
from polytask.models.encoders.encoder import Encoder
from polytask.models.sharing._copies import Copies
from polytask.models.sharing._rows import Row
from polytask.models.sharing.sharing import Features, Sharing, split_stages
from polytask.models.stages import ByName, run_stages
from polytask.shapes import Float, Inputs, Tensor

__all__ = ["Branched"]


class Branched(Sharing):
    r"""Several copies of each stage, and a learned choice, for each copy and each task, of the one below that it reads.

    Child :math:`i` reads :math:`\sum_j d_{ij} x_j` with, in training, Gumbel noise :math:`\epsilon` and a temperature
    :math:`\tau` that falls from step to step,

    .. math:: d_{ij} = \frac{\exp((\log \alpha_{ij} + \epsilon_{ij}) / \tau)}
                            {\sum_k \exp((\log \alpha_{ik} + \epsilon_{ik}) / \tau)},

    and in prediction the likeliest parent alone, so that the network is a tree.

    Args:
        encoder: The encoder; each level of the tree has copies of one of its stages above the split.
        tasks: Names of the tasks.
        n_branches: Copies at each level above the first; at most as many as there are tasks.
        temperature: :math:`\tau` at the start.
        decay: Factor on the temperature a step.
        min_temperature: Where it stops falling.
        ratio: Share of the encoder's stages in the trunk, the root of the tree, in [0, 1].

    Shape:
        inputs of the encoder -> per task ``[B, D]``

    Raises:
        RecipeError: If there is no branch, or a temperature is not positive.

    Example:
        >>> from polytask.models.encoders import registry
        >>> from polytask.models.inputs import InputShape
        >>> encoder = registry.create("mlp", {"main": InputShape.of(torch.zeros(1, 4))}, widths=(8, 8))
        >>> sharing = Branched(encoder, ["a", "b", "c"], n_branches=2)
        >>> sharing(torch.zeros(2, 4))["b"].shape
        torch.Size([2, 8])
        >>> sorted(sharing.parents())
        ['a', 'b', 'c', 'level 2 branch 1', 'level 2 branch 2']

    Note:
        The paper samples trees in a search and trains the best anew; here one training does both, and the choices
        harden as the temperature falls. The number of steps is saved, so that a resumed run equals an uninterrupted
        one. All branches run.

    References:
        Guo et al., "Learning to Branch for Multi-Task Learning", ICML 2020, equations 2 to 5.
    """

    n_steps: Tensor

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[str],
        n_branches: int = 3,
        temperature: float = 5.0,
        decay: float = 0.999,
        min_temperature: float = 0.1,
        ratio: float = 0.0,
    ):
        super().__init__(encoder, tasks)
        if n_branches < 1:
            raise RecipeError(f"Branched sharing needs at least one branch, got {n_branches}.")
        if not (temperature > 0 and 0 < decay <= 1 and min_temperature > 0):
            raise RecipeError(
                f"Branched sharing needs positive temperatures and a decay in (0, 1], got {temperature}, "
                f"{min_temperature} and {decay}."
            )
        self.temperature, self.decay, self.min_temperature = temperature, decay, min_temperature
        self.trunk, above = split_stages("Branched sharing", encoder, ratio)
        if not above:
            raise RecipeError(f"Branched sharing needs a stage to copy, and ratio {ratio} leaves none. Lower it.")
        self.n_branches = min(n_branches, len(self.tasks))
        self.levels = nn.ModuleList(Copies([stage], self.n_branches) for stage in above)
        n = self.n_branches
        self.choices = nn.ParameterList(nn.Parameter(_near_zero(n, n)) for _ in above[1:])
        self.leaves = ByName({task: Row(_near_zero(n)) for task in self.tasks})
        self.register_buffer("n_steps", torch.zeros((), dtype=torch.int64))

    def shared(self, inputs: Inputs, tasks: Sequence[str], source: str | None = None) -> Features:
        """All branches of the last level side by side: ``[B, branches D]``."""
        if self.training:
            self.n_steps += 1
        first, *others = self.levels
        x: Tensor = first.spread(run_stages(self.trunk, inputs, source), source)  # type: ignore[operator]
        for level, choice in zip(others, self.choices, strict=True):
            x = level(torch.einsum("ij,jb...->ib...", self._choose(choice), x))
        return x.transpose(0, 1).flatten(1)

    def private(self, features: Features, tasks: Sequence[str], source: str | None = None) -> dict[str, Tensor]:
        """Each task's own choice among the branches of the last level."""
        branches = features.unflatten(1, (self.n_branches, self.width))  # type: ignore[union-attr]
        chosen = {task: self._choose(self.leaves[task].weight) for task in tasks}  # type: ignore[arg-type]
        self._note_gates({task: row.unsqueeze(0) for task, row in chosen.items()})
        return {task: torch.einsum("j,bjd->bd", row, branches) for task, row in chosen.items()}

    def _choose(self, logits: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
        if not self.training:
            return functional.one_hot(logits.argmax(-1), self.n_branches).to(logits.dtype)
        noise = -torch.empty_like(logits).exponential_().log()
        cooled = (self.temperature * self.decay ** self.n_steps.double()).clamp_min(self.min_temperature)
        return ((logits + noise) / cooled.to(logits.dtype)).softmax(-1)

    def parents(self) -> dict[str, str]:
        """The tree: for each task, and each branch above the first level, the branch that it reads."""
        tree: dict[str, str] = {}
        for level, choice in enumerate(self.choices, start=1):
            for i, j in enumerate(choice.detach().argmax(1).tolist()):
                tree[f"level {level + 1} branch {i + 1}"] = f"level {level} branch {j + 1}"
        for task in self.tasks:
            chosen = int(self.leaves[task].weight.detach().argmax())  # type: ignore[operator, union-attr]
            tree[task] = f"level {len(self.levels)} branch {chosen + 1}"
        return tree

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """The trunk, all branches (any may be chosen), and the task's own choice."""
        parts = (self.trunk, self.levels, self.choices, self.leaves[task])
        return [parameter for part in parts for parameter in part.parameters()]

    def expert_names(self, task: str) -> list[str]:
        """The branches of the last level."""
        return [f"branch {i + 1}" for i in range(self.n_branches)]


def _near_zero(*shape: int) -> Tensor:
    """Even chances, but for a trace that breaks ties."""
    return torch.randn(*shape) * 1e-3
