"""Every method for multipliers keeps the contract; no wiring per method."""

import pytest
import torch

from polytask.balancing.multipliers import Multipliers, registry
from polytask.testing import check_multipliers


@pytest.mark.parametrize("name", registry.names())
def test_every_method_keeps_the_contract(name):
    check_multipliers(lambda **options: registry.create(name, **options))


@pytest.mark.parametrize("name", registry.names())
def test_every_method_says_what_it_does_and_whose_it_is(name):
    doc = registry.load(name).__doc__
    for section in (".. math::", "Example:", "Note:", "References:", "Costs nothing"):
        assert section in doc, f"{name} has no {section!r}"


class Deaf(Multipliers):
    def weigh(self, signals):
        return torch.zeros_like(signals.losses)


class Repels(Multipliers):
    def weigh(self, signals):
        return signals.losses.clone()


class Forgives(Multipliers):
    def weigh(self, signals):
        self.values[signals.index] = self.values[signals.index] * 0.5 + 0.01 * signals.losses.clamp_min(0.0)
        return self.values[signals.index] + (0.5 * signals.losses.clamp_min(0.0) if not self.values.sum() else 0.0)


@pytest.mark.parametrize(
    ("cls", "message"), [(Deaf, "does not pull"), (Repels, "away from where"), (Forgives, "pulls")]
)
def test_the_check_finds_what_is_broken(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_multipliers(cls)
