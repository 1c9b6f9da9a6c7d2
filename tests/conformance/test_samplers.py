"""Every registered mixing policy keeps the contract; no wiring per policy but for options that have no default."""

import pytest

from polytask.data.sampler import Sampler
from polytask.data.samplers import registry
from polytask.testing import check_sampler

REQUIRED = {"fixed": {"weights": {"a": 2.5}}}


@pytest.mark.parametrize("name", registry.names())
def test_contract(name):
    check_sampler(lambda: registry.create(name, **REQUIRED.get(name, {})))


def test_the_six_policies_are_there():
    assert set(registry.names()) >= {"proportional", "uniform", "temperature", "annealed", "round_robin", "fixed"}


class Greedy(Sampler):
    def shares(self, n_batches, epoch):
        return {name: float(name == "a") for name in n_batches}


class Unseeded(Sampler):
    def shares(self, n_batches, epoch):
        return dict.fromkeys(n_batches, 1 / len(n_batches))

    def order(self, n_batches, n_steps, epoch, generator):
        import torch

        return torch.randint(len(n_batches), (n_steps,))


class TooMuch(Sampler):
    def shares(self, n_batches, epoch):
        return dict.fromkeys(n_batches, 1.0)


def test_a_degenerate_policy_may_pass():
    check_sampler(Greedy)


@pytest.mark.parametrize(("broken", "words"), [(Unseeded, "generator only"), (TooMuch, "sum to 1")])
def test_a_broken_policy_is_found(broken, words):
    with pytest.raises(AssertionError, match=words):
        check_sampler(broken)
