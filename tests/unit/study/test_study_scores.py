"""The overall scores are about errors, so that signs, zeros and scales of targets and metrics do not decide them."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge, RidgeCV

from polytask import Study
from polytask.errors import TargetError
from polytask.records import StudyRecord
from polytask.report import write_page
from polytask.report.study import study_view
from polytask.study import Protocol
from polytask.tasks import registry
from polytask.training.data_sets import TableData

QUICK = {"training": {"epochs": 1}, "encoder": {"name": "mlp", "widths": [4]}}


def table(seed: int = 0, n: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
    signal = frame["a"] - frame["b"]
    frame["signed"] = signal + 0.5 * rng.normal(size=n)
    frame["noise"] = rng.normal(size=n)  # R2 is below zero for every arm that learns anything from it
    frame["still"] = np.where(np.arange(n) < 1, 1.0, 0.0)  # constant where that row is not for training
    frame["rare"] = pd.Series(["no"] * n).mask(np.arange(n) >= n - 2, "yes")  # without an AUROC on most folds
    return frame


TASKS = {"signed": "regression", "noise": "regression", "still": "regression", "rare": "binary"}


def ridge_on_noise(frame: pd.DataFrame, protocol: Protocol) -> list[float]:
    """By scikit-learn alone, fold by fold: the penalty from the training rows, the line from these and the others."""
    tasks = [registry.create(kind, name=name) for name, kind in TASKS.items()]
    found = []
    for _, _, split in protocol.splits(TableData("t", frame, inputs=["a", "b", "c"], targets=list(TASKS)), tasks):
        x, y = frame[["a", "b", "c"]].to_numpy(), frame["noise"].to_numpy()
        both = np.concatenate([split.train, split.validation])
        x = (x - x[split.train].mean(0)) / x[split.train].std(0)
        penalty = RidgeCV(alphas=np.logspace(-3, 5, 33)).fit(x[split.train], y[split.train]).alpha_
        line = Ridge(alpha=penalty).fit(x[both], y[both])
        squares = (y[split.test] - line.predict(x[split.test])) ** 2
        found.append(squares.mean() / ((y[split.test] - y[split.train].mean()) ** 2).mean())
    return found


@pytest.fixture(scope="module")
def record() -> StudyRecord:
    return Study(table(), TASKS, arms=["single", "joint", "linear"], protocol=Protocol(folds=3), **QUICK).run()


def test_hard_tasks_leave_finite_scores(record):
    for arm in record.arms.values():
        assert 1 <= arm.mean_rank <= len(record.arms)
        assert arm.gain is None or -200 <= arm.gain <= 200
    assert 1 <= record.recommendation.mean_rank <= len(record.arms) + 1
    assert -200 <= record.recommendation.gain <= 200
    assert record.arms["single"].gain is None
    assert any(fold.absent for fold in record.folds), "a constant task is absent from a fold"
    undefined = [
        interval.mean is None or not math.isnan(interval.mean)
        for arm in record.arms.values()
        for by_metric in arm.metrics.values()
        for interval in by_metric.values()
    ]
    assert all(undefined), "a metric that is not defined is None, never NaN"


def test_a_metric_below_zero_and_one_that_is_not_defined_do_not_hide_the_error(record):
    r2 = record.arms["linear"].metrics["noise"]["r2"].mean
    assert r2 < 0
    frame, protocol = table(), Protocol(folds=3)
    # A line through n labels of pure noise at p inputs is off by p/(n-p-2) of the noise, ridge by less; and over N test
    # labels, that much meets the noise itself with a standard error of twice the root of p/(n-p-2)/N.
    share = 3 / (len(frame) * 2 / 3 - 3 - 2)
    chance = 3 * 2 * np.sqrt(share / len(frame))
    assert 1 - chance < record.arms["linear"].error["noise"].mean < 1 + share + chance
    assert record.arms["linear"].errors["noise"] == pytest.approx(ridge_on_noise(frame, protocol), rel=1e-4)
    assert set(record.verdicts) == set(record.tasks)
    for verdict in record.verdicts.values():
        assert verdict.verdict in ("helped", "hurt", "no evidence")
        assert "nan" not in verdict.words
    assert study_view(record)["verdicts"], "and the page can be drawn"


def test_the_page_names_classes_that_are_numbers(record, tmp_path):
    """A column of 0 and 1 with missing labels is one of floating-point numbers."""
    rare = replace(record.tasks["rare"], levels=(0.0, 1.0))
    page = write_page(replace(record, tasks={**record.tasks, "rare": rare}), tmp_path / "page.html")
    assert "0 and 1" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(("move", "stretch"), [(1000.0, -50.0), (0.0, -1.0), (-3.0, 1e-3)])
def test_turning_moving_and_stretching_a_target_changes_no_error(move, stretch):
    rng = np.random.default_rng(1)
    labels, guesses = rng.normal(size=80), rng.normal(size=(80, 1))

    def error(values: np.ndarray, outputs: np.ndarray) -> float:
        task = registry.create("regression", name="y")
        task.fit(values[:60])
        targets, observed = task.encode(values)
        return task.evaluate(torch.as_tensor(outputs), torch.as_tensor(targets), torch.as_tensor(observed))[
            "relative_error"
        ]

    assert error(move + stretch * labels, np.sign(stretch) * guesses) == pytest.approx(error(labels, guesses), rel=1e-5)


def test_a_target_that_never_changes_is_refused_by_name():
    with pytest.raises(TargetError, match="still"):
        Study(table().assign(still=0.0), {"still": "regression", "noise": "regression"}, arms=["linear"], **QUICK).run()
