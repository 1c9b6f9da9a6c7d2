"""What all solvers share: a Gramian freed of its scale, a factor of it, and the shape of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from polytask.balancing.balancer import Signals
from polytask.shapes import Float, Tensor

__all__ = ["Floats", "ScaledGramian", "Solution", "gramian_of", "tensor_of"]

Floats: TypeAlias = NDArray[np.float64]


class Solution(NamedTuple):
    """An answer of a solver.

    Attributes:
        weights: One weight per task.
        reason: Empty when the weights solve the problem to the solver's tolerance; otherwise what went wrong and
            what the weights are instead, in words that end up in the report.
    """

    weights: Floats
    reason: str = ""


@dataclass(frozen=True)
class ScaledGramian:
    r"""A Gramian as :math:`G = S C S` with :math:`C` of unit diagonal and :math:`S` the gradient norms.

    Gradients whose norms differ by many orders of magnitude give a Gramian that is far worse conditioned than the
    geometry behind it; every solver here works on the cosines :math:`C`, and puts :math:`S` back in closed form.

    Args:
        gramian: Symmetric and finite; ``T x T``.

    Example:
        >>> scaled = ScaledGramian(np.array([[4e60, 1e30], [1e30, 1.0]]))
        >>> scaled.norms
        array([2.e+30, 1.e+00])
        >>> scaled.cosines
        array([[1. , 0.5],
               [0.5, 1. ]])

    Note:
        A task with a zero gradient has norm 0 and cosine 0 with every other; ``present`` says which tasks have one.
    """

    gramian: Floats

    @cached_property
    def norms(self) -> Floats:
        """Norm of each task's gradient."""
        norms: Floats = np.sqrt(np.maximum(self.gramian.diagonal(), 0.0))
        return norms

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Which tasks have a gradient at all."""
        mask: NDArray[np.bool_] = self.norms > 0.0
        return mask

    @cached_property
    def cosines(self) -> Floats:
        """Cosines between the tasks' gradients, with an exact unit diagonal where there is a gradient."""
        inverse = np.divide(1.0, self.norms, out=np.zeros_like(self.norms), where=self.present)
        cosines = self.gramian * inverse[:, None] * inverse
        np.clip(cosines, -1.0, 1.0, out=cosines)
        np.fill_diagonal(cosines, self.present.astype(np.float64))
        return cosines

    @cached_property
    def factor(self) -> Floats:
        """``R`` with ``R.T @ R`` equal to the cosines: Cholesky where they are definite, eigenvectors where not.

        The column of a task without a gradient is exactly zero: what eigenvectors leave there is rounding, which a
        solver with non-negative weights would blow up to any vector that it lacks.
        """
        try:
            factor: Floats = np.asarray(np.linalg.cholesky(self.cosines).T, dtype=np.float64)
        except np.linalg.LinAlgError:
            values, vectors = np.linalg.eigh(self.cosines)
            factor = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
            factor[:, ~self.present] = 0.0
        return factor


def gramian_of(signals: Signals) -> Floats:
    """The Gramian as an array.

    Raises:
        TypeError: If the step measured none.
    """
    gramian = signals.require("gramian", "This balancer")
    array: Floats = gramian.detach().cpu().numpy().astype(np.float64, copy=False)
    return array


def tensor_of(weights: Floats) -> Float[Tensor, " T"]:
    """Weights as a float64 tensor."""
    return torch.from_numpy(np.ascontiguousarray(weights, dtype=np.float64))
