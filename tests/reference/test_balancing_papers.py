"""Every method against its paper's formula, written anew on whole gradients or by automatic differentiation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch.nn.functional import softmax

from polytask.balancing import (
    DBMTL,
    DTP,
    DWA,
    FAMO,
    GLS,
    IGB,
    IMTL,
    IMTLG,
    IMTLL,
    MGDA,
    RLW,
    STCH,
    UWSO,
    AutoLambda,
    CosineGate,
    ExcessRisk,
    FairGrad,
    GradDrop,
    GradNorm,
    GradVac,
    MoCo,
    NashMTL,
    PCGrad,
    RandomGradients,
    ScaleInvariant,
    Signals,
    Tchebycheff,
    Uncertainty,
)
from polytask.balancing.draws import Draws
from polytask.balancing.solvers.surgery import orders
from polytask.balancing.validation import validation_products

SIZES = [2, 5, 12]


def names(n):
    return [f"task{i}" for i in range(n)]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def positive_losses(n, seed=0):
    return draw(n, seed=seed).exp()


def bound(balancer, n):
    balancer.bind(names(n))
    return balancer


def derivative(objective, losses):
    """Weights of the losses in a scalar objective, by automatic differentiation."""
    leaf = losses.clone().requires_grad_()
    return torch.autograd.grad(objective(leaf), leaf)[0]


def same(found, expected, rtol=1e-9):
    torch.testing.assert_close(found, expected, rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("n", SIZES)
class TestLossObjectives:
    """The weights are the derivative of the objective by the losses."""

    def test_scale_invariant_and_gls(self, n):
        losses = positive_losses(n)
        same(bound(ScaleInvariant(), n)(Signals.of(losses)), derivative(lambda x: x.log().sum(), losses))
        same(bound(GLS(), n)(Signals.of(losses)), derivative(lambda x: x.prod() ** (1 / n), losses))

    def test_tchebycheff_and_its_smooth_form(self, n):
        losses, preference, ideal = positive_losses(n), positive_losses(n, 1), 0.1 * positive_losses(n, 2)
        share = preference / preference.mean()
        options = {"preference": preference.tolist(), "ideal": ideal.tolist()}
        hard = derivative(lambda x: (share * (x - ideal)).max(), losses)
        same(bound(Tchebycheff(**options), n)(Signals.of(losses)), hard)
        smooth = derivative(lambda x: 0.3 * torch.logsumexp(share * (x - ideal) / 0.3, 0), losses)
        same(bound(STCH(mu=0.3, **options), n)(Signals.of(losses)), smooth)
        sharp = bound(STCH(mu=1e-4, **options), n)(Signals.of(losses))
        same(sharp, hard)

    def test_stch_after_its_warm_up(self, n):
        balancer = bound(STCH(mu=0.5, warmup=2), n)
        first, second, third, last = (positive_losses(n, seed) for seed in range(4))
        same(balancer(Signals.of(first, epoch=0)), 1 / first)
        balancer(Signals.of(second, epoch=1))
        balancer(Signals.of(third, epoch=1))
        nadir = (second + third) / 2
        expected = derivative(lambda x: n * 0.5 * torch.logsumexp((x / nadir).log() / 0.5, 0), last)
        same(balancer(Signals.of(last, epoch=2)), expected)

    @pytest.mark.parametrize("variant", ["log", "positive"])
    def test_uncertainty(self, n, variant):
        losses, start = positive_losses(n), 0.3
        balancer = bound(Uncertainty(variant=variant, start=start), n)
        s = torch.full((n,), start, dtype=torch.float64, requires_grad=True)
        sigma2 = s.exp()
        rest = 0.5 * sigma2.log() if variant == "log" else (1 + sigma2).log()
        objective = (losses / (2 * sigma2) + rest).sum()
        same(balancer(Signals.of(losses)), (1 / (2 * sigma2)).detach())
        same(torch.stack([p.grad for p in balancer.log_variance]), torch.autograd.grad(objective, s)[0])

    def test_uw_so(self, n):
        losses = positive_losses(n).numpy()
        best = [minimize_scalar(lambda s, loss=loss: loss / np.exp(s) + s).x for loss in losses]  # s = log sigma
        shares = np.exp(np.exp(-np.array(best)) / 3.0)
        found = UWSO(temperature=3.0)(Signals.of(losses)).numpy()
        np.testing.assert_allclose(found, shares / shares.sum(), rtol=1e-5)

    def test_imtl_l(self, n):
        losses = positive_losses(n)
        balancer = bound(IMTLL(), n)
        for parameter, value in zip(balancer.log_scale, draw(n, seed=4), strict=True):
            parameter.data.fill_(value)
        s = draw(n, seed=4).requires_grad_()
        same(balancer(Signals.of(losses)), s.detach().exp())
        same(
            torch.stack([p.grad for p in balancer.log_scale]),
            torch.autograd.grad((s.exp() * losses - s).sum(), s)[0],
        )

    def test_dwa(self, n):
        balancer = bound(DWA(temperature=2.0), n)
        history = [[positive_losses(n, 10 * epoch + step) for step in range(3)] for epoch in range(4)]
        for epoch, steps in enumerate(history):
            for losses in steps:
                weights = balancer(Signals.of(losses, epoch=epoch))
            if epoch < 2:
                same(weights, torch.ones(n, dtype=torch.float64))
            else:
                last, before = (torch.stack(history[epoch - back]).mean(dim=0) for back in (1, 2))
                same(weights, n * softmax(last / before / 2.0, dim=0))

    def test_igb(self, n):
        balancer = bound(IGB(), n)
        early = [positive_losses(n, seed) for seed in range(3)]
        for losses in early:
            same(balancer(Signals.of(losses)), 1 / losses)
        losses = positive_losses(n, 7)
        omega = n * softmax(losses / torch.stack(early).mean(dim=0), dim=0)
        same(balancer(Signals.of(losses, epoch=1)), derivative(lambda x: (omega * x.log()).sum(), losses))

    def test_famo(self, n):
        balancer = bound(FAMO(lr=0.1, decay=0.01), n)
        logits = torch.zeros(n, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.Adam([logits], lr=0.1, weight_decay=0.01)
        for seed in range(5):
            before, after = positive_losses(n, seed), positive_losses(n, seed + 50)
            z = softmax(logits.detach(), dim=0)
            c = 1 / (z / before).sum()
            expected = derivative(lambda x, z=z, c=c: c * (z * x.log()).sum(), before)
            same(balancer(Signals.of(before)), expected, rtol=1e-7)
            balancer.after_step(Signals.of(after))
            optimiser.zero_grad()
            (softmax(logits, dim=0) * (before.log() - after.log())).sum().backward()
            optimiser.step()

    def test_dtp(self, n):
        balancer = bound(DTP(gamma=2.0, momentum=0.5), n)
        figures = [torch.rand(n, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in range(2)]
        for figure in figures:
            balancer.observe(dict(zip(names(n), figure.tolist(), strict=True)))
        mean = (figures[0] + figures[1]) / 2
        same(balancer(Signals.of(positive_losses(n))), -((1 - mean) ** 2) * mean.log())

    def test_excess_risk(self, n):
        balancer = bound(ExcessRisk(rate=0.3, momentum=0.0), n)
        alpha, first = torch.ones(n, dtype=torch.float64), positive_losses(n, 0)
        for seed in range(4):
            losses = positive_losses(n, seed)
            alpha = alpha * torch.exp(0.3 * losses / first)
            same(balancer(Signals.of(losses)), n * alpha / alpha.sum())

    def test_random_weights_are_softmaxes_of_normal_draws(self, n):
        for cls in (RLW, RandomGradients):
            balancer = bound(cls(seed=3), n)
            drawn = torch.stack([balancer(Signals.of(positive_losses(n))) for _ in range(3000)])
            same(drawn.sum(dim=1), torch.ones(3000, dtype=torch.float64))
            centred = drawn.log() - drawn.log().mean(dim=1, keepdim=True)
            assert centred.var(dim=0).sub(1 - 1 / n).abs().max() < 0.15
            assert centred.mean(dim=0).abs().max() < 0.1


@pytest.mark.parametrize("n", SIZES)
class TestGradientMethods:
    def test_pcgrad(self, n):
        rows = draw(n, n + 3)
        balancer = bound(PCGrad(seed=5), n)
        again = Draws(5)
        for _ in range(3):
            expected = torch.zeros(rows.shape[1], dtype=torch.float64)
            for i, order in enumerate(orders(again.numpy(), n)):
                g = rows[i].clone()
                for j in order:
                    if g @ rows[j] < 0:
                        g -= (g @ rows[j]) / rows[j].square().sum() * rows[j]
                expected += g
            same(balancer(Signals.of(positive_losses(n), rows=rows)) @ rows, expected)

    def test_gradvac(self, n):
        balancer = bound(GradVac(beta=0.3, seed=5), n)
        again = Draws(5)
        usual = np.zeros((n, n))
        for step in range(4):
            rows = draw(n, n + 3, seed=step)
            expected = torch.zeros(rows.shape[1], dtype=torch.float64)
            for i, order in enumerate(orders(again.numpy(), n)):
                g = rows[i].clone()
                for j in order:
                    phi = float(g @ rows[j] / (g.norm() * rows[j].norm()))
                    hat = usual[i, j]
                    if phi < hat:
                        up = float(g.norm()) * (hat * (1 - phi**2) ** 0.5 - phi * (1 - hat**2) ** 0.5)
                        g = g + up / (float(rows[j].norm()) * (1 - hat**2) ** 0.5) * rows[j]
                        # the point of the formula: the new cosine is the usual one
                        assert float(g @ rows[j] / (g.norm() * rows[j].norm())) == pytest.approx(hat, abs=1e-9)
                    usual[i, j] = 0.7 * hat + 0.3 * phi
                expected += g
            same(balancer(Signals.of(positive_losses(n), rows=rows)) @ rows, expected, rtol=1e-7)

    def test_nash_and_fair_directions(self, n):
        rows = draw(n, 3 * n) * torch.logspace(-1, 1, n, dtype=torch.float64)[:, None]
        for balancer, alpha in ((NashMTL(), 1.0), (FairGrad(alpha=1.0), 1.0), (FairGrad(alpha=2.0), 2.0)):
            weights = bound(balancer, n)(Signals.of(positive_losses(n), rows=rows))
            gains = rows @ (weights @ rows)
            ratio = gains * weights ** (1 / alpha)
            same(ratio / ratio[0], torch.ones(n, dtype=torch.float64), rtol=1e-7)
            assert balancer.fallbacks == []

    def test_nash_clips_to_the_norm_it_is_told(self, n):
        rows = 10 * draw(n, 3 * n)
        weights = bound(NashMTL(max_norm=1.0), n)(Signals.of(positive_losses(n), rows=rows))
        assert float((weights @ rows).norm()) == pytest.approx(1.0)

    def test_imtl_g_projects_equally(self, n):
        rows = draw(n, 3 * n) * torch.logspace(-1, 1, n, dtype=torch.float64)[:, None]
        weights = bound(IMTLG(), n)(Signals.of(positive_losses(n), rows=rows))
        projections = (rows @ (weights @ rows)) / rows.norm(dim=1)
        same(projections / projections[0], torch.ones(n, dtype=torch.float64), rtol=1e-7)
        assert float(weights.sum()) == pytest.approx(1.0)

    def test_imtl_is_impartial_on_the_scaled_losses(self, n):
        rows, losses = draw(n, 3 * n), positive_losses(n)
        balancer = bound(IMTL(), n)
        for parameter, value in zip(balancer.scales.log_scale, draw(n, seed=9), strict=True):
            parameter.data.fill_(value)
        scale = draw(n, seed=9).exp()
        weights = balancer(Signals.of(losses, rows=rows))
        expected = bound(IMTLG(), n)(Signals.of(losses, rows=rows * scale[:, None]))
        same(weights, expected * scale)
        same(torch.stack([p.grad for p in balancer.scales.log_scale]), scale * losses - 1)
        same(balancer.head_weights(Signals.of(losses), weights), scale)

    @pytest.mark.parametrize("normalise", ["none", "norm", "loss", "loss+norm"])
    def test_mgda_searches_among_the_scaled_gradients(self, n, normalise):
        rows, losses, preference = draw(n, 3 * n), positive_losses(n), positive_losses(n, 3)
        share = preference / preference.mean()
        divisor = torch.ones(n, dtype=torch.float64)
        divisor = divisor * (rows.norm(dim=1) if "norm" in normalise else 1.0)
        divisor = divisor * (losses if "loss" in normalise else 1.0)
        scaled = rows * (share / divisor)[:, None]
        balancer = bound(MGDA(preference=preference.tolist(), normalise=normalise), n)
        alpha = balancer(Signals.of(losses, rows=rows)) / share
        shortest = alpha @ scaled
        assert float(alpha.sum()) == pytest.approx(1.0)
        assert float((scaled @ shortest).min()) == pytest.approx(float(shortest @ shortest), rel=1e-6)

    def test_gradnorm(self, n):
        balancer = bound(GradNorm(alpha=1.2, lr=0.05), n)
        w = torch.ones(n, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.Adam([w], lr=0.05)
        first = positive_losses(n, 0)
        for step in range(4):
            losses, rows = positive_losses(n, step), draw(n, n + 2, seed=step)
            same(balancer(Signals.of(losses, rows=rows)), w.detach(), rtol=1e-6)
            size = w * rows.norm(dim=1)
            progress = losses / first
            target = (size.mean() * (progress / progress.mean()) ** 1.2).detach()
            optimiser.zero_grad()
            (size - target).abs().sum().backward()
            optimiser.step()
            with torch.no_grad():
                w *= n / w.sum()

    @pytest.mark.parametrize("beta", [0.0, 0.6])
    def test_db_mtl(self, n, beta):
        balancer = bound(DBMTL(beta=beta, sigma=0.5), n)
        average = None
        for step in range(4):
            rows, losses = draw(n, n + 2, seed=step), positive_losses(n, step)
            logs = rows / losses[:, None]
            rate = beta / (step + 1) ** 0.5
            average = logs if average is None else rate * average + (1 - rate) * logs
            lengths = average.norm(dim=1)
            expected = (lengths.max() / lengths) @ average
            signals = Signals.of(losses, rows=rows)
            weights = balancer(signals)
            own = balancer.combine(signals, weights)
            same(weights @ rows if own is None else own, expected)

    @pytest.mark.parametrize("normalise", [False, True])
    def test_moco(self, n, normalise):
        balancer = bound(MoCo(beta=0.5, gamma=0.1, rho=0.2, normalise=normalise), n)
        tracked, share = torch.zeros(n, n + 2, dtype=torch.float64), torch.full((n,), 1 / n, dtype=torch.float64)
        for step in range(1, 5):
            rows, losses = draw(n, n + 2, seed=step), positive_losses(n, step)
            h = rows / rows.norm(dim=1, keepdim=True) * losses[:, None] if normalise else rows
            tracked = tracked - 0.5 / step**0.5 * (tracked - h)
            moved = share - 0.1 / step**0.5 * (tracked @ tracked.T + 0.2 * torch.eye(n)) @ share
            share = nearest_on_simplex(moved)
            signals = Signals.of(losses, rows=rows)
            same(balancer.combine(signals, balancer(signals)), share @ tracked, rtol=1e-6)

    def test_graddrop_keeps_one_sign_per_element(self, n):
        rows = draw(n, 50)
        rows[:, 3] = rows[:, 3].abs()
        balancer = bound(GradDrop(), n)
        signals = Signals.of(positive_losses(n), rows=rows)
        up, down = rows.clamp(min=0).sum(dim=0), rows.clamp(max=0).sum(dim=0)
        results = torch.stack([balancer.combine(signals, torch.ones(n)) for _ in range(2000)])
        is_up, is_down = torch.isclose(results, up), torch.isclose(results, down)
        assert bool((is_up | is_down).all())
        purity = 0.5 * (1 + rows.sum(dim=0) / rows.abs().sum(dim=0))
        mixed = (rows > 0).any(dim=0) & (rows < 0).any(dim=0)
        assert (is_up.double().mean(dim=0) - purity)[mixed].abs().max() < 0.06
        same(bound(GradDrop(leak=[1.0] * n), n).combine(signals, torch.ones(n)), rows.sum(dim=0))

    def test_cosine_gate(self, n):
        rows = draw(n, 4)
        cosines = torch.nn.functional.cosine_similarity(rows, rows[1:2], dim=1)
        signals = Signals.of(positive_losses(n), rows=rows)
        soft = bound(CosineGate(main="task1", gate="cosine"), n)(signals)
        same(soft, cosines.clamp(min=0))
        same(bound(CosineGate(main=1), n)(signals), (cosines >= 0).double())


def nearest_on_simplex(point):
    """By bisection on the multiplier, another way than the library's sort."""
    low, high = point.min() - 1, point.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (point - middle).clamp(min=0).sum() > 1 else (low, middle)
    return (point - (low + high) / 2).clamp(min=0)


def test_auto_lambda_moves_the_weights_along_the_bilevel_gradient():
    """The products are checked against differentiating through the look-ahead step itself."""
    theta = draw(6).requires_grad_()
    train_data, validation_data = draw(3, 6, seed=1), draw(6, seed=2)

    def train():
        return [torch.tanh(row @ theta) ** 2 for row in train_data]

    def validation_at(parameters):
        return (validation_data @ parameters - 1.0) ** 2

    before = theta.detach().clone()
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    found = validation_products(train, lambda: validation_at(theta), [theta], weights, 0.1, width=1e-4)
    same(theta.detach(), before, rtol=0)
    assert theta.grad is None

    leaf = weights.clone().requires_grad_()
    total = sum(w * loss for w, loss in zip(leaf, train(), strict=True))
    ahead = theta - 0.1 * torch.autograd.grad(total, theta, create_graph=True)[0]
    bilevel = torch.autograd.grad(validation_at(ahead), leaf)[0]
    torch.testing.assert_close(-0.1 * found, bilevel, rtol=1e-5, atol=1e-8)

    balancer = bound(AutoLambda(lr=0.01, start=0.1, step=0.1), 3)
    expected = torch.full((3,), 0.1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([expected], lr=0.01)
    expected.grad = bilevel
    optimiser.step()
    same(balancer(Signals.of(weights, validation=found)), expected.detach(), rtol=1e-5)


def test_nash_and_mgda_of_two_by_hand():
    gramian = torch.tensor([[4.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    same(bound(MGDA(), 2)(Signals.of([1.0, 1.0], gramian=gramian)), torch.tensor([0.2, 0.8], dtype=torch.float64))
    raw = torch.tensor([0.5, 1.0], dtype=torch.float64)  # 1 / |g|
    same(bound(NashMTL(), 2)(Signals.of([1.0, 1.0], gramian=gramian)), raw * 17**0.25)
