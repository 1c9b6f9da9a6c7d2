"""Every registered encoder keeps the contract, on inputs of every sort that it takes; no wiring per encoder."""

import inspect

import pytest
import torch
from torch import nn

from polytask.errors import InputError
from polytask.models.encoders import MLP, registry
from polytask.models.inputs import Field, InputShape
from polytask.testing import check_encoder


def is_built_by_name(name: str) -> bool:
    """False for those that want what only a user has: a network, a folder."""
    parameters = inspect.signature(registry.load(name)).parameters
    return name != "module" and all(p.default is not p.empty for key, p in parameters.items() if key != "inputs")


@pytest.mark.parametrize("name", [n for n in registry.names() if is_built_by_name(n)])
def test_keeps_the_contract(name):
    check_encoder(name)


def test_a_network_of_the_user_s_keeps_it_too():
    check_encoder(
        "module",
        options={"module": nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))},
        inputs={"main": InputShape({"x": Field((6,))})},
    )


class Unpacking(MLP):
    """Fails on inputs that it does not take by what happens to break."""

    def __init__(self, inputs):
        (_,) = inputs.values()
        super().__init__(inputs)


class Wrong(MLP):
    """Says another width."""

    def __init__(self, inputs):
        super().__init__(inputs)
        self.width += 1


class Idle(MLP):
    """Has a parameter that nothing reaches."""

    def __init__(self, inputs):
        super().__init__(inputs)
        self.unused = nn.Parameter(torch.zeros(1))


class Centring(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class Stagewise(MLP):
    """Rows see each other in a stage."""

    def __init__(self, inputs):
        super().__init__(inputs)
        self.stages.append(Centring())


class Hiding(nn.Module):
    def forward(self, x):
        return x.nan_to_num()


class Silent(MLP):
    """NaN is taken for zero."""

    def __init__(self, inputs):
        super().__init__(inputs)
        self.stages.append(Hiding())


class Picky(MLP):
    """Takes nothing."""

    def __init__(self, inputs):
        raise InputError("reads nothing")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Unpacking, "must be refused by an InputError"),
        (Wrong, "width"),
        (Idle, "nothing reaches unused"),
        (Stagewise, "rows in a smaller batch"),
        (Silent, "the row of NaN got an answer"),
        (Picky, "takes none of"),
    ],
)
def test_a_broken_promise_is_named(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_encoder(broken)
