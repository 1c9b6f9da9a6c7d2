"""Survival: the likelihood against a product of chances, measures against loops over pairs and statsmodels."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from polytask import Recipe
from polytask.errors import TargetError
from polytask.tasks import Survival
from polytask.tasks._survival import beyond_by_kaplan_meier, concordance, integrated_brier


def made(n=60, seed=0, values=12):
    rng = np.random.default_rng(seed)
    times, events = rng.integers(0, values, n).astype(float), rng.random(n) < 0.6
    return times, events, rng.normal(size=n).round(1)


@pytest.mark.parametrize("seed", range(5))
def test_concordance_is_the_share_of_pairs(seed):
    times, events, expected = made(seed=seed)
    right = total = 0.0
    for i in range(len(times)):
        for j in range(len(times)):
            if events[i] and (times[i] < times[j] or (times[i] == times[j] and not events[j])):
                total += 1
                right += expected[i] < expected[j] or 0.5 * (expected[i] == expected[j])
    assert concordance(times, events, expected) == pytest.approx(right / total, abs=1e-12)


def test_concordance_of_no_pair_is_not_defined():
    assert math.isnan(concordance(np.array([1.0, 2.0]), np.array([False, False]), np.array([1.0, 2.0])))
    assert math.isnan(concordance(np.zeros(0), np.zeros(0, bool), np.zeros(0)))


def test_kaplan_meier_is_that_of_statsmodels():
    from statsmodels.duration.survfunc import SurvfuncRight

    times, events, _ = made()
    known = SurvfuncRight(times + 1, events)
    np.testing.assert_allclose(beyond_by_kaplan_meier(times + 1, events, known.surv_times), known.surv_prob, rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_brier_is_weighted_for_censoring_as_in_the_paper(seed):
    times, events, _ = made(seed=seed)
    edges = np.array([1.0, 3.0, 7.0])
    beyond = np.random.default_rng(seed).uniform(size=(len(times), 3))

    def uncensored(limit, including):
        share = 1.0
        for moment in sorted(set(times)):
            if moment < limit or (including and moment == limit):
                ended = (times == moment) & events
                watched = (times >= moment).sum() - ended.sum()
                if watched:
                    share *= 1 - ((times == moment) & ~events).sum() / watched
        return share

    errors = []
    for k, t in enumerate(edges):
        parts = [
            beyond[i, k] ** 2 / uncensored(times[i], False)
            if events[i] and times[i] <= t
            else (1 - beyond[i, k]) ** 2 / uncensored(t, True) * (times[i] > t)
            for i in range(len(times))
        ]
        errors.append(np.mean(parts))
    expected = np.average(errors, weights=[1.0, 2.0, 4.0])
    assert integrated_brier(times, events, beyond, edges) == pytest.approx(expected, rel=1e-10)


def test_brier_without_censoring_is_the_plain_squared_error():
    times, _, _ = made()
    edges = np.array([2.0, 5.0])
    beyond = np.full((len(times), 2), 0.3)
    plain = ((beyond - (times[:, None] > edges)) ** 2).mean(0)
    assert integrated_brier(times, np.ones(len(times), bool), beyond, edges) == pytest.approx(
        np.average(plain, weights=[2.0, 3.0])
    )


def test_the_loss_is_the_likelihood_of_what_is_known():
    labels = np.array([[1, 1], [2, 1], [3, 1], [4, 1], [5, 1], [3.2, 0], [3.6, 0], [9, 0], [9, 1]])
    task = Survival(name="relapse", target=("t", "e"), n_intervals=5)
    task.fit(labels)
    edges = np.array(task.edges_)
    assert edges.tolist() == [2.0, 3.0, 4.0, 5.0]
    z = torch.randn(len(labels), 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets, observed = (torch.as_tensor(part) for part in task.encode(labels))
    stay = torch.sigmoid(z)
    likelihoods = torch.stack(
        [
            1 - stay[0, 0],
            1 - stay[1, 0],
            stay[2, 0] * (1 - stay[2, 1]),
            stay[3, :2].prod() * (1 - stay[3, 2]),
            stay[4, :3].prod() * (1 - stay[4, 3]),
            stay[5, :2].prod(),  # watched until 3.2, less than half of 3 to 4
            stay[6, :3].prod(),  # watched until 3.6
            stay[7].prod(),
            stay[8].prod(),  # came after the last edge: lasted all that is modelled
        ]
    )
    losses = task.loss(z, targets, observed)
    torch.testing.assert_close(losses, -likelihoods.log())
    (gradient,) = torch.autograd.grad(losses.sum(), z, retain_graph=True)
    (expected,) = torch.autograd.grad(-likelihoods.log().sum(), z)
    torch.testing.assert_close(gradient, expected)


def test_a_row_without_time_or_without_event_is_not_observed():
    task = Survival(name="relapse", target=("t", "e"))
    labels = np.array([[1, 1], [2, 0], [3, 1], [None, 1], [4, None]], dtype=object)
    task.fit(labels)
    assert task.encode(labels)[1].tolist() == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([[1, 1], [-2, 1]], "times of at least 0, got -2 in row 1"),
        ([[1, 1], [2, 3]], "events 0 or 1, got 3 in row 1"),
        ([[1, 0], [2, 0]], "needs a row whose event came, and all 2 training rows were only watched"),
        ([[1, 1], [1, 0]], "1"),
        ([[1, 1, 1], [2, 2, 2]], "shape"),
        ([["soon", 1], ["late", 1]], "'soon' in row 0"),
    ],
)
def test_labels_that_cannot_be_used_are_named(labels, says):
    with pytest.raises(TargetError, match=says):
        Survival(name="relapse", target=("t", "e")).fit(np.array(labels, dtype=object))
    with pytest.raises(TargetError, match="at least 2 intervals"):
        Survival(name="relapse", n_intervals=1)
    with pytest.raises(TargetError, match="two columns"):
        Survival(name="relapse", target=("a", "b", "c"))


def test_two_events_are_learned_together_with_missing_labels_and_asked_of_new_rows(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    for name, sign in (("relapse", 1.0), ("death", 0.7)):
        time, watched = rng.exponential(np.exp(-sign * x[:, 0])), rng.exponential(2.0, 400)
        frame[f"{name}_time"] = np.minimum(time, watched).round(3)
        frame[f"{name}_came"] = (time <= watched).astype(float)
    frame.loc[frame.index[::3], "death_time"] = np.nan
    recipe = Recipe(
        tasks={
            name: {"kind": "survival", "target": [f"{name}_time", f"{name}_came"], "n_intervals": 8}
            for name in ("relapse", "death")
        },
        encoder={"name": "mlp", "widths": [16]},
        training={"epochs": 40, "batch_size": 64, "learning_rate": 1e-2},
    )
    run = recipe.run(frame, out=tmp_path / "run")
    for result in run.record.tasks.values():
        assert result.metrics["concordance"] > 0.65
        assert result.metrics["relative_error"] < 0.98
    from polytask import load

    answer = load(tmp_path / "run").predict_frame(frame[["a", "b", "c"]].head(4))
    beyond = answer.filter(like="P(relapse=beyond")
    assert (beyond.diff(axis=1).iloc[:, 1:] <= 0).all(axis=None)
    assert (answer["relapse"] > 0).all()


def test_a_study_judges_it_and_its_risks_are_compared_with_what_came():
    from polytask import Study
    from polytask.study import Protocol

    rng = np.random.default_rng(1)
    x = rng.normal(size=(240, 2))
    frame = pd.DataFrame(x, columns=["a", "b"])
    for name in ("p", "q"):
        time, watched = rng.exponential(np.exp(-x[:, 0])), rng.exponential(2.0, 240)
        frame[f"{name}_time"], frame[f"{name}_came"] = np.minimum(time, watched), (time <= watched).astype(int)
    tasks = {n: {"kind": "survival", "target": [f"{n}_time", f"{n}_came"], "n_intervals": 5} for n in ("p", "q")}
    study = Study(
        frame,
        tasks,
        arms=["single", "joint", "boosting"],
        protocol=Protocol(folds=3),
        encoder={"name": "mlp", "widths": [8]},
        training={"epochs": 15, "batch_size": 32, "learning_rate": 1e-2},
    )
    record = study.run()
    assert set(record.verdicts) == {"p", "q"}
    assert "boosting" not in record.arms
    assert "boosting" in record.left_out
    for task in tasks:
        (drawn,) = record.calibration[task]
        assert sum(drawn["count"]) == 240
        gap = np.average(np.abs(np.subtract(drawn["predicted"], drawn["observed"])), weights=drawn["count"])
        assert gap < 0.2
    assert study.bundle.predict(frame.head(3))["p"].values.shape == (3,)
