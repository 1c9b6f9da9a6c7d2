"""Every registered measure keeps the contract; no wiring per measure."""

import numpy as np
import pytest

from polytask.affinity.measure import Measure, Reading
from polytask.affinity.measures import registry
from polytask.testing import check_measure


@pytest.mark.parametrize("name", registry.names())
def test_every_measure_keeps_the_contract(name):
    check_measure(lambda: registry.create(name))


@pytest.mark.parametrize("name", registry.names())
def test_every_measure_says_what_it_costs_and_when_not_to_use_it(name):
    doc = registry.load(name).__doc__
    for section in (".. math::", "Example:", ">>> ", "Note:", "References:"):
        assert section in doc, f"{name} has no {section!r}"


class Broken(Measure):
    words = "nothing"
    trains = False

    def read(self, ground):
        return Reading(np.zeros((len(ground.tasks), len(ground.tasks))))


class WrongShape(Broken):
    def read(self, ground):
        return Reading(np.zeros((1, len(ground.tasks))))


class Lopsided(Broken):
    def read(self, ground):
        return Reading(np.triu(np.ones((len(ground.tasks),) * 2)))


class Silent(Broken):
    def read(self, ground):
        return Reading(np.full((len(ground.tasks),) * 2, np.nan))


class Chance(Broken):
    def read(self, ground):
        return Reading(np.full((len(ground.tasks),) * 2, np.random.default_rng().normal()))


class Writes(Broken):
    def read(self, ground):
        for source in ground.prepared.train.values():
            for observed in source.observed.values():
                observed.fill_(True)
        return super().read(ground)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (WrongShape, "matrix of"),
        (Lopsided, "not symmetric"),
        (Silent, "no note"),
        (Chance, "other values"),
        (Writes, "data were changed"),
    ],
)
def test_the_check_finds_what_is_broken(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_measure(cls)


def test_the_check_passes_a_sound_one():
    check_measure(Broken)
