"""What each task's training step would do to the validation loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

from polytask.shapes import Float, Tensor

__all__ = ["validation_products"]


def validation_products(
    train: Callable[[], Sequence[Tensor]],
    validate: Callable[[], Tensor],
    parameters: Iterable[Tensor],
    weights: Float[Tensor, " T"],
    step: float,
    *,
    width: float = 0.01,
) -> Float[Tensor, " T"]:
    r"""Inner products of the tasks' training gradients with the validation gradient after a look-ahead step.

    .. math:: v_i = \nabla L_i(\theta)^\top u \approx \frac{L_i(\theta + \epsilon u) - L_i(\theta - \epsilon u)}{2
       \epsilon}, \qquad u = \nabla L^{\mathrm{val}}\bigl(\theta - \alpha \nabla \textstyle\sum_i w_i L_i(\theta)\bigr)

    Args:
        train: Computes the training losses of the batch, one per present task, at the parameters as they are.
        validate: Computes the validation loss of a batch, e.g. the sum over the tasks that matter.
        parameters: What is trained; moved for the look-ahead and the differences, and put back bit for bit.
        weights: The weights of the look-ahead step, e.g. the balancer's last.
        step: :math:`\alpha`, its learning rate.
        width: Length of the move :math:`\epsilon u` of the differences.

    Returns:
        One number per task, float64; no ``.grad`` is touched.

    Example:
        >>> theta = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
        >>> train = lambda: [theta[0] ** 2, theta[1] ** 2]
        >>> validate = lambda: theta[0] + 0.0 * theta[1]
        >>> validation_products(train, validate, [theta], torch.ones(2), step=0.1).round(decimals=6)
        tensor([2., 0.], dtype=torch.float64)

    Note:
        Cost: one training backward, one validation backward, two training forwards. Layers with running statistics
        see four forwards: freeze those (``eval()``) or accept it. Random layers draw anew in each forward.

    References:
        Liu et al. (2022). Auto-Lambda: Disentangling dynamic task relationships. TMLR (equation 7).
    """
    moved = [p for p in parameters if p.requires_grad]
    held = [p.detach().clone() for p in moved]
    losses = torch.stack([loss.reshape(()) for loss in train()])
    total = (losses * weights.to(losses)).sum()
    try:
        _shift(moved, held, _gradient(total, moved), -step)
        towards = _gradient(validate(), moved)
        length = float(torch.stack([u.double().square().sum() for u in towards]).sum().sqrt())
        if length == 0.0:
            return torch.zeros(len(losses), dtype=torch.float64, device=losses.device)
        epsilon = width / length
        sides = []
        for sign in (1.0, -1.0):
            _shift(moved, held, towards, sign * epsilon)
            with torch.no_grad():
                sides.append(torch.stack([loss.reshape(()).double() for loss in train()]))
    finally:
        _shift(moved, held, held, 0.0)
    return (sides[0] - sides[1]) / (2.0 * epsilon)


def _gradient(value: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True))


@torch.no_grad()
def _shift(parameters: list[Tensor], start: list[Tensor], direction: list[Tensor], size: float) -> None:
    for parameter, origin, move in zip(parameters, start, direction, strict=True):
        parameter.copy_(origin if size == 0.0 else origin + size * move)
