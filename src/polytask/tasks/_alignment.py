"""Labels of elements that nobody aligned: the sum over all ways to spread a label over the elements, and decoding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from polytask.shapes import Float, Int, Tensor

__all__ = ["alignment_losses", "beam_path", "best_path", "collapsed", "fits"]

_NEVER = -1e30
"""Logarithm of the chance of what cannot be; finite, so that gradients are numbers."""


def alignment_losses(log_p: Float[Tensor, "*N L K"], labels: Int[Tensor, "*N S"]) -> Float[Tensor, "*N"]:
    r"""Minus the logarithm of the chance of a label, over all its alignments; 0 where it does not fit the elements.

    With :math:`l'` the label with blanks (code 0) around each of its symbols and :math:`\alpha_t(s)` the chance of all
    beginnings that end at its place :math:`s`,

    .. math:: \alpha_t(s) = \bigl(\alpha_{t-1}(s) + \alpha_{t-1}(s - 1) + [l'_s \ne l'_{s-2}]\, \alpha_{t-1}(s - 2)
        \bigr) p_t(l'_s).

    Args:
        log_p: Logarithms of the chances of the codes.
        labels: Codes above 0, and 0 after the end.

    References:
        Graves et al., Connectionist Temporal Classification, ICML 2006, equations 6 and 7.
    """
    lengths = (labels > 0).sum(-1)
    spread = torch.stack([torch.zeros_like(labels), labels], -1).flatten(-2)
    spread = torch.nn.functional.pad(spread, (0, 1))  # blanks at the even places
    index = spread.unsqueeze(-2).expand(*log_p.shape[:-1], spread.shape[-1])
    emitted = log_p.gather(-1, index)
    before = torch.nn.functional.pad(spread, (2, 0))[..., :-2]
    may_skip = (spread != 0) & (spread != before)
    places = torch.arange(spread.shape[-1])
    alpha = torch.where(places < 2, emitted[..., 0, :], _NEVER)
    for t in range(1, log_p.shape[-2]):
        one = torch.nn.functional.pad(alpha, (1, 0), value=_NEVER)[..., :-1]
        two = torch.where(may_skip, torch.nn.functional.pad(alpha, (2, 0), value=_NEVER)[..., :-2], _NEVER)
        alpha = torch.logsumexp(torch.stack([alpha, one, two]), 0) + emitted[..., t, :]
    last = alpha.gather(-1, (2 * lengths).unsqueeze(-1)).squeeze(-1)
    symbol = alpha.gather(-1, (2 * lengths - 1).clamp_min(0).unsqueeze(-1)).squeeze(-1)
    chance = torch.logaddexp(last, torch.where(lengths > 0, symbol, _NEVER))
    return torch.where(chance > _NEVER / 2, -chance, torch.zeros_like(chance))


def fits(labels: Int[Tensor, "N S"], n_elements: int | Int[Tensor, " N"]) -> Tensor:
    """Which labels can be aligned: each symbol takes an element, and equal neighbours a blank between them."""
    repeats = ((labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] > 0)).sum(-1)
    return (labels > 0).sum(-1) + repeats <= n_elements


def collapsed(path: Sequence[int]) -> tuple[int, ...]:
    """The label of a path: repetitions once, without blanks.

    Example:
        >>> collapsed([0, 3, 3, 0, 3, 1, 1])
        (3, 3, 1)
    """
    kept = [code for i, code in enumerate(path) if i == 0 or code != path[i - 1]]
    return tuple(code for code in kept if code)


def best_path(log_p: Float[Tensor, "L K"]) -> tuple[int, ...]:
    """The label of the likeliest path, which need not be the likeliest label."""
    return collapsed(log_p.argmax(-1).tolist())


def beam_path(log_p: Float[Tensor, "L K"], width: int) -> tuple[int, ...]:
    """The likeliest label among those whose beginnings stayed within a beam; exact with a beam wide enough.

    References:
        Graves and Jaitly, Towards End-to-End Speech Recognition with Recurrent Neural Networks, ICML 2014, algorithm 1;
        Hannun et al., First-Pass Large Vocabulary Continuous Speech Recognition, 2014 (blank and symbol kept apart).
    """
    chances = log_p.double().numpy()
    # For each beginning, the chance of its paths that end in a blank, and of those that end in its last symbol.
    beam: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -math.inf)}
    for now in chances:
        grown: dict[tuple[int, ...], list[float]] = {}
        symbols = np.argsort(-now[1:])[: 2 * width] + 1
        for begun, (blank, symbol) in beam.items():
            either = np.logaddexp(blank, symbol)
            _add(grown, begun, 0, either + now[0])
            if begun:
                _add(grown, begun, 1, symbol + now[begun[-1]])
            for code in symbols.tolist():
                # The same symbol again is a new one only after a blank.
                _add(grown, (*begun, code), 1, (blank if begun and begun[-1] == code else either) + now[code])
        ranked = sorted(grown.items(), key=lambda item: (-np.logaddexp(item[1][0], item[1][1]), item[0]))
        beam = {begun: (pair[0], pair[1]) for begun, pair in ranked[:width]}
    return max(beam, key=lambda begun: float(np.logaddexp(beam[begun][0], beam[begun][1])))


def _add(grown: dict[tuple[int, ...], list[float]], begun: tuple[int, ...], which: int, chance: float) -> None:
    pair = grown.setdefault(begun, [-math.inf, -math.inf])
    pair[which] = float(np.logaddexp(pair[which], chance))
