"""The engine's contract: what lands in ``.grad``, what is reported, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from polytask.balancing.backward import balanced_backward
from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.gradients.nash_mtl import NashMTL
from polytask.errors import NonFiniteError, RecipeError


class Fixed(Balancer):
    """Weights given beforehand, seen as a method of losses."""

    def __init__(self, weights: Sequence[float]):
        super().__init__()
        self.weights = torch.tensor(weights, dtype=torch.float64)

    def weigh(self, signals: Signals) -> Tensor:
        return self.weights[signals.index]


class FixedByGradient(Fixed):
    """The same weights, seen as a method of gradients."""

    needs = frozenset({"gramian"})

    def weigh(self, signals: Signals) -> Tensor:
        assert signals.gramian is not None
        assert signals.gramian.dtype == torch.float64
        return super().weigh(signals)


class ByNorm(Balancer):
    needs = frozenset({"gramian"})

    def weigh(self, signals: Signals) -> Tensor:
        assert signals.gramian is not None
        return signals.gramian.diagonal().clamp_min(1e-30).rsqrt()


class Net(nn.Module):
    def __init__(self, n_tasks: int = 3, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(n_tasks))
        self.x = torch.randn(7, 5)
        self.y = torch.randn(n_tasks, 7)

    def losses(self) -> tuple[list[Tensor], Tensor]:
        z = self.trunk(self.x)
        return [((h(z).squeeze(1) - y) ** 2).mean() for h, y in zip(self.heads, self.y, strict=True)], z


def jacobian(net: Net) -> Tensor:
    """Rows of gradients by plain autograd, in float64."""
    double = Net(len(net.heads)).double()
    double.load_state_dict(net.state_dict())
    double.x, double.y = net.x.double(), net.y.double()
    losses, _ = double.losses()
    rows = [torch.autograd.grad(loss, list(double.trunk.parameters()), retain_graph=True) for loss in losses]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])


def flat_grad(module: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


@pytest.mark.parametrize("with_features", [True, False])
def test_shared_gradient_is_the_weighted_sum_and_heads_see_their_own_loss(with_features: bool) -> None:
    net, plain = Net(), Net()
    weights = [0.5, 0.0, 2.0]
    losses, z = net.losses()
    outcome = balanced_backward(
        losses, net.trunk.parameters(), z if with_features else None, balancer=FixedByGradient(weights)
    )
    rows = jacobian(net)
    torch.testing.assert_close(
        flat_grad(net.trunk).double(), torch.tensor(weights).double() @ rows, rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(outcome.gramian, rows @ rows.T, rtol=1e-5, atol=1e-7)
    sum(plain.losses()[0]).backward()
    torch.testing.assert_close(flat_grad(net.heads), flat_grad(plain.heads))
    assert outcome.weights.tolist() == weights
    assert outcome.report.route == "rows"
    assert outcome.report.passes == 3


def test_gradient_is_added_to_what_is_there() -> None:
    net, once = Net(), Net()
    for _ in range(2):
        losses, z = net.losses()
        balanced_backward(losses, net.trunk.parameters(), z, balancer=ByNorm())
    losses, z = once.losses()
    balanced_backward(losses, once.trunk.parameters(), z, balancer=ByNorm())
    torch.testing.assert_close(flat_grad(net), 2 * flat_grad(once))


def test_loss_only_method_is_one_plain_backward_bit_for_bit() -> None:
    net, plain = Net(), Net()
    losses, z = net.losses()
    outcome = balanced_backward(losses, net.trunk.parameters(), z, balancer=Fixed([1.0, 1.0, 1.0]))
    sum(plain.losses()[0]).backward()
    torch.testing.assert_close(flat_grad(net), flat_grad(plain))
    assert outcome.report.route == "one_backward"
    assert outcome.gramian is None


@pytest.mark.parametrize("absent", [None, "no graph"])
def test_absent_task_gets_no_weight_and_no_gradient(absent: str | None) -> None:
    net = Net()
    losses, z = net.losses()
    losses[1] = None if absent is None else torch.tensor(0.0)  # type: ignore[call-overload]
    balancer = ByNorm()
    outcome = balanced_backward(losses, net.trunk.parameters(), z, balancer=balancer)
    assert outcome.weights[1] == 0
    assert outcome.gramian is not None
    assert outcome.gramian[1].abs().sum() == 0
    assert outcome.report.absent == ("1",)
    assert net.heads[1].weight.grad is None
    assert outcome.losses.isnan().tolist() == [False, True, False]


def test_no_task_present_changes_nothing() -> None:
    net = Net()
    outcome = balanced_backward([None, None, None], net.trunk.parameters(), balancer=ByNorm())
    assert outcome.report.route == "nothing"
    assert outcome.weights.tolist() == [0, 0, 0]
    assert all(p.grad is None for p in net.parameters())
    outcome = balanced_backward([None, torch.tensor(0.0), torch.tensor(0.0)], net.trunk.parameters(), balancer=ByNorm())
    assert outcome.report.absent == ("0", "1", "2")
    assert outcome.report.notes == ("1, 2: the loss carries no graph, so the task counts as absent",)


def test_mapping_may_leave_tasks_out_once_bound() -> None:
    net = Net()
    balancer = ByNorm()
    balancer.bind(["a", "b", "c"])
    losses, z = net.losses()
    outcome = balanced_backward({"c": losses[2], "a": losses[0]}, net.trunk.parameters(), z, balancer=balancer)
    assert outcome.tasks == ("a", "b", "c")
    assert outcome.weights[1] == 0
    assert (outcome.weights[[0, 2]] > 0).all()
    with pytest.raises(RecipeError, match="'d'"):
        balanced_backward({"d": losses[1]}, net.trunk.parameters(), z, balancer=balancer)


def test_non_finite_loss_and_gradient_name_the_task() -> None:
    net = Net()
    losses, z = net.losses()
    with pytest.raises(NonFiniteError, match="'1'"):
        balanced_backward(
            [losses[0], losses[1] * float("nan"), losses[2]], net.trunk.parameters(), z, balancer=ByNorm()
        )
    losses, z = net.losses()
    bad = (z[0, 0] * 0).sqrt()  # finite, with an infinite gradient
    with pytest.raises(NonFiniteError, match="'0'"):
        balanced_backward([bad, losses[1], losses[2]], net.trunk.parameters(), z, balancer=ByNorm())
    assert all(p.grad is None for p in net.trunk.parameters())
    losses, z = net.losses()
    losses = [losses[0], (z[0, 0] * 0).sqrt(), losses[2]]
    with pytest.raises(NonFiniteError, match="of task '1' is NaN"):
        balanced_backward(losses, net.trunk.parameters(), z, balancer=NashMTL(), mode="matrix_free")
    assert all(p.grad is None for p in net.parameters())


def test_zero_gradient_has_a_zero_row() -> None:
    net = Net()
    losses, z = net.losses()
    losses[0] = losses[0] * 0
    outcome = balanced_backward(losses, net.trunk.parameters(), z, balancer=FixedByGradient([1, 1, 1]))
    assert outcome.gramian is not None
    assert outcome.gramian[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_gramian_neither_overflows_nor_vanishes(size: float) -> None:
    net = Net()
    losses, z = net.losses()
    losses[0] = losses[0] * size
    outcome = balanced_backward(losses, net.trunk.parameters(), z, balancer=FixedByGradient([0, 1, 1]))
    rows = jacobian(net)
    rows[0] *= size
    norms = (rows @ rows.T).diagonal().sqrt()
    assert outcome.gramian is not None
    torch.testing.assert_close(
        outcome.gramian / norms.outer(norms), (rows @ rows.T) / norms.outer(norms), rtol=1e-4, atol=1e-5
    )


def test_frozen_and_unreached_parameters_are_left_alone() -> None:
    net = Net()
    unreached = nn.Parameter(torch.ones(2))
    net.trunk[0].weight.requires_grad_(False)
    losses, z = net.losses()
    balanced_backward(losses, [*net.trunk.parameters(), unreached], z, balancer=ByNorm())
    assert unreached.grad is None
    assert net.trunk[0].weight.grad is None
    assert net.trunk[0].bias.grad is not None


def test_everything_frozen_is_refused() -> None:
    net = Net()
    net.trunk.requires_grad_(False)
    losses, _ = net.losses()
    with pytest.raises(RecipeError, match="none of them can be trained"):
        balanced_backward(losses, net.trunk.parameters(), balancer=ByNorm())


def test_parameter_that_some_tasks_reach() -> None:
    net = Net()
    extra = nn.Parameter(torch.randn(6))
    z = net.trunk(net.x)
    losses = [(h(z) ** 2).mean() for h in net.heads]
    losses[1] = (net.heads[1](z * extra) ** 2).mean()
    shared = [*net.trunk.parameters(), extra]
    rows = [torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True) for loss in losses]
    expected = torch.stack(
        [
            torch.cat([(g if g is not None else torch.zeros_like(p)).flatten() for g, p in zip(r, shared, strict=True)])
            for r in rows
        ]
    )
    outcome = balanced_backward(losses, shared, z, balancer=FixedByGradient([1, 2, 3]))
    torch.testing.assert_close(outcome.gramian, (expected @ expected.T).double(), rtol=1e-4, atol=1e-6)
    assert any("around the features" in note for note in outcome.report.notes)
    torch.testing.assert_close(extra.grad, 2 * rows[1][-1])


def test_own_graphs_are_seen_and_not_retained() -> None:
    net = Net()
    losses = [(h(net.trunk(torch.randn(4, 5))) ** 2).mean() for h in net.heads]
    rows = [torch.autograd.grad(loss, list(net.trunk.parameters()), retain_graph=True) for loss in losses]
    expected = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
    outcome = balanced_backward(losses, net.trunk.parameters(), balancer=ByNorm())
    assert outcome.report.own_graphs
    torch.testing.assert_close(outcome.gramian, (expected @ expected.T).double(), rtol=1e-4, atol=1e-6)
    with pytest.raises(RuntimeError, match="second time"):
        losses[0].backward()


def test_features_per_task() -> None:
    net = Net()
    z = net.trunk(net.x)
    gates = nn.ParameterList(nn.Parameter(torch.randn(6)) for _ in range(3))
    own = {str(i): z * gate for i, gate in enumerate(gates)}
    losses = [(h(own[str(i)]) ** 2).mean() for i, h in enumerate(net.heads)]
    shared = [*net.trunk.parameters(), *gates]
    rows = [torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True) for loss in losses]
    expected = torch.stack(
        [
            torch.cat([(g if g is not None else torch.zeros_like(p)).flatten() for g, p in zip(r, shared, strict=True)])
            for r in rows
        ]
    )
    outcome = balanced_backward(losses, shared, own, balancer=FixedByGradient([1, 2, 3]))
    assert not outcome.report.own_graphs
    torch.testing.assert_close(outcome.gramian, (expected @ expected.T).double(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gates[2].grad, 3 * rows[2][-1])


def test_heads_that_share_a_node_above_the_features() -> None:
    net, plain = Net(), Net()
    group = nn.Linear(6, 6)
    for one in (net, plain):
        z = one.trunk(one.x)
        u = torch.tanh(group(z))
        losses = [(h(u) ** 2).mean() for h in one.heads]
        if one is net:
            balanced_backward(losses, net.trunk.parameters(), z, balancer=FixedByGradient([1, 1, 1]))
            first = group.weight.grad.clone()
            group.zero_grad()
        else:
            sum(losses).backward()
    torch.testing.assert_close(flat_grad(net), flat_grad(plain))
    torch.testing.assert_close(first, group.weight.grad)


def test_given_heads_are_used() -> None:
    net, found = Net(), Net()
    for one, heads in ((net, list(net.heads)), (found, None)):
        losses, z = one.losses()
        balanced_backward(losses, one.trunk.parameters(), z, balancer=ByNorm(), heads=heads)
    torch.testing.assert_close(flat_grad(net), flat_grad(found))
    losses, z = net.losses()
    with pytest.raises(RecipeError, match="'2'"):
        balanced_backward(
            losses, net.trunk.parameters(), z, balancer=ByNorm(), heads={"0": net.heads[0], "1": net.heads[1]}
        )


def test_one_task_with_unit_weight_is_plain_training() -> None:
    net, plain = Net(1), Net(1)
    losses, z = net.losses()
    balanced_backward(losses, net.trunk.parameters(), z, balancer=FixedByGradient([1.0]))
    plain.losses()[0][0].backward()
    torch.testing.assert_close(flat_grad(net), flat_grad(plain))


def test_a_hundred_tasks() -> None:
    net = Net(100)
    losses, z = net.losses()
    outcome = balanced_backward(losses, net.trunk.parameters(), z, balancer=ByNorm())
    rows = jacobian(net)
    torch.testing.assert_close(outcome.gramian, rows @ rows.T, rtol=1e-4, atol=1e-5)


def test_detached_features_and_vector_losses_are_refused() -> None:
    net = Net()
    losses, z = net.losses()
    with pytest.raises(RecipeError, match="no graph"):
        balanced_backward(losses, net.trunk.parameters(), z.detach(), balancer=ByNorm())
    with pytest.raises(RecipeError, match="one number"):
        balanced_backward([z, *losses[1:]], net.trunk.parameters(), z, balancer=ByNorm())


def test_a_loss_without_graph_is_refused_unless_it_is_zero() -> None:
    net = Net()
    losses, z = net.losses()
    for bad in (losses[1].detach(), torch.tensor(math.nan)):
        with pytest.raises(RecipeError, match="'1': the loss is not zero and carries no graph"):
            balanced_backward([losses[0], bad, losses[2]], net.trunk.parameters(), z, balancer=ByNorm())
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("mode", ["exact", "matrix_free"])
def test_shared_parameters_that_no_loss_reaches_are_refused(mode: str) -> None:
    net = Net()
    losses, _ = net.losses()
    with pytest.raises(RecipeError, match="No loss reaches any of the 2 shared parameters"):
        balanced_backward(losses, torch.nn.Linear(3, 4), balancer=NashMTL(), mode=mode)


def test_a_first_step_without_the_tasks_that_reach_the_shared_parameters_is_no_mistake() -> None:
    net, own = Net(), torch.nn.Linear(3, 1)
    balancer = NashMTL()
    balancer.bind(["a", "b", "c"])
    alone = own(torch.ones(1, 3)).sum()
    outcome = balanced_backward({"a": alone, "b": None, "c": None}, net.trunk, balancer=balancer)
    assert outcome.report.absent == ("b", "c")
    assert own.weight.grad is not None


def test_wrong_arguments_are_named() -> None:
    net = Net()
    losses, z = net.losses()
    shared = list(net.trunk.parameters())
    for balancer in ("nash_mtl", ByNorm):
        with pytest.raises(RecipeError, match="takes an object"):
            balanced_backward(losses, shared, z, balancer=balancer)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="must be a tensor"):
        balanced_backward([1.0, *losses[1:]], shared, z, balancer=ByNorm())  # type: ignore[list-item]
    with pytest.raises(RecipeError, match="one tensor"):
        balanced_backward(losses, shared, [z, z, z], balancer=ByNorm())  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="one task or more"):
        balanced_backward([], shared, z, balancer=ByNorm())
    with pytest.raises(RecipeError, match="got one tensor, their sum"):
        balanced_backward(sum(losses), shared, z, balancer=ByNorm())  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="list of its parameters; got one tensor"):
        balanced_backward(losses, shared[0], z, balancer=ByNorm())
    for name in ("every", "sketch"):
        with pytest.raises(RecipeError, match=f"needs {name} of at least 1, got 0"):
            balanced_backward(losses, shared, z, balancer=ByNorm(), **{name: 0})
    with pytest.raises(RecipeError, match="below the features"):
        balanced_backward(losses, net.heads[0].parameters(), z, balancer=ByNorm())


def test_the_shared_part_as_a_module() -> None:
    net, other = Net(), Net()
    for one, shared in ((net, net.trunk), (other, other.trunk.parameters())):
        losses, z = one.losses()
        balanced_backward(losses, shared, z, balancer=ByNorm())
    assert torch.equal(flat_grad(net), flat_grad(other))


def test_parameters_of_two_dtypes() -> None:
    first, second = nn.Linear(3, 4), nn.Linear(4, 2).double()
    z = second(first(torch.randn(5, 3)).double())
    losses = [z[:, 0].pow(2).mean(), z[:, 1].pow(2).mean()]
    shared = [*first.parameters(), *second.parameters()]
    rows = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses]
    flat = torch.stack([torch.cat([g.flatten().double() for g in row]) for row in rows])
    outcome = balanced_backward(losses, shared, z, balancer=FixedByGradient([1, 2]))
    torch.testing.assert_close(outcome.gramian, flat @ flat.T, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(second.weight.grad, rows[0][2] + 2 * rows[1][2])
