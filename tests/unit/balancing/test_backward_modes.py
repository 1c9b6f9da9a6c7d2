"""Modes, wrappers, scaled gradients, accumulation and second batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.balancing import CRMOGM, Clipped, EveryK, Ghost, balanced_backward, registry
from polytask.balancing.balancer import Balancer, Signals
from polytask.errors import RecipeError, UnknownNameError


class Ramp(Balancer):
    """1, 2, 3 ... scaled by the first gradient's length, so that weights move with the Gramian."""

    needs = frozenset({"gramian"})

    def weigh(self, signals: Signals) -> Tensor:
        assert signals.gramian is not None
        return (1.0 + signals.index) * signals.gramian[0, 0].sqrt()


class Net(nn.Module):
    def __init__(self, n_tasks: int = 3):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(160, 192), nn.Tanh(), nn.Linear(192, 192), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(192, 1) for _ in range(n_tasks))
        self.x, self.y = torch.randn(12, 160), torch.randn(n_tasks, 12)

    def losses(self, x: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        z = self.trunk(self.x if x is None else x)
        return [F.mse_loss(h(z).squeeze(1), y) for h, y in zip(self.heads, self.y, strict=True)], z

    def rows(self, losses: list[Tensor]) -> Tensor:
        rows = [torch.autograd.grad(loss, list(self.trunk.parameters()), retain_graph=True) for loss in losses]
        return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).double()

    def gradient(self) -> Tensor:
        return torch.cat([p.grad.flatten() for p in self.parameters() if p.grad is not None])


def _close(got: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert (got.double() - expected.double()).norm() <= tolerance * expected.double().norm().clamp_min(1e-30)


def test_features_mode_solves_with_the_gramian_at_the_features() -> None:
    net = Net()
    losses, z = net.losses()
    at_z = torch.stack([torch.autograd.grad(loss, z, retain_graph=True)[0].flatten() for loss in losses]).double()
    rows = net.rows(losses)
    outcome = balanced_backward(losses, net.trunk.parameters(), z, balancer=Ramp(), mode="features")
    assert outcome.gramian is not None
    _close(outcome.gramian, at_z @ at_z.T)
    shared = torch.cat([p.grad.flatten() for p in net.trunk.parameters() if p.grad is not None])
    _close(shared, outcome.weights @ rows)
    assert outcome.report.passes == 1


def test_features_mode_needs_one_representation() -> None:
    net = Net()
    losses, _ = net.losses()
    with pytest.raises(RecipeError, match="one tensor"):
        balanced_backward(losses, net.trunk.parameters(), balancer=Ramp(), mode="features")


@pytest.mark.parametrize("with_features", [True, False])
@pytest.mark.parametrize("n_tasks", [1, 3, 100])
def test_matrix_free_uses_the_product_of_the_exact_gramian(with_features: bool, n_tasks: int) -> None:
    class Sees(Ramp):
        def iterate(self, signals: Signals, weights: Tensor, product: Tensor) -> Tensor:
            self.seen = (weights.clone(), product.clone())
            return weights * 0.5 + 0.1 * signals.index

    net, balancer = Net(n_tasks), Sees()
    for weights in (torch.ones(n_tasks).double(), 0.5 + 0.1 * torch.arange(n_tasks).double()):
        net.zero_grad()
        losses, z = net.losses()
        rows = net.rows(losses)
        outcome = balanced_backward(
            losses, net.trunk.parameters(), z if with_features else None, balancer=balancer, mode="matrix_free"
        )
        torch.testing.assert_close(outcome.weights, weights)
        torch.testing.assert_close(balancer.seen[0], weights)
        _close(balancer.seen[1], rows @ (rows.T @ weights), 1e-4)
        shared = torch.cat([p.grad.flatten() for p in net.trunk.parameters() if p.grad is not None])
        _close(shared, weights @ rows)
    heads = torch.cat([p.grad.flatten() for p in net.heads.parameters() if p.grad is not None])
    plain = Net(n_tasks)
    torch.stack(plain.losses()[0]).sum().backward()
    _close(heads, torch.cat([p.grad.flatten() for p in plain.heads.parameters() if p.grad is not None]))


@pytest.mark.parametrize(("name", "total"), [("mgda", 1.0), ("modo", 1.0), ("nash_mtl", 3.0), ("fairgrad", 3.0)])
def test_matrix_free_starts_at_equal_weights_of_the_size_that_the_method_keeps(name: str, total: float) -> None:
    net, balancer = Net(), registry.create(name)
    for i in range(2):
        losses, z = net.losses()
        weights = balanced_backward(losses, net.trunk.parameters(), z, balancer=balancer, mode="matrix_free").weights
        assert weights.sum().item() == pytest.approx(total)
        assert i > 0 or weights.tolist() == pytest.approx([total / 3] * 3)


@pytest.mark.parametrize("name", ["nash_mtl", "mgda", "fairgrad"])
def test_matrix_free_iterations_come_to_the_exact_direction(name: str) -> None:
    net = Net()
    exact = registry.create(name)
    losses, z = net.losses()
    target = balanced_backward(losses, net.trunk.parameters(), z, balancer=exact)
    assert target.gramian is not None
    balancer = registry.create(name)
    for _ in range(400):
        net.zero_grad()
        losses, z = net.losses()
        outcome = balanced_backward(losses, net.trunk.parameters(), z, balancer=balancer, mode="matrix_free")
    a, b, g = outcome.weights, target.weights, target.gramian
    cosine = (a @ g @ b) / ((a @ g @ a) * (b @ g @ b)).sqrt()
    assert cosine > 0.99


def test_matrix_free_says_which_operation_cannot() -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: object, g: Tensor) -> Tensor:
            return g * 2

    class Free(Ramp):
        def iterate(self, signals: Signals, weights: Tensor, product: Tensor) -> Tensor:
            return weights

    net = Net()
    z = Once.apply(net.trunk(net.x))
    losses = [F.mse_loss(h(z).squeeze(1), y) for h, y in zip(net.heads, net.y, strict=True)]
    with pytest.raises(RecipeError, match="exact"):
        balanced_backward(losses, net.trunk.parameters(), z, balancer=Free(), mode="matrix_free")


def test_every_k_solves_once_and_keeps() -> None:
    net, balancer = Net(), Ramp()
    routes = []
    for _ in range(5):
        losses, z = net.losses(torch.randn(12, 160))
        outcome = balanced_backward(losses, net.trunk.parameters(), z, balancer=balancer, mode="every_k", every=2)
        routes.append((outcome.report.route, outcome.weights.tolist()))
    assert [route for route, _ in routes] == ["rows", "one_backward", "rows", "one_backward", "rows"]
    assert routes[0][1] == routes[1][1] != routes[2][1] == routes[3][1]


@pytest.mark.parametrize("with_features", [True, False])
def test_a_kept_step_gives_heads_their_own_gradient(with_features: bool) -> None:
    net, balancer = Net(), Ramp()
    for _ in range(2):
        net.zero_grad()
        losses, z = net.losses()
        rows = net.rows(losses)
        outcome = balanced_backward(
            losses, net.trunk.parameters(), z if with_features else None, balancer=balancer, mode="every_k"
        )
    assert outcome.report.route == "one_backward"
    plain = Net()
    torch.stack(plain.losses()[0]).sum().backward()
    _close(net.heads[2].weight.grad, plain.heads[2].weight.grad)
    shared = torch.cat([p.grad.flatten() for p in net.trunk.parameters() if p.grad is not None])
    _close(shared, outcome.weights @ rows)


def test_every_k_solves_at_once_for_a_task_it_has_no_weight_of() -> None:
    net, balancer = Net(), Ramp()
    routes = []
    for absent in ([2], [2], [], []):
        losses, z = net.losses()
        given = [None if i in absent else loss for i, loss in enumerate(losses)]
        routes.append(
            balanced_backward(given, net.trunk.parameters(), z, balancer=balancer, mode="every_k").report.route
        )
    assert routes == ["rows", "one_backward", "rows", "one_backward"]


def test_every_k_counts_the_age_of_each_tasks_weight() -> None:
    """A task that was away while the others were solved anew has an old weight, which is not used."""
    net, balancer = Net(), Ramp()
    routes = []
    for absent in ([], [2], [2], [2], []):
        losses, z = net.losses()
        given = [None if i in absent else loss for i, loss in enumerate(losses)]
        outcome = balanced_backward(given, net.trunk.parameters(), z, balancer=balancer, mode="every_k", every=3)
        routes.append(outcome.report.route)
    assert routes == ["rows", "one_backward", "one_backward", "rows", "rows"]


def test_every_k_with_a_ghost_solves_without_weight_gradients() -> None:
    ends = []
    for ghosts in (False, True):
        net, balancer = Net(), registry.create("nash_mtl")
        ghost = Ghost(net.trunk) if ghosts else None
        routes = []
        for _ in range(3):
            losses, z = net.losses()
            outcome = balanced_backward(
                losses, net.trunk.parameters(), z, balancer=balancer, mode="every_k", every=2, ghost=ghost
            )
            routes.append(outcome.report.route)
        assert routes == (["ghost", "one_backward", "ghost"] if ghosts else ["rows", "one_backward", "rows"])
        ends.append(net.gradient())
    _close(ends[0], ends[1])


def test_every_k_resumes_bit_equal() -> None:
    def run(n: int, balancer: Balancer, first: int = 0) -> list[list[float]]:
        net, seen = Net(), []
        balancer.bind(["0", "1", "2"])
        for i in range(first, first + n):
            torch.manual_seed(i)
            losses, z = net.losses(torch.randn(12, 160))
            seen.append(
                balanced_backward(
                    losses, net.trunk.parameters(), z, balancer=balancer, mode="every_k", every=3
                ).weights.tolist()
            )
        return seen

    whole = run(7, Ramp())
    before = Ramp()
    begun = run(4, before)
    after = Ramp()
    after.bind(["0", "1", "2"])
    after.load_state_dict(before.state_dict())
    assert begun + run(3, after, 4) == whole


def test_wrappers() -> None:
    net = Net()
    losses, z = net.losses()
    outcome = balanced_backward(losses, net.trunk.parameters(), z, balancer=Clipped(Ramp(), max_norm=0.01))
    assert outcome.gramian is not None
    assert torch.isclose((outcome.weights @ outcome.gramian @ outcome.weights).sqrt(), torch.tensor(0.01).double())
    smooth = CRMOGM(Ramp(), momentum=0.5)
    weights = []
    for factor in (1.0, 2.0):
        losses, z = net.losses()
        weights.append(
            balanced_backward([loss * factor for loss in losses], net.trunk.parameters(), z, balancer=smooth).weights
        )
    torch.testing.assert_close(weights[1], 1.5 * weights[0], rtol=1e-5, atol=0)
    every = EveryK(Ramp(), k=2)
    routes = []
    for _ in range(2):
        losses, z = net.losses()
        routes.append(balanced_backward(losses, net.trunk.parameters(), z, balancer=every).report.route)
    assert routes == ["rows", "one_backward"]


def test_a_mode_that_a_method_cannot_run_lists_those_it_can() -> None:
    net = Net()
    losses, z = net.losses()
    with pytest.raises(RecipeError, match="exact, every_k, features"):
        balanced_backward(losses, net.trunk.parameters(), z, balancer=Ramp(), mode="matrix_free")
    with pytest.raises(UnknownNameError, match="matrix_free"):
        balanced_backward(losses, net.trunk.parameters(), z, balancer=Ramp(), mode="matrixfree")


@pytest.mark.parametrize("mode", ["exact", "features", "every_k", "matrix_free"])
def test_a_gradient_scaler_changes_nothing_after_unscaling(mode: str) -> None:
    plain, scaled = Net(), Net()
    for net, scaler in ((plain, None), (scaled, torch.amp.GradScaler("cpu", init_scale=2.0**10))):
        losses, z = net.losses()
        outcome = balanced_backward(
            losses, net.trunk.parameters(), z, balancer=registry.create("nash_mtl"), mode=mode, scaler=scaler
        )
        if scaler is not None:
            scaler.unscale_(torch.optim.SGD(net.parameters(), lr=0.1))
        else:
            weights = outcome.weights
    torch.testing.assert_close(outcome.weights, weights, rtol=1e-5, atol=1e-8)
    _close(scaled.gradient(), plain.gradient())


@pytest.mark.parametrize(("name", "mode"), [("uncertainty", "exact"), ("imtl_l", "exact"), ("imtl", "features")])
def test_gradients_of_learned_weights_are_scaled_like_all_others(name: str, mode: str) -> None:
    found = []
    for scaler, scale in ((None, 1.0), (torch.amp.GradScaler("cpu", init_scale=2.0**10), 1.0), (None, 0.25)):
        net, balancer = Net(), registry.create(name)
        for _ in range(2):  # the second adds to the first
            losses, z = net.losses()
            balanced_backward(
                losses, net.trunk.parameters(), z, balancer=balancer, mode=mode, scaler=scaler, scale=scale
            )
        if scaler is not None:
            scaler.unscale_(torch.optim.SGD([*net.parameters(), *balancer.parameters()], lr=0.1))
        found.append(torch.stack([p.grad for p in balancer.parameters()]) / scale)
    _close(found[1], found[0])
    _close(found[2], found[0])


def test_an_overflow_skips_the_step_and_leaves_the_balancer_alone() -> None:
    net = Net()
    balancer = CRMOGM(Ramp())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    before = [p.detach().clone() for p in net.parameters()]
    losses, z = net.losses()
    outcome = balanced_backward(
        [loss * 1e10 for loss in losses], net.trunk.parameters(), z, balancer=balancer, scaler=scaler
    )
    scaler.step(optimiser)
    scaler.update()
    assert outcome.report.overflow
    assert scaler.get_scale() < 2.0**127
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))
    assert not balancer.known.any()


def test_autocast_forward() -> None:
    net = Net()
    with torch.autocast("cpu", torch.bfloat16):
        losses, z = net.losses()
    rows = net.rows(losses)
    outcome = balanced_backward([loss.float() for loss in losses], net.trunk.parameters(), z, balancer=Ramp())
    assert outcome.gramian is not None
    _close(outcome.gramian, rows @ rows.T, 1e-2)


def test_accumulation_is_the_mean_of_the_batches() -> None:
    net, parts = Net(), []
    batches = [torch.randn(12, 160) for _ in range(2)]
    for x in batches:
        net.zero_grad()
        losses, z = net.losses(x)
        balanced_backward(losses, net.trunk.parameters(), z, balancer=Ramp())
        parts.append(net.gradient())
    net.zero_grad()
    for x in batches:
        losses, z = net.losses(x)
        balanced_backward(losses, net.trunk.parameters(), z, balancer=Ramp(), scale=0.5)
    _close(net.gradient(), (parts[0] + parts[1]) / 2)


@pytest.mark.parametrize("with_features", [True, False])
def test_bf16_passes_give_a_close_gramian_and_a_full_gradient(with_features: bool) -> None:
    net = Net()
    losses, z = net.losses()
    rows = net.rows(losses)
    outcome = balanced_backward(
        losses, net.trunk.parameters(), z if with_features else None, balancer=Ramp(), bf16=True
    )
    assert outcome.gramian is not None
    _close(outcome.gramian, rows @ rows.T, 3e-2)
    assert not torch.allclose(outcome.gramian, rows @ rows.T, rtol=1e-6)
    shared = torch.cat([p.grad.flatten() for p in net.trunk.parameters() if p.grad is not None])
    _close(shared, outcome.weights @ rows)


def test_second_batch_and_validation_loss() -> None:
    seen: dict[str, Signals] = {}

    class Both(Balancer):
        needs = frozenset({"gramian", "cross_gramian", "validation"})

        def weigh(self, signals: Signals) -> Tensor:
            seen["signals"] = signals
            return torch.ones_like(signals.losses)

    net = Net()
    losses, z = net.losses()
    second, _ = net.losses(torch.randn(12, 160))
    third, _ = net.losses(torch.randn(12, 160))
    rows, other, last = net.rows(losses), net.rows(second), net.rows([third[0]])
    balanced_backward(losses, net.trunk.parameters(), z, balancer=Both(), second=second, validation=third[0])
    cross, validation = seen["signals"].cross_gramian, seen["signals"].validation
    assert cross is not None
    assert validation is not None
    _close(cross, rows @ other.T)
    _close(validation, rows @ last[0])
    losses, z = net.losses()
    with pytest.raises(RecipeError, match="second="):
        balanced_backward(losses, net.trunk.parameters(), z, balancer=Both())


def test_ghost_and_native_give_the_same_training() -> None:
    ends = []
    for ghosts in (False, True):
        net = Net()
        ghost = Ghost(net.trunk) if ghosts else None
        optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
        balancer = registry.create("nash_mtl")
        for _ in range(5):
            optimiser.zero_grad()
            losses, z = net.losses()
            outcome = balanced_backward(losses, net.trunk.parameters(), z, balancer=balancer, ghost=ghost)
            optimiser.step()
        assert outcome.report.route == ("ghost" if ghosts else "rows")
        ends.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    _close(ends[0], ends[1])


def test_a_method_with_its_own_direction() -> None:
    class Signs(Balancer):
        needs = frozenset({"gramian", "rows"})

        def weigh(self, signals: Signals) -> Tensor:
            return torch.ones_like(signals.losses)

        def combine(self, signals: Signals, weights: Tensor) -> Tensor:
            assert signals.rows is not None
            return signals.rows.sign().sum(0)

    net = Net()
    losses, z = net.losses()
    rows = net.rows(losses)
    balanced_backward(losses, net.trunk.parameters(), z, balancer=Signs(), ghost=Ghost(net.trunk))
    shared = torch.cat([p.grad.flatten() for p in net.trunk.parameters() if p.grad is not None])
    _close(shared, rows.sign().sum(0), 1e-2)
