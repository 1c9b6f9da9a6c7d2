"""Random numbers whose whole state is two integers in the ``state_dict``."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from polytask.errors import RecipeError
from polytask.shapes import Tensor

__all__ = ["Draws"]


class Draws(nn.Module):
    """A counted, seeded source of randomness: draw ``n`` depends on the seed and on ``n`` alone.

    Saving and loading it continues the same sequence bit for bit; data-parallel processes with the same seed draw
    the same numbers without talking to each other; the global generators are not touched.

    Args:
        seed: Any integer from 0 on.

    Raises:
        RecipeError: If it is negative.

    Example:
        >>> draws, again = Draws(7), Draws(7)
        >>> first, second = draws.numpy().random(), draws.numpy().random()
        >>> again.load_state_dict({"seed": torch.tensor(7), "count": torch.tensor(1)})
        <All keys matched successfully>
        >>> first != second and again.numpy().random() == second
        True
    """

    seed: Tensor
    count: Tensor

    def __init__(self, seed: int = 0):
        super().__init__()
        if not 0 <= seed < 2**63:
            raise RecipeError(f"A seed is a whole number from 0 to 2^63 - 1, got {seed!r}.")
        self.register_buffer("seed", torch.tensor(seed, dtype=torch.int64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def numpy(self) -> np.random.Generator:
        """A fresh numpy generator for the next draw."""
        philox = np.random.Philox(key=int(self.seed), counter=[0, 0, int(self.count), 0])
        self.count += 1
        return np.random.Generator(philox)

    def torch(self, device: torch.device) -> torch.Generator:
        """A fresh torch generator for the next draw, for numbers as many as there are parameters."""
        seed = int(self.numpy().integers(2**63 - 1))
        return torch.Generator(device).manual_seed(seed)
