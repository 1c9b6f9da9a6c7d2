"""Built-in workloads on which the cost of a step is measured: networks of known shape, fed with random numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from polytask.errors import UnknownNameError
from polytask.shapes import Tensor

__all__ = ["WORKLOADS", "Workload", "workload"]


@dataclass
class Workload:
    """A shared part, a head a task, and one batch.

    Args:
        name: Its name.
        trunk: The shared part.
        heads: One module a task.
        inputs: One batch for all tasks, or one a task.
        targets: One tensor a task.
        loss: Of outputs and targets.
    """

    name: str
    trunk: nn.Module
    heads: nn.ModuleList
    inputs: Tensor | list[Tensor]
    targets: list[Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return len(self.heads)

    @property
    def shared(self) -> list[nn.Parameter]:
        """The parameters on which the tasks meet."""
        return list(self.trunk.parameters())

    def forward(self) -> tuple[list[Tensor], Tensor | dict[str, Tensor]]:
        """The losses and the features of one forward pass."""
        if isinstance(self.inputs, list):
            own = [self.trunk(x) for x in self.inputs]
            losses = [self.loss(h(z), y) for h, z, y in zip(self.heads, own, self.targets, strict=True)]
            return losses, {str(i): z for i, z in enumerate(own)}
        z = self.trunk(self.inputs)
        return [self.loss(h(z), y) for h, y in zip(self.heads, self.targets, strict=True)], z


class _Residual(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation around a shortcut."""

    def __init__(self, n_in: int, n_out: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(n_out)
        self.second = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(n_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.shortcut(x))


class _Block(nn.Module):
    """A transformer block with explicit attention: normalise, attend, normalise, widen."""

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        q, k, v = (
            part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in self.qkv(self.before(x)).chunk(3, -1)
        )
        attention = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)
        x = x + self.out((attention @ v).transpose(1, 2).flatten(-2))
        out: Tensor = x + self.narrow(F.gelu(self.widen(self.between(x))))
        return out


class _Mean(nn.Module):
    """Mean over the positions of a sequence."""

    def forward(self, x: Tensor) -> Tensor:
        """One vector a row."""
        return x.mean(1)


def _mlp(n_in: int, width: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(n_in if i == 0 else width, width), nn.ReLU()]
    return nn.Sequential(*layers)


def _lenet2() -> Workload:
    trunk = nn.Sequential(
        nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(720, 50), nn.ReLU(),
    )  # fmt: skip
    heads = nn.ModuleList(nn.Sequential(nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 10)) for _ in range(2))
    targets = [torch.randint(10, (256,)) for _ in range(2)]
    return Workload("lenet2", trunk, heads, torch.randn(256, 1, 36, 36), targets, F.cross_entropy)


def _mlp11() -> Workload:
    heads = nn.ModuleList(nn.Linear(512, 1) for _ in range(11))
    targets = [torch.randn(256, 1) for _ in range(11)]
    return Workload("mlp11", _mlp(128, 512, 3), heads, torch.randn(256, 128), targets, F.mse_loss)


def _transformer8() -> Workload:
    trunk = nn.Sequential(nn.Linear(32, 256), *(_Block(256, 4) for _ in range(4)), nn.LayerNorm(256), _Mean())
    heads = nn.ModuleList(nn.Linear(256, 2) for _ in range(8))
    targets = [torch.randint(2, (32,)) for _ in range(8)]
    return Workload("transformer8", trunk, heads, torch.randn(32, 32, 32), targets, F.cross_entropy)


def _resnet40() -> Workload:
    """ResNet-18 at half width, on pictures of 64 x 64."""
    stages = [(32, 32, 1), (32, 64, 2), (64, 128, 2), (128, 256, 2)]
    blocks = [block for a, b, s in stages for block in (_Residual(a, b, s), _Residual(b, b, 1))]
    stem = [nn.Conv2d(3, 32, 7, 2, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    trunk = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    heads = nn.ModuleList(nn.Linear(256, 1) for _ in range(40))
    targets = [torch.randint(2, (16, 1)).float() for _ in range(40)]
    return Workload("resnet40", trunk, heads, torch.randn(16, 3, 64, 64), targets, F.binary_cross_entropy_with_logits)


def _sources4_mlp() -> Workload:
    heads = nn.ModuleList(nn.Linear(512, 1) for _ in range(4))
    inputs, targets = [torch.randn(256, 128) for _ in range(4)], [torch.randn(256, 1) for _ in range(4)]
    return Workload("sources4_mlp", _mlp(128, 512, 3), heads, inputs, targets, F.mse_loss)


def _sources4_conv() -> Workload:
    one = _lenet2()
    heads = nn.ModuleList(nn.Linear(50, 10) for _ in range(4))
    inputs, targets = [torch.randn(128, 1, 36, 36) for _ in range(4)], [torch.randint(10, (128,)) for _ in range(4)]
    return Workload("sources4_conv", one.trunk, heads, inputs, targets, F.cross_entropy)


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "lenet2": _lenet2,
    "mlp11": _mlp11,
    "transformer8": _transformer8,
    "resnet40": _resnet40,
    "sources4_mlp": _sources4_mlp,
    "sources4_conv": _sources4_conv,
}


def workload(name: str, seed: int = 0) -> Workload:
    """A built-in workload; the same numbers for the same seed.

    Raises:
        UnknownNameError: If there is none of that name.

    Example:
        >>> workload("mlp11").n_tasks
        11
    """
    if name not in WORKLOADS:
        raise UnknownNameError("workload", name, WORKLOADS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return WORKLOADS[name]()
