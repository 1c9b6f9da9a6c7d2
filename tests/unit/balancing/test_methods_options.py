"""Options of the methods, their errors, and what each does in its corner cases."""

from __future__ import annotations

import math

import pytest
import torch

from polytask.balancing import (
    CRMOGM,
    DBMTL,
    DTP,
    DWA,
    FAMO,
    GLS,
    IGB,
    IMTLG,
    MGDA,
    RLW,
    STCH,
    AlignedMTL,
    AutoLambda,
    CAGrad,
    ConFIG,
    CosineGate,
    DualProj,
    ExcessMTL,
    ExcessRisk,
    FairGrad,
    Fixed,
    GradDrop,
    GradNorm,
    GradVac,
    MoCo,
    MoDo,
    NashMTL,
    PCGrad,
    RandomGradients,
    ScaleInvariant,
    SDMGrad,
    Signals,
    Tchebycheff,
    Uncertainty,
    UPGrad,
    registry,
)
from polytask.balancing.adam import PerTaskAdam
from polytask.balancing.draws import Draws
from polytask.balancing.resilient import PerTaskResilient
from polytask.errors import RecipeError

PREFERRING = (MGDA, UPGrad, DualProj, AlignedMTL, ConFIG, STCH, Tchebycheff, SDMGrad)


def bound(balancer, *tasks):
    balancer.bind(tasks or ("a", "b"))
    return balancer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DWA(temperature=0.0), "temperature above 0.0"),
        (lambda: DWA(period=0), "period of at least 1"),
        (lambda: GLS(smallest=-1.0), "smallest above"),
        (lambda: FAMO(lr=math.nan), "lr above"),
        (lambda: DTP(momentum=1.5), "momentum from 0.0 to 1.0"),
        (lambda: STCH(mu=0.0), "mu above"),
        (lambda: Uncertainty(variant="kendall"), "'log' and 'positive'"),
        (lambda: MGDA(normalise="l2"), "loss\\+norm"),
        (lambda: AlignedMTL(scale="max"), "min, median, rmse"),
        (lambda: CosineGate(gate="soft"), "'sign' and 'cosine'"),
        (lambda: CAGrad(c=-0.5), "c above"),
        (lambda: FairGrad(alpha=0.0), "alpha above"),
        (lambda: NashMTL(max_norm=0.0), "max_norm above"),
        (lambda: GradVac(beta=2.0), "beta from"),
        (lambda: DBMTL(beta=-0.1), "beta from"),
        (lambda: MoCo(gamma=0.0), "gamma above"),
        (lambda: MoDo(rho=-1.0), "rho of at least"),
        (lambda: SDMGrad(iterations=0), "iterations of at least"),
        (lambda: ExcessMTL(warmup=0), "warmup of at least"),
        (lambda: ExcessRisk(rate=0.0), "rate above"),
        (lambda: GradNorm(lr=0.0), "lr above"),
        (lambda: IGB(period=0), "period of at least"),
        (lambda: AutoLambda(step=0.0), "step above"),
        (lambda: CRMOGM("graddrop"), "direction of its own"),
        (lambda: CRMOGM("nosuch"), "No balancer named"),
        (lambda: bound(CosineGate(main="c")), "no task 'c'"),
        (lambda: bound(CosineGate(main=2)), "no task 2"),
        (lambda: bound(Fixed({"c": 1.0})), "names 'c', which is no task"),
        (lambda: bound(Fixed([1.0])), "1 numbers for 2 tasks"),
        (lambda: bound(Fixed({"a": "much"})), "takes one number per task; got 'much' among them"),
        (lambda: bound(Fixed([1.0, None])), "takes one number per task; got None among them"),
        (lambda: CRMOGM({"name": "mgda"}), "by its name, such as mgda"),
        (lambda: PCGrad(seed=-1), "from 0 to 2\\^63 - 1, got -1"),
        (lambda: Uncertainty(start=math.nan), "start from -100.0 to 100.0, got nan"),
        (lambda: bound(UPGrad([1.0, -1.0])), "not negative"),
        (lambda: bound(UPGrad("ab")), "one number per task"),
        *((lambda cls=cls: bound(cls(preference=[0.0, 0.0])), "above 0 for one task") for cls in PREFERRING),
        (lambda: bound(Tchebycheff(ideal=[math.inf, 1.0])), "finite"),
        (lambda: bound(GradDrop(leak=[0.5, 1.5])), "leak for 'b' from 0.0 to 1.0, got 1.5"),
        (lambda: bound(Fixed(), "a", "b", "a"), "one name for each task, got 'a' twice"),
        (lambda: registry.create("nash_mtl", every=3), "No option of balancer 'nash_mtl'"),
    ],
)
def test_a_wrong_option_is_named(make, message):
    with pytest.raises(RecipeError, match=message):
        make()


def test_preferences_by_name_and_by_order_are_the_same():
    signals = Signals.of([1.0, 2.0], rows=[[1.0, 0.5], [-0.5, 1.0]])
    for cls in PREFERRING:
        by_name = bound(cls(preference={"b": 3.0}))(signals)
        by_order = bound(cls(preference=[1.0, 3.0]))(signals)
        larger = bound(cls(preference=[2.0, 6.0]))(signals)
        torch.testing.assert_close(by_name, by_order, rtol=0, atol=0)
        torch.testing.assert_close(by_name, larger)


@pytest.mark.parametrize("cls", [UPGrad, DualProj, AlignedMTL, ConFIG, SDMGrad])
def test_where_only_tasks_without_preference_are_present_they_share(cls):
    rows = [[1.0, 0.5], [-0.5, 1.0]]
    balancer = bound(cls(preference=[0.0, 0.0, 1.0]), "a", "b", "c")
    weights = balancer(Signals.of([1.0, 2.0], index=[0, 1], rows=rows))
    torch.testing.assert_close(weights, bound(cls())(Signals.of([1.0, 2.0], rows=rows)))
    assert balancer.fallbacks == []


@pytest.mark.parametrize("cls", [DBMTL, ExcessMTL, MoCo])
def test_state_as_long_as_a_gradient_starts_anew_with_other_parameters_and_says_so(cls):
    balancer = bound(cls())
    balancer(Signals.of([1.0, 2.0], rows=torch.eye(2)))
    assert balancer.fallbacks == []
    balancer(Signals.of([1.0, 2.0], rows=torch.ones(2, 3)))
    assert len(balancer.fallbacks) == 1
    assert "starts anew" in balancer.fallbacks[0]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_preference_picks_the_point_of_the_front(share):
    """Two quadratic losses: the smooth Tchebycheff minimum has equal weighted losses, whatever the start."""
    x = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    balancer = bound(STCH(mu=0.01, preference=[share, 1 - share]))
    optimiser = torch.optim.Adam([x], lr=0.01)
    for _ in range(1500):
        losses = torch.stack([(x - torch.tensor([c, 0.0])).square().sum() for c in (-1.0, 1.0)])
        optimiser.zero_grad()
        (losses * balancer(Signals.of(losses.detach()))).sum().backward()
        optimiser.step()
    first, second = losses.tolist()
    assert share * first == pytest.approx((1 - share) * second, rel=0.05)
    assert math.sqrt(first) + math.sqrt(second) == pytest.approx(2.0, rel=0.01)  # on the segment: the front


def test_losses_that_have_no_logarithm_are_counted():
    for cls in (ScaleInvariant, GLS, FAMO, IGB, DBMTL):
        balancer = bound(cls())
        signals = Signals.of([-1.0, 1.0], rows=[[1.0, 0.0], [0.0, 1.0]])
        assert bool(balancer(signals).isfinite().all())
        assert len(balancer.fallbacks) == 1, cls
        assert "a loss is below" in balancer.fallbacks[0]


def test_nan_after_the_step_leaves_famo_alone():
    balancer = bound(FAMO())
    balancer(Signals.of([1.0, 2.0]))
    before = {k: v.clone() for k, v in balancer.state_dict().items()}
    balancer.after_step(Signals.of([math.nan, 1.0]))
    assert all(torch.equal(before[k], v) for k, v in balancer.state_dict().items())
    assert len(balancer.fallbacks) == 1


def test_solvers_without_a_solution_are_counted():
    opposite = Signals.of([1.0, 1.0], rows=[[1.0, 0.0], [-2.0, 0.0]])
    for balancer in (NashMTL(), FairGrad()):
        weights = bound(balancer)(opposite)
        torch.testing.assert_close(weights, torch.tensor([2 / 3, 1 / 3], dtype=torch.float64))
        assert len(balancer.fallbacks) == 1
    cancelling = Signals.of([1.0, 1.0], rows=[[1.0, 0.0], [-1.0, 0.0]])
    impartial = bound(IMTLG())
    assert bool(impartial(cancelling).isfinite().all())


@pytest.mark.parametrize("normalise", ["norm", "loss+norm"])
def test_a_task_without_gradient_takes_the_whole_weight_with_a_normaliser_too(normalise):
    balancer = bound(MGDA(normalise=normalise))
    weights = balancer(Signals.of([1.0, 2.0], gramian=[[4.0, 0.0], [0.0, 0.0]]))
    assert weights.tolist() == [0.0, 1.0]
    assert balancer.fallbacks == []


def test_powers_beyond_the_numbers_end_the_search_and_are_counted():
    """They made the line search go on for ever."""
    rows = torch.logspace(-15, 15, 4).double()[:, None] * torch.eye(4, 5).double().add(0.1)
    balancer = bound(FairGrad(alpha=0.02), *"abcd")
    weights = balancer(Signals.of(torch.ones(4), rows=rows))
    assert weights.sum().item() == pytest.approx(1.0)
    assert "beyond the range" in balancer.fallbacks[0]


def test_a_leak_lets_dropped_elements_through():
    rows = torch.tensor([[1.0, -1.0, 2.0], [-2.0, 3.0, 1.0]], dtype=torch.float64)
    signals = Signals.of([1.0, 1.0], rows=rows)
    dropped = bound(GradDrop(seed=5)).combine(signals, torch.ones(2))
    leaking = bound(GradDrop(leak={"b": 0.25}, seed=5)).combine(signals, torch.ones(2))
    is_first = dropped == rows[0]
    assert torch.equal(is_first | (dropped == rows[1]), torch.tensor([True, True, False]))
    torch.testing.assert_close(leaking, dropped + 0.25 * torch.where(is_first, rows[1], 0.0))
    everything = bound(GradDrop(leak=[1.0, 1.0])).combine(signals, torch.ones(2))
    torch.testing.assert_close(everything, rows.sum(0))


def test_a_signal_that_was_not_measured_is_named():
    for cls, name in ((NashMTL, "gramian"), (MoCo, "rows"), (AutoLambda, "validation"), (DBMTL, "rows")):
        with pytest.raises(TypeError, match=f"needs the signal '{name}'"):
            bound(cls())(Signals.of([1.0, 2.0]))


def test_dtp_follows_what_it_is_told():
    balancer = bound(DTP(momentum=0.0))
    from_losses = balancer(Signals.of([0.1, 3.0]))
    assert from_losses[1] > from_losses[0]
    balancer.observe({"a": 0.1, "b": 0.99})
    told = balancer(Signals.of([0.1, 3.0]))
    assert told[0] > told[1]
    with pytest.raises(RecipeError, match="no task"):
        balancer.observe({"c": 0.5})
    with pytest.raises(RecipeError, match="figure of 'a'"):
        balancer.observe({"a": 1.5})


def test_dwa_of_an_absent_task_keeps_its_averages():
    balancer = bound(DWA(period=1, temperature=1.0))
    for losses in ([1.0, 4.0], [1.0, 2.0]):
        balancer(Signals.of(losses))
    for _ in range(3):
        balancer(Signals.of([1.0], index=[0]))
    weights = balancer(Signals.of([1.0, 1.0]))
    expected = 2 * torch.softmax(torch.tensor([1.0, 0.5], dtype=torch.float64), dim=0)
    torch.testing.assert_close(weights, expected)


def test_a_gate_without_its_main_task_waits():
    balancer = bound(CosineGate(main="b"), "a", "b", "c")
    signals = Signals.of([1.0, 1.0], index=[0, 2], rows=[[1.0, 0.0], [0.0, 1.0]])
    assert balancer(signals).tolist() == [0.0, 0.0]
    assert balancer.head_weights(signals, balancer(signals)).tolist() == [1.0, 1.0]


def test_learned_weights_of_absent_tasks_get_no_gradient():
    balancer = bound(Uncertainty(), "a", "b", "c")
    balancer(Signals.of([1.0, 3.0], index=[0, 2]))
    assert [p.grad is None for p in balancer.log_variance] == [False, True, False]
    balancer(Signals.of([1.0, 3.0], index=[0, 2]))
    assert balancer.log_variance[2].grad.item() == pytest.approx(2 * (0.5 - 3.0))


def test_what_an_object_needs_follows_its_options():
    assert "rows" in DBMTL().needs
    assert DBMTL(beta=0.0).needs == {"losses", "gramian"}
    assert "cross_gramian" in MoDo(independent=True).needs
    assert CRMOGM("rlw").needs == {"losses"}
    with pytest.raises(TypeError, match="cross"):
        bound(SDMGrad(independent=True))(Signals.of([1.0, 1.0], gramian=torch.eye(2)))


@pytest.mark.parametrize("cls", [RLW, RandomGradients, PCGrad, GradVac, GradDrop])
def test_random_methods_repeat_with_their_seed_and_leave_the_global_generators_alone(cls):
    signals = Signals.of([1.0] * 5, rows=torch.randn(5, 9, generator=torch.Generator().manual_seed(0)))

    def run(seed):
        balancer = bound(cls(seed=seed), *"abcde")
        found = []
        for _ in range(3):
            weights = balancer(signals)
            own = balancer.combine(signals, weights)
            found.append(weights if own is None else own)
        return torch.stack(found)

    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert torch.equal(run(4), run(4))
    assert not torch.equal(run(4), run(5))
    assert not torch.equal(run(4)[0], run(4)[1])
    assert torch.equal(torch.get_rng_state(), before)


def test_draws_are_spread_over_their_range():
    draws = Draws(3)
    values = torch.tensor([draws.numpy().random() for _ in range(2000)])
    assert abs(float(values.mean()) - 0.5) < 0.03
    assert abs(float(values[1:].sub(0.5).mul(values[:-1].sub(0.5)).mean())) < 0.01


def test_adam_per_task_is_torchs_adam_on_the_steps_that_a_task_has():
    ours = torch.zeros(2, dtype=torch.float64)
    adam = PerTaskAdam(2, lr=0.1, decay=0.01)
    theirs = [torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    optimisers = [torch.optim.Adam([p], lr=0.1, weight_decay=0.01) for p in theirs]
    for k, present in enumerate(([0, 1], [1], [0, 1], [0])):
        gradient = torch.tensor([math.sin(k + 3.0 * i) for i in present], dtype=torch.float64)
        adam.step(ours, gradient, torch.tensor(present))
        for i, g in zip(present, gradient, strict=True):
            theirs[i].grad = g.reshape(1)
            optimisers[i].step()
    torch.testing.assert_close(ours, torch.cat(theirs).detach())


@pytest.mark.parametrize(("name", "rounds"), [("mgda", 400), ("nash_mtl", 80), ("fairgrad", 80)])
def test_the_matrix_free_step_tends_to_the_exact_direction(name, rounds):
    rows = torch.randn(4, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows -= 0.8 * rows.mean(dim=0)
    signals = Signals.of([1.0] * 4, rows=rows)
    balancer = bound(registry.create(name), *"abcd")
    exact = balancer(signals) @ rows
    weights = torch.full((4,), 0.25, dtype=torch.float64)
    for _ in range(rounds):
        weights = balancer.iterate(signals, weights, signals.gramian @ weights)
    found = weights @ rows
    assert float(torch.cosine_similarity(found, exact, dim=0)) > 0.999


def test_a_slope_that_is_rounding_moves_no_step_of_the_matrix_free_mode():
    """A task that is alone has a slope of zero but for the last bits, whose sign says nothing."""
    index, weights = torch.arange(2), torch.ones(2, dtype=torch.float64)
    slopes = torch.tensor([[0.5, -0.5], [0.4, -0.4], [0.3, 0.3]], dtype=torch.float64)
    ends = []
    for rounding in (0.0, 2e-16, -2e-16):
        steps = PerTaskResilient(2)
        moved = steps.step(weights, slopes[0], index)
        moved = steps.step(moved, torch.full((2,), rounding, dtype=torch.float64), index)
        for slope in slopes[1:]:
            moved = steps.step(moved, slope, index)
        ends.append(torch.cat([moved, steps.size, steps.side]))
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-12, atol=0.0)
    torch.testing.assert_close(ends[2], ends[0], rtol=1e-12, atol=0.0)
