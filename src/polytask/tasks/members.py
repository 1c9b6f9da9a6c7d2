"""The mean answer of several members of an ensemble, from outputs to outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch.nn import functional as F

from polytask.errors import UnknownNameError
from polytask.shapes import Bool, Float, Tensor

__all__ = ["LINKS", "SURE", "mean_answer", "where_there"]

SURE = 1e30
"""Output of the blank where there is no element: its chance is 1 there, that of any symbol 0."""


def mean_answer(outputs: Float[Tensor, "*N k O"], link: str) -> Float[Tensor, "*N O"]:
    r"""Outputs whose answer is the mean of the answers of ``k`` members.

    What is averaged is what the outputs stand for, not the outputs: with a link :math:`g` from outputs to answers,
    :math:`z = g^{-1}\big(\tfrac{1}{k} \sum_j g(z_j)\big)`, computed with logarithms throughout, so that nothing
    overflows and no probability becomes exactly 0 or 1.

    Args:
        outputs: Each member's outputs.
        link: What the outputs stand for: ``identity`` (numbers), ``log`` (logarithms of expectations), ``logit`` (each
            of one probability), ``softmax`` (of classes), ``path`` (of symbols, the first being the blank), or
            ``steps`` (each of the step beyond one of several ordered levels, for those that reach it).

    Shape:
        ``[..., k, O]`` -> ``[..., O]``

    Raises:
        UnknownNameError: If there is no such link.

    Example:
        >>> torch.sigmoid(mean_answer(torch.tensor([[0.0], [100.0]]), "logit")).numpy().round(4).tolist()
        [0.75]

    References:
        Gorishniy, Kotelnikov and Babenko, "TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling",
        ICLR 2025, section 3.2 (probabilities are averaged, each member's loss is its own).
    """
    if link not in LINKS:
        raise UnknownNameError("link", link, LINKS)
    return LINKS[link](outputs)


def where_there(outputs: Float[Tensor, "B L O"], there: Bool[Tensor, "B L"], link: str) -> Float[Tensor, "B L O"]:
    """Outputs of the elements that are there, and elsewhere what says nothing: zeros, or for a ``path`` a sure blank.

    Example:
        >>> where_there(torch.ones(1, 2, 3), torch.tensor([[True, False]]), "path").argmax(-1)
        tensor([[0, 0]])
    """
    if link != "path":
        return outputs.masked_fill(~there[..., None], 0.0)
    absent = torch.zeros(outputs.shape[-1], dtype=torch.float32, device=outputs.device)
    absent[0] = SURE
    return torch.where(there[..., None], outputs.float() if outputs.dtype.itemsize < 4 else outputs, absent)


def _identity(z: Float[Tensor, "*N k O"]) -> Float[Tensor, "*N O"]:
    return z.mean(-2)


def _log_mean(z: Float[Tensor, "*N k O"]) -> Float[Tensor, "*N O"]:
    return torch.logsumexp(z, -2) - math.log(z.shape[-2])


def _logit(z: Float[Tensor, "*N k O"]) -> Float[Tensor, "*N O"]:
    return torch.logsumexp(F.logsigmoid(z), -2) - torch.logsumexp(F.logsigmoid(-z), -2)


def _softmax(z: Float[Tensor, "*N k O"]) -> Float[Tensor, "*N O"]:
    return _log_mean(F.log_softmax(z, -1))


def _steps(z: Float[Tensor, "*N k O"]) -> Float[Tensor, "*N O"]:
    beyond = F.logsigmoid(z).cumsum(-1)
    reached = F.pad(beyond[..., :-1], (1, 0))
    # The odds of the step: the mean chance to be beyond the level over the mean chance to stay at it.
    return torch.logsumexp(beyond, -2) - torch.logsumexp(reached + F.logsigmoid(-z), -2)


LINKS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "identity": _identity,
    "log": _log_mean,
    "logit": _logit,
    "softmax": _softmax,
    "path": _softmax,
    "steps": _steps,
}
"""The means, by what outputs stand for."""
