"""The sketched Gramian against the exact one: unbiased, of the stated variance, the same however rows are split."""

import pytest
import torch

from polytask.balancing import balanced_backward, registry
from polytask.balancing.sketch import sketched, sketched_gramian
from polytask.errors import RecipeError


def rows_of(kind, n_columns=3000):
    generator = torch.Generator().manual_seed(5)
    rows = torch.randn(4, n_columns, generator=generator, dtype=torch.float64)
    if kind == "sparse":
        rows[torch.rand(rows.shape, generator=generator) < 0.98] = 0.0
    if kind == "periodic":  # all that there is at the same place of every run of columns
        rows[:, torch.arange(n_columns) % 32 != 3] = 0.0
    rows[3] = rows[0] + 0.1 * rows[1]
    return rows / rows.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("kind", ["dense", "sparse", "periodic"])
def test_unbiased_with_at_most_the_variance_of_a_count_sketch(kind):
    rows, width, n = rows_of(kind), 32, 3000
    exact = rows @ rows.T
    found = torch.stack([sketched_gramian([rows], width, step) for step in range(n)])
    bound = (1 + exact.square()) / width
    # Five standard errors of a mean of n; the variance of a variance of nearly normal values is 2/n of its square.
    assert bool(((found.mean(0) - exact).abs() < 5 * (bound / n).sqrt()).all())
    assert bool((found.var(0) < bound * 1.15).all())


def test_the_error_falls_with_the_root_of_the_width():
    rows = rows_of("dense", 20_000)
    exact = rows @ rows.T
    errors = []
    for width in (16, 64, 256, 1024):
        tries = torch.stack([sketched_gramian([rows], width, step) - exact for step in range(200)])
        errors.append(tries.square().mean().sqrt())
    ratios = torch.stack(errors[:-1]) / torch.stack(errors[1:])
    assert bool(((ratios > 1.8) & (ratios < 2.2)).all()), ratios  # four times as wide, half the error


def test_linear_in_the_rows_so_that_sketches_are_summed_in_their_place():
    parts = torch.randn(3, 4, 2000, dtype=torch.float64)
    whole = sketched(parts.sum(0), 64, step=7)
    torch.testing.assert_close(sum(sketched(part, 64, step=7) for part in parts), whole)
    assert not torch.equal(whole, sketched(parts.sum(0), 64, step=8))
    assert torch.equal(whole[1:3], sketched(parts.sum(0)[1:3], 64, step=7))  # however many rows there are


def test_long_rows_are_drawn_for_in_pieces():
    rows = torch.randn(2, (1 << 20) + 77)
    rows[1] = rows[0]
    gramian = sketched_gramian([rows], 4096, 0)
    torch.testing.assert_close(gramian[0, 0], rows[0].double().square().sum(), rtol=0.1, atol=0)
    torch.testing.assert_close(gramian, gramian[0, 0].expand(2, 2), rtol=1e-6, atol=0)


def test_a_wide_sketch_leads_to_nearly_the_exact_weights():
    torch.manual_seed(0)
    trunk, heads = torch.nn.Linear(40, 60), [torch.nn.Linear(60, 1) for _ in range(3)]
    x = torch.randn(20, 40)
    found = {}
    for mode in ("exact", "sketch"):
        z = trunk(x)
        losses = [head(z).square().mean() * (i + 1) for i, head in enumerate(heads)]
        balancer = registry.create("nash_mtl")
        outcome = balanced_backward(losses, trunk, z, balancer=balancer, mode=mode, sketch=1 << 16)
        found[mode] = outcome.weights
        assert outcome.report.route == ("rows" if mode == "exact" else "sketch")
    torch.testing.assert_close(found["sketch"], found["exact"], rtol=0.1, atol=0)


def test_a_sketch_of_nothing_is_refused():
    with pytest.raises(RecipeError, match="sketch of at least 1, got 0"):
        balanced_backward([torch.ones(())], [], balancer=registry.create("nash_mtl"), mode="sketch", sketch=0)
