"""Every registered balancer keeps the contract and the laws it declares; no wiring per method."""

import pytest
import torch

from polytask.balancing import Balancer, Clipped, registry
from polytask.testing import check_balancer


@pytest.mark.parametrize("name", registry.names())
def test_every_method_keeps_the_contract(name):
    check_balancer(lambda: registry.create(name))


# Options that change what is computed: with the defaults above these lines are never reached.
OPTIONS = [
    *(("mgda", {"normalise": normalise}) for normalise in ("norm", "loss", "loss+norm")),
    *(("aligned_mtl", {"scale": scale}) for scale in ("median", "rmse")),
    *(("cagrad", {"c": c, "rescale": rescale}) for c in (0.01, 1.0, 10.0) for rescale in (True, False)),
    *(("fairgrad", {"alpha": alpha}) for alpha in (0.01, 0.5, 1.0, 50.0)),
    *(("cr_mogm", {"balancer": inner}) for inner in ("nash_mtl", "famo", "uncertainty", "auto_lambda")),
    ("nash_mtl", {"max_norm": 1.0}),
    ("cosine_gate", {"gate": "cosine"}),
    ("db_mtl", {"beta": 0.0}),
    ("db_mtl", {"sigma": 0.5}),
    ("excess_mtl", {"warmup": 3}),
    ("moco", {"normalise": False}),
    ("modo", {"independent": True}),
    ("sdmgrad", {"independent": True}),
    ("igb", {"period": 1}),
    ("stch", {"warmup": 1}),
    ("uncertainty", {"variant": "positive"}),
]


@pytest.mark.parametrize(
    ("name", "options"), OPTIONS, ids=[f"{n}-{'-'.join(map(str, o.values()))}" for n, o in OPTIONS]
)
def test_every_method_keeps_the_contract_with_other_options(name, options):
    check_balancer(lambda: registry.create(name, **options))


@pytest.mark.parametrize("name", ["equal", "famo", "nash_mtl", "mgda", "sdmgrad"])
def test_a_limit_on_the_length_keeps_the_contract(name):
    check_balancer(lambda: Clipped(registry.create(name), max_norm=0.5))


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
