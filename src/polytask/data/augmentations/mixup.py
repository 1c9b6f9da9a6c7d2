"""Mixtures of two rows and of their losses."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from polytask.data.augmentations.augmentation import Augmentation
from polytask.data.batch import Batch
from polytask.errors import RecipeError
from polytask.shapes import Tensor

__all__ = ["Mixup"]


@dataclass(frozen=True)
class Mixup(Augmentation):
    r"""Train on mixtures of two rows, each task's loss mixed in the same proportion.

    .. math:: x = \lambda x_i + (1 - \lambda) x_j, \qquad \ell = \lambda \ell(x, y_i) + (1 - \lambda)\, \ell(x, y_j)

    with :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)`, drawn for each row, and the larger of both parts given to
    the row itself. Of two categories one is drawn with that probability. A label that is missing in one of the rows
    leaves its part of the loss out, so that tasks with missing labels need nothing else.

    Args:
        alpha: The parameter :math:`\alpha` of the distribution; small ones mix little.

    Raises:
        RecipeError: If it is not above 0.

    Example:
        >>> batch = Batch(torch.tensor([[0.0], [1.0]]), {}, {}, "table")
        >>> mixed = Mixup()(batch, torch.Generator().manual_seed(1))
        >>> bool((mixed.mix >= 0.5).all()), len(mixed.partner)
        (True, 2)

    Note:
        The paper draws one :math:`\lambda` for a batch. Constraints are about answers to rows, not to mixtures: in a
        training that has some, each step passes the unmixed rows through the network too.

    References:
        Zhang, Cisse, Dauphin and Lopez-Paz, mixup: Beyond Empirical Risk Minimization, ICLR 2018.
    """

    alpha: float = 0.4

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < math.inf:
            raise RecipeError(f"Augmentation 'mixup' needs an alpha above 0, got {self.alpha!r}.")

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch of mixtures, each with its partner and its own part."""
        if batch.mix is not None:
            raise RecipeError("Augmentation 'mixup' comes twice for one source; once is enough.")
        n = len(batch)
        # PyTorch draws no beta numbers from a generator of one's own.
        seed = int(torch.randint(2**62, (1,), generator=generator).item())
        drawn = torch.from_numpy(np.random.default_rng(seed).beta(self.alpha, self.alpha, n)).float()
        mix = torch.maximum(drawn, 1.0 - drawn)
        partner = torch.randperm(n, generator=generator)

        def mixed(x: Tensor) -> Tensor:
            part = mix.view(-1, *[1] * (x.ndim - 1))
            if x.is_floating_point():
                return part.to(x.dtype) * x + (1.0 - part).to(x.dtype) * x[partner]
            return torch.where(torch.rand(x.shape, generator=generator) < part, x, x[partner])

        inputs = batch.inputs
        changed = mixed(inputs) if isinstance(inputs, Tensor) else {k: mixed(x) for k, x in inputs.items()}
        return replace(batch, inputs=changed, mix=mix, partner=partner, unmixed=inputs)
