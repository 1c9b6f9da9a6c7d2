"""What the kinds share when they compute losses, answers and metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from polytask.errors import NonFiniteError
from polytask.shapes import Bool, Float, Shaped, Tensor, labelled
from polytask.tasks.task import Metric

__all__ = [
    "RELATIVE_ERROR",
    "auroc_of_each",
    "finite",
    "full_precision",
    "nanmean",
    "observed_rows",
    "relative_error",
    "undefined",
    "weight_of_each",
]

RELATIVE_ERROR = Metric("relative_error", higher_is_better=False)
"""Error over that of the best constant of the training labels: 0 is perfect, 1 is no skill."""


def full_precision(outputs: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Outputs in at least float32: a loss in half precision loses what it should measure."""
    return outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs


def weight_of_each(
    weights: np.ndarray, codes: Shaped[Tensor, "*N"], losses: Float[Tensor, "*N"]
) -> Float[Tensor, "*N"]:
    """The class weight of each label, in the type of its loss."""
    table = torch.as_tensor(weights, dtype=losses.dtype, device=losses.device)
    # Not table[codes]: with a code that has no dimension, as inside vmap, indexing asks for its value.
    return table.expand(*codes.shape, -1).gather(-1, codes.unsqueeze(-1)).squeeze(-1)


def observed_rows(
    outputs: Float[Tensor, "N O"], targets: Shaped[Tensor, "N ..."], observed: Bool[Tensor, "N ..."]
) -> tuple[Float[Tensor, "M O"], Shaped[Tensor, "M ..."], Bool[Tensor, "M ..."]] | None:
    """Rows with an observed label, on the CPU, outputs in float64; ``None`` if there are none or one is not finite.

    An output that is NaN makes every metric NaN: counting it as a wrong (or right) class would hide it.
    """
    rows = labelled(observed)
    # On the CPU, because float64 is missing or slow elsewhere.
    seen = outputs.detach()[rows].cpu().double()
    if not len(seen) or not seen.isfinite().all():
        return None
    return seen, targets[rows].cpu(), observed[rows].cpu()


def undefined(metrics: Sequence[Metric]) -> dict[str, float]:
    """NaN for every metric."""
    return {metric.name: math.nan for metric in metrics}


def relative_error(errors: Float[Tensor, "*N"], constant_errors: Float[Tensor, "*N"]) -> float:
    """Mean error over the constant predictor's; NaN if the constant makes none."""
    constant = constant_errors.double().mean().item()
    return errors.double().mean().item() / constant if constant > 0 else math.nan


def finite(task: str, outputs: Float[Tensor, "N O"]) -> Float[Tensor, "N O"]:
    """Outputs in float64 on the CPU, once it is sure that they are numbers.

    Raises:
        NonFiniteError: If one is NaN or infinite.
    """
    moved = outputs.detach().double().cpu()
    bad = ~moved.isfinite().flatten(1).all(1)
    if bad.any():
        raise NonFiniteError(
            f"Task {task!r} got outputs that are NaN or infinite in {int(bad.sum())} of {len(moved)} rows "
            f"(the first is row {int(bad.nonzero()[0])}). "
            "Check the inputs of those rows, and that training did not diverge."
        )
    return moved


def auroc_of_each(
    scores: Float[Tensor, "N K"], truth: Bool[Tensor, "N K"], observed: Bool[Tensor, "N K"]
) -> np.ndarray:
    """Area under the ROC curve of each column over its observed rows; NaN where only one class is observed."""
    from torchmetrics.functional.classification import binary_auroc

    areas = np.full(scores.shape[1], np.nan)
    for k in range(scores.shape[1]):
        rows = observed[:, k]
        y = truth[rows, k]
        if y.any() and not y.all():
            areas[k] = binary_auroc(scores[rows, k], y.long(), validate_args=False).item()
    return areas


def nanmean(values: np.ndarray) -> float:
    """Mean of the values that are defined; NaN, without a warning, if none is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan
