"""Tags whose neighbours depend on each other: a linear chain, scored by elements and by pairs of neighbours."""

from __future__ import annotations

import torch

from polytask.shapes import Float, Int, Tensor

__all__ = ["best_chain", "chain_losses", "parts_of"]

_NEVER = -1e30
"""Logarithm of the chance of what cannot be; finite, so that gradients are numbers."""


def parts_of(
    outputs: Float[Tensor, "*N L O"], n_tags: int
) -> tuple[Float[Tensor, "*N L K"], Float[Tensor, "*N L K K"]]:
    """Scores of each element's tags, and of its tag after each tag of the one before, ``[.., before, now]``."""
    return outputs[..., :n_tags], outputs[..., n_tags:].unflatten(-1, (n_tags, n_tags))


def chain_losses(
    scores: Float[Tensor, "*N L K"], pairs: Float[Tensor, "*N L K K"], tags: Int[Tensor, "*N L"]
) -> Float[Tensor, "*N L"]:
    r"""Minus the logarithm of each known tag's chance, given those before it; -1 where a tag is not known.

    With :math:`\beta_i(y)` the logarithm of the sum over all continuations after :math:`y` at element :math:`i`, a
    row's chance under the conditional random field falls apart into

    .. math:: \log p(y_i \mid y_{<i}) = \phi_i(y_{i-1}, y_i) + \beta_i(y_i) - \beta_{i-1}(y_{i-1}),

    and their sum is the field's. An unknown tag is summed over: then both sides are sums over the tags it may have, and
    the loss of the chances of what is known lies on the known elements.

    References:
        Lafferty, McCallum and Pereira, Conditional Random Fields, ICML 2001; Tsuboi et al., Training Conditional Random
        Fields Using Incomplete Annotations, COLING 2008 (unknown tags).
    """
    n_elements, n_tags = scores.shape[-2:]
    after = [torch.zeros_like(scores[..., 0, :])]  # continuations after the last element: there are none
    for i in range(n_elements - 1, 0, -1):
        onward = pairs[..., i, :, :] + (scores[..., i, :] + after[-1]).unsqueeze(-2)
        after.append(torch.logsumexp(onward, -1))
    after.reverse()
    each = torch.arange(n_tags)
    known = tags.unsqueeze(-1)
    allowed = torch.where((known < 0) | (known == each), 0.0, _NEVER).to(scores)
    # Beginnings that agree with the known tags; what is left of their chance after each element is told by it.
    begun = scores[..., 0, :]
    before = torch.logsumexp(begun + after[0], -1)
    losses = []
    for i in range(n_elements):
        if i:
            begun = torch.logsumexp(begun.unsqueeze(-1) + pairs[..., i, :, :], -2) + scores[..., i, :]
        begun = begun + allowed[..., i, :]
        now = torch.logsumexp(begun + after[i], -1)
        losses.append(before - now)
        before = now
    return torch.stack(losses, -1)


def best_chain(scores: Float[Tensor, "N L K"], pairs: Float[Tensor, "N L K K"]) -> Int[Tensor, "N L"]:
    """The likeliest tags of each row together (Viterbi, 1967)."""
    best = scores[:, 0]
    came: list[Tensor] = []
    for i in range(1, scores.shape[1]):
        top = (best.unsqueeze(-1) + pairs[:, i]).max(1)
        best = top.values + scores[:, i]
        came.append(top.indices)
    tags = [best.argmax(-1)]
    for back in reversed(came):
        tags.append(back.gather(1, tags[-1].unsqueeze(-1)).squeeze(-1))
    return torch.stack(tags[::-1], 1)
