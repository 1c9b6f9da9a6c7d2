"""A recipe as a workload, to measure what its step costs before anybody trains with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from polytask.balancing.workloads import Workload
from polytask.data.plan import BatchPlan
from polytask.shapes import Tensor
from polytask.training.building import network_of
from polytask.training.objective import Objective
from polytask.training.opening import prepare_recipe
from polytask.training.planning import plan_of

if TYPE_CHECKING:
    from polytask.recipe import Recipe

__all__ = ["RecipeWorkload"]


class RecipeWorkload(Workload):
    """The network of a recipe and the first batch of its first epoch that has labels of the most tasks.

    Args:
        recipe: The recipe; its data is read and split as for a training.
    """

    def __init__(self, recipe: Recipe):
        prepared = prepare_recipe(recipe)
        plan = plan_of(recipe, prepared)
        _, self.model = network_of(prepared, plan)
        self.objective = Objective(prepared.tasks, prepared.train, self.model.n_members)
        rows = {name: len(source) for name, source in prepared.train.items()}
        batches = [
            prepared.train[draw.source].batch(draw.rows)
            for draw in BatchPlan(rows, plan.settings.batch_size, seed=plan.settings.seed).epoch()
        ]
        self.batch = max(batches, key=lambda batch: sum(bool(seen.any()) for seen in batch.observed.values()))
        heads = nn.ModuleList(self.model.heads.by_task[task.name] for task in prepared.tasks)
        super().__init__("recipe", self.model.sharing, heads, torch.empty(0), [], nn.functional.mse_loss)

    @property
    def shared(self) -> list[nn.Parameter]:
        """Parameters that more than one task reaches."""
        return self.model.shared_parameters()

    def forward(self) -> tuple[list[Tensor], Tensor | dict[str, Tensor]]:
        """The losses of the tasks in the batch, and the features."""
        names = self.objective.by_source[self.batch.source]
        features, outputs = self.model.features_and_outputs(self.batch.inputs, names, self.batch.source)
        losses = [loss for loss in self.objective(outputs, self.batch).values() if loss is not None]
        return losses, features
