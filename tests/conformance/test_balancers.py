"""Every registered balancer keeps the contract and the laws it declares; no wiring per method."""

import pytest
import torch

from polytask.balancing import Balancer, registry
from polytask.testing import check_balancer


@pytest.mark.parametrize("name", registry.names())
def test_every_method_keeps_the_contract(name):
    check_balancer(lambda: registry.create(name))


@pytest.mark.parametrize("name", registry.names())
def test_every_method_is_documented_and_cited(name):
    doc = registry.load(name).__doc__
    assert registry.summary(name).endswith(".")
    for section in ("Example:", ">>> ", "Note:", "References:", "Cost" if "one backward is enough" not in doc else ""):
        assert section in doc, f"{name} has no {section!r}"
    assert ".. math::" in doc


class Broken(Balancer):
    """One way of breaking the contract at a time, for checking the check."""

    keeps = frozenset()

    def weigh(self, signals):
        return torch.ones_like(signals.losses)


class WrongShape(Broken):
    def weigh(self, signals):
        return torch.ones(1, dtype=torch.float64)


class Writes(Broken):
    def weigh(self, signals):
        return signals.losses.mul_(2.0)


class Forgets(Broken):
    def weigh(self, signals):
        self.count = getattr(self, "count", 0) + 1
        return torch.full_like(signals.losses, self.count)


class Lures(Broken):
    keeps = frozenset({"conflict_free"})


class Favours(Broken):
    keeps = frozenset({"permutation"})

    def weigh(self, signals):
        return torch.arange(1.0, len(signals.losses) + 1, dtype=torch.float64)


class TouchesAbsent(Broken):
    def reset(self, n_tasks):
        self.register_buffer("seen", torch.zeros(n_tasks))

    def weigh(self, signals):
        self.seen += 1
        return torch.ones_like(signals.losses)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (WrongShape, "shape"),
        (Writes, "was changed"),
        (Forgets, "resumed"),
        (Lures, "conflict_free"),
        (Favours, "permutation"),
        (TouchesAbsent, "absent task changed"),
    ],
)
def test_the_check_finds_what_is_broken(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_balancer(cls)


def test_the_check_passes_a_sound_one():
    check_balancer(Broken)
