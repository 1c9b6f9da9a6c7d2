"""Every registered task kind keeps the contract, on each set of labels that it takes; no wiring per kind."""

import numpy as np
import pytest
import torch

from polytask.bundle.columns import labels_of_column, outputs_of_columns
from polytask.data.batch import ArraySource
from polytask.errors import TargetError
from polytask.tasks import Task, registry
from polytask.testing import check_task

LABELS = {
    "0 and 1": [0, 1, 1, 0, 1, 0, 0, 1, 1, 1],
    "booleans": [True, False, True, True, False, False, True, False, True, False],
    "two words": ["no", "yes", "yes", "no", "yes", "no", "no", "yes", "no", "yes"],
    "words": ["red", "green", "blue", "red", "green", "blue", "blue", "red", "green", "red"],
    "whole numbers": [3, 0, 2, 7, 1, 3, 5, 0, 4, 2],
    "fractions": [3.5, -0.25, 2.0, 7.5, 1.0, 3.0, 5.125, 0.5, 4.0, 2.25],
    "columns of 0 and 1": [
        [0, 1, 1],
        [1, 0, 1],
        [1, 1, 0],
        [0, 0, 1],
        [1, 0, 0],
        [0, 1, 0],
        [1, 1, 1],
        [0, 0, 0],
        [1, 0, 1],
    ],
}


@pytest.mark.parametrize("kind", registry.names())
def test_every_kind_keeps_the_contract_on_its_example_labels(kind: str) -> None:
    check_task(lambda: registry.create(kind, name="target"))


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("kind", registry.names())
def test_contract_on_all_labels_that_the_kind_takes(kind: str, labels: list) -> None:
    def make() -> Task:
        return registry.create(kind, name="target")

    array = np.asarray(labels)
    try:
        make().fit(array.astype(object) if array.dtype.kind == "U" else array)
    except TargetError:  # not labels of this kind; what it says is for the kind's own tests
        return
    check_task(make, labels)


@pytest.mark.parametrize("kind", registry.names())
def test_options_that_the_kind_shares_with_others_keep_the_contract(kind: str) -> None:
    options = {"class_weight": "balanced", "label_smoothing": 0.1, "transform": "log1p", "scaling": "robust"}
    known = {name for name in options if hasattr(registry.load(kind), name)}
    check_task(
        lambda: registry.create(kind, name="target", **{name: options[name] for name in known}),
    )


@pytest.mark.parametrize("kind", registry.names())
def test_first_metric_has_a_direction_and_relative_error_falls(kind: str) -> None:
    metrics = registry.load(kind).metrics
    assert len({metric.name for metric in metrics}) == len(metrics)
    assert {metric.name: metric.higher_is_better for metric in metrics}["relative_error"] is False


@pytest.mark.parametrize("kind", registry.names())
def test_the_initial_bias_has_no_skill(kind: str) -> None:
    """Outputs that are the initial bias in every row have a relative error of one on the training labels."""
    task = registry.create(kind, name="target")
    targets, observed = _fitted(task, np.array([*task.example_labels] * 20))
    constant = task.initial_bias().expand(len(targets), -1)
    assert task.evaluate(constant, targets, observed)["relative_error"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("kind", registry.names())
def test_the_initial_bias_is_where_the_training_loss_is_flat(kind: str) -> None:
    """It minimises the mean training loss among constants: no nudge makes it smaller."""
    task = registry.create(kind, name="target")
    targets, observed = _fitted(task, np.array([*task.example_labels] * 20))
    bias = task.initial_bias().double()

    def cost(outputs: torch.Tensor) -> float:
        return task.loss(outputs.expand(len(targets), -1), targets, observed).mean().item()

    for nudge in (1e-2, -1e-2):
        assert cost(bias + nudge) >= cost(bias) - 1e-7


@pytest.mark.parametrize("kind", registry.names())
def test_an_unfitted_task_says_so(kind: str) -> None:
    task = registry.create(kind, name="target")
    with pytest.raises(TargetError, match="fit"):
        task.encode(np.array(task.example_labels[:2]))
    with pytest.raises(TargetError, match="fit"):
        task.state()


def _fitted(task: Task, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    task.fit(labels)
    targets, observed = task.encode(labels)
    return torch.as_tensor(targets), torch.as_tensor(observed)


@pytest.mark.parametrize("kind", registry.names())
def test_perfect_answers_for_the_plain_columns_are_the_labels(kind: str) -> None:
    """What lines, trees and forests would learn of the task, given back as it is."""
    task = registry.create(kind, name="target")
    labels = np.array(task.example_labels)
    targets, observed = _fitted(task, labels)
    columns = task.plain_columns()
    assert kind not in ("regression", "count", "binary", "multiclass", "ordinal", "multilabel", "quantile") or columns
    if not columns:
        return
    source = ArraySource("s", torch.zeros(len(labels), 1), {"target": targets}, {"target": observed})
    answers = []
    for column in columns:
        y = labels_of_column(column, source)
        answers.append(np.eye(column.n_classes)[y.astype(int)] if column.what == "classes" else y)
    found = task.decode(outputs_of_columns(task, answers)).values.astype(float).reshape(len(labels), -1)
    np.testing.assert_allclose(found, np.repeat(labels[:, None], found.shape[1], axis=1), atol=1e-5)
    if task.is_number:
        np.testing.assert_allclose(task.in_units(targets), labels, atol=1e-6)


@pytest.mark.parametrize("kind", registry.names())
def test_classes_that_are_settled_are_those_that_were_found(kind: str) -> None:
    option, fitted = registry.load(kind).settled
    if not option:
        return
    task = registry.create(kind, name="target")
    task.fit(np.array(task.example_labels))
    assert not getattr(task, option)
    assert len(getattr(task, fitted).names) == 2
    assert option in task.options()
