"""Flattened sharing: one network for all tasks, told which task it serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from polytask.errors import RecipeError, UnknownNameError
from polytask.models.encoders.encoder import Encoder
from polytask.models.sharing._rows import Row
from polytask.models.sharing.sharing import Features, Sharing, split_stages
from polytask.models.stages import ByName, run_stages, shapes_after
from polytask.shapes import Float, Inputs, Tensor

__all__ = ["Flattened"]


class Flattened(Sharing):
    r"""All tasks as one larger task: a network that reads the row and an embedding of the task.

    With the task's embedding :math:`e_t`, each conditioned stage :math:`f_l` gives

    .. math:: h^l_t = (1 + \gamma_l(e_t)) \odot f_l(h^{l-1}_t) + \beta_l(e_t)

    with linear :math:`\gamma_l, \beta_l` (``film``), or without :math:`\gamma_l` (``shift``), which is what reading the
    embedding beside the inputs of a dense layer comes to.

    Args:
        encoder: The encoder; all its stages are shared.
        tasks: Names of the tasks.
        embedding_width: Width of a task's embedding.
        condition: ``film`` or ``shift``.
        ratio: Share of the encoder's stages that run once for all tasks, in [0, 1]; the rest run for each task, and
            the first stage always runs once.

    Shape:
        inputs of the encoder -> per task ``[B, D]``

    Raises:
        RecipeError: If the embedding has no width.
        UnknownNameError: If there is no such condition.

    Example:
        >>> from polytask.models.encoders import registry
        >>> from polytask.models.inputs import InputShape
        >>> encoder = registry.create("mlp", {"main": InputShape.of(torch.zeros(1, 4))}, widths=(8, 8))
        >>> sharing = Flattened(encoder, ["a", "b"], embedding_width=3)
        >>> sharing(torch.zeros(2, 4))["b"].shape, sharing.count_parameters()["private"]
        (torch.Size([2, 8]), 6)

    Note:
        Its private part does not grow with the network: the choice for many tasks with few rows each. The conditioned
        stages run on T times the rows of a batch.

    References:
        Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018, equation 2;
        Bakker and Heskes, "Task Clustering and Gating for Bayesian Multitask Learning", JMLR 4, 2003 (one network
        that tells tasks apart by their own parameters).
    """

    interleaved: ClassVar[bool] = True

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[str],
        embedding_width: int = 16,
        condition: str = "film",
        ratio: float = 0.5,
    ):
        super().__init__(encoder, tasks)
        if embedding_width < 1:
            raise RecipeError(f"Flattened sharing needs an embedding_width of at least 1, got {embedding_width}.")
        if condition not in ("film", "shift"):
            raise UnknownNameError("condition", condition, ("film", "shift"))
        trunk, _ = split_stages("Flattened sharing", encoder, ratio)
        stages = list(encoder.stages)
        self.n_once = max(len(trunk), 1)
        self.stages = nn.ModuleList(stages)
        source, shape = next(iter(encoder.inputs.items()))
        conditioned = shapes_after(stages, shape, source)[self.n_once - 1 :]
        self.conditions = nn.ModuleList(_Condition(embedding_width, s, condition == "film") for s in conditioned)
        self.embeddings = ByName({task: Row(torch.randn(embedding_width)) for task in self.tasks})

    def shared(self, inputs: Inputs, tasks: Sequence[str], source: str | None = None) -> Features:
        """The lower stages once, the conditioned ones on a batch that holds each row once for each task."""
        embeddings = torch.stack([self.embeddings[task].weight for task in tasks])  # type: ignore[misc]
        first, *others = self.conditions
        x = first(run_stages(self.stages[: self.n_once], inputs, source).unsqueeze(0), embeddings)
        for stage, condition in zip(self.stages[self.n_once :], others, strict=True):
            x = condition(stage(x.flatten(0, 1)).unflatten(0, (len(tasks), -1)), embeddings)
        return dict(zip(tasks, x.unbind(0), strict=True))

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """The network and the task's embedding."""
        parts = (self.stages, self.conditions, self.embeddings[task])
        return [parameter for part in parts for parameter in part.parameters()]


class _Condition(nn.Module):
    """Scale and shift of each channel, linear in the task's embedding."""

    def __init__(self, embedding_width: int, shape: tuple[int, ...], scales: bool):
        super().__init__()
        self.channels = shape[0] if len(shape) == 3 else shape[-1]
        self.positions = (1,) * (len(shape) - 1)
        self.is_image = len(shape) == 3
        self.shift = nn.Linear(embedding_width, self.channels)
        self.scale = nn.Linear(embedding_width, self.channels) if scales else None
        for linear in filter(None, (self.shift, self.scale)):
            # Small at the start, so that the encoder's own scale of values is kept.
            nn.init.normal_(linear.weight, std=0.1 * embedding_width**-0.5)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Float[Tensor, "T B ..."], embeddings: Float[Tensor, "T W"]) -> Float[Tensor, "T B ..."]:
        if self.scale is not None:
            x = x * (1 + self._spread(self.scale(embeddings)))
        return x + self._spread(self.shift(embeddings))

    def _spread(self, values: Float[Tensor, "T C"]) -> Tensor:
        n = len(values)
        if self.is_image:
            return values.view(n, 1, self.channels, *self.positions)
        return values.view(n, 1, *self.positions, self.channels)
