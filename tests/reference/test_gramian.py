"""The Gramian and the combined gradient against float64 Jacobians taken with plain autograd, for many kinds of trunk."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.balancing.backward import balanced_backward
from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.ghost import Ghost


class Ramp(Balancer):
    needs = frozenset({"gramian"})

    def weigh(self, signals: Signals) -> Tensor:
        return torch.linspace(0.5, 2.0, len(signals.losses), dtype=torch.float64)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Linear(160, 160), nn.Linear(160, 160)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.again(torch.tanh(self.again(torch.relu(self.first(x))))))


class Tied(nn.Module):
    """Two linear layers with one weight, and biases of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(160, 160), nn.Linear(160, 160)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x)))


class TiedEmbedding(nn.Module):
    """An embedding whose table is also the weight of an output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(300, 64), nn.Linear(64, 300)
        self.out.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.table(x).mean(1)))


class Functional(nn.Module):
    """A layer's weight used behind its back."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(160, 160)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x)) @ self.layer.weight + F.linear(x, self.layer.weight).sin()


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM]):
        super().__init__()
        self.widen, self.core = nn.Linear(128, 256), kind(256, 48, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.core(self.widen(x))[0][:, -1]


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(400, 48, padding_idx=0)
        self.out = nn.Linear(48, 160)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.out(self.table(x).mean(1)))


def _conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True),
        nn.Conv2d(64, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU(inplace=True),
        nn.Conv2d(64, 64, 3, padding=2, dilation=2), nn.GroupNorm(4, 64), nn.ReLU(inplace=True), nn.Flatten(),
        nn.Linear(576, 160),
    )  # fmt: skip


def _transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(128, 4, 256, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.Linear(128, 128), layer, nn.LayerNorm(128), nn.Flatten())


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(160, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 160, bias=False)
    )


def _normal(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(*shape)


def _indices(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randint(0, 20, shape)


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], dict[str, str]]] = {
    "mlp": (_mlp, _normal(24, 160), {"0": "ghost", "2": "ghost", "4": "ghost"}),
    "mlp_many_rows": (_mlp, _normal(200, 160), {"0": "native", "2": "native", "4": "native"}),
    "three_dimensions": (_mlp, _normal(4, 5, 160), {"0": "ghost", "2": "ghost", "4": "ghost"}),
    "conv_batch_norm": (_conv, _normal(6, 3, 10, 10), {"0": "native", "3": "ghost", "6": "ghost", "10": "ghost"}),
    "used_twice": (Twice, _normal(24, 160), {"first": "ghost", "again": "ghost"}),
    "tied": (Tied, _normal(24, 160), {"a": "ghost", "b": "ghost"}),
    "tied_embedding": (TiedEmbedding, _indices(12, 5), {"table": "native", "out": "native"}),
    "functional_use": (Functional, _normal(24, 160), {"layer": "native"}),
    "gru": (lambda: Recurrent(nn.GRU), _normal(6, 4, 128), {"widen": "ghost"}),
    "lstm": (lambda: Recurrent(nn.LSTM), _normal(6, 4, 128), {"widen": "ghost"}),
    "transformer": (_transformer, _normal(6, 4, 128), {"0": "ghost", "1.linear1": "ghost", "1.linear2": "ghost"}),
    "embedding": (Words, _indices(12, 5), {"table": "ghost", "out": "native"}),
}


def _losses(trunk: nn.Module, heads: nn.ModuleList, x: Tensor) -> tuple[list[Tensor], Tensor]:
    z = trunk(x)
    flat = z.flatten(1)
    return [head(flat).pow(2).mean() * (0.3 + i) for i, head in enumerate(heads)], z


def _reference(trunk: nn.Module, heads: nn.ModuleList, x: Tensor) -> Tensor:
    trunk, heads = copy.deepcopy(trunk).double(), copy.deepcopy(heads).double()
    losses, _ = _losses(trunk, heads, x.double() if x.is_floating_point() else x)
    parameters = list(trunk.parameters())
    rows = [torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True) for loss in losses]
    flat = [[torch.zeros_like(p) if g is None else g for g, p in zip(row, parameters, strict=True)] for row in rows]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in flat])


def _assert_close(gramian: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    norms = expected.diagonal().sqrt()
    error = (gramian - expected).abs() / norms.outer(norms)
    assert error.max() < tolerance, error.max()


@pytest.mark.parametrize("with_features", [True, False], ids=["features", "whole"])
@pytest.mark.parametrize("with_ghost", [True, False], ids=["ghost", "native"])
@pytest.mark.parametrize("name", CASES)
def test_gramian_and_gradient_equal_float64_autograd(name: str, with_ghost: bool, with_features: bool) -> None:
    torch.manual_seed(3)
    make, data, choice = CASES[name]
    trunk, x = make(), data()
    width = trunk(x).flatten(1).shape[1]
    heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(4))
    expected = _reference(trunk, heads, x)
    ghost = Ghost(trunk) if with_ghost else None
    losses, z = _losses(trunk, heads, x)
    outcome = balanced_backward(losses, trunk.parameters(), z if with_features else None, balancer=Ramp(), ghost=ghost)
    assert outcome.gramian is not None
    _assert_close(outcome.gramian, expected @ expected.T)
    combined = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trunk.parameters()])
    target = outcome.weights @ expected
    assert (combined.double() - target).norm() < 1e-4 * target.norm()
    if with_ghost:
        assert {key: value.split(":")[0] for key, value in outcome.report.layers.items()} == choice


def test_ghost_with_a_layer_that_one_task_reaches() -> None:
    torch.manual_seed(0)
    trunk = nn.ModuleDict({"all": nn.Linear(160, 160), "one": nn.Linear(160, 160)})
    heads = nn.ModuleList(nn.Linear(160, 1) for _ in range(3))
    x = torch.randn(20, 160)

    def losses() -> tuple[list[Tensor], dict[str, Tensor]]:
        z = torch.tanh(trunk["all"](x))
        own = {"0": z, "1": torch.tanh(trunk["one"](z)), "2": z}
        return [head(own[str(i)]).pow(2).mean() for i, head in enumerate(heads)], own

    values, _ = losses()
    shared = list(trunk.parameters())
    rows = [torch.autograd.grad(v, shared, retain_graph=True, allow_unused=True) for v in values]
    flat = torch.stack(
        [
            torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(r, shared, strict=True)])
            for r in rows
        ]
    ).double()
    with Ghost(trunk) as ghost:
        values, own = losses()
        outcome = balanced_backward(values, shared, own, balancer=Ramp(), ghost=ghost)
    assert set(outcome.report.layers.values()) == {"ghost"}
    assert outcome.gramian is not None
    _assert_close(outcome.gramian, flat @ flat.T)
    torch.testing.assert_close(trunk["one"].weight.grad, 1.25 * rows[1][2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("what", ["weight", "bias"])
def test_ghost_with_frozen_parameters(what: str) -> None:
    torch.manual_seed(0)
    trunk = _mlp()
    getattr(trunk[2], what).requires_grad_(False)
    heads = nn.ModuleList(nn.Linear(160, 1) for _ in range(3))
    x = torch.randn(20, 160)
    losses, _ = _losses(trunk, heads, x)
    shared = [p for p in trunk.parameters() if p.requires_grad]
    rows = [torch.autograd.grad(v, shared, retain_graph=True) for v in losses]
    flat = torch.stack([torch.cat([g.flatten() for g in r]) for r in rows]).double()
    with Ghost(trunk) as ghost:
        losses, z = _losses(trunk, heads, x)
        outcome = balanced_backward(losses, trunk.parameters(), z, balancer=Ramp(), ghost=ghost)
    assert outcome.gramian is not None
    _assert_close(outcome.gramian, flat @ flat.T)
    assert outcome.report.layers["2"].startswith("native" if what == "weight" else "ghost")
    assert getattr(trunk[2], what).grad is None


def test_ghost_does_not_hold_graphs_of_forward_passes_without_backward() -> None:
    trunk = nn.Linear(160, 160)
    with Ghost(trunk):
        out = trunk(torch.randn(4, 160))
        kept = weakref.ref(out.grad_fn.metadata["polytask.ghost"][1])
        assert kept() is not None
        del out
        gc.collect()
        assert kept() is None


def test_ghost_gramian_neither_overflows_nor_vanishes() -> None:
    torch.manual_seed(0)
    trunk, heads, x = _mlp(), nn.ModuleList(nn.Linear(160, 1) for _ in range(3)), torch.randn(20, 160)
    expected = _reference(trunk, heads, x)
    factors = torch.tensor([1e-24, 1.0, 1e24], dtype=torch.float64)
    with Ghost(trunk) as ghost:
        losses, z = _losses(trunk, heads, x)
        losses = [loss * float(f) for loss, f in zip(losses, factors, strict=True)]
        outcome = balanced_backward(losses, trunk.parameters(), z, balancer=Ramp(), ghost=ghost)
    assert outcome.gramian is not None
    scaled = expected * factors.unsqueeze(1)
    _assert_close(outcome.gramian, scaled @ scaled.T)
