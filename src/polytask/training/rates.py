"""Measures that are means over rows, each with a smooth proxy: what constraints can follow batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from polytask.errors import RecipeError
from polytask.shapes import Bool, Float, Shaped, Tensor
from polytask.tasks.task import Task

__all__ = ["RATES", "Terms", "is_mean", "terms_of"]


class Terms(NamedTuple):
    """One number for each label that counts; the measure is their mean.

    Args:
        proxy: With graph.
        truth: Without.
    """

    proxy: Float[Tensor, " N"]
    truth: Float[Tensor, " N"]


class _Rate(NamedTuple):
    """Share of answers of a class among the labels of a class."""

    of_label: int | None
    answer: int


RATES: Mapping[str, _Rate] = {
    "positive_rate": _Rate(None, 1),
    "recall": _Rate(1, 1),
    "false_negative_rate": _Rate(1, 0),
    "specificity": _Rate(0, 0),
    "false_positive_rate": _Rate(0, 1),
}
"""Rates of a binary task by name; "positive" is its second class, see :class:`polytask.tasks.binary.Binary`."""


def is_mean(metric: str) -> bool:
    """Whether the measure is a mean over labels, so that a batch gives an unbiased estimate of it."""
    return metric == "loss" or metric in RATES


def terms_of(
    metric: str,
    task: Task,
    outputs: Float[Tensor, "N O"],
    targets: Shaped[Tensor, "N ..."],
    observed: Bool[Tensor, "N ..."],
) -> Terms:
    r"""The measure of each observed label.

    A rate counts answers, :math:`[z > 0]`, which has no gradient; its proxy is :math:`\sigma(z)`, the rate of a
    predictor that answers by chance with the probability that the network gives.

    Raises:
        RecipeError: If a rate is asked of a task that is not binary, or the measure is not known.

    References:
        Cotter et al., Optimization with Non-Differentiable Constraints with Applications to Fairness, Recall, Churn,
        and Other Goals, JMLR 2019 (rates as constraints, and proxies of them).
    """
    if metric == "loss":
        losses = task.loss(outputs, targets, observed).flatten()
        return Terms(losses, losses.detach())
    if metric not in RATES:
        raise RecipeError(f"{metric!r} is no mean over labels.")
    rate = RATES[metric]
    rows = observed if rate.of_label is None else observed & (targets == rate.of_label)
    z = outputs.squeeze(-1)[rows]
    side: Callable[[Tensor], Tensor] = (lambda x: x) if rate.answer else torch.neg
    answers = (z.detach() > 0) == bool(rate.answer)
    return Terms(torch.sigmoid(side(z)), answers.to(z.dtype))
