"""Directions against TorchJD's aggregators, on random and adversarial Jacobians."""

from __future__ import annotations

import pytest
import torch
import torchjd.aggregation as peer

from polytask.balancing import (
    CRMOGM,
    IMTLG,
    MGDA,
    AlignedMTL,
    CAGrad,
    ConFIG,
    Equal,
    ExcessMTL,
    FairGrad,
    GradDrop,
    GradVac,
    MoDo,
    PCGrad,
    SDMGrad,
    Signals,
)

SIZES = [2, 3, 7, 20, 40]


def rows_of(n_tasks, kind="random", seed=0):
    draw = torch.Generator().manual_seed(1000 * n_tasks + seed)
    rows = torch.randn(n_tasks, 3 * n_tasks + 2, generator=draw, dtype=torch.float64)
    if kind == "conflict":
        rows -= 0.9 * rows.mean(dim=0)
    elif kind == "scales":
        rows *= 10.0 ** torch.linspace(-1, 1, n_tasks, dtype=torch.float64)[:, None]
    return rows


def direction(balancer, rows, losses=None):
    balancer.bind([f"task{i}" for i in range(len(rows))])
    signals = Signals.of(torch.ones(len(rows)) if losses is None else losses, rows=rows)
    weights = balancer(signals)
    own = balancer.combine(signals, weights) if "rows" in balancer.needs else None
    assert balancer.fallbacks == []
    return weights @ rows if own is None else own


def close(found, expected, rtol):
    torch.testing.assert_close(found, expected, rtol=rtol, atol=rtol * float(expected.abs().max()))


@pytest.mark.parametrize("kind", ["random", "conflict", "scales"])
@pytest.mark.parametrize("n_tasks", SIZES)
class TestEveryMatrix:
    def test_plain_summation(self, n_tasks, kind):
        close(direction(Equal(), rows_of(n_tasks, kind)), peer.Sum()(rows_of(n_tasks, kind)), 1e-12)

    def test_mgda_is_no_longer_than_their_point(self, n_tasks, kind):
        """Theirs is Frank-Wolfe: an upper bound that tends to the exact point."""
        rows = rows_of(n_tasks, kind)
        found, theirs = direction(MGDA(), rows), peer.MGDA(epsilon=1e-9, max_iters=5000)(rows)
        assert found.norm() <= theirs.norm() * (1 + 1e-9)
        # no point of the hull is shorter than what any direction bounds from below
        assert found.norm() >= (rows @ theirs).min() / theirs.norm() - 1e-9
        # the distance of any point of the hull to the shortest is bounded by its surplus of squared norm
        assert (found - theirs).square().sum() <= theirs.square().sum() - found.square().sum() + 1e-12

    def test_imtl_g(self, n_tasks, kind):
        close(direction(IMTLG(), rows_of(n_tasks, kind)), peer.IMTLG()(rows_of(n_tasks, kind)), 1e-7)

    @pytest.mark.parametrize("scale", ["min", "median", "rmse"])
    def test_aligned_mtl(self, n_tasks, kind, scale):
        if kind != "scales":  # their rank threshold is that of float64, ours that of float32
            rows = rows_of(n_tasks, kind)
            close(direction(AlignedMTL(scale=scale), rows), peer.AlignedMTL(scale_mode=scale)(rows), 1e-7)

    def test_config(self, n_tasks, kind):
        close(direction(ConFIG(), rows_of(n_tasks, kind)), peer.ConFIG()(rows_of(n_tasks, kind)), 1e-7)

    @pytest.mark.parametrize("c", [0.2, 0.5, 1.5])
    def test_cagrad(self, n_tasks, kind, c):
        rows = rows_of(n_tasks, kind)
        # their convex solver is good to about four digits
        close(direction(CAGrad(c=c, rescale=False), rows), peer.CAGrad(c=c)(rows), 2e-3)

    @pytest.mark.parametrize("alpha", [1.0, 2.0])
    def test_fairgrad(self, n_tasks, kind, alpha):
        rows = rows_of(n_tasks, kind)
        theirs = peer.FairGrad(alpha=alpha)(rows)
        if kind == "random":  # elsewhere their least squares may stop early; the equation itself is tested beside
            found = direction(FairGrad(alpha=alpha), rows)
            close(found / found.norm(), theirs / theirs.norm(), 1e-3)


@pytest.mark.parametrize("kind", ["random", "conflict", "scales"])
def test_pcgrad_of_two_has_no_random_order(kind):
    for seed in range(10):
        rows = rows_of(2, kind, seed)
        close(direction(PCGrad(), rows), peer.PCGrad()(rows), 1e-9)


def test_gradvac_of_two_over_many_steps():
    ours, theirs = GradVac(beta=0.1), peer.GradVac(beta=0.1, eps=0.0)
    for seed in range(20):
        rows = rows_of(2, "random", seed)
        close(direction(ours, rows), theirs(rows), 1e-9)


@pytest.mark.parametrize("n_tasks", [2, 7])
def test_excess_mtl_over_many_steps(n_tasks):
    ours = ExcessMTL(rate=0.5, warmup=2)
    theirs = peer.ExcessMTLWeighting(robust_step_size=0.5, n_warmup_steps=2)
    ours.bind([f"task{i}" for i in range(n_tasks)])
    for seed in range(6):
        rows = rows_of(n_tasks, "scales", seed)
        weights = ours(Signals.of(torch.ones(n_tasks), rows=rows))
        torch.testing.assert_close(weights, theirs(rows), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("n_tasks", [2, 7])
def test_sdmgrad_and_modo_over_many_steps(n_tasks, independent):
    pairs = [
        (SDMGrad(independent=independent), peer.SDMGradWeighting()),
        (MoDo(gamma=0.01, rho=0.1, independent=independent), peer.MoDoWeighting(gamma=0.01, rho=0.1)),
    ]
    for ours, theirs in pairs:
        ours.bind([f"task{i}" for i in range(n_tasks)])
        for seed in range(6):
            rows, others = rows_of(n_tasks, "conflict", seed), rows_of(n_tasks, "conflict", seed + 100)
            cross = rows @ others.T if independent else rows @ rows.T
            signals = Signals.of(torch.ones(n_tasks), rows=rows, cross_gramian=cross)
            torch.testing.assert_close(ours(signals), theirs(cross), rtol=1e-5, atol=1e-6)


def test_cr_mogm_over_many_steps():
    ours, theirs = CRMOGM("aligned_mtl", momentum=0.7), peer.CRMOGMWeighting(peer.AlignedMTLWeighting(), alpha=0.7)
    ours.bind(["a", "b", "c"])
    for seed in range(6):
        rows = rows_of(3, "random", seed)
        weights = ours(Signals.of(torch.ones(3), rows=rows))
        torch.testing.assert_close(weights, theirs(rows @ rows.T), rtol=1e-7, atol=1e-9)


def test_graddrop_has_their_mean():
    rows = rows_of(3, "conflict")
    ours, theirs = GradDrop(), peer.GradDrop()
    ours.bind(["a", "b", "c"])
    signals = Signals.of(torch.ones(3), rows=rows)
    n = 4000
    found = sum(ours.combine(signals, torch.ones(3)) for _ in range(n)) / n
    expected = sum(theirs(rows) for _ in range(n)) / n
    assert (found - expected).abs().max() <= 6 * 2 * rows.abs().sum(dim=0).max() / n**0.5
