"""Dropout: the share that is dropped, nothing biased, masks from any generator."""

import pytest
import torch

from polytask.models.dropout import Dropout, draw_masks, masks_from


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
def test_drops_the_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    out = Dropout(p)(torch.ones(400_001))  # no multiple of four, the masks of one draw
    dropped = (out == 0).double().mean().item()
    assert dropped == pytest.approx(p, abs=5 * (p * (1 - p) / 400_001) ** 0.5 + 1 / 65536)
    assert out.double().mean().item() == pytest.approx(1.0, abs=5 * (p / (1 - p) / 400_001) ** 0.5)
    assert len(out.unique()) == 2


def test_neighbours_are_independent():
    """Four masks come from one draw: the products of neighbours must average to the square of the share."""
    torch.manual_seed(1)
    kept = (Dropout(0.3)(torch.ones(400_000)) > 0).double()
    for lag in (1, 2, 3, 4):
        assert (kept[lag:] * kept[:-lag]).mean().item() == pytest.approx(0.49, abs=0.005)


def test_gradient_is_the_mask():
    x = torch.ones(50, 7, requires_grad=True)
    out = Dropout(0.4)(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


def test_nothing_is_dropped_in_evaluation_or_with_zero():
    x = torch.randn(5, 3)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert torch.equal(Dropout(1.0)(x), torch.zeros(5, 3))


@pytest.mark.parametrize("p", [0.0, 1e-7, 1e-6])
def test_a_probability_below_the_smallest_step_drops_nothing(p):
    mask = torch.empty(200_000)
    draw_masks([mask], p, [torch.Generator().manual_seed(0)])
    assert torch.equal(mask, torch.ones_like(mask))


def test_the_strength_is_a_factor_and_takes_as_many_bits():
    weak, plain = Dropout(0.4), Dropout(0.1)
    weak.strength = 0.25
    states = []
    for dropout in (weak, plain):
        torch.manual_seed(5)
        states.append((dropout(torch.ones(40, 11)), torch.get_rng_state()))
    assert torch.equal(states[0][0], states[1][0])
    weak.strength = 0.0
    torch.manual_seed(5)
    assert torch.equal(weak(torch.ones(40, 11)), torch.ones(40, 11))
    assert torch.equal(torch.get_rng_state(), states[1][1]), "a stack draws for every member"


def test_a_generator_in_the_same_state_gives_the_same_mask():
    torch.manual_seed(3)
    generator = torch.Generator()
    generator.set_state(torch.get_rng_state())
    out = Dropout(0.25)(torch.ones(6, 5))
    mask = torch.empty(6, 5)
    draw_masks([mask], 0.25, [generator])
    assert torch.equal(out, mask)
    with masks_from(lambda x, p: torch.full_like(x, p)):
        assert Dropout(0.25)(torch.ones(2)).tolist() == [0.25, 0.25]
