"""The one legend of shapes, and the tensor types that signatures use.

Letters, at borders as ``Float[Tensor, "B D"]`` and in dense mathematics as suffixes (``g_TP``):

====== =====================================================
``T``  tasks
``B``  rows of a batch
``N``  rows of a data set, or observed labels of a batch
``P``  shared parameters, counted one by one
``D``  width of a representation
``O``  outputs of one head
``K``  classes, labels or quantiles of one task
``E``  experts
``L``  positions of a sequence
``S``  sources
====== =====================================================

The annotations are documentation in production and are checked in the tests.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Complex, Float, Int, Shaped
from torch import Tensor

__all__ = ["Bool", "Complex", "Float", "Inputs", "Int", "Shaped", "Tensor", "labelled", "object_array"]

Inputs: TypeAlias = "Tensor | dict[str, Tensor]"
"""What an encoder reads: one tensor, or one per named input; the first dimension is B."""


def labelled(observed: Shaped[Tensor, "N ..."]) -> Bool[Tensor, " N"]:
    """Which rows have a label, of which a task of words or pixels has several in each.

    Example:
        >>> import torch
        >>> labelled(torch.tensor([[True, False], [False, False]]))
        tensor([ True, False])
    """
    return observed.flatten(1).any(1) if observed.ndim > 1 else observed.bool()


def object_array(values: Collection[Any]) -> Shaped[np.ndarray, " N"]:
    """An array of one object a row, also where these are sequences or arrays of one length.

    Example:
        >>> object_array([[1, 2], [3, 4]])
        array([list([1, 2]), list([3, 4])], dtype=object)
    """
    return np.fromiter(values, dtype=object, count=len(values))
