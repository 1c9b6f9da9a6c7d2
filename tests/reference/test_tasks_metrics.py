"""Metrics against scikit-learn, on observed labels and in the user's units."""

import math

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from sklearn import metrics as sk

from polytask.tasks import Binary, Count, Multiclass, Multilabel, Ordinal, Quantile, Regression

RNG = np.random.default_rng(3)
N = 300


def prepared(task, labels, holes=0.3):
    """A task fitted on all labels, and targets of which some are missing."""
    task.fit(labels)
    missing = RNG.random(np.shape(labels)) < holes
    holed = np.asarray(labels).astype(object)
    holed[missing] = None
    targets, observed = task.encode(holed)
    assert (observed == ~missing).all()
    return torch.as_tensor(targets), torch.as_tensor(observed), ~missing


def close(value, expected, rel=1e-6):
    assert value == pytest.approx(expected, rel=rel)


def test_binary():
    labels = RNG.integers(0, 2, N)
    task = Binary(name="t", class_weight="balanced", label_smoothing=0.1)
    targets, observed, keep = prepared(task, labels)
    z = (RNG.normal(size=N) + labels).round(1)  # rounded, so that there are ties
    values = task.evaluate(torch.as_tensor(z)[:, None], targets, observed)
    y, score = labels[keep], z[keep]
    close(values["auroc"], sk.roc_auc_score(y, score))
    close(values["average_precision"], sk.average_precision_score(y, score))
    close(values["log_loss"], sk.log_loss(y, expit(score)))
    close(values["accuracy"], sk.accuracy_score(y, score > 0))
    close(values["balanced_accuracy"], sk.balanced_accuracy_score(y, score > 0))
    close(values["f1"], sk.f1_score(y, score > 0))
    close(values["brier"], sk.brier_score_loss(y, expit(score)))
    bins = np.minimum((expit(score) * 15).astype(int), 14)
    gaps = [abs(expit(score)[bins == b].mean() - y[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    assert values["calibration_error"] == pytest.approx(sum(gaps), abs=1e-6)
    close(values["relative_error"], sk.log_loss(y, expit(score)) / sk.log_loss(y, np.full(len(y), labels.mean())))


def test_binary_scores_of_confident_outputs_are_still_ranked():
    """Probabilities in float32 are all 1 there; logits are not."""
    task = Binary(name="t")
    task.fit(np.array([0, 1]))
    z = torch.tensor([[20.0], [21.0], [22.0], [23.0]])
    values = task.evaluate(z, torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.ones(4, dtype=torch.bool))
    assert values["auroc"] == 1.0


def test_multiclass():
    labels = RNG.integers(0, 5, N)
    task = Multiclass(name="t")
    targets, observed, keep = prepared(task, labels)
    z = RNG.normal(size=(N, 5)) + 2 * np.eye(5)[labels]
    values = task.evaluate(torch.as_tensor(z), targets, observed)
    y, p = labels[keep], softmax(z[keep], 1)
    shares = np.bincount(labels) / N
    close(values["accuracy"], sk.accuracy_score(y, p.argmax(1)))
    close(values["log_loss"], sk.log_loss(y, p))
    close(values["macro_f1"], sk.f1_score(y, p.argmax(1), average="macro"))
    close(values["auroc"], sk.roc_auc_score(y, p, multi_class="ovr"))
    close(values["relative_error"], sk.log_loss(y, p) / sk.log_loss(y, np.tile(shares, (len(y), 1))))


def test_multiclass_auroc_leaves_out_classes_that_are_not_there():
    task = Multiclass(name="t", classes=("a", "b", "c", "d"))
    labels = np.array(["a", "b", "c"] * 30)
    targets, observed, _ = prepared(task, labels, holes=0)
    z = RNG.normal(size=(90, 4))
    values = task.evaluate(torch.as_tensor(z), targets, observed)
    p = softmax(z, 1)
    close(values["auroc"], np.mean([sk.roc_auc_score(labels == c, p[:, k]) for k, c in enumerate("abc")]))
    assert math.isfinite(values["relative_error"])


def test_multilabel():
    labels = (RNG.random((N, 4)) < [0.2, 0.4, 0.5, 0.7]).astype(int)
    task = Multilabel(name="t", target=tuple("abcd"))
    targets, observed, keep = prepared(task, labels)
    z = RNG.normal(size=(N, 4)) + labels
    values = task.evaluate(torch.as_tensor(z), targets, observed)
    columns = [(labels[keep[:, k], k], z[keep[:, k], k]) for k in range(4)]
    close(values["auroc"], np.mean([sk.roc_auc_score(y, s) for y, s in columns]))
    close(values["average_precision"], np.mean([sk.average_precision_score(y, s) for y, s in columns]))
    close(values["macro_f1"], np.mean([sk.f1_score(y, s > 0) for y, s in columns]))
    close(values["accuracy"], ((z > 0) == labels)[keep].mean())
    close(values["log_loss"], sk.log_loss(labels[keep], expit(z[keep])))
    shares = np.tile(labels.mean(0), (N, 1))
    close(values["relative_error"], sk.log_loss(labels[keep], expit(z[keep])) / sk.log_loss(labels[keep], shares[keep]))
    assert values["labels_scored"] == 4


def test_multilabel_says_how_many_labels_were_scored():
    task = Multilabel(name="t", target=tuple("abc"))
    labels = np.array([[0, 1, 1], [1, 1, 0], [0, 1, np.nan], [1, 1, np.nan]])
    task.fit(labels)
    targets, observed = map(torch.as_tensor, task.encode(labels))
    z = torch.as_tensor(RNG.normal(size=(4, 3)))
    values = task.evaluate(z, targets, observed)
    assert values["labels_scored"] == 2
    close(values["auroc"], np.mean([sk.roc_auc_score([0, 1, 0, 1], z[:, 0]), sk.roc_auc_score([1, 0], z[:2, 2])]))
    one_row = task.evaluate(z[:1], targets[:1], observed[:1])
    assert math.isnan(one_row["auroc"])
    assert one_row["labels_scored"] == 0
    assert math.isfinite(one_row["log_loss"])


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_regression(offset):
    labels = RNG.normal(size=N) * 5 + offset
    task = Regression(name="t")
    targets, observed, keep = prepared(task, labels)
    z = (labels - labels.mean()) / labels.std() + RNG.normal(size=N) / 2
    values = task.evaluate(torch.as_tensor(z)[:, None], targets, observed)
    y, answers = labels[keep] - offset, (z * labels.std() + labels.mean() - offset)[keep]
    close(values["r2"], sk.r2_score(y, answers), rel=1e-5)
    close(values["rmse"], sk.root_mean_squared_error(y, answers), rel=1e-5)
    close(values["mae"], sk.mean_absolute_error(y, answers), rel=1e-5)
    constant = np.full(len(y), labels.mean() - offset)
    close(values["relative_error"], sk.mean_squared_error(y, answers) / sk.mean_squared_error(y, constant), rel=1e-5)


def test_relative_error_of_absolute_regression_is_about_the_median():
    labels = np.exp(RNG.normal(size=N))
    task = Regression(name="t", objective="absolute", transform="log")
    targets, observed, keep = prepared(task, labels)
    z = RNG.normal(size=N)
    values = task.evaluate(torch.as_tensor(z)[:, None], targets, observed)
    answers = np.exp(z * np.log(labels).std() + np.log(labels).mean())
    constant = np.full(keep.sum(), np.median(labels))
    expected = sk.mean_absolute_error(labels[keep], answers[keep]) / sk.mean_absolute_error(labels[keep], constant)
    close(values["relative_error"], expected, rel=1e-5)


def test_count():
    labels = RNG.poisson(np.exp(RNG.normal(size=N)))
    task = Count(name="t")
    targets, observed, keep = prepared(task, labels)
    rates = np.exp(0.5 * RNG.normal(size=N) + 0.5)
    values = task.evaluate(torch.as_tensor(np.log(rates))[:, None], targets, observed)
    y, r = labels[keep], rates[keep]
    close(values["d2"], sk.d2_tweedie_score(y, r, power=1))
    close(values["poisson_deviance"], sk.mean_poisson_deviance(y, r))
    close(values["mae"], sk.mean_absolute_error(y, r))
    null = sk.mean_poisson_deviance(y, np.full(len(y), labels.mean()))
    close(values["relative_error"], sk.mean_poisson_deviance(y, r) / null)


def test_ordinal():
    order = ("never", "seldom", "often", "always")
    ranks = np.concatenate([np.arange(4), RNG.integers(0, 4, N)])
    task = Ordinal(name="t", order=order)
    targets, observed, keep = prepared(task, np.array(order, dtype=object)[ranks])
    z = RNG.normal(size=(len(ranks), 3)) + ranks[:, None] - np.arange(3)
    values = task.evaluate(torch.as_tensor(z), targets, observed)
    answer = task.decode(torch.as_tensor(z))
    guess = np.array([order.index(value) for value in answer.values])
    np.testing.assert_array_equal(guess, (answer.probabilities.cumsum(1) < 0.5).sum(1))
    close(values["mae"], sk.mean_absolute_error(ranks[keep], guess[keep]))
    close(values["quadratic_kappa"], sk.cohen_kappa_score(ranks[keep], guess[keep], weights="quadratic"))
    close(values["accuracy"], sk.accuracy_score(ranks[keep], guess[keep]))
    close(values["log_loss"], sk.log_loss(ranks[keep], answer.probabilities[keep]))
    shares = np.tile(np.bincount(ranks) / len(ranks), (keep.sum(), 1))
    close(values["relative_error"], values["log_loss"] / sk.log_loss(ranks[keep], shares))


def test_quantile():
    labels = 40 + 6 * RNG.normal(size=N)
    task = Quantile(name="t", quantiles=(0.1, 0.5, 0.9))
    targets, observed, keep = prepared(task, labels)
    z = RNG.normal(size=(N, 3)) / 3 + [-1, 0, 1]
    values = task.evaluate(torch.as_tensor(z), targets, observed)
    answers = np.sort(z, 1) * labels.std() + labels.mean()
    pinball = np.mean(
        [sk.mean_pinball_loss(labels[keep], answers[keep, k], alpha=q) for k, q in enumerate((0.1, 0.5, 0.9))]
    )
    close(values["pinball"], pinball, rel=1e-5)
    below = (labels[keep, None] <= answers[keep]).mean(0)
    close(values["coverage_gap"], np.abs(below - [0.1, 0.5, 0.9]).mean())
    constants = np.quantile(labels, [0.1, 0.5, 0.9])
    null = np.mean(
        [
            sk.mean_pinball_loss(labels[keep], np.full(keep.sum(), c), alpha=q)
            for c, q in zip(constants, (0.1, 0.5, 0.9), strict=True)
        ]
    )
    close(values["relative_error"], pinball / null, rel=1e-5)


def test_metrics_that_need_two_classes_are_nan_with_one_and_do_not_warn():
    everywhere = torch.ones(4, dtype=torch.bool)
    for task, outputs, target, undefined in (
        (Binary(name="t"), 1, 1.0, {"auroc", "average_precision", "balanced_accuracy", "f1"}),
        (Multiclass(name="t"), 2, 1, {"auroc"}),
        (Regression(name="t"), 1, 1.0, {"r2"}),
        (Count(name="t"), 1, 1.0, {"d2"}),
    ):
        task.fit(np.array([0, 1, 1, 0]))
        z = torch.as_tensor(RNG.normal(size=(4, outputs)))
        values = task.evaluate(z, torch.full((4,), target), everywhere)
        assert {name for name, value in values.items() if math.isnan(value)} == undefined
