"""Constraints of a run: how they are read, what a step sees, which epoch is kept, what the record says."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from polytask import Recipe
from polytask.data.batch import Batch
from polytask.errors import DataError, PolytaskError, RecipeError
from polytask.records import RunRecord
from polytask.tasks import Binary, Regression, Tagging
from polytask.tasks import registry as kinds
from polytask.training import running
from polytask.training.bounds import Bound, bounds_of
from polytask.training.building import network_of
from polytask.training.constraint_spec import ConstraintSpec, WeightRule, read_constraint
from polytask.training.constraints import Constraints, Measured
from polytask.training.feasibility import _result
from polytask.training.loop import Training
from polytask.training.opening import prepare_recipe
from polytask.training.planning import plan_of
from polytask.training.projections import Projection
from polytask.training.run import training_of
from polytask.training.stopping import is_better_within


def table(n: int = 300, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    a = x[:, 0] + 0.2 * rng.normal(size=n)
    a[rng.random(n) < 0.2] = np.nan
    return pd.DataFrame(
        {
            **{f"x{i}": x[:, i] for i in range(3)},
            "a": a,
            "b": x[:, 1] + 0.2 * rng.normal(size=n),
            "ill": np.where(x[:, 2] + 0.7 * rng.normal(size=n) > 0.8, "yes", "no"),
            "sex": np.where(x[:, 2] + rng.normal(size=n) > 0, "f", "m"),
        }
    )


def recipe(**changes) -> Recipe:
    settings = {
        "tasks": {"a": "regression", "b": "regression"},
        "data": {"t": {"inputs": ["x0", "x1", "x2"]}},
        "encoder": {"name": "mlp", "widths": [1]},
        "training": {"epochs": 25, "batch_size": 30, "learning_rate": 0.02, "weight_decay": 0.0, "stop_rule": "mean"},
    }
    return Recipe(**{**settings, **changes})


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("A.loss<=0.3", {"task": "A", "metric": "loss", "at_most": 0.3}),
        (" total score.recall >= 95% ", {"task": "total score", "metric": "recall", "at_least": 0.95}),
        ("v1.2.r2>=0.5", {"task": "v1.2", "metric": "r2", "at_least": 0.5}),
        ("all.loss<=single+1%", {"task": "all", "worse_than_single_by": "1%"}),
        ("all.loss<=single", {"task": "all", "worse_than_single_by": "0%"}),
        ("A.positive_rate by sex within 0.02", {"task": "A", "metric": "positive_rate", "by": "sex", "within": 0.02}),
    ],
)
def test_a_text_says_the_same_as_a_mapping(text, options):
    assert read_constraint(text) == read_constraint(options)
    assert read_constraint(read_constraint(text).plain()) == read_constraint(text)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("A<=0.3", r"cannot be read. A constraint is one of \"A.loss<=0.3\""),
        ("A.loss<=few", "'few' is no number"),
        ("A.loss>=single+1%", "at most"),
        (0.3, "A constraint is one of"),
        ({"metric": "loss", "at_most": 1}, "names a `task`"),
        ({"task": "A"}, "exactly one of at_most, at_least, within and worse_than_single_by; got none"),
        ({"task": "A", "at_most": 1, "at_least": 0}, "got at_most, at_least"),
        ({"task": "A", "at_most": "much"}, "at_most needs a number, got 'much'"),
        ({"task": "A", "atmost": 1}, "Did you mean 'at_most'"),
        ({"task": "A", "within": 0.1}, "`by` .* and `within` .* go together"),
        ({"task": "A", "worse_than_single_by": "much"}, "share such as 1% or 0.01"),
        ({"task": "A", "at_most": 1, "margin": -1}, "`margin` is a number of at least 0, or auto"),
        ({"weights": "a.*"}, "sign: nonnegative"),
        ({"weights": "a.*", "tied": True}, "two patterns"),
    ],
)
def test_what_cannot_be_read_is_said(given, message):
    with pytest.raises(RecipeError, match=message):
        read_constraint(given)


def test_a_recipe_keeps_its_constraints():
    asked = recipe(constraints=["a.loss<=0.3", {"weights": "heads.*", "sign": "nonnegative"}], multipliers="nupi")
    assert Recipe.from_yaml(asked.to_yaml()) == asked
    assert asked.constraints == [
        {"task": "a", "at_most": 0.3},
        {"weights": ["heads.*"], "sign": "nonnegative"},
    ]
    assert asked.hash() != recipe(constraints=["a.loss<=0.4"], multipliers="nupi").hash()
    with pytest.raises(RecipeError, match="constraints: The constraint 'a' cannot be read"):
        recipe(constraints=["a"])


def batch(observed, group=None, n=6) -> Batch:
    seen = torch.tensor(observed)
    groups = {} if group is None else {"sex": torch.tensor(group)}
    return Batch(torch.zeros(n, 1), {"y": torch.tensor([1.0, 0, 1, 1, 0, 0])}, {"y": seen}, "t", groups=groups)


def binary() -> Binary:
    task = Binary(name="y")
    task.fit(np.array(["no", "yes"], dtype=object))
    return task


ALL = [True] * 6
Z = torch.tensor([2.0, 1.0, -1.0, 3.0, -2.0, 0.5])


@pytest.mark.parametrize(
    ("text", "observed", "value", "rows", "side"),
    [
        ("y.recall>=0.9", ALL, 0.9 - 2 / 3, [0, 2, 3], -1.0),
        ("y.positive_rate<=0.5", ALL, 4 / 6 - 0.5, [0, 1, 2, 3, 4, 5], 1.0),
        ("y.false_positive_rate<=0.1", ALL, 2 / 3 - 0.1, [1, 4, 5], 1.0),
        ("y.recall>=0.9", [True, True, False, False, True, True], -0.1, [0], -1.0),
    ],
)
def test_the_value_is_the_measure_and_the_gradient_the_proxy(text, observed, value, rows, side):
    constraints = Constraints(bounds_of([read_constraint(text)], [binary()], {}, {}))
    z = Z.clone().requires_grad_()
    (violation,) = constraints.violations([({"y": z[:, None]}, batch(observed))]).values()
    assert violation.item() == pytest.approx(value, abs=1e-6)
    (slope,) = torch.autograd.grad(violation, z)
    expected = torch.zeros(6)
    p = torch.sigmoid(Z[rows])
    expected[rows] = side * p * (1 - p) / len(rows)
    assert torch.allclose(slope, expected, atol=1e-6)


def test_a_difference_between_groups_is_bounded_on_both_sides():
    bounds = bounds_of([read_constraint("y.positive_rate by sex within 0.1")], [binary()], {"sex": ["f", "m"]}, {})
    assert [b.name for b in bounds] == [
        "y.positive_rate (sex: f - m)<=0.1",
        "y.positive_rate (sex: m - f)<=0.1",
    ]
    constraints = Constraints(bounds)
    found = constraints.violations([({"y": Z[:, None]}, batch(ALL, [0, 0, 1, 1, 1, -1]))])
    assert [v.item() for v in found.values()] == pytest.approx([1.0 - 1 / 3 - 0.1, 1 / 3 - 1.0 - 0.1], abs=1e-6)
    assert [*constraints.violations([({"y": Z[:, None]}, batch(ALL, [0] * 6))]).values()] == [None, None]


def test_a_batch_without_the_labels_measures_nothing_and_counts_for_nothing():
    constraints = Constraints(bounds_of([read_constraint("y.recall>=0.9")], [binary()], {}, {}))
    no_positive = [False, True, False, False, True, True]
    for seen in ([({"y": Z[:, None]}, batch(no_positive))], [({}, batch(ALL))], []):
        assert [*constraints.violations(seen).values()] == [None]
    assert constraints.sums == [[0.0, 0.0]]


def test_a_violation_that_is_no_number_spoils_no_later_step():
    constraints = Constraints(bounds_of([read_constraint("y.loss<=0")], [binary()], {}, {}))
    z = Z.clone()
    z[0] = math.nan
    assert math.isnan(constraints.violations([({"y": z[:, None]}, batch(ALL))])["y.loss<=0"].item())
    (next_one,) = constraints.violations([({"y": Z[:, None]}, batch(ALL))]).values()
    assert constraints.sums == [[pytest.approx(next_one.item(), rel=1e-6), 1.0]]


def test_a_constraint_on_elements_counts_each_element():
    """Outputs of three dimensions are elements here, and no members of an ensemble."""
    task = Tagging(name="y")
    task.fit(np.array([["a", "b"], ["b"]], dtype=object))
    constraints = Constraints(bounds_of([read_constraint("y.loss<=0")], [task], {}, {}))
    outputs = torch.tensor([[[3.0, 0.0], [0.0, 1.0]], [[0.0, 2.0], [0.0, 0.0]]])
    targets, observed = torch.tensor([[0, 1], [1, 0]]), torch.tensor([[True, True], [True, False]])
    seen = Batch(torch.zeros(2, 1), {"y": targets}, {"y": observed}, "t")
    (violation,) = constraints.violations([({"y": outputs}, seen)]).values()
    logs = outputs.log_softmax(-1)
    assert violation.item() == pytest.approx(-(logs[0, 0, 0] + logs[0, 1, 1] + logs[1, 0, 1]).item() / 3, rel=1e-6)


def test_batches_of_several_sources_are_one_sample():
    """A mean over the labels of both, not a mean of means or a sum."""
    task = Regression(name="y")
    task.fit(np.array([0.0, 1.0]))
    constraints = Constraints(bounds_of([read_constraint("y.loss<=0")], [task], {}, {}))
    first, second = batch(ALL), batch([True, False, False, False, False, False])
    (together,) = constraints.violations([({"y": Z[:, None]}, first), ({"y": Z[:, None]}, second)]).values()
    labels = torch.cat([task.loss(Z[:, None], b.targets["y"], b.observed["y"]) for b in (first, second)])
    assert together.item() == pytest.approx(labels.mean().item(), rel=1e-6)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("c.loss<=1", "No task named 'c', for a constraint on c.loss"),
        ("y.rec>=1", r"No metric of task 'y' named 'rec'. Did you mean 'recall'"),
        ("z.recall>=1", "rate of binary tasks, and 'z' is regression"),
        ("y.group_auroc>=0.5", "group_auroc of task 'y' is measured within each user's rows"),
        ({"task": "y", "metric": "auroc", "by": "sex", "within": 0.1}, "no mean over rows"),
        ({"task": "y", "by": "sex", "between": ["f", "x"], "within": 0.1}, "No group in column 'sex' named 'x'"),
        ("y.loss<=single", "no validation loss"),
    ],
)
def test_what_does_not_fit_the_tasks_is_said(spec, message):
    tasks = [binary(), Regression(name="z")]
    with pytest.raises(PolytaskError, match=message):
        bounds_of([read_constraint(spec)], tasks, {"sex": ["f", "m"]}, {})


def test_a_constraint_that_comes_twice_is_refused():
    with pytest.raises(RecipeError, match="comes twice"):
        bounds_of([read_constraint("all.loss<=1"), read_constraint("y.loss<=1")], [binary()], {}, {})


def test_the_kept_epoch_is_the_best_feasible_one_else_the_least_violating():
    epochs = [{"a": loss} for loss in (1.0, 0.2, 0.9, 0.8, 0.1)]
    violations = [0.5, 0.3, 0.0, 0.0, 0.01]
    best = None
    kept = []
    for n in range(1, 6):
        if is_better_within("mean", epochs[:n], violations[:n], best, {"a": 1.0}):
            best = n - 1
        kept.append(best)
    assert kept == [0, 1, 2, 3, 3]
    assert is_better_within(None, epochs[:4], violations[:4], 2, {}), "without a rule the last feasible one is kept"


def test_an_active_bound_is_kept_and_its_price_is_seen():
    """One unit serves both tasks, so that what one gains the other loses."""
    free = recipe(tasks={"a": {"kind": "regression", "weight": 0.0}, "b": "regression"}).run(table())
    assert free.history[-1]["validation"]["a"] > 0.4
    asked = recipe(
        tasks={"a": {"kind": "regression", "weight": 0.0}, "b": "regression"},
        constraints=[{"task": "a", "at_most": 0.25, "margin": 0.02}],
        multipliers={"name": "augmented_lagrangian", "penalty": 5.0, "rate": 0.2},
    )
    run = asked.run(table())
    (result,) = run.record.constraints.values()
    assert result.is_kept, result.words
    assert run.record.broken == []
    assert 0.1 < result.value <= 0.25
    assert result.multiplier > 0.1
    best = run.history[run.record.best_epoch]
    assert best["is_feasible"]
    lines = [line["constraints"]["a.loss<=0.25"] for line in run.history]
    assert result.values == tuple(line["value"] for line in lines)
    assert result.multipliers == tuple(line["multiplier"] for line in lines)
    assert result.multiplier == result.multipliers[run.record.best_epoch]
    assert best["validation"]["b"] > min(line["validation"]["b"] for line in free.history)
    assert best["constraints"]["a.loss<=0.25"]["value"] == pytest.approx(best["validation"]["a"])
    assert set(best["weights"]) == {"b"}
    again = RunRecord.from_json(run.record.to_json())
    assert again.constraints == run.record.constraints


def training_for(asked: Recipe, data: pd.DataFrame) -> Training:
    prepared = prepare_recipe(asked, data)
    plan = plan_of(asked, prepared)
    torch.manual_seed(0)
    _, model = network_of(prepared, plan)
    return training_of(model, plan, prepared, plan.settings)


def test_a_task_of_weight_0_learns_its_head_from_its_constraint():
    tasks = {"a": {"kind": "regression", "weight": 0.0}, "b": "regression"}
    training = training_for(recipe(tasks=tasks, constraints=["a.loss<=0.01"], training={"epochs": 1}), table())
    before = [p.detach().clone() for p in training.model.heads.reached_by("a")]
    training.run()
    moved = [not torch.equal(p, old) for p, old in zip(training.model.heads.reached_by("a"), before, strict=True)]
    assert all(moved)


@pytest.mark.parametrize("balancer", ["equal", "famo", "nash_mtl"])
def test_a_constraint_may_be_absent_from_batches(balancer):
    data = table()
    data.loc[data.index[::2], "a"] = np.nan
    data.loc[data.index[:200], "a"] = np.nan
    run = recipe(balancer=balancer, constraints=["a.loss<=0.5"], training={"epochs": 2, "batch_size": 5}).run(data)
    assert math.isfinite(run.record.constraints["a.loss<=0.5"].value)


def test_a_bound_that_cannot_be_kept_is_said_with_its_distance():
    run = recipe(constraints=["a.loss<=0.001"], training={"epochs": 4, "batch_size": 30, "patience": 1}).run(table())
    (result,) = run.record.constraints.values()
    assert run.record.broken == ["a.loss<=0.001"]
    assert f"{result.value - 0.001:.2g} beyond the bound" in result.words
    assert run.record.epochs == 4, "while nothing is feasible, the patience does not end the training"
    values = [line["constraints"]["a.loss<=0.001"]["violation"] for line in run.history]
    assert run.record.best_epoch == int(np.argmin(values))


def test_rates_of_groups_come_together():
    tasks = {"ill": "binary"}
    wide = {"name": "mlp", "widths": [16]}
    settings = {"epochs": 25, "batch_size": 64, "learning_rate": 0.02, "patience": None}

    def gap(run):
        answers = run.predict(table(2000, 7))["ill"].values == "yes"
        sex = table(2000, 7)["sex"].to_numpy()
        return abs(answers[sex == "f"].mean() - answers[sex == "m"].mean())

    free = recipe(tasks=tasks, encoder=wide, training=settings).run(table(800))
    tied = recipe(
        tasks=tasks, encoder=wide, training=settings, constraints=["ill.positive_rate by sex within 0.05"]
    ).run(table(800))
    assert gap(free) > 0.15
    assert gap(tied) < gap(free) / 2
    assert all(math.isfinite(r.error) for r in tied.record.constraints.values())


def test_no_task_is_worse_than_its_single_model():
    run = recipe(
        encoder={"name": "mlp", "widths": [8]},
        constraints=["all.loss<=single+5%"],
        training={"epochs": 6, "batch_size": 30},
    ).run(table())
    assert list(run.record.constraints) == ["a.loss<=single+5%", "b.loss<=single+5%"]
    assert all(result.single is not None for result in run.record.tasks.values())
    no_rows = recipe(constraints=["all.loss<=single"], split={"validation": 0, "test": 0.2}, training={"epochs": 1})
    with pytest.raises(RecipeError, match=r"split.validation a share above 0"):
        no_rows.run(table(60))


def test_a_measure_that_is_no_mean_is_followed_by_epochs():
    run = recipe(constraints=["b.r2>=0.99"], training={"epochs": 4, "batch_size": 30}).run(table())
    lines = [line["constraints"]["b.r2>=0.99"] for line in run.history]
    assert "multiplier" not in lines[0], "before the first epoch's end there is nothing to follow"
    assert lines[1]["multiplier"] > 0
    assert math.isfinite(run.record.constraints["b.r2>=0.99"].error)


def test_an_automatic_margin_is_a_share_of_the_standard_error():
    run = recipe(constraints=[{"task": "b", "at_most": 0.5, "margin": "auto", "watch": "validation"}]).run(table())
    (result,) = run.record.constraints.values()
    line = run.history[-1]["constraints"]["b.loss<=0.5"]
    assert 0.0 < line["margin"] < 0.5
    assert result.is_kept


def test_rules_for_weights_are_kept_exactly():
    rules = [
        {"weights": "heads.a.weight", "sign": "nonnegative"},
        {"weights": ["heads.a.*bias", "heads.b.*bias"], "tied": True},
    ]
    run = recipe(constraints=rules, training={"epochs": 3, "batch_size": 30}).run(table())
    model = run.bundle.models[0].model
    heads = model.heads.by_task
    assert bool((heads["a"].weight >= 0).all())
    assert torch.equal(heads["a"].bias, heads["b"].bias)
    assert run.record.constraints == {}
    with pytest.raises(RecipeError, match="No parameter that fits the pattern named 'nothing'"):
        recipe(constraints=[{"weights": "nothing", "sign": "nonpositive"}]).run(table(60))
    wrong = WeightRule(("heads.a.weight", "heads.a.*bias"), tied=True)
    with pytest.raises(RecipeError, match="one shape"):
        recipe(encoder={"name": "mlp", "widths": [4]}, constraints=[wrong.plain()]).run(table(60))


def test_columns_of_groups_are_checked():
    with pytest.raises(DataError, match="No column named 'gender', for the groups of a constraint"):
        recipe(tasks={"ill": "binary"}, constraints=["ill.recall by gender within 0.1"]).run(table())
    with pytest.raises(DataError, match="has 240 values, and a constraint between groups takes at most 20"):
        recipe(
            tasks={"ill": "binary"}, constraints=["ill.recall by x1 within 0.1"], split={"validation": 0, "test": 0.2}
        ).run(table())


def test_specs_print_what_was_said():
    assert repr(ConstraintSpec("a", at_most=0.5)) == "ConstraintSpec(task='a', at_most=0.5)"


def test_with_mixup_constraints_are_measured_on_rows_and_not_on_mixtures():
    changes = {"training": {"epochs": 1, "batch_size": 30}, "encoder": {"name": "mlp", "widths": [4]}}
    data = {"t": {"inputs": ["x0", "x1", "x2"], "augment": "mixup"}}
    training = training_for(recipe(data=data, constraints=["a.loss<=0.3"], balancer="nash_mtl", **changes), table())
    (batch,) = next(training.feed.epoch(0))
    features, losses = training.passes.losses([batch], 0)
    outputs = training.model(batch.unmixed, ["a"], batch.source)["a"]
    observed = batch.observed["a"]
    by_hand = training.tasks[0].loss(outputs, batch.targets["a"], observed).mean() - 0.3
    assert losses["a.loss<=0.3"].item() == pytest.approx(by_hand.item(), rel=1e-6)
    assert features is None, "the constraint's graph does not go through the mixtures' features"
    shared = training.passes.shared
    expected = torch.autograd.grad(by_hand, shared)
    found = torch.autograd.grad(losses["a.loss<=0.3"], shared)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    training.run()
    free = training_for(recipe(data=data, **changes), table())
    features, _ = free.passes.losses(next(free.feed.epoch(0)), 0)
    assert features is not None, "without constraints there is one pass"
    by_features = {**changes, "training": {**changes["training"], "mode": "features"}}
    with pytest.raises(RecipeError, match="measured on a pass of their own"):
        recipe(data=data, constraints=["a.loss<=0.3"], balancer="nash_mtl", **by_features).run(table())


def test_the_note_of_a_task_that_was_left_out_names_its_constraints():
    training = training_for(recipe(constraints=["b.loss<=5"], training={"epochs": 2, "batch_size": 30}), table())
    training.feed.sources["t"].targets["b"][0] = math.nan
    training.run()
    assert training.skips.total == {"b": 2, "b.loss<=5": 2}
    of_task, of_constraint = training.skips.notes({bound.name: "b" for bound in training.constraints.bounds})
    assert of_task.startswith("Task 'b': its loss was NaN, infinite or exploded in 2 batches")
    assert "the constraint b.loss<=5" in of_task
    assert of_constraint.startswith("Constraint b.loss<=5: it was NaN or infinite in 2 batches")


@pytest.mark.parametrize("text", ["b.r2<=0.5", "b.mae>=0.1"])
def test_a_bound_on_the_wrong_side_of_a_metric_is_refused(text):
    with pytest.raises(RecipeError, match=r"is better the (higher|lower) it is, .* takes at_(least|most)"):
        bounds_of([read_constraint(text)], [Regression(name="b")], {}, {})


def test_violations_in_the_users_units_are_added_as_shares_of_their_bounds():
    bounds = bounds_of([read_constraint(t) for t in ("b.mae<=4000", "b.r2>=0.5")], [Regression(name="b")], {}, {})
    assert [bound.scale for bound in bounds] == [4000.0, 1.0]


def test_ties_and_signs_hold_together():
    """A tie to a weight with a sign, a tie of ties, and weights that keep their rules to the last bit."""
    model = torch.nn.ModuleDict({name: torch.nn.Linear(3, 1) for name in "abc"})
    rules = [
        WeightRule(("b.weight", "c.weight"), tied=True),
        WeightRule(("a.weight",), sign="nonnegative"),
        WeightRule(("a.weight", "b.weight"), tied=True),
    ]
    project = Projection(model, rules)
    means = torch.stack([model[name].weight.detach() for name in "abc"]).mean(0)
    project()
    for name in "abc":
        torch.testing.assert_close(model[name].weight.detach(), means.clamp_min(0.0))
        assert torch.equal(model[name].weight, model["a"].weight)
    before = model["a"].weight.detach().clone()
    project()
    assert torch.equal(model["a"].weight, before)


def labelled_in_training(n_validation: int = 0) -> pd.DataFrame:
    """Rows whose part is given, where only so many validation rows have a label of ``a``, and no test row."""
    data = table(200)
    data["a"] = data["x0"] + 0.5 * data["x1"]
    data["part"] = ["train"] * 120 + ["validation"] * 40 + ["test"] * 40
    data.loc[120 + n_validation :, "a"] = np.nan
    return data


GIVEN = {"split": {"method": "given", "column": "part"}, "training": {"epochs": 2, "batch_size": 30}}


def test_what_no_row_can_measure_is_not_called_feasible():
    data = labelled_in_training()
    run = recipe(constraints=["a.loss<=5"], **GIVEN).run(data)
    assert [line["is_feasible"] for line in run.history] == [None, None]
    (result,) = run.record.constraints.values()
    assert not result.is_kept
    assert "cannot be measured" in result.words
    broken = recipe(constraints=["a.loss<=5", "b.loss<=-9"], **GIVEN).run(data)
    assert [line["is_feasible"] for line in broken.history] == [False, False], "one is known to be violated"
    kept = recipe(constraints=["b.loss<=50"], **GIVEN).run(data)
    assert [line["is_feasible"] for line in kept.history] == [True, True]


@pytest.mark.parametrize("metric", ["a.loss<=5", "a.r2>=-9"])
def test_an_auto_margin_without_two_labels_is_said(metric):
    asked = recipe(constraints=[{**read_constraint(metric).plain(), "margin": "auto"}], **GIVEN)
    for n_labels, is_said in ((1, True), (20, False)):
        run = asked.run(labelled_in_training(n_labels))
        (line,) = run.history[-1]["constraints"].values()
        assert (line["margin"] == 0.0) is is_said
        assert (line["error"] is None) is is_said
        notes = [note for note in run.record.notes if note.startswith("The margin of ")]
        assert [note for note in notes if "is auto and stayed 0: two validation rows" in note] == notes
        assert bool(notes) is is_said


@pytest.mark.parametrize(
    ("kind", "metric"),
    [("segmentation", "mean_iou"), ("segmentation", "pixel_accuracy"), ("detection", "ap"), ("detection", "ap_50"),
     ("retrieval", "recall_at_1"), ("retrieval", "recall_at_5")],
)  # fmt: skip
def test_a_share_is_never_above_1(kind, metric):
    task = kinds.create(kind, name="y")
    with pytest.raises(RecipeError, match=rf"y.{metric} is never above 1, so no model keeps a bound of at least 95"):
        bounds_of([read_constraint(f"y.{metric}>=95")], [task], {}, {})


@pytest.mark.parametrize("encoder", [{"name": "mlp", "widths": [4]}, {"name": "tabm", "k": 3, "width": 8}])
@pytest.mark.parametrize("tasks", [["a"], ["a", "b"]])
def test_a_bound_holds_for_one_task_and_below_an_ensemble(encoder, tasks):
    """The value is that of the answer that users get: of the members' mean, if there are members."""
    run = recipe(encoder=encoder, tasks=dict.fromkeys(tasks, "regression"), constraints=["a.rmse<=0.3"]).run(table())
    (result,) = run.record.constraints.values()
    assert result.is_kept == (result.value <= 0.3)
    validation = prepare_recipe(recipe(tasks=dict.fromkeys(tasks, "regression")), table()).validation
    task = run.bundle.task("a")
    outputs = run.bundle.models[0].outputs(validation["t"], ["a"])["a"]
    found = task.evaluate(outputs, validation["t"].targets["a"], validation["t"].observed["a"])["rmse"]
    assert result.value == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"constraints": ["all.loss<=single+1%", "ill.recal>=0.5"]}, "recal"),
        ({"constraints": ["all.loss<=single+1%", "ill.auroc<=0.5"]}, "better the higher"),
        ({"constraints": ["all.loss<=single+1%", "il.loss<=0.5"]}, "il"),
        ({"constraints": ["all.loss<=single+1%", "ill.recall>=0.9", "ill.recall<=0.5"]}, "No model keeps"),
        ({"constraints": ["all.loss<=single+1%", {"weights": "nothing.*", "sign": "nonnegative"}]}, "nothing"),
        ({"constraints": ["all.loss<=single+1%"], "split": {"validation": 0.0}}, "split.validation"),
    ],
)
def test_what_is_wrong_beside_single_models_is_said_before_they_are_trained(changes, message, monkeypatch):
    def trained(*_, **__):
        raise AssertionError("something was trained")

    monkeypatch.setattr(running, "fit", trained)
    tasks = {"a": "regression", "ill": "binary"}
    with pytest.raises(PolytaskError, match=message):
        recipe(tasks=tasks, **changes).run(table())


def test_a_broken_bound_within_chance_is_said_without_contradiction():
    bound = Bound("ill.recall>=0.8", Binary(name="ill"), "recall", 0.8, side=-1.0)
    far, near, kept = (Measured(value, 0.1, 0.8 - value) for value in (0.3, 0.7, 0.9))
    words = {}
    for name, seen, held in (("near", near, kept), ("far", far, kept), ("test", kept, near)):
        result = _result(bound, seen, held, "validation", None)
        words[name] = result.words
        assert result.is_kept == (name == "test")
    within = "0.1 beyond the bound on these rows (a difference within chance)"
    assert words["near"] == f"broken: 0.7 ± 0.2 on validation rows, {within}; 0.9 ± 0.2 on test rows"
    assert words["far"] == "broken: 0.3 ± 0.2 on validation rows, 0.5 beyond the bound; 0.9 ± 0.2 on test rows"
    assert words["test"] == f"kept: 0.9 ± 0.2 on validation rows; 0.7 ± 0.2 on test rows, {within}"
