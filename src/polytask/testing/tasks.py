"""What every task kind must keep, as one call for authors of new ones."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from polytask.errors import TargetError
from polytask.shapes import Bool, Float, Shaped, Tensor
from polytask.tasks.task import Prediction, Task, task_from_options

__all__ = ["check_task"]


def check_task(make: Callable[[], Task], labels: Any = None, *, registered: bool = True) -> None:
    """Check a task kind against the contract of :class:`polytask.tasks.Task`.

    Missing labels never touch loss, gradient or metrics; a batch without labels gives an empty loss and no gradient;
    the codec survives JSON; losses are finite and can be differentiated and vectorised; metrics are those declared;
    answers have a row each and can be turned back into outputs; NaN is not hidden; ``decoding`` says how outputs become
    answers, by keys that the state has.

    Args:
        make: Makes a task, not fitted, always the same.
        labels: ``[N]`` or ``[N, K]`` labels as a user has them, at least 8 rows, none missing, at least two different;
            the kind's ``example_labels`` if ``None``.
        registered: False for a kind that is not in the registry (its options are then not rebuilt by name, and it
            need not say ``decoding``).

    Raises:
        AssertionError: If the task breaks the contract; the message says how.

    Example:
        >>> from polytask.tasks import Binary
        >>> check_task(lambda: Binary(name="ill"), [0, 1, 1, 0, 1, 0, 0, 1])
    """
    table = np.asarray(make().example_labels if labels is None else labels)
    table = table.astype(object) if table.dtype.kind in "SUT" else table
    assert len(table) >= 8, "check_task needs at least 8 rows of labels"
    task = make()
    task.fit(table)
    generator = torch.Generator().manual_seed(0)
    targets, observed = _encoded(task, table)
    outputs = torch.randn(task.constant_outputs(targets).shape, generator=generator)
    assert bool(observed.all()), "encode says that a label is missing which is not"
    _check_codec(task, make, table, registered)
    _check_decoding(task, registered)
    _check_losses(task, outputs, targets, observed)
    _check_missing(task, table, outputs)
    _check_nothing_observed(task, outputs, targets, observed)
    _check_metrics(task, outputs, targets, observed)
    _check_answers(task, outputs)


def _encoded(task: Task, labels: np.ndarray) -> tuple[Shaped[Tensor, "N ..."], Bool[Tensor, "N ..."]]:
    targets, observed = task.encode(labels)
    assert observed.dtype == bool, f"observed must be boolean, got {observed.dtype}"
    assert len(targets) == len(observed) == len(labels), "encode must keep the rows"
    assert np.isfinite(targets).all(), "targets must be finite, also where not observed"
    return torch.as_tensor(targets), torch.as_tensor(observed)


def _check_codec(task: Task, make: Callable[[], Task], labels: np.ndarray, registered: bool) -> None:
    state = json.loads(json.dumps(task.state(), allow_nan=False))
    again = task_from_options(json.loads(json.dumps(task.options()))) if registered else make()
    again.load_state(state)
    assert again.n_outputs == task.n_outputs, "state and options do not bring n_outputs back"
    for before, after in zip(task.encode(labels), again.encode(labels), strict=True):
        assert before.dtype == after.dtype, "encode changes its type after a round trip through JSON"
        assert (before == after).all(), "encode changes after a round trip through JSON"
    shape = task.constant_outputs(torch.as_tensor(task.encode(labels)[0][:4])).shape
    outputs = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    mine, theirs = task.decode(outputs), again.decode(outputs)
    assert mine.labels == theirs.labels, "labels change after a round trip through JSON"
    assert [type(a) for a in mine.labels] == [type(b) for b in theirs.labels], "labels change their type through JSON"
    assert (mine.values == theirs.values).all(), "answers change after a round trip through JSON"
    assert torch.equal(task.initial_bias(), again.initial_bias()), (
        "initial_bias changes after a round trip through JSON"
    )
    _refuses(task.name, make, labels[:0], "no labels at all")
    _refuses(task.name, make, np.full(labels.shape, np.nan), "all labels missing")
    _refuses(task.name, make, np.repeat(labels[:1], len(labels), axis=0), "one label only")


def _check_decoding(task: Task, registered: bool) -> None:
    said = task.decoding
    assert said != Task.decoding or not registered, f"{task.kind!r} must say in decoding how outputs become answers"
    for path in re.findall(r"\bstate((?:\.[a-z_]+)+)", said):
        found: Any = task.state()
        for key in path[1:].split("."):
            assert isinstance(found, dict), f"decoding says state{path}, and there are no keys before {key!r}"
            assert key in found, f"decoding says state{path}, and the state has {', '.join(found)}"
            found = found[key]


def _refuses(name: str, make: Callable[[], Task], labels: np.ndarray, what: str) -> None:
    message = ""
    try:
        make().fit(labels)
    except TargetError as error:
        message = str(error)
    assert message, f"fit must raise TargetError for {what}"
    assert name in message, f"the error about {what} must name the task, got: {message}"


def _check_losses(
    task: Task, outputs: Float[Tensor, "N O"], targets: Shaped[Tensor, "N ..."], observed: Bool[Tensor, "N ..."]
) -> None:
    losses = task.label_losses(outputs, targets)
    wanted = tuple(observed.shape)
    assert losses.shape == wanted, f"label_losses must be {wanted} as observed is, got {tuple(losses.shape)}"
    assert targets.shape[: len(wanted)] == wanted, f"targets must begin with {wanted}, got {tuple(targets.shape)}"
    stacked = task.label_losses(torch.stack([outputs, outputs]), torch.stack([targets, targets]))
    assert stacked.shape == (2, *losses.shape), "label_losses must take leading dimensions"
    torch.testing.assert_close(stacked[1], losses)
    torch.testing.assert_close(torch.func.vmap(task.label_losses)(outputs, targets), losses)
    for scale in (0.0, 1e2, 1e4):
        wild = (outputs * scale).requires_grad_()
        task.label_losses(wild, targets).sum().backward()
        assert wild.grad is not None
        assert bool(wild.grad.isfinite().all()), f"the gradient is not finite at outputs of size {scale:g}"
        assert bool(task.label_losses(wild, targets).isfinite().all()), f"not finite at outputs of size {scale:g}"
    assert task.label_losses(outputs.bfloat16(), targets).dtype == torch.float32, "losses need at least float32"
    bias = task.initial_bias()
    assert bias.shape == (task.n_outputs,), "initial_bias must be [n_outputs]"
    assert bool(bias.isfinite().all()), "initial_bias must be finite"


def _check_missing(task: Task, labels: np.ndarray, outputs: Float[Tensor, "N O"]) -> None:
    holes = labels.astype(object)
    holes[::3] = None
    keep = np.arange(len(labels)) % 3 != 0
    rows = torch.as_tensor(keep)
    poisoned = outputs.clone()
    poisoned[~rows] = math.nan
    poisoned.requires_grad_()
    alone = outputs[rows].requires_grad_()
    targets, observed = _encoded(task, holes)
    kept_targets, kept_observed = _encoded(task, labels[keep])
    mine, theirs = task.loss(poisoned, targets, observed), task.loss(alone, kept_targets, kept_observed)
    assert torch.equal(mine, theirs), "a row without label changes the loss of others"
    mine.sum().backward()
    theirs.sum().backward()
    assert poisoned.grad is not None
    assert alone.grad is not None
    assert torch.equal(poisoned.grad[rows], alone.grad), "a row without label changes the gradient of others"
    assert not poisoned.grad[~rows].any(), "a row without label has a gradient"
    scored = task.evaluate(poisoned, targets, observed), task.evaluate(alone, kept_targets, kept_observed)
    for name, value in scored[0].items():
        assert _same(value, scored[1][name]), f"a row without label changes {name}: {value} and {scored[1][name]}"


def _check_nothing_observed(
    task: Task, outputs: Float[Tensor, "N O"], targets: Shaped[Tensor, "N ..."], observed: Bool[Tensor, "N ..."]
) -> None:
    free = outputs.clone().requires_grad_()
    nothing = torch.zeros_like(observed)
    losses = task.loss(free, targets, nothing)
    assert losses.shape == (0,), f"the loss of a batch without labels must be empty, got shape {tuple(losses.shape)}"
    losses.sum().backward()
    assert free.grad is not None, "the empty loss must stay attached to the graph"
    assert not free.grad.any(), "a batch without labels must have a gradient of zero"
    values = task.evaluate(outputs, targets, nothing)
    assert all(math.isnan(value) for value in values.values()), f"metrics of no label must be NaN, got {values}"


def _check_metrics(
    task: Task, outputs: Float[Tensor, "N O"], targets: Shaped[Tensor, "N ..."], observed: Bool[Tensor, "N ..."]
) -> None:
    declared = [metric.name for metric in task.metrics]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = task.evaluate(outputs, targets, observed)
        task.evaluate(outputs[:1], targets[:1], observed[:1])
    assert list(values) == declared, f"evaluate must give {declared} in this order, got {list(values)}"
    assert "relative_error" in values, "evaluate must give relative_error"
    assert all(type(value) is float for value in values.values()), "metrics must be Python floats"
    assert math.isfinite(values[declared[0]]), f"the first metric, {declared[0]}, must be defined on varied labels"
    broken = outputs.clone()
    broken[0] = math.nan
    hidden = [name for name, value in task.evaluate(broken, targets, observed).items() if not math.isnan(value)]
    assert not hidden, f"NaN in an output must make every metric NaN, but not {hidden}"


def _check_answers(task: Task, outputs: Float[Tensor, "N O"]) -> None:
    answer: Prediction = task.decode(outputs)
    assert len(answer.values) == len(outputs), "decode must keep the rows"
    if task.has_probabilities:
        assert answer.probabilities is not None, "has_probabilities is true and decode gives none"
        assert answer.probabilities.shape == (len(outputs), len(answer.labels)), "one probability for each label"
        assert ((answer.probabilities >= 0) & (answer.probabilities <= 1)).all(), "probabilities must lie in [0, 1]"
    assert all(len(values) == len(outputs) for values in answer.columns(task.name).values())
    again: Prediction = task.decode(task.outputs_from(answer))
    assert _close(again.values, answer.values), "outputs_from does not undo decode"
    if answer.probabilities is not None and again.probabilities is not None:
        assert _close(again.probabilities, answer.probabilities), "outputs_from does not undo decode for probabilities"
    assert len(task.decode(outputs[:0]).values) == 0, "decode must take no rows"


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype.kind != "f":
        return bool((one == other).all())
    return bool(np.allclose(one, other, rtol=1e-6, atol=1e-9))
