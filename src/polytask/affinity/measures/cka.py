"""How alike two tasks' own networks represent the same rows: centred kernel alignment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch

from polytask.affinity.ground import Ground
from polytask.affinity.measure import Measure, Reading
from polytask.affinity.measures._representation import alike
from polytask.shapes import Float, Tensor

__all__ = ["Cka"]


class Cka(Measure):
    r"""Linear centred kernel alignment of the features of one network a task, on the same rows.

    With centred features :math:`X_i` ``[N, D]``,

    .. math:: A_{ij} = \frac{\lVert X_i^\top X_j \rVert_F^2}
        {\lVert X_i^\top X_i \rVert_F \, \lVert X_j^\top X_j \rVert_F} \in [0, 1].

    Args:
        rows: At most so many rows of each source.

    Example:
        >>> import torch
        >>> x = torch.randn(50, 4, dtype=torch.float64)
        >>> cka_matrix({"a": x, "b": 3 * x + 1})[0, 1].round(6)
        np.float64(1.0)

    Note:
        Cost: a training for each task, and ``N^2`` numbers a network for the N rows compared.

        It does not change if features are rotated or scaled. That two networks see
        rows alike does not say that one of them gains by the other: two tasks may be learned perfectly well each by
        itself from the same features. Only pairs with a source in common are known. Only the order of values counts
        for grouping.

    References:
        Kornblith, Norouzi, Lee and Hinton, "Similarity of neural network representations revisited", ICML 2019,
        section 3 (linear CKA).
    """

    words: ClassVar[str] = "linear CKA of the features of the networks of i alone and of j alone"
    has_zero: ClassVar[bool] = False

    def __init__(self, rows: int = 400):
        self.rows = rows

    def read(self, ground: Ground) -> Reading:
        """The matrix for one network a task."""
        return alike(ground, self.rows, cka_matrix)


def cka_matrix(features: Mapping[str, Float[Tensor, "N D"]]) -> np.ndarray:
    """Linear CKA of each two, from N by N products, so that a pair costs N squared whatever the width."""
    rows = []
    for x in features.values():
        centred = x - x.mean(0)
        product = (centred @ centred.T).flatten()
        rows.append(product / product.norm())  # of constant features 0 / 0: NaN, which is right
    unit = torch.stack(rows)
    found: np.ndarray = (unit @ unit.T).numpy()
    return found
