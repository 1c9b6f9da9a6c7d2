"""A balancer in one file: more weight to the tasks whose loss is large."""

import torch
from torch import nn

from polytask.balancing import Balancer, Signals, balanced_backward
from polytask.testing import check_balancer


class LargestFirst(Balancer):
    """Give the tasks shares that grow with their losses.

    Args:
        temperature: The smaller, the more of the weight goes to the task with the largest loss.
    """

    # What it looks at, and the laws that it says it keeps: check_balancer holds it to these.
    needs: frozenset[str] = frozenset({"losses"})
    keeps: frozenset[str] = frozenset({"permutation", "single"})

    def __init__(self, temperature: float = 1.0):
        super().__init__()
        self.temperature = temperature

    def weigh(self, signals: Signals) -> torch.Tensor:
        """One weight for each task that is present in the batch."""
        return len(signals.losses) * torch.softmax(signals.losses / self.temperature, dim=0)


if __name__ == "__main__":
    check_balancer(LargestFirst)  # absent tasks, NaN, 100 tasks, save and load, and the laws it names

    torch.manual_seed(0)
    trunk, heads = nn.Linear(3, 4), nn.ModuleList(nn.Linear(4, 1) for _ in range(2))
    x, y = torch.randn(8, 3), torch.randn(8, 2)
    z = trunk(x)
    losses = [((head(z)[:, 0] - y[:, i]) ** 2).mean() for i, head in enumerate(heads)]
    outcome = balanced_backward(losses, shared=trunk, features=z, balancer=LargestFirst())
    print("weights", [round(weight, 3) for weight in outcome.weights.tolist()])
