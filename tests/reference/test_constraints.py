"""Constraints against closed forms, and against Cooper in float64, step by step."""

import cooper
import pytest
import torch

from polytask.balancing import Constrained, Equal, balanced_backward, registry
from polytask.balancing.balancer import Signals
from polytask.balancing.multipliers import AugmentedLagrangian, Lagrangian, NuPI, QuadraticPenalty
from polytask.errors import RecipeError
from polytask.testing.multipliers import solve

EXACT = {
    "lagrangian": lambda **options: Lagrangian(rate=0.1, **options),
    "augmented_lagrangian": lambda **options: AugmentedLagrangian(penalty=2.0, rate=0.5, **options),
    "nupi": lambda **options: NuPI(integral=0.1, proportional=1.0, **options),
}


@pytest.mark.parametrize("name", EXACT)
def test_the_nearest_point_of_a_line(name):
    """min x^2 + y^2 with x + y = 1: (0.5, 0.5), multiplier 1."""
    x, pull = solve(EXACT[name](equalities=["c"]), {"c": lambda x: 1.0 - x.sum()}, steps=300)
    assert torch.allclose(x, torch.full((2,), 0.5).double(), atol=1e-4)
    assert pull.item() == pytest.approx(1.0, abs=1e-4)
    x, pull = solve(EXACT[name](equalities=["c"]), {"c": lambda x: x.sum() - 1.0}, steps=300)
    assert torch.allclose(x, torch.full((2,), 0.5).double(), atol=1e-4)
    assert pull.item() == pytest.approx(-1.0, abs=1e-4), "the sign of the multiplier is that of the constraint"


def test_a_penalty_comes_as_near_as_it_is_large():
    """With a penalty c the minimum of x^2 + y^2 + c/2 (1 - x - y)^2 is c / (2 + 2c) in both places."""
    for c in (1.0, 10.0):
        penalty = QuadraticPenalty(penalty=c, growth=1.0, equalities=["c"])
        x, pull = solve(penalty, {"c": lambda x: 1.0 - x.sum()}, steps=300, rate=0.05)
        assert torch.allclose(x, torch.full((2,), c / (2 + 2 * c)).double(), atol=1e-9)
        assert pull.item() == pytest.approx(c * (1 - 2 * x[0].item()))
    grown = QuadraticPenalty(penalty=1.0, growth=2.0, most=64.0)
    x, _ = solve(grown, {"c": lambda x: 1.0 - x.sum()}, steps=800, rate=0.01, per_epoch=20)
    assert torch.allclose(x, torch.full((2,), 64.0 / 130.0).double(), atol=1e-6), "it grew to the most, and no further"


@pytest.mark.parametrize("name", EXACT)
def test_several_constraints_of_which_some_are_active(name):
    """min x^2 + y^2 with x >= 1, y >= 0.25 x and y <= 3: (1, 0.25); by hand 2x = a - b/4, 2y = b."""
    constraints = {
        "a": lambda x: 1.0 - x[0],
        "b": lambda x: 0.25 * x[0] - x[1],
        "c": lambda x: x[1] - 3.0,
    }
    x, pull = solve(EXACT[name](), constraints, steps=600, start=(2.0, -1.0))
    assert torch.allclose(x, torch.tensor([1.0, 0.25]).double(), atol=1e-4)
    assert torch.allclose(pull, torch.tensor([2.125, 0.5, 0.0]).double(), atol=1e-3)


class Problem(cooper.ConstrainedMinimizationProblem):
    """min x^2 + 2 y^2 - x y with one inequality and one equality, as Cooper states it."""

    def __init__(self, formulation, penalties=()):
        super().__init__()
        kinds = (cooper.ConstraintType.INEQUALITY, cooper.ConstraintType.EQUALITY)
        for name, kind, penalty in zip(("ineq", "eq"), kinds, penalties or (None, None), strict=True):
            multiplier = None
            if formulation.expects_multiplier:
                multiplier = cooper.multipliers.DenseMultiplier(init=torch.zeros(1, dtype=torch.float64))
            options = {"penalty_coefficient": penalty} if penalty is not None else {}
            made = cooper.Constraint(
                constraint_type=kind, multiplier=multiplier, formulation_type=formulation, **options
            )
            if multiplier is not None:
                multiplier.double()  # Cooper makes it float32
            setattr(self, name, made)

    def compute_cmp_state(self, x):
        violations = {self.ineq: violation_a(x), self.eq: violation_b(x)}
        states = {c: cooper.ConstraintState(violation=v.reshape(1)) for c, v in violations.items()}
        return cooper.CMPState(loss=objective(x), observed_constraints=states)


def objective(x):
    return x[0] ** 2 + 2 * x[1] ** 2 - x[0] * x[1]


def violation_a(x):
    return 1.0 - x[0] * x[1]


def violation_b(x):
    return x[0] - 0.3 * x[1] ** 2 - 0.4


def with_cooper(problem, dual, steps):
    x = torch.tensor([1.5, -0.5], dtype=torch.float64, requires_grad=True)
    primal = torch.optim.SGD([x], lr=0.01)
    if dual is None:
        optimiser = cooper.optim.UnconstrainedOptimizer(primal_optimizers=primal, cmp=problem)
    else:
        optimiser = cooper.optim.SimultaneousOptimizer(
            primal_optimizers=primal, dual_optimizers=dual(problem.dual_parameters()), cmp=problem
        )
    path = []
    is_nupi = dual is not None and isinstance(optimiser.dual_optimizers[0], cooper.optim.nuPI)
    for _ in range(steps):
        if is_nupi and len(path) == 1:
            # Cooper's documentation starts at xi_{-1} = e_0, so that xi_0 = e_0; its code sets xi_0 = 0 instead.
            start = torch.tensor([1.5, -0.5], dtype=torch.float64)
            for made, violation in ((problem.ineq, violation_a), (problem.eq, violation_b)):
                optimiser.dual_optimizers[0].state[made.multiplier.weight]["xi"] = violation(start).reshape(1)
        optimiser.roll(compute_cmp_state_kwargs={"x": x})
        path.append(x.detach().clone())
    return torch.stack(path)


def with_ours(multipliers, steps):
    x = torch.tensor([1.5, -0.5], dtype=torch.float64, requires_grad=True)
    balancer = Constrained(Equal(), multipliers, ["ineq", "eq"])
    path = []
    for _ in range(steps):
        losses = {"f": objective(x), "ineq": violation_a(x), "eq": violation_b(x)}
        balanced_backward(losses, [x], balancer=balancer)
        with torch.no_grad():
            x -= 0.01 * x.grad
        x.grad = None
        path.append(x.detach().clone())
    return torch.stack(path)


def ascent(rate):
    return lambda parameters: torch.optim.SGD(parameters, lr=rate, maximize=True)


def float64(value):
    return torch.tensor([value], dtype=torch.float64)


def penalties():
    return [cooper.penalty_coefficients.DensePenaltyCoefficient(torch.tensor([3.0], dtype=torch.float64)) for _ in "ab"]


def test_every_step_is_that_of_cooper():
    formulations = cooper.formulations
    cases = [
        (Problem(formulations.Lagrangian), ascent(0.05), Lagrangian(rate=0.05, equalities=["eq"])),
        (
            Problem(formulations.AugmentedLagrangian, penalties()),
            ascent(0.1),
            AugmentedLagrangian(penalty=3.0, rate=0.1, equalities=["eq"]),
        ),
        (
            Problem(formulations.QuadraticPenalty, penalties()),
            None,
            QuadraticPenalty(penalty=3.0, growth=1.0, equalities=["eq"]),
        ),
        (
            Problem(formulations.Lagrangian),
            lambda parameters: cooper.optim.nuPI(
                parameters, lr=1.0, Kp=float64(0.7), Ki=float64(0.05), ema_nu=0.8, maximize=True
            ),
            NuPI(integral=0.05, proportional=0.7, smoothing=0.8, equalities=["eq"]),
        ),
    ]
    for problem, dual, ours in cases:
        expected, found = with_cooper(problem, dual, 100), with_ours(ours, 100)
        gap = (expected - found).abs().max().item()
        assert gap < 1e-12, (type(ours).__name__, gap)


def test_nupi_swings_less_than_gradient_ascent():
    """A bilinear game: plain ascent circles the solution of min 0 with x = 1, the controller comes to it."""

    def distances(multipliers):
        x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        balancer = Constrained(Equal(), multipliers, ["c"])
        gone = []
        for _ in range(300):
            balanced_backward({"f": 0.0 * x.sum(), "c": 1.0 - x.sum()}, [x], balancer=balancer)
            with torch.no_grad():
                x -= 0.1 * x.grad
            x.grad = None
            gone.append(abs(x.item() - 1.0))
        return max(gone[-100:])

    assert distances(Lagrangian(rate=0.1, equalities=["c"])) > 1.0
    assert distances(NuPI(integral=0.1, proportional=2.0, smoothing=0.0, equalities=["c"])) < 1e-4


def test_the_multiplier_sees_the_measure_and_the_gradient_the_proxy():
    x = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    balancer = Constrained(Equal(), AugmentedLagrangian(penalty=2.0, rate=1.0), ["c"])
    proxy = (x**2).sum()
    violation = proxy + (torch.tensor(0.25) - proxy).detach()
    outcome = balanced_backward({"f": 0.0 * x.sum(), "c": violation}, [x], balancer=balancer)
    assert outcome.losses.tolist() == [0.0, 0.25]
    assert outcome.weights.tolist() == [1.0, 0.5]
    assert x.grad.item() == pytest.approx(0.5 * 0.6)


@pytest.mark.parametrize("name", registry.names())
def test_constraints_leave_every_balancer_of_the_tasks_alone(name):
    """The gradient is that of the balancer without constraints plus the multipliers' pull; so are the weights."""
    torch.manual_seed(0)
    trunk = torch.nn.Linear(4, 6).double()
    heads = torch.nn.ModuleList(torch.nn.Linear(6, 1) for _ in range(3)).double()
    x, y = torch.randn(8, 4).double(), torch.randn(8, 3).double()

    def losses_and_features(rows):
        z = torch.tanh(trunk(x[rows]))
        return {f"t{i}": (head(z).squeeze(-1) - y[rows, i]).square().mean() for i, head in enumerate(heads)}, z

    def gradients(constrained):
        torch.manual_seed(1)
        balancer = registry.create(name)
        if constrained:
            balancer = Constrained(balancer, AugmentedLagrangian(penalty=3.0, rate=0.5), ["c"])
        trunk.zero_grad(), heads.zero_grad()
        weights = []
        for step in range(3):
            losses, z = losses_and_features(slice(0, 8))
            violation = losses["t0"] * 2.0 - 0.5
            given = {"c": violation, **losses} if constrained else losses
            further = {}
            if "cross_gramian" in balancer.needs:
                second, _ = losses_and_features(slice(0, 4))
                further["second"] = {"c": second["t0"] * 2.0 - 0.5, **second} if constrained else second
            if "validation" in balancer.needs:
                further["validation"] = sum(losses_and_features(slice(4, 8))[0].values())
            outcome = balanced_backward(given, trunk.parameters(), z, balancer=balancer, step=step, **further)
            weights.append(outcome.weights)
            if outcome.signals is not None and "losses_after" in balancer.needs:
                balancer.after_step(outcome.signals)
        return [p.grad.clone() for p in (*trunk.parameters(), *heads.parameters())], weights

    (with_c, weights_c), (without, weights) = gradients(True), gradients(False)
    for mixed, own in zip(weights_c, weights, strict=True):
        assert torch.allclose(mixed[1:], own, rtol=1e-7, atol=1e-10)
    losses, _ = losses_and_features(slice(0, 8))
    pull = sum(w[0].item() for w in weights_c)
    parameters = [*trunk.parameters(), *heads.parameters()]
    slopes = torch.autograd.grad(losses["t0"] * 2.0, parameters, allow_unused=True)
    for p, a, b, slope in zip(parameters, with_c, without, slopes, strict=True):
        expected = b + (0.0 if slope is None else pull * slope)
        assert torch.allclose(a, expected, rtol=1e-6, atol=1e-9), (name, p.shape)


def test_a_constraint_that_cannot_be_measured_keeps_its_multiplier():
    x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    multipliers = NuPI()
    balancer = Constrained(registry.create("nash_mtl"), multipliers, ["c", "d"])
    for c in (1.0 - x.sum(), None):
        losses = {"a": (x[0] - 1) ** 2, "b": (x[1] + 1) ** 2, "c": c, "d": 2.0 - x[0]}
        before = multipliers.values[:1].clone() if multipliers.tasks else None
        outcome = balanced_backward(losses, [x], balancer=balancer)
    assert before.item() == multipliers.values[0].item() > 0.0
    assert outcome.weights[2] == 0.0
    assert outcome.weights[3] > 0.0
    alone = balanced_backward({"d": 2.0 - x[0]}, [x], balancer=balancer)
    assert alone.report.route == "one_backward"
    assert alone.report.absent == ("a", "b", "c")


def test_errors_say_what_to_do():
    with pytest.raises(RecipeError, match="needs the name of one constraint"):
        Constrained(Equal(), NuPI(), [])
    with pytest.raises(RecipeError, match="no loss for the constraint 'c'"):
        Constrained(Equal(), NuPI(), ["c"]).bind(["a", "b"])
    with pytest.raises(RecipeError, match="equalities names 'd', which is no constraint"):
        Constrained(Equal(), NuPI(equalities=["d"]), ["c"]).bind(["a", "c"])
    with pytest.raises(RecipeError, match="penalty above 0"):
        AugmentedLagrangian(penalty=0.0)
    x = torch.zeros(1, requires_grad=True)
    both = Constrained(registry.create("mgda"), NuPI(), ["c"])
    with pytest.raises(RecipeError, match="cannot run in the mode 'matrix_free'"):
        balanced_backward({"a": x.sum(), "c": x.sum()}, [x], balancer=both, mode="matrix_free")


@pytest.mark.parametrize(("multipliers", "pull"), [(QuadraticPenalty(penalty=3.0), 0.0), (NuPI(start=2.0), 2.0)])
def test_where_a_number_is_not_finite_constraints_pull_as_hard_as_their_method_says(multipliers, pull):
    both = Constrained(Equal(), multipliers, ["c"])
    both.bind(["a", "c"])
    before = {name: value.clone() for name, value in both.state_dict().items()}
    assert both(Signals.of([float("nan"), 0.5])).tolist() == [1.0, pull]
    assert all(torch.equal(value, before[name]) for name, value in both.state_dict().items())
