"""What holds for every task kind, whatever the labels, the outputs and the holes in the labels."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.tasks import Task, registry, task_from_options

OPTIONS = {
    "binary": {"class_weight": "balanced", "label_smoothing": 0.1},
    "multiclass": {"class_weight": {2: 3.0}, "label_smoothing": 0.05},
    "multilabel": {"class_weight": "balanced", "target": ("p", "q", "r")},
    "ordinal": {"class_weight": {0: 2.0}},
    "regression": {"objective": "huber", "scaling": "robust"},
    "quantile": {"quantiles": (0.2, 0.5, 0.7)},
}
KINDS = [(kind, {}) for kind in registry.names()] + list(OPTIONS.items())
each_kind = pytest.mark.parametrize(
    ("kind", "options"), KINDS, ids=[f"{k}-{'plain' if not o else 'options'}" for k, o in KINDS]
)


def labels_of(kind: str, options: dict, seed: int, n_rows: int) -> np.ndarray:
    """Labels that the kind takes, all of its values among them."""
    rng = np.random.default_rng(seed)
    if kind == "multilabel":
        labels = rng.integers(0, 2, (n_rows, len(options.get("target", "x"))))
        labels[:2] = [[0], [1]]
        return labels
    n_values = 2 if kind == "binary" else 5
    labels = rng.integers(0, n_values, n_rows)
    labels[:n_values] = np.arange(n_values)
    return labels + 0.25 * rng.integers(0, 4, n_rows) if kind in ("regression", "quantile") else labels


def fitted(kind: str, options: dict, labels: np.ndarray) -> Task:
    task = registry.create(kind, name="target", **options)
    task.fit(labels)
    return task


def encoded(task: Task, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    targets, observed = task.encode(labels)
    return torch.as_tensor(targets), torch.as_tensor(observed)


@each_kind
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31), n_rows=st.integers(5, 40), share=st.floats(0, 1), size=st.sampled_from([0.1, 1.0, 20.0])
)
def test_rows_without_label_are_as_good_as_deleted(kind, options, seed, n_rows, share, size):
    labels = labels_of(kind, options, seed, n_rows)
    task = fitted(kind, options, labels)
    rng = np.random.default_rng(seed)
    missing = rng.random(n_rows) < share
    outputs = torch.as_tensor(size * rng.normal(size=(n_rows, task.n_outputs)), dtype=torch.float32)
    holes = labels.astype(object)
    holes[missing] = rng.choice(np.array([None, math.nan], dtype=object), size=holes[missing].shape)
    keep = torch.as_tensor(~missing)
    wild = outputs.clone()
    wild[~keep] = math.nan
    wild.requires_grad_()
    alone = outputs[keep].requires_grad_()
    holed, deleted = encoded(task, holes), encoded(task, labels[~missing])

    mine, theirs = task.loss(wild, *holed), task.loss(alone, *deleted)
    assert torch.equal(mine, theirs)
    mine.sum().backward()
    theirs.sum().backward()
    assert torch.equal(wild.grad[keep], alone.grad)
    assert not wild.grad[~keep].any()
    a, b = task.evaluate(wild, *holed), task.evaluate(alone, *deleted)
    assert a.keys() == b.keys()
    assert all(a[m] == b[m] or (math.isnan(a[m]) and math.isnan(b[m])) for m in a)
    if missing.all():
        assert all(math.isnan(value) for value in a.values())


def several_elements(kind: str, rng: np.random.Generator, n_rows: int) -> np.ndarray:
    """Labels of kinds whose rows have several elements: rows of tags and symbols, maps, waves, spectrograms."""
    if kind in ("tagging", "transcription"):
        rows = np.empty(n_rows, dtype=object)
        rows[:] = [" ".join(rng.permutation(list("abcde"))[: rng.integers(2, 6)]) for _ in range(n_rows)]
        return rows
    if kind == "segmentation":
        return rng.integers(0, 3, (n_rows, 2, 3))
    return (
        rng.normal(size=(n_rows, 2, 8)) if kind in ("separation", "synthesis") else rng.normal(size=(n_rows, 2, 3, 2))
    )


ELEMENTS = [
    (kind, {}) for kind in ("dense_regression", "segmentation", "separation", "synthesis", "tagging", "transcription")
]
ELEMENTS += [("tagging", {"transitions": True}), ("separation", {"is_ordered": True})]


@pytest.mark.parametrize(
    ("kind", "options", "has_elements"), [(*k, False) for k in KINDS] + [(*k, True) for k in ELEMENTS]
)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), n_rows=st.integers(5, 20), share=st.floats(0, 1))
def test_what_is_written_where_no_label_is_observed_does_not_matter(kind, options, has_elements, seed, n_rows, share):
    rng = np.random.default_rng(seed)
    labels = several_elements(kind, rng, n_rows) if has_elements else labels_of(kind, options, seed, n_rows)
    task = fitted(kind, options, labels)
    targets, observed = encoded(task, labels)
    observed = observed & torch.as_tensor(rng.random(observed.shape) >= share)
    hidden = ~observed.reshape(*observed.shape, *[1] * (targets.ndim - observed.ndim))
    others = torch.where(hidden, targets[torch.as_tensor(rng.permutation(n_rows))], targets)
    start = task.constant_outputs(targets).double()
    results = []
    for given_targets in (targets, others):
        outputs = torch.as_tensor(np.random.default_rng(seed).normal(size=start.shape)) + start
        outputs.requires_grad_()
        losses = task.loss(outputs, given_targets, observed)
        (gradient,) = torch.autograd.grad(losses.sum(), outputs)
        results.append((losses, gradient, task.evaluate(outputs, given_targets, observed)))
    (mine, my_gradient, my_metrics), (theirs, their_gradient, their_metrics) = results
    assert torch.equal(mine, theirs)
    assert torch.equal(my_gradient, their_gradient)
    assert my_metrics == pytest.approx(their_metrics, nan_ok=True)


@each_kind
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), n_rows=st.integers(5, 40), share=st.floats(0, 0.6))
def test_missing_training_labels_teach_nothing(kind, options, seed, n_rows, share):
    labels = labels_of(kind, options, seed, n_rows)
    rng = np.random.default_rng(seed + 1)
    padded = np.concatenate([labels, labels]).astype(object)
    padded[n_rows:] = None
    order = rng.permutation(len(padded))
    one, other = fitted(kind, options, labels), fitted(kind, options, padded[order])
    for (path, a), (_, b) in zip(flat(one.state()), flat(other.state()), strict=True):
        # The order of a sum is all that differs.
        assert a == b or a == pytest.approx(b, rel=1e-12, abs=1e-12), path


@each_kind
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), n_rows=st.integers(5, 40))
def test_state_and_options_through_json_give_the_same_task(kind, options, seed, n_rows):
    labels = labels_of(kind, options, seed, n_rows)
    task = fitted(kind, options, labels)
    again = task_from_options(json.loads(json.dumps(task.options())))
    again.load_state(json.loads(json.dumps(task.state(), allow_nan=False)))
    assert again.state() == task.state()
    for a, b in zip(encoded(task, labels), encoded(again, labels), strict=True):
        assert torch.equal(a, b)
    outputs = torch.as_tensor(np.random.default_rng(seed).normal(size=(n_rows, task.n_outputs)))
    one, other = task.decode(outputs), again.decode(outputs)
    assert np.array_equal(one.values, other.values)
    assert one.labels == other.labels
    targets, observed = encoded(task, labels)
    assert torch.equal(task.loss(outputs, targets, observed), again.loss(outputs, targets, observed))
    assert task.evaluate(outputs, targets, observed) == pytest.approx(
        again.evaluate(outputs, targets, observed), nan_ok=True
    )


@each_kind
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), n_rows=st.integers(5, 30))
def test_a_label_s_loss_does_not_depend_on_its_batch(kind, options, seed, n_rows):
    labels = labels_of(kind, options, seed, n_rows)
    task = fitted(kind, options, labels)
    targets, _ = encoded(task, labels)
    outputs = torch.as_tensor(np.random.default_rng(seed).normal(size=(n_rows, task.n_outputs)))
    together = task.label_losses(outputs, targets)
    one_by_one = torch.stack([task.label_losses(z, y) for z, y in zip(outputs, targets, strict=True)])
    torch.testing.assert_close(together, one_by_one, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.func.vmap(task.label_losses)(outputs, targets), together, rtol=1e-12, atol=1e-12)
    per_row = torch.func.vmap(torch.func.grad(lambda z, y: task.label_losses(z, y).sum()))(outputs, targets)
    free = outputs.clone().requires_grad_()
    task.label_losses(free, targets).sum().backward()
    torch.testing.assert_close(per_row, free.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "ordinal"])
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n_rows=st.integers(5, 60),
    weights=st.lists(st.floats(0.01, 100), min_size=5, max_size=5),
)
def test_the_average_observed_training_label_weighs_one(kind, seed, n_rows, weights):
    labels = labels_of(kind, {}, seed, n_rows)
    for rule in ("balanced", dict(zip(np.unique(labels).tolist(), weights, strict=False))):
        plain, weighted = fitted(kind, {}, labels), fitted(kind, {"class_weight": rule}, labels)
        targets, _ = encoded(plain, labels)
        outputs = torch.zeros(n_rows, plain.n_outputs, dtype=torch.float64)
        outputs += torch.as_tensor(np.random.default_rng(seed).normal(size=outputs.shape))
        factor = weighted.label_losses(outputs, targets) / plain.label_losses(outputs, targets)
        assert factor.mean().item() == pytest.approx(1.0, rel=1e-5)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.floats(0, 50))
def test_ordinal_probabilities_sum_to_one_and_fall_cumulatively(seed, size):
    task = fitted("ordinal", {}, np.arange(6))
    outputs = torch.as_tensor(size * np.random.default_rng(seed).normal(size=(20, 5)))
    answer = task.decode(outputs)
    np.testing.assert_allclose(answer.probabilities.sum(1), 1, rtol=1e-12)
    beyond = 1 - answer.probabilities.cumsum(1)
    assert (np.diff(beyond, axis=1) <= 1e-12).all()
    likely = answer.probabilities.cumsum(1)
    rank = answer.values
    assert (likely[np.arange(20), rank] >= 0.5 - 1e-12).all()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), transform=st.sampled_from(["none", "log", "log1p", "quantile"]))
def test_quantiles_never_cross_and_sorting_never_costs(seed, transform):
    rng = np.random.default_rng(seed)
    labels = rng.gamma(2.0, 3.0, 60) + 0.1
    task = fitted("quantile", {"quantiles": (0.1, 0.3, 0.5, 0.9), "transform": transform}, labels)
    outputs = torch.as_tensor(rng.normal(size=(60, 4)))
    assert (np.diff(task.decode(outputs).values, axis=1) >= 0).all()
    targets, _ = encoded(task, labels)
    assert (
        task.label_losses(outputs.sort(-1).values, targets).sum() <= task.label_losses(outputs, targets).sum() + 1e-12
    )


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    scale=st.floats(1e-6, 1e6),
    shift=st.floats(-1e6, 1e6),
    kind=st.sampled_from(["regression", "quantile"]),
)
def test_units_do_not_matter(seed, scale, shift, kind):
    labels = np.random.default_rng(seed).normal(size=40)
    moved = scale * labels + shift
    digits = 1e-6 + 1e-9 * abs(shift) / scale
    one, other = fitted(kind, {}, labels), fitted(kind, {}, moved)
    np.testing.assert_allclose(one.encode(labels)[0], other.encode(moved)[0], atol=digits, rtol=0)
    outputs = torch.as_tensor(np.random.default_rng(seed + 1).normal(size=(40, one.n_outputs)))
    np.testing.assert_allclose(
        scale * one.decode(outputs).values + shift, other.decode(outputs).values, rtol=1e-6, atol=10 * digits * scale
    )
    a = one.evaluate(outputs, *encoded(one, labels))["relative_error"]
    b = other.evaluate(outputs, *encoded(other, moved))["relative_error"]
    assert a == pytest.approx(b, rel=1e-4 + 100 * digits)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    transform=st.sampled_from(["none", "log", "log1p", "quantile"]),
    scaling=st.sampled_from(["standard", "robust"]),
)
def test_regression_answers_are_the_labels_when_outputs_are_the_targets(seed, transform, scaling):
    labels = np.random.default_rng(seed).gamma(2.0, 3.0, 50) + 0.01
    task = fitted("regression", {"transform": transform, "scaling": scaling}, labels)
    targets, observed = encoded(task, labels)
    np.testing.assert_allclose(task.decode(targets[:, None]).values, labels, rtol=2e-5, atol=2e-5)
    values = task.evaluate(targets[:, None], targets, observed)
    assert values["r2"] == pytest.approx(1.0)
    assert values["relative_error"] == pytest.approx(0.0, abs=1e-9)


def flat(value, path=()):
    """Leaves of nested dicts and lists, with their paths."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [leaf for key, inner in items for leaf in flat(inner, (*path, key))]
    return [(path, value)]
