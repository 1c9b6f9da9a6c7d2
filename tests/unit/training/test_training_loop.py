"""The loop: what it computes, step by step, and what it refuses."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

from polytask.balancing import registry as balancers
from polytask.data.batch import ArraySource
from polytask.data.plan import BatchPlan
from polytask.errors import NonFiniteError, RecipeError, RunFolderError
from polytask.models.building import build_model
from polytask.models.inputs import InputShape
from polytask.models.spec import ModelSpec
from polytask.tasks import Binary, Regression
from polytask.training.checkpoint import FORMAT
from polytask.training.feed import Feed
from polytask.training.guards import Guard
from polytask.training.loop import Training
from polytask.training.objective import Objective, penalty_of
from polytask.training.settings import Regulariser, Settings


def source(name="main", n=64, width=4, tasks=("a", "b"), missing=0.0, seed=0) -> ArraySource:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, width, generator=draw)
    targets = {task: x[:, i % width] + 0.1 * torch.randn(n, generator=draw) for i, task in enumerate(tasks)}
    observed = {task: torch.rand(n, generator=draw) >= missing for task in tasks}
    return ArraySource(name, x, targets, observed)


def regressions(*names: str, **options) -> list[Regression]:
    tasks = [Regression(name=name, **options) for name in names]
    for task in tasks:
        task.fit(np.array([-1.0, 1.0]))  # mean 0, standard deviation 1: standard units are the user's
    return tasks


def training(
    sources, tasks, *, validation=None, balancer="equal", batch_size=16, steps=None, sharing="hard", **settings
) -> Training:
    settings = Settings(**{"epochs": 3, "seed": 1, "patience": None, **settings})
    torch.manual_seed(0)
    shapes = {s.name: InputShape.of(s.inputs) for s in sources}
    spec = ModelSpec(
        shapes, {t.name: t.n_outputs for t in tasks}, encoder="mlp", sharing=sharing, encoder_options={"widths": [8, 8]}
    )
    plan = BatchPlan({s.name: len(s) for s in sources}, batch_size, seed=1, steps_per_epoch=steps)
    made = balancers.create(balancer) if isinstance(balancer, str) else balancer
    held = {s.name: s for s in validation or ()}
    return Training(build_model(spec), tasks, Feed({s.name: s for s in sources}, plan), held, made, settings)


@pytest.mark.parametrize("missing", [0.0, 0.5])
@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_equals_a_loop_written_by_hand(missing, optimiser):
    """The oracle is PyTorch alone: no objective, no engine, no optimiser of the package."""
    data, tasks = source(missing=missing), regressions("a", "b")
    tasks[1].weight = 0.3
    ours = training([data], tasks, optimiser=optimiser, learning_rate=0.01, weight_decay=0.02)
    hand = training([data], tasks).model
    hand.load_state_dict(ours.model.state_dict())
    decay = [p for p in hand.parameters() if p.ndim > 1]
    rest = [p for p in hand.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": 0.02}, {"params": rest, "weight_decay": 0.0}]
    if optimiser == "sgd":
        optim = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
    else:
        optim = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimiser](groups, lr=0.01)
    sums, counts = dict.fromkeys("ab", 0.0), dict.fromkeys("ab", 0)
    plan = BatchPlan({"main": len(data)}, 16, seed=1)
    for _ in range(3):
        sums, counts = dict.fromkeys("ab", 0.0), dict.fromkeys("ab", 0)
        for draw in plan.epoch():
            outputs = hand(data.inputs[draw.rows])
            total = 0.0
            for name, weight in (("a", 1.0), ("b", 0.3)):
                seen = data.observed[name][draw.rows]
                error = (outputs[name].squeeze(1) - data.targets[name][draw.rows]).square()
                share = data.observed[name].double().mean().item()
                loss = weight * (error * seen).sum() / (share * len(draw.rows))
                if seen.any():
                    total = total + loss
                    sums[name] += loss.item()
                    counts[name] += 1
            optim.zero_grad()
            total.backward()
            optim.step()
    history = ours.run()
    for name, parameter in hand.named_parameters():
        torch.testing.assert_close(ours.model.get_parameter(name), parameter, rtol=1e-4, atol=1e-6)
    assert history[-1]["train"] == pytest.approx({name: sums[name] / counts[name] for name in "ab"}, rel=1e-4)
    assert history[-1]["weights"] == {"a": 1.0, "b": 1.0}
    assert [line["step"] for line in history] == [4, 8, 12]


def test_two_trainings_are_equal_bit_for_bit():
    runs = [training([source(missing=0.3)], regressions("a", "b"), balancer="pcgrad") for _ in range(2)]
    histories = [run.run() for run in runs]
    for one, other in zip(*histories, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    for one, other in zip(*(run.model.parameters() for run in runs), strict=True):
        assert torch.equal(one, other)


def test_one_task_learns():
    data = source(n=256, tasks=("a",))
    ours = training([data], regressions("a"), validation=[data], epochs=30, learning_rate=0.02)
    history = ours.run()
    assert history[-1]["validation"]["a"] < 0.1 * history[0]["validation"]["a"]


@pytest.mark.parametrize("balancer", ["equal", "pcgrad"])
def test_a_hundred_tasks_with_half_of_the_labels(balancer):
    names = [f"t{i}" for i in range(100)]
    data = source(n=60, tasks=names, missing=0.5)
    history = training([data], regressions(*names), validation=[data], epochs=2, balancer=balancer).run()
    assert set(history[-1]["train"]) == set(history[-1]["weights"]) == set(names)
    assert all(math.isfinite(value) for value in history[-1]["train"].values())


def test_sources_with_other_inputs_and_other_tasks():
    first, second = source("first", width=4, tasks=("a",)), source("second", width=7, tasks=("b",), n=32)
    ours = training([first, second], regressions("a", "b"), validation=[first, second], epochs=20, learning_rate=0.02)
    history = ours.run()
    assert history[0]["step"] == 6
    assert all(history[-1]["validation"][task] < history[0]["validation"][task] for task in "ab")


def test_a_task_without_labels_in_a_source_is_absent_there_and_nothing_else_changes():
    """Labels of b are all missing in the source: a is trained as if b were not there."""
    data = source()
    none = ArraySource("main", data.inputs, data.targets, {**data.observed, "b": torch.zeros(64, dtype=torch.bool)})
    ours = training([none], regressions("a", "b"))
    before = {name: p.clone() for name, p in ours.model.named_parameters()}
    history = ours.run()
    assert list(history[-1]["train"]) == ["a"]
    assert list(history[-1]["weights"]) == ["a"]
    moved = {name for name, p in ours.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if not name.startswith("heads.by_task._1")}


def test_weight_decay_does_not_touch_what_had_no_gradient():
    """The head of an absent task stays as it was, under AdamW too."""
    data = source()
    none = ArraySource("main", data.inputs, data.targets, {**data.observed, "b": torch.zeros(64, dtype=torch.bool)})
    ours = training([none], regressions("a", "b"), optimiser="adamw", weight_decay=0.5)
    before = ours.model.heads.by_task["b"].weight.clone()
    ours.run()
    assert torch.equal(ours.model.heads.by_task["b"].weight, before)


def test_a_batch_without_any_label_is_passed_over():
    data = source(n=64)
    observed = torch.zeros(64, dtype=torch.bool)
    observed[:3] = True
    sparse = ArraySource("main", data.inputs, data.targets, dict.fromkeys("ab", observed))
    history = training([sparse], regressions("a", "b"), batch_size=4, validation=[sparse]).run()
    assert history[-1]["step"] == 48
    assert set(history[-1]["train"]) == {"a", "b"}


def test_losses_are_unbiased_however_many_labels_there_are():
    """The mean over all batches of an epoch is the mean over all labels."""
    data, tasks = source(n=64, missing=0.7), regressions("a", "b")
    objective = Objective(tasks, {"main": data})
    outputs = {name: torch.randn(64, 1) for name in "ab"}
    batches = torch.arange(64).view(8, 8)
    found = [objective({k: v[rows] for k, v in outputs.items()}, data.batch(rows)) for rows in batches]
    for name in "ab":
        seen = data.observed[name]
        errors = (outputs[name].squeeze(1) - data.targets[name]).square()[seen]
        values = [float(batch[name]) if batch[name] is not None else 0.0 for batch in found]
        assert np.mean(values) == pytest.approx(errors.mean().item(), rel=1e-5)


def test_labels_of_several_columns_count_one_by_one():
    from polytask.tasks import Multilabel

    labels = np.array([[1, np.nan, np.nan], [np.nan, 0, np.nan], [np.nan, np.nan, 1], [0, 1, 0]], dtype=float)
    task = Multilabel(name="m", target=("x", "y", "z"))
    task.fit(labels)
    targets, observed = (torch.from_numpy(part) for part in task.encode(labels))
    data = ArraySource("main", torch.zeros(4, 1), {"m": targets}, {"m": observed})
    objective = Objective([task], {"main": data})
    outputs = torch.randn(4, 3)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none")[observed]
    assert float(objective({"m": outputs}, data.batch(torch.arange(4)))["m"]) == pytest.approx(losses.mean().item())
    weighted = ArraySource("main", torch.zeros(4, 1), {"m": targets}, {"m": observed}, torch.tensor([2.0, 0, 0, 1]))
    expected = (losses * torch.tensor([2.0, 0, 0, 1, 1, 1])).mean().item()
    assert float(Objective([task], {"main": weighted})({"m": outputs}, weighted.batch(torch.arange(4)))["m"]) == (
        pytest.approx(expected)
    )


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_row_weights_and_task_weights_are_factors(missing):
    plain, tasks = source(missing=missing), regressions("a", "b")
    weights = torch.rand(64)
    data = ArraySource("main", plain.inputs, plain.targets, plain.observed, weights)
    tasks[0].weight = 2.5
    outputs = {name: torch.randn(64, 1) for name in "ab"}
    found = Objective(tasks, {"main": data})(outputs, data.batch(torch.arange(64)))
    for name, factor in (("a", 2.5), ("b", 1.0)):
        seen = data.observed[name]
        errors = (outputs[name].squeeze(1) - data.targets[name]).square() * weights
        assert float(found[name]) == pytest.approx(factor * errors[seen].sum().item() / seen.sum().item(), rel=1e-5)


def test_a_row_of_weight_zero_teaches_nothing():
    data = source(n=32)
    weights = torch.ones(32)
    weights[5] = 0.0
    spoilt = {name: values.index_fill(0, torch.tensor([5]), 1e6) for name, values in data.targets.items()}
    runs = [
        training([ArraySource("main", data.inputs, targets, data.observed, weights)], regressions("a", "b"))
        for targets in (data.targets, spoilt)
    ]
    for run in runs:
        run.run()
    for one, other in zip(*(run.model.parameters() for run in runs), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_task_step_and_source(value):
    data = source()
    targets = {**data.targets, "b": data.targets["b"].index_fill(0, torch.tensor([40]), value)}
    bad = ArraySource("main", data.inputs, targets, data.observed)
    ours = training([bad], regressions("a", "b"), skips=0)
    with pytest.raises(NonFiniteError, match=r"Step \d+ \(epoch 0, a batch of 'main'\): The loss of task 'b'"):
        ours.run()
    assert all(p.isfinite().all() for p in ours.model.parameters())


@pytest.mark.parametrize("balancer", ["equal", "pcgrad", "uncertainty"])
def test_a_task_is_left_out_of_a_batch_whose_loss_is_no_number_and_the_others_go_on(balancer):
    data = source()
    rows = torch.tensor([40])
    spoilt = {**data.targets, "b": data.targets["b"].index_fill(0, rows, float("nan"))}
    ours = training(
        [ArraySource("main", data.inputs, spoilt, data.observed)], regressions("a", "b"), balancer=balancer, epochs=3
    )
    ours.run()
    assert ours.skips.total == {"b": 3}, "once an epoch, in the batch that has the row"
    assert ours.skips.in_a_row == {}
    assert "'b'" in ours.skips.notes()[0]
    assert "3 batches" in ours.skips.notes()[0]
    assert all(p.isfinite().all() for p in ours.model.parameters())


def test_left_out_too_often_in_a_row_the_training_stops_and_says_so():
    data = source()
    spoilt = {**data.targets, "b": torch.full_like(data.targets["b"], float("inf"))}
    ours = training([ArraySource("main", data.inputs, spoilt, data.observed)], regressions("a", "b"), skips=2)
    with pytest.raises(NonFiniteError, match=r"number 3 in a row in which task 'b' .*3 in all"):
        ours.run()
    assert ours.at.step == 2
    kept = ours.state_dict()["skips"]
    assert (kept["total"], kept["in_a_row"]) == ({"b": 3}, {"b": 3})


def test_nothing_is_left_to_go_on_with_if_every_loss_is_no_number():
    data = source()
    spoilt = {name: torch.full_like(values, float("nan")) for name, values in data.targets.items()}
    with pytest.raises(NonFiniteError, match="Step 0"):
        training([ArraySource("main", data.inputs, spoilt, data.observed)], regressions("a", "b")).run()


def test_parameters_that_are_not_finite_never_reach_a_checkpoint():
    ours = training([source()], regressions("a", "b"), epochs=1)
    step = ours.optimisation.step

    def overflow():
        step()
        if ours.at.step == 3:  # the last of the epoch, so that no further loss tells
            with torch.no_grad():
                next(ours.model.parameters()).fill_(float("nan"))

    ours.optimisation.step = overflow
    with pytest.raises(NonFiniteError, match="became NaN or infinite in epoch 0"):
        ours.run()


@pytest.mark.parametrize("name", ["uncertainty"])
def test_learned_weights_are_trained_by_the_optimiser_without_decay(name):
    ours = training([source()], regressions("a", "b"), balancer=name, weight_decay=0.1)
    groups = ours.optimisation.optimiser.param_groups
    learned = list(ours.balancer.parameters())
    assert learned
    assert [g["weight_decay"] for g in groups if any(p is learned[0] for p in g["params"])] == [0.0]
    before = [p.clone() for p in learned]
    history = ours.run()
    assert not any(torch.equal(p, was) for p, was in zip(learned, before, strict=True))
    assert all(p.grad is None for p in learned)
    assert history[-1]["weights"] != history[0]["weights"]


def test_history_has_the_mean_weight_over_the_steps_in_which_a_task_was_present():
    seen = []
    ours = training([source(missing=0.9)], regressions("a", "b"), balancer="rlw", batch_size=4)
    weigh = ours.balancer.weigh

    def spy(signals):
        weights = weigh(signals)
        seen.append((ours.at.epoch, dict(zip(signals.index.tolist(), weights.tolist(), strict=True))))
        return weights

    ours.balancer.weigh = spy
    history = ours.run()
    for epoch, line in enumerate(history):
        for position, name in enumerate("ab"):
            values = [weights[position] for at, weights in seen if at == epoch and position in weights]
            assert line["weights"].get(name) == (pytest.approx(np.mean(values)) if values else None)


def test_fallbacks_are_counted():
    ours = training([source()], regressions("a", "b"), balancer="pcgrad", epochs=1)
    weigh = ours.balancer.weigh

    def give_up(signals):
        ours.balancer.note_fallback("for the test")
        return weigh(signals)

    ours.balancer.weigh = give_up
    assert ours.run()[0]["fallbacks"] == 4


def test_max_seconds_stops_after_a_step():
    ours = training([source()], regressions("a", "b"), epochs=1000, max_seconds=1e-9)
    history = ours.run()
    assert [line["step"] for line in history] == [1]
    assert ours.at.why == "out of time"


def test_early_stopping_keeps_the_best_epoch():
    data, held = source(n=32), source(n=32, seed=9)
    ours = training([data], regressions("a", "b"), validation=[held], epochs=300, patience=3, learning_rate=0.03)
    history = ours.run()
    best = max(line["epoch"] for line in history if line["is_best"])
    assert len(history) == best + 4 < 300
    assert ours.at.best == best
    from polytask.training.evaluation import mean_losses

    assert mean_losses(ours.model, ours.tasks, {"main": held}) == history[best]["validation"]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_patience_grows_with_the_best_epoch_so_far(share):
    """A better epoch that comes after that long, and no later one, is still found."""
    data, held = source(n=40, missing=0.3), source(n=32, seed=9)
    ours = training(
        [data], regressions("a", "b"), validation=[held], epochs=300, patience=2, patience_share=share,
        learning_rate=0.01, stop_rule="mean",
    )  # fmt: skip
    lines = ours.run()
    bests = [line["epoch"] for line in lines if line["is_best"]]
    waits = [later - earlier for earlier, later in itertools.pairwise(bests)]
    allowed = [max(2, math.ceil(share * (best + 1))) for best in bests]
    assert len(bests) > 2
    assert len(lines) < 300
    assert all(wait <= most for wait, most in zip(waits, allowed[:-1], strict=True))
    assert len(lines) - 1 - bests[-1] == allowed[-1], "it stops when it has waited that long after the last one"


def test_without_patience_the_last_epoch_is_kept():
    data = source(n=32)
    ours = training([data], regressions("a", "b"), validation=[source(n=32, seed=9)], epochs=5, patience=None)
    history = ours.run()
    assert len(history) == 5
    assert not any(line["is_best"] for line in history)
    assert ours.at.best is None


def test_a_stop_rule_for_a_task_without_validation_labels_is_refused_at_once():
    data = source()
    with pytest.raises(RecipeError, match=r"'c', for stop_rule.*Known: a, b"):
        training([data], regressions("a", "b"), validation=[data], stop_rule="task:c", patience=2)


def test_schedules():
    rates = {}
    for schedule in ("constant", "cosine"):
        ours = training([source()], regressions("a", "b"), schedule=schedule, warmup=0.25, learning_rate=0.1, epochs=4)
        rates[schedule] = [ours.optimisation.rate_at(step) for step in range(16)]
    rise = [0.02, 0.04, 0.06, 0.08]
    assert rates["constant"] == pytest.approx(rise + [0.1] * 12)
    assert rates["cosine"] == pytest.approx(rise + [0.05 * (1 + math.cos(math.pi * i / 12)) for i in range(12)])


def test_plateau_halves_the_rate_after_half_of_the_patience():
    ours = training([source()], regressions("a", "b"), schedule="plateau", learning_rate=0.1, patience=4, epochs=9)
    found = []
    for since in (0, 1, 2, 3, 4, 0, 1, 2):
        ours.optimisation.no_better_for(since, 4)
        found.append(ours.optimisation.rate_at(0))
    assert found == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025, 0.025, 0.025, 0.0125])


def test_the_gradient_is_clipped_before_the_step():
    ours = training(
        [source()], regressions("a", "b"), optimiser="sgd", learning_rate=1.0, clip_norm=1e-3, weight_decay=0.0
    )
    before = torch.cat([p.detach().flatten().clone() for p in ours.model.parameters()])
    draw = next(ours.feed.plan.epoch())
    ours.step([ours.feed.sources["main"].batch(draw.rows)])
    after = torch.cat([p.detach().flatten() for p in ours.model.parameters()])
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=1e-4)


def test_regularisers_on_their_parts():
    model = training([source()], regressions("a", "b")).model
    shared = model.shared_parameters()
    private = [p for p in model.parameters() if all(p is not q for q in shared)]
    assert len(private) == 4
    parts = {"shared": shared, "private": private, "all": [*shared, *private]}
    for on, parameters in parts.items():
        sums = {
            "l1": sum(p.abs().sum() for p in parameters),
            "l2": sum((p**2).sum() for p in parameters) / 2,
            "group_l21": sum((p**2).sum(0).sqrt().sum() for p in parameters if p.ndim == 2),
        }
        for penalty, expected in sums.items():
            term = penalty_of(model, [Regulariser(penalty, 0.3, on), Regulariser(penalty, 0.2, on)])()
            assert term.item() == pytest.approx(0.5 * expected.item(), rel=1e-5)


def test_group_penalty_of_a_convolution_and_of_zeros():
    conv = torch.nn.Conv2d(3, 4, 2)
    with torch.no_grad():
        conv.weight[:, 1] = 0.0
    from polytask.training.objective import _group_l21

    value = _group_l21(list(conv.parameters()))
    expected = sum((conv.weight[:, i] ** 2).sum().sqrt() for i in range(3))
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    value.backward()
    assert conv.weight.grad.isfinite().all()


def test_an_l1_penalty_shrinks_and_no_penalty_is_no_cost():
    strong, none = (
        training([source()], regressions("a", "b"), epochs=20, regularisers=terms, learning_rate=0.01)
        for terms in ((Regulariser("l1", 1.0, "all"),), (Regulariser("l1", 0.0, "all"),))
    )
    assert none.penalty() is None
    for run in (strong, none):
        run.run()
    sizes = [sum(p.abs().sum() for p in run.model.parameters()) for run in (strong, none)]
    assert sizes[0] < 0.5 * sizes[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"epochs": "many"}, "epochs needs a whole number, got 'many'"),
        ({"epoch": 3}, "Did you mean 'epochs'"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number above 0"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"optimiser": "adma"}, "adam, adamw, sgd"),
        ({"schedule": "step"}, "constant, cosine, plateau"),
        ({"stop_rule": "best"}, "mean_rank, mean, worst or task:NAME"),
        ({"warmup": 1.0}, r"\[0, 1\)"),
        ({"clip_norm": -1}, "clip_norm must be a number above 0"),
        ({"regularisers": [{"penalty": "l1"}]}, "regularisers.0.strength is missing"),
        ({"regularisers": [{"penalty": "l3", "strength": 1}]}, "l1, l2, group_l21"),
        ({"regularisers": [{"penalty": "l2", "strength": -1}]}, "at least 0"),
        ({"seed": -1}, "seed must be a whole number"),
    ],
)
def test_settings_that_cannot_be_used(options, message):
    with pytest.raises(RecipeError, match=message):
        Settings.from_options(options)


def test_settings_go_through_plain_data():
    given = {"epochs": 3, "regularisers": [{"penalty": "l1", "strength": 0.5, "on": "all"}], "patience": None}
    settings = Settings.from_options(given)
    assert settings.regularisers == (Regulariser("l1", 0.5, "all"),)
    assert Settings.from_options(settings.options()) == settings


def test_binary_and_regression_in_one_network_start_at_their_constants():
    from polytask.training.evaluation import constant_losses, mean_losses

    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(200, 3)).astype(np.float32))
    ill = rng.random(200) < 0.1
    tasks = [Binary(name="ill"), Regression(name="dose")]
    labels = [ill, 100 + 5 * rng.normal(size=200)]
    data = {}
    for task, values in zip(tasks, labels, strict=True):
        task.fit(values)
        data[task.name] = [torch.from_numpy(part) for part in task.encode(values)]
    table = ArraySource("main", x, {k: v[0] for k, v in data.items()}, {k: v[1] for k, v in data.items()})
    ours = training([table], tasks, validation=[table])
    share = ill.mean()
    entropy = -(share * math.log(share) + (1 - share) * math.log(1 - share))
    assert ours.constant == pytest.approx({"ill": entropy, "dose": 1.0}, rel=1e-5)
    assert constant_losses(tasks, {"main": table}, piece=7) == pytest.approx(ours.constant)
    assert mean_losses(ours.model, [], {"main": table}) == {}


def test_history_frame_has_a_row_an_epoch():
    history = training([source()], regressions("a", "b"), validation=[source()]).run()
    assert pd.json_normalize(history)["train.a"].notna().all()


def test_a_task_left_out_of_a_step_has_no_loss_after_it():
    """The method that learns from the losses after a step is told of the tasks that it weighed, and of no other."""
    data = source()
    data.targets["a"][5] = math.inf
    ours = training([data], regressions("a", "b"), balancer="famo")
    told = []
    after_step = ours.balancer.after_step
    ours.balancer.after_step = lambda signals: (told.append(signals), after_step(signals))
    ours.run()
    assert ours.skips.total == {"a": 3}
    assert sum(len(signals.index) == 1 for signals in told) == 3
    assert all(len(signals.index) == len(signals.losses) and signals.losses.isfinite().all() for signals in told)


class Counting(Guard):
    """Notes what it may look at, and how often it did."""

    def __init__(self) -> None:
        self.norms: list[float] = []
        self.epochs: list[int] = []

    def before_update(self, training, outcome):
        assert set(outcome.tasks) == {"a", "b"}
        self.norms.append(sum(p.grad.norm().item() for p in training.model.parameters() if p.grad is not None))

    def end_epoch(self, training):
        self.epochs.append(training.at.epoch)

    def state_dict(self):
        return {"norms": list(self.norms), "epochs": list(self.epochs)}

    def load_state_dict(self, state):
        self.norms, self.epochs = list(state["norms"]), list(state["epochs"])


def test_a_guard_sees_each_gradient_before_the_update_and_its_state_goes_with_the_training():
    ours = training([source()], regressions("a", "b"), epochs=3)
    guard = Counting()
    ours.guards.append(guard)
    ours.epoch()
    state = copy.deepcopy(ours.state_dict())
    ours.run()
    assert len(guard.norms) == ours.at.step
    assert min(guard.norms) > 0.0
    assert guard.epochs == [0, 1, 2]
    again = training([source()], regressions("a", "b"), epochs=3)
    other = Counting()
    again.guards.append(other)
    again.load_state_dict(state)
    again.run()
    assert other.norms == guard.norms
    assert other.epochs == guard.epochs


@pytest.mark.parametrize("lost", ["skips", "guards", "generators", "memory", "format"])
def test_a_checkpoint_of_another_version_is_refused_with_what_it_lacks(lost):
    state = training([source()], regressions("a", "b")).state_dict()
    del state[lost]
    with pytest.raises(RunFolderError, match=f"says nothing of {lost}: another version"):
        training([source()], regressions("a", "b")).load_state_dict(state)


@pytest.mark.parametrize("before", [FORMAT - 1, FORMAT + 1])
def test_a_checkpoint_of_another_format_is_refused(before):
    state = training([source()], regressions("a", "b")).state_dict()
    training([source()], regressions("a", "b")).load_state_dict(state)
    state["format"] = before
    with pytest.raises(RunFolderError, match=f"has the format {before} and not {FORMAT}: another version wrote it"):
        training([source()], regressions("a", "b")).load_state_dict(state)
