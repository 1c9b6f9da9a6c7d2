"""Every registered balancer through the engine, in each mode it can run in; no wiring per method."""

import pytest
import torch
from torch import nn

from polytask.balancing import balanced_backward, registry

MODES = [(name, mode) for name in registry.names() for mode in registry.create(name).modes]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(3))

    def losses(self, inputs, targets):
        z = self.trunk(inputs)
        losses = [(head(z).squeeze(1) - y).square().mean() for head, y in zip(self.heads, targets, strict=True)]
        return z, losses


def train(name, mode, steps, *, resume_at=None):
    torch.manual_seed(0)
    net = Net()
    balancer = registry.create(name)
    balancer.bind(["a", "b", "c"])
    optimiser = torch.optim.SGD([*net.parameters(), *balancer.parameters()], lr=0.01)
    draw = torch.Generator().manual_seed(1)
    outcomes = []
    for step in range(steps):
        if step == resume_at:
            saved = balancer.state_dict()
            balancer = registry.create(name)
            balancer.bind(["a", "b", "c"])
            balancer.load_state_dict(saved)
            optimiser = torch.optim.SGD([*net.parameters(), *balancer.parameters()], lr=0.01)
        inputs = torch.randn(16, 5, generator=draw)
        targets = [inputs[:, 0], inputs[:, 1] ** 2, -inputs[:, 0]]
        z, losses = net.losses(inputs, targets)
        if step == 2:
            losses[1] = None
        extra = {}
        if "validation" in balancer.needs:
            others = torch.randn(16, 5, generator=draw)
            extra["validation"] = sum(net.losses(others, [others[:, 0], others[:, 1] ** 2, -others[:, 0]])[1])
        optimiser.zero_grad()
        outcome = balanced_backward(
            losses, net.trunk.parameters(), z, balancer=balancer, mode=mode, every=2, step=step, **extra
        )
        optimiser.step()
        if "losses_after" in balancer.needs:
            with torch.no_grad():
                after = net.losses(inputs, targets)[1]
            signals = outcome.signals
            values = torch.stack([after[i] for i in signals.index.tolist()]).double()
            balancer.after_step(type(signals)(index=signals.index, losses=values))
        outcomes.append(outcome)
    return net, outcomes


@pytest.mark.parametrize(("name", "mode"), MODES)
def test_every_method_trains_in_every_mode_that_it_names(name, mode):
    net, outcomes = train(name, mode, 4)
    assert all(bool(p.isfinite().all()) for p in net.parameters())
    assert outcomes[2].weights[1] == 0.0
    assert outcomes[2].report.absent == ("b",)
    assert all(outcome.report.fallbacks == () for outcome in outcomes)
    assert any(bool(p.grad.any()) for p in net.trunk.parameters())


@pytest.mark.parametrize(("name", "mode"), MODES)
def test_training_resumes_bit_for_bit(name, mode):
    plain, _ = train(name, mode, 5)
    resumed, _ = train(name, mode, 5, resume_at=3)
    for p, q in zip(plain.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("name", [n for n in registry.names() if "single" in registry.load(n).keeps])
def test_one_task_through_the_engine_is_plain_training(name):
    for step in range(3):
        torch.manual_seed(step)
        net = Net()
        balancer = registry.create(name)
        inputs = torch.randn(16, 5)
        z, losses = net.losses(inputs, [inputs[:, 0]] * 3)
        balanced_backward(losses[:1], net.trunk.parameters(), z, balancer=balancer)
        expected = torch.autograd.grad(net.losses(inputs, [inputs[:, 0]] * 3)[1][0], list(net.trunk.parameters()))
        for p, g in zip(net.trunk.parameters(), expected, strict=True):
            torch.testing.assert_close(p.grad, g, rtol=1e-4, atol=1e-6)
