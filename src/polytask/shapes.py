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

from typing import TypeAlias

from jaxtyping import Bool, Complex, Float, Int, Shaped
from torch import Tensor

__all__ = ["Bool", "Complex", "Float", "Inputs", "Int", "Shaped", "Tensor"]

Inputs: TypeAlias = "Tensor | dict[str, Tensor]"
"""What an encoder reads: one tensor, or one per named input; the first dimension is B."""
