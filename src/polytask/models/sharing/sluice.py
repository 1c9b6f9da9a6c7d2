"""Sluice networks: what is shared is learned, by subspace and by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from polytask.errors import RecipeError
from polytask.models.encoders.encoder import Encoder
from polytask.models.sharing._copies import Copies, StackedLinear
from polytask.models.sharing._rows import Row, own_and_others
from polytask.models.sharing.sharing import Features, Sharing, split_stages
from polytask.models.stages import ByName, run_stages, shapes_after
from polytask.shapes import Float, Inputs, Tensor

__all__ = ["Sluice"]


class Sluice(Sharing):
    r"""A tower for each task, whose layers are cut in subspaces; learned weights mix all subspaces of all towers.

    With the G subspaces of the T towers after stage :math:`l` stacked, each task reads a mixture of them, and its
    representation is a mixture of its layers:

    .. math::

        \tilde x^l_{t,g} = \sum_{s,k} \alpha^l_{(t,g),(s,k)} x^l_{s,k}, \qquad
        h_t = \sum_l \beta_{t,l} \tilde x^l_t .

    The penalty :math:`\lambda \sum_{t,l} \sum_{g<k} \|W^l_{t,g} (W^l_{t,k})^\top\|_F^2` keeps the subspaces' weights
    apart.

    Args:
        encoder: The encoder; each tower has copies of its stages above the split.
        tasks: Names of the tasks.
        n_subspaces: Number of subspaces G of a layer. A stage whose channels G does not divide is not cut.
        own_weight: Weight of a subspace itself at the start; the same subspace of the other towers gets the rest.
        last_weight: Weight of the last layer in :math:`\beta` at the start; the other layers get equal parts of the
            rest. Layers take part whose outputs are vectors as wide as the last.
        orthogonality: :math:`\lambda`.
        ratio: Share of the encoder's stages in a trunk common to all, in [0, 1].

    Shape:
        inputs of the encoder -> per task ``[B, D]``

    Raises:
        RecipeError: If the ratio leaves no stage for the towers, or there is no subspace.

    Example:
        >>> from polytask.models.encoders import registry
        >>> from polytask.models.inputs import InputShape
        >>> encoder = registry.create("mlp", {"main": InputShape.of(torch.zeros(1, 4))}, widths=(8, 8))
        >>> sharing = Sluice(encoder, ["a", "b"])
        >>> sharing(torch.zeros(2, 4))["b"].shape
        torch.Size([2, 8])

    Note:
        With one subspace, the last layer alone and no penalty this is the cross-stitch network. Every tower runs.

    References:
        Ruder et al., "Latent Multi-task Architecture Learning", AAAI 2019, equations 2 to 6.
    """

    interleaved: ClassVar[bool] = True

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[str],
        n_subspaces: int = 2,
        own_weight: float = 0.9,
        last_weight: float = 0.9,
        orthogonality: float = 1e-3,
        ratio: float = 0.0,
    ):
        super().__init__(encoder, tasks)
        if n_subspaces < 1:
            raise RecipeError(f"A sluice network needs at least one subspace, got {n_subspaces}.")
        source, shape = next(iter(encoder.inputs.items()))
        shapes = shapes_after(encoder.stages, shape, source)
        self.trunk, above = split_stages("A sluice network", encoder, ratio)
        if not above:
            raise RecipeError(
                f"A sluice network needs a stage for its towers, and ratio {ratio} leaves none. Lower it."
            )
        shapes, n = shapes[len(self.trunk) :], len(self.tasks)
        self.orthogonality = orthogonality
        self.subspaces = [n_subspaces if s[_axis(s)] % n_subspaces == 0 else 1 for s in shapes]
        self.axes = [_axis(s) + 2 for s in shapes]
        self.towers = nn.ModuleList(Copies([stage], n) for stage in above)
        starts = [torch.kron(own_and_others(n, own_weight), torch.eye(g)) for g in self.subspaces]
        self.stitches = nn.ParameterList(nn.Parameter(start) for start in starts[:-1])
        rows = starts[-1].unflatten(0, (n, self.subspaces[-1])).unbind(0)
        self.last = ByName({task: Row(row) for task, row in zip(self.tasks, rows, strict=True)})
        self.read_layers = [i for i, s in enumerate(shapes) if s == (encoder.width,)]
        n_layers = len(self.read_layers)
        beta = torch.full((n_layers,), (1 - last_weight) / max(n_layers - 1, 1))
        beta[-1] = last_weight if n_layers > 1 else 1.0
        self.layers = ByName({task: Row(beta) for task in self.tasks})

    def shared(self, inputs: Inputs, tasks: Sequence[str], source: str | None = None) -> Features:
        """All towers, and each asked task's mixture of its layers."""
        first, *others = self.towers
        x: Tensor = first.spread(run_stages(self.trunk, inputs, source), source)  # type: ignore[operator]
        mixed: list[Tensor] = []
        for index, (stage, stitch) in enumerate(zip(others, self.stitches, strict=True)):
            x = self._mix(index, stitch, x)
            mixed.append(x)
            x = stage(x)
        below = [mixed[i] for i in self.read_layers[:-1]]
        return {task: self._read(task, x, below) for task in tasks}

    def _read(self, task: str, last: Float[Tensor, "T B D"], below: Sequence[Float[Tensor, "T B D"]]) -> Tensor:
        """One task's mixture of its layers."""
        stitch, beta = self.last[task].weight, self.layers[task].weight
        own = [layer[self.tasks.index(task)] for layer in below]
        layers = torch.stack([*own, self._mix(-1, stitch, last)[0]])  # type: ignore[arg-type]
        return torch.einsum("l,lbd->bd", beta, layers)

    def _mix(self, index: int, stitch: Float[Tensor, "M TG"], x: Float[Tensor, "T B ..."]) -> Tensor:
        g, axis = self.subspaces[index], self.axes[index]
        parts = x.unflatten(axis, (g, -1)).movedim(axis, 1).flatten(0, 1)
        mixed = torch.einsum("ms,s...->m...", stitch, parts)
        joined: Tensor = mixed.unflatten(0, (-1, g)).movedim(1, axis)
        return joined.flatten(axis, axis + 1)

    def penalty(self) -> Tensor | None:
        """How much the subspaces' weights overlap."""
        if not self.orthogonality:
            return None
        parts = []
        for tower, g in zip(self.towers, self.subspaces, strict=True):
            for weight in _last_weights(tower) if g > 1 else []:
                cut = weight.flatten(2).unflatten(1, (g, -1))
                overlap = torch.einsum("tgoi,tkpi->tgkop", cut, cut).square().sum((0, 3, 4))
                parts.append(overlap.triu(1).sum())
        return self.orthogonality * torch.stack(parts).sum() if parts else None

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """All towers and stitches, and the task's own rows of the last mixture and of the layers."""
        parts = (self.trunk, self.towers, self.stitches, self.last[task], self.layers[task])
        return [parameter for part in parts for parameter in part.parameters()]


def _axis(shape: tuple[int, ...]) -> int:
    """Axis of the channels."""
    return 0 if len(shape) == 3 else len(shape) - 1


def _last_weights(tower: nn.Module) -> list[Float[Tensor, "T out ..."]]:
    """The weights that write a stage's output, of all towers in one tensor."""
    stacked: list[Tensor] = [part.weight for part in tower.modules() if isinstance(part, StackedLinear)]
    if stacked:
        return stacked[-1:]
    loops = [part for part in tower.modules() if isinstance(getattr(part, "copies", None), nn.ModuleList)]
    if not loops:
        return []
    last: list[Tensor] = []
    for stage in loops[-1].copies:  # type: ignore[union-attr]
        dense = [part for part in stage.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
        if not dense:
            return []
        last.append(dense[-1].weight)
    return [torch.stack(last)]
