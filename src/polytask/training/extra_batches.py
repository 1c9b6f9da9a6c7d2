"""The further batches that some balancers ask for: an independent second one, or validation rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from polytask.balancing.balancer import Balancer
from polytask.data.batch import Batch, Source
from polytask.errors import RecipeError
from polytask.models.model import MultiTaskModel
from polytask.shapes import Tensor
from polytask.training.objective import Objective
from polytask.training.ranks import Ranks, here

__all__ = ["ExtraBatches"]


class ExtraBatches:
    """Losses beyond the step's own batch, for balancers that need them; nothing for all the others.

    The rows depend on the seed and the step only, so that a resumed training draws the same ones without any state.

    Args:
        balancer: ``cross_gramian`` in its needs asks for a second training batch, ``validation`` for validation rows.
        model: The network.
        objective: Turns outputs into losses.
        train: Training sources.
        validation: Validation sources.
        seed: Of the rows drawn.
        ranks: In data parallel, who reads the rest of these rows.

    Raises:
        RecipeError: If validation rows are needed and there are none.

    Note:
        A second batch costs one more forward pass and, in the engine, one more backward pass a task; a validation
        batch one more forward and one more backward pass. Batch normalisation sees these rows too.
    """

    def __init__(
        self,
        balancer: Balancer,
        model: MultiTaskModel,
        objective: Objective,
        train: Mapping[str, Source],
        validation: Mapping[str, Source],
        seed: int,
        ranks: Ranks | None = None,
    ):
        self.ranks = ranks or here()
        self.model, self.objective, self.train, self.validation, self.seed = model, objective, train, validation, seed
        self.needs = balancer.needs & {"cross_gramian", "validation"}
        missing = sorted(name for name in train if name not in validation)
        if "validation" in self.needs and missing:
            raise RecipeError(
                f"{type(balancer).__name__} learns its weights from validation rows, and {', '.join(missing)} has "
                "none: give split.validation a share above 0."
            )

    def losses(self, batches: Sequence[Batch], step: int) -> dict[str, Any]:
        """Arguments for :func:`~polytask.balancing.backward.balanced_backward`: ``second``, ``validation``."""
        found: dict[str, Any] = {}
        if "cross_gramian" in self.needs:
            found["second"] = {
                name: loss
                for batch in batches
                for name, loss in self._on(self.train[batch.source], batch, step, 0).items()
            }
        if "validation" in self.needs:
            present = [
                loss
                for batch in batches
                for loss in self._on(self.validation[batch.source], batch, step, 1).values()
                if loss is not None
            ]
            found["validation"] = torch.stack(present).sum() if present else None
        return found

    def _on(self, source: Source, batch: Batch, step: int, stream: int) -> dict[str, Tensor | None]:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + step) * 2 + stream)
        rows = torch.randint(len(source), (min(self._n_joined(batch), len(source)),), generator=generator)
        rows, part = self.ranks.share(rows)
        device = next(self.model.parameters()).device
        other = replace(source.batch(rows), part=part).to(device)
        names = self.objective.by_source[batch.source]
        losses = self.objective(self.model(other.inputs, names, other.source), other)
        if self.ranks.size == 1:
            return losses
        return {name: None if loss is None else loss * self.ranks.size for name, loss in losses.items()}

    def _n_joined(self, batch: Batch) -> int:
        """Rows of the step's batch in all processes."""
        if self.ranks.size == 1:
            return len(batch)
        return int(self.ranks.sum(torch.tensor([len(batch) if batch.part else 0])))
