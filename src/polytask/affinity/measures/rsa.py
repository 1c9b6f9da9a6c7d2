"""How alike two tasks' own networks tell the same rows apart: representational similarity analysis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from scipy.stats import rankdata

from polytask.affinity.ground import Ground
from polytask.affinity.measure import Measure, Reading
from polytask.affinity.measures._representation import alike
from polytask.shapes import Float, Tensor

__all__ = ["Rsa"]


class Rsa(Measure):
    r"""Spearman's correlation of the dissimilarities that one network a task sees between the same rows.

    .. math:: d_i(m, n) = 1 - \operatorname{corr}(x_i^m, x_i^n), \qquad
        A_{ij} = \operatorname{corr}\big( \operatorname{rank} d_i, \operatorname{rank} d_j \big)

    over the pairs of rows :math:`m < n`, with the features :math:`x_i^m` of row m in the network of task i.

    Args:
        rows: At most so many rows of each source.

    Example:
        >>> import torch
        >>> x = torch.randn(30, 5, dtype=torch.float64)
        >>> rsa_matrix({"a": x, "b": 2 * x}).round(6).tolist()
        [[1.0, 1.0], [1.0, 1.0]]

    Note:
        Cost: a training for each task, the same ones as CKA, and a sort of ``N^2 / 2`` numbers a network.

        Like CKA, it says how alike two networks see rows, not
        what one gains by the other. Only pairs with a source in common are known.

    References:
        Dwivedi and Roig, "Representation similarity analysis for efficient task taxonomy and transfer learning",
        CVPR 2019, section 3; Kriegeskorte, Mur and Bandettini, 2008.
    """

    words: ClassVar[str] = "rank correlation of the dissimilarities of rows in the networks of i alone and of j alone"
    has_zero: ClassVar[bool] = False

    def __init__(self, rows: int = 300):
        self.rows = rows

    def read(self, ground: Ground) -> Reading:
        """The matrix for one network a task."""
        return alike(ground, self.rows, rsa_matrix)


def rsa_matrix(features: Mapping[str, Float[Tensor, "N D"]]) -> np.ndarray:
    """Spearman's correlation of the dissimilarities of each two; NaN for features that do not differ."""
    ranks = []
    for x in features.values():
        centred = x - x.mean(1, keepdim=True)
        norms = centred.norm(dim=1, keepdim=True)
        # A row whose features are all equal, as after ReLUs that are all off, is as unlike others as can be.
        unit = torch.where(norms > 1e-12, centred / norms.clamp_min(1e-12), torch.zeros(()))
        similar = (unit @ unit.T).numpy()
        ranks.append(rankdata((1.0 - similar)[np.triu_indices(len(x), 1)].round(12)))
    centred_ranks = np.stack(ranks) - np.mean(ranks, axis=1, keepdims=True)
    norms = np.linalg.norm(centred_ranks, axis=1)
    unit_ranks = centred_ranks / np.where(norms > 0, norms, np.nan)[:, None]
    found: np.ndarray = unit_ranks @ unit_ranks.T
    return found
