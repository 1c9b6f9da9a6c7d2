"""Stacked training: equal to one by one, in every way in which members may differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from polytask.data.batch import ArraySource
from polytask.errors import NonFiniteError
from polytask.models.inputs import InputShape
from polytask.models.sharing import registry as sharings
from polytask.tasks import registry as kinds
from polytask.training.loop import Training
from polytask.training.preparation import Prepared
from polytask.training.progress import Silent
from polytask.training.run import Plan, fit
from polytask.training.settings import Regulariser, Settings
from polytask.training.stacked import Asked, fit_stacked, rows

TABM = {"k": 2, "width": 8, "n_blocks": 2, "dropout": 0.3, "embedding_width": 2}
PLAIN = {"width": 8, "n_blocks": 1, "dropout": 0.3, "embedding_width": 2}


def labels_of(kind: str, signal: np.ndarray) -> tuple[str, np.ndarray, dict]:
    if kind == "regression":
        return kind, signal, {}
    if kind == "quantile":
        return kind, signal, {"quantiles": (0.1, 0.5)}
    if kind == "count":
        return kind, np.floor(np.exp(signal / 2)), {}
    if kind == "weighted":
        return "binary", (signal > 0.3).astype(object), {"class_weight": "balanced"}
    if kind == "binary":
        return kind, (signal > 0).astype(object), {}
    if kind == "multilabel":
        return kind, np.stack([signal > 0, signal > 0.5], axis=1).astype(float), {"target": ("u", "v")}
    levels = np.digitize(signal, [-0.5, 0.5])
    return kind, levels.astype(object), {"order": (0, 1, 2)} if kind == "ordinal" else {}


def prepared(
    asked=("regression", "regression"), n=70, missing=0.0, seed=0, dtype=torch.float32, weights=False, noise=0.3
):
    """Rows of one source, with another signal for each task; the codecs depend on the seed too."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n + 40, 3))
    tasks, targets, observed = [], {}, {}
    for i, what in enumerate(asked):
        signal = x @ rng.normal(size=3) + noise * rng.normal(size=len(x))
        kind, labels, options = labels_of(what, signal)
        task = kinds.create(kind, name=f"{what} {i}", **options)
        task.fit(labels[:n])
        encoded, seen = task.encode(labels)
        if missing:
            seen = seen & (rng.random(seen.shape) >= missing)
        tasks.append(task)
        targets[task.name], observed[task.name] = torch.from_numpy(encoded), torch.from_numpy(seen)
    inputs = {"numeric": torch.from_numpy(x).to(dtype)}
    row_weights = torch.from_numpy(rng.random(n + 40)).to(dtype) if weights else None
    whole = ArraySource("data", inputs, targets, observed, row_weights)
    parts = [{"data": whole.take(torch.arange(a, b))} for a, b in ((0, n), (n, n + 30), (n + 30, n + 40))]
    return Prepared(tasks, *parts, {"data": InputShape.of(inputs)}, {}, {}, {}, {})


def plan(seed=0, encoder="tabm", options=None, **settings) -> Plan:
    made = Settings(
        **{
            "epochs": 5, "batch_size": 32, "learning_rate": 0.02, "weight_decay": 0.1, "patience": 2,
            "stop_rule": "mean", "seed": seed, **settings,
        }
    )  # fmt: skip
    return Plan(encoder=encoder, encoder_options=TABM if options is None else options, settings=made)


def check_equal(asked, *, tolerance=2e-4, alone=0, **options):
    """The oracle is the ordinary loop, one training after the other."""
    found = fit_stacked(asked, **options)
    assert len(found.alone) == alone, found.alone
    for one, ours in zip(asked, found.fitted, strict=True):
        theirs = fit(one.prepared, one.plan)
        assert (ours.epochs, ours.best_epoch) == (theirs.epochs, theirs.best_epoch)
        for mine, other in zip(ours.history, theirs.history, strict=True):
            assert mine.keys() == other.keys()
            for key in ("epoch", "step", "is_best", "fallbacks", "learning_rate"):
                assert mine[key] == other[key]
            for key in ("train", "validation", "weights"):
                assert mine[key] == pytest.approx(other[key], rel=tolerance, abs=tolerance)
        outputs = [
            f.bundle.models[0].outputs(one.prepared.test["data"], [t.name for t in one.prepared.tasks])
            for f in (ours, theirs)
        ]
        for task in one.prepared.tasks:
            torch.testing.assert_close(outputs[0][task.name], outputs[1][task.name], rtol=tolerance, atol=tolerance)
        assert ours.metrics.keys() == theirs.metrics.keys()
    return found


@pytest.mark.parametrize(("encoder", "options"), [("tabm", TABM), ("tabular", PLAIN), ("mlp", {"widths": [8, 8]})])
def test_folds_seeds_and_single_twins(encoder, options):
    """Folds of unequal sizes, so that last batches differ, and members that stop in different epochs."""
    asked = []
    for fold, n in enumerate((70, 71, 70)):
        data = prepared(n=n, seed=fold)
        mine = plan(seed=10 + fold, encoder=encoder, options=options, epochs=8, patience=1)
        asked.append(Asked(data, mine))
        asked += [Asked(data.only([task.name]), mine.alone()) for task in data.tasks]
    found = check_equal(asked)
    assert sorted(found.sizes) == [3, 6]
    assert len({fitted.epochs for fitted in found.fitted}) > 1


def test_missing_labels_row_weights_and_a_task_that_is_absent_from_batches():
    """With 4 of 70 labels and batches of 10, most batches have none; its head must not move then."""
    asked = []
    for seed in range(3):
        data = prepared(("regression", "binary", "regression"), missing=0.4, seed=seed, weights=seed == 2)
        rare = data.train["data"].observed["regression 2"]
        rare[4:] = False
        asked.append(Asked(data, plan(seed=seed, batch_size=10)))
        asked.append(Asked(data.only(["regression 2"]), plan(seed=seed, batch_size=10).alone()))
    check_equal(asked)


ALL_KINDS = ("regression", "quantile", "count", "weighted", "binary", "multilabel", "multiclass", "ordinal", "count")


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_every_kind_of_task_at_once(missing):
    asked = [Asked(prepared(ALL_KINDS, missing=missing, seed=s), plan(seed=s, epochs=3)) for s in range(2)]
    assert check_equal(asked).sizes == [2]


def test_several_labels_a_row_of_which_some_are_missing():
    asked = []
    for seed in range(2):
        data = prepared(("multilabel",), seed=seed)
        data.train["data"].observed["multilabel 0"][::3, 0] = False
        asked.append(Asked(data, plan(seed=seed, epochs=3)))
    check_equal(asked)


def test_double_precision_is_equal_much_more_closely():
    torch.set_default_dtype(torch.float64)
    try:
        data = [prepared(missing=0.3, seed=s, dtype=torch.float64) for s in range(2)]
        check_equal([Asked(d, plan(seed=s)) for s, d in enumerate(data)], tolerance=1e-10)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("most", [1, 2])
def test_the_size_of_the_stacks_changes_nothing(most):
    asked = [Asked(prepared(seed=s), plan(seed=s, epochs=3)) for s in range(5)]
    found = check_equal(asked, most=most)
    assert found.sizes == {1: [1] * 5, 2: [2, 2, 1]}[most]


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_rows_too_many_for_one_table_are_read_where_they_are(missing, monkeypatch):
    """Members leave at different times here, and their last batches have different lengths."""
    asked = [Asked(prepared(n=60 + s, missing=missing, seed=s), plan(s, patience=1)) for s in range(3)]
    together = fit_stacked(asked).fitted
    monkeypatch.setattr(rows, "POOL", 0)
    apart = fit_stacked(asked).fitted
    for one, other in zip(together, apart, strict=True):
        assert [line["validation"] for line in one.history] == [line["validation"] for line in other.history]
    check_equal(asked)


def test_a_small_budget_of_memory_makes_small_stacks():
    asked = [Asked(prepared(seed=s), plan(seed=s, epochs=1)) for s in range(4)]
    assert fit_stacked(asked, memory=1).sizes == [1] * 4


def test_draws_of_settings_have_their_own_rates():
    drawn = [
        {"learning_rate": 0.01, "schedule": "cosine"},
        {"weight_decay": 0.0, "warmup": 0.2},
        {"clip_norm": 0.1},
        {"optimiser": "sgd"},
        {"schedule": "plateau", "patience": 4},
        {"patience": 1, "patience_share": 0.5},
        {"stop_rule": "worst", "patience": None},
    ]
    data = prepared(seed=1)
    found = check_equal([Asked(data, plan(seed=i, **settings)) for i, settings in enumerate(drawn)])
    assert found.sizes == [7]


@pytest.mark.parametrize("validation", [True, False])
def test_dropout_fades_in_a_stack_as_it_does_alone(validation, monkeypatch):
    weakest, end_epoch = {}, Training.end_epoch

    def noted(self, *args):
        line = end_epoch(self, *args)
        weakest[self] = min(weakest.get(self, 1.0), self.fading.strength)
        return line

    monkeypatch.setattr(Training, "end_epoch", noted)
    asked = []
    for seed in range(3):
        data = prepared(n=120, seed=seed, noise=0.0, weights=seed == 2)
        data = data if validation else replace(data, validation={})
        given = {"epochs": 10, "batch_size": 16, "learning_rate": 0.03, "weight_decay": 0.0, "dropout_fades": seed > 0}
        options = {**TABM, "width": 16, "n_blocks": 1, "dropout": 0.1}
        asked.append(Asked(data, plan(seed=seed, options=options, **given)))
    assert check_equal(asked, tolerance=2e-3).sizes == [3]
    assert len(weakest) == 6, "three in the stack, and three alone"
    assert sorted(strength < 0.8 for strength in weakest.values()) == [False] * 2 + [True] * 4


BALANCERS = ("uncertainty", "dwa", "rlw", "stch", "fixed", "imtl_l")


@pytest.mark.parametrize("balancer", BALANCERS)
def test_balancers_of_losses_weigh_each_member_by_itself(balancer):
    asked = [Asked(prepared(missing=0.2, seed=s), replace(plan(seed=s, epochs=3), balancer=balancer)) for s in range(2)]
    assert check_equal(asked, tolerance=1e-3).sizes == [2]


@pytest.mark.parametrize("rare", [False, True])
def test_what_balancers_learn_is_kept_when_members_leave_and_when_a_task_is_absent(rare):
    """Members of other balancers that stop in different epochs; a rare task parts them in the middle of an epoch."""
    asked = []
    for seed, balancer in enumerate(("uncertainty", "equal", "imtl_l", "uncertainty")):
        data = prepared(seed=seed)
        if rare:
            data.train["data"].observed["regression 1"][6:] = False
        mine = plan(seed=seed, epochs=8, patience=1, batch_size=24)
        asked.append(Asked(data, replace(mine, balancer=balancer)))
    found = check_equal(asked, tolerance=1e-3)
    assert found.sizes == [4]
    assert len({fitted.epochs for fitted in found.fitted}) > 1


@pytest.mark.parametrize("sharing", sharings.names())
def test_every_sharing_is_stacked_or_says_why_not(sharing):
    data = [prepared(("binary", "binary"), seed=s) for s in range(2)]
    options = {"parents": {"binary 1": ["binary 0"]}} if sharing == "task_graph" else {}
    mine = [replace(plan(seed=s, epochs=2), sharing=sharing, sharing_options=options) for s in range(2)]
    asked = [Asked(d, p) for d, p in zip(data, mine, strict=True)]
    n_alone = len(fit_stacked(asked).alone)
    assert n_alone in (0, 2)
    check_equal(asked, alone=n_alone, tolerance=1e-3)


def test_what_cannot_be_stacked_is_trained_by_itself_and_says_so():
    data = prepared()
    penalty = plan(regularisers=(Regulariser("l2", 0.1),))
    found = check_equal([Asked(data, penalty), Asked(data, replace(plan(), balancer="pcgrad")), *[Asked(data, plan())] * 2],
                        alone=2)  # fmt: skip
    assert found.alone[0] == "it has penalties on parameters"
    assert "PCGrad looks at more than the losses" in found.alone[1]
    assert found.fitted[0].notes == ["Trained by itself and in no stack: it has penalties on parameters."]
    assert found.describe().startswith("2 trainings were done in 1 stacks. 1 trained by themselves: it has penalties")


def test_a_member_that_diverges_stops_no_other():
    data = prepared()
    found = fit_stacked([Asked(data, plan()), Asked(data, plan(learning_rate=1e30)), Asked(data, plan(seed=3))])
    assert found.sizes == [3]
    assert found.alone == {1: "a loss or a parameter was no number, or exploded, in the stack"}
    assert isinstance(found.fitted[1], NonFiniteError)
    assert set(found.fitted[1].tasks) == {"regression 0", "regression 1"}
    for i, seed in ((0, 0), (2, 3)):
        theirs = fit(data, plan(seed=seed))
        assert found.fitted[i].history[-1]["validation"] == pytest.approx(theirs.history[-1]["validation"], rel=1e-4)


def test_the_generator_of_the_process_is_left_as_it_was():
    before = torch.get_rng_state()
    fit_stacked([Asked(prepared(), plan(epochs=1))] * 2)
    assert torch.equal(before, torch.get_rng_state())


def test_each_result_is_told_when_its_stack_is_done():
    told = []
    asked = [Asked(prepared(seed=s), plan(seed=s, epochs=1)) for s in range(3)]
    fit_stacked(asked, most=1, done=lambda i, fitted: told.append((i, fitted.epochs)))
    assert told == [(0, 1), (1, 1), (2, 1)]


def test_ctrl_c_keeps_the_trainings_of_the_stacks_that_are_done():
    class Stops(Silent):
        stacks = 0

        def start(self, title, n_steps, done=0):
            self.stacks += 1

        def step(self, losses, epoch):
            if self.stacks == 2:
                raise KeyboardInterrupt

    told = {}
    asked = [Asked(prepared(seed=s), plan(seed=s, epochs=2)) for s in range(4)]
    with pytest.raises(KeyboardInterrupt):
        fit_stacked(asked, most=2, progress=Stops(), done=told.__setitem__)
    assert [(i, fitted.epochs) for i, fitted in told.items()] == [(0, 2), (1, 2)]
