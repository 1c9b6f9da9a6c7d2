"""Weights that outlive a step, for the modes that do not solve at every step."""

from __future__ import annotations

import torch
from torch import nn

from polytask.shapes import Float, Int, Tensor

__all__ = ["KeptWeights"]


class KeptWeights(nn.Module):
    """The last weight of every task, and how many steps ago it was solved; part of the balancer's ``state_dict``.

    Args:
        n_tasks: Number of tasks that the balancer is bound to.

    Example:
        >>> kept = KeptWeights(3)
        >>> kept.store(torch.tensor([0, 2]), torch.tensor([0.25, 0.75]))
        >>> kept.has(torch.tensor([0, 2])), kept.has(torch.tensor([1]))
        (True, False)
        >>> kept.at(torch.tensor([2]))
        tensor([0.7500], dtype=torch.float64)
    """

    weights: Tensor
    known: Tensor
    age: Tensor

    def __init__(self, n_tasks: int):
        super().__init__()
        self.register_buffer("weights", torch.zeros(n_tasks, dtype=torch.float64))
        self.register_buffer("known", torch.zeros(n_tasks, dtype=torch.bool))
        self.register_buffer("age", torch.zeros(n_tasks, dtype=torch.int64))

    def has(self, index: Int[Tensor, " T"]) -> bool:
        """Whether every one of these tasks has a kept weight."""
        return bool(self.known[index].all())

    def is_young(self, index: Int[Tensor, " T"], most: int) -> bool:
        """Whether every one of these tasks has a kept weight that was made fewer than ``most`` steps ago."""
        return self.has(index) and bool((self.age[index] < most).all())

    def at(self, index: Int[Tensor, " T"]) -> Float[Tensor, " T"]:
        """The kept weights of these tasks, as a copy."""
        return self.weights[index].clone()

    def store(self, index: Int[Tensor, " T"], weights: Float[Tensor, " T"]) -> None:
        """Keep new weights of these tasks; the others keep theirs."""
        self.weights[index] = weights.to(self.weights)
        self.known[index] = True
        self.age[index] = 0
