"""Losses of many tasks in one call, against each task by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polytask.data.batch import ArraySource
from polytask.data.datasets import DatasetSource
from polytask.data.sources import RowsOf
from polytask.tasks import registry as kinds
from polytask.training.objective import Objective

LABELS = {
    "regression": (lambda z: z, {}),
    "quantile": (lambda z: z, {"quantiles": (0.1, 0.5)}),
    "binary": (lambda z: (z > 0).astype(object), {}),
    "multilabel": (lambda z: np.stack([z > 0, z > 0.5], axis=1).astype(float), {"target": ("u", "v")}),
    "multiclass": (lambda z: np.digitize(z, [-0.5, 0.5]).astype(object), {}),
    "ordinal": (lambda z: np.digitize(z, [-0.5, 0.5]).astype(object), {"order": (0, 1, 2)}),
    "count": (lambda z: np.floor(np.exp(z)), {}),
}


def objectives(n_members, missing, weights, n=24):
    """Two tasks of each kind, the first of all without a label in the batch if labels may be missing."""
    rng = np.random.default_rng(0)
    tasks, targets, observed = [], {}, {}
    for kind, (labels, options) in LABELS.items():
        for i in range(2):
            task = kinds.create(kind, name=f"{kind} {i}", weight=1.0 + i, **options)
            encoded = labels(rng.normal(size=2 * n))
            task.fit(encoded)
            codes, seen = task.encode(encoded)
            if missing and i == 1:
                seen &= rng.random(seen.shape) >= missing
            tasks.append(task)
            targets[task.name], observed[task.name] = torch.from_numpy(codes), torch.from_numpy(seen)
    if missing:
        observed["regression 0"][:n] = False
    row_weights = torch.from_numpy(rng.random(2 * n)).float() if weights else None
    source = ArraySource("data", torch.zeros(2 * n, 1), targets, observed, row_weights)
    shape = (n, n_members) if n_members > 1 else (n,)
    outputs = {task.name: torch.randn(*shape, task.n_outputs, requires_grad=True) for task in tasks}
    each, together = (Objective(tasks, {"data": source}, n_members) for _ in range(2))
    together.together = True
    return each, together, outputs, source.batch(torch.arange(n))


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("missing", [0.0, 0.5])
def test_losses_in_one_call_and_their_gradients_are_those_of_each_task(n_members, missing, weights):
    each, together, outputs, batch = objectives(n_members, missing, weights)
    expected, found = each(outputs, batch), together(outputs, batch)
    assert list(found) == list(expected)
    assert [name for name, loss in found.items() if loss is None] == (["regression 0"] if missing else [])
    grads = []
    for losses in (expected, found):
        there = [loss for loss in losses.values() if loss is not None]
        parts = torch.autograd.grad(torch.stack(there).sum(), list(outputs.values()), materialize_grads=True)
        grads.append(torch.cat([part.flatten() for part in parts]))
    for name, loss in expected.items():
        if loss is not None:
            torch.testing.assert_close(found[name], loss)
    torch.testing.assert_close(grads[1], grads[0])


def test_a_loss_that_is_no_number_can_be_left_out_without_a_trace():
    _, together, outputs, batch = objectives(3, 0.0, False)
    with torch.no_grad():
        outputs["regression 0"][0] = float("nan")
    losses = together(outputs, batch)
    assert not losses["regression 0"].isfinite()
    losses["regression 1"].backward()
    assert outputs["regression 0"].grad is None
    assert outputs["regression 1"].grad.isfinite().all()


class Opaque:
    """A source that tells its labels batch by batch only."""

    def __init__(self, source):
        self.name, self.tasks, self.batch, self.coverage = source.name, source.tasks, source.batch, source.coverage
        self._n = len(source)

    def __len__(self):
        return self._n


@pytest.mark.parametrize("together", [False, True])
def test_missing_elements_count_in_no_source(together):
    """Every row has a label of each task, but not every element."""
    rng = np.random.default_rng(0)
    tasks = [kinds.create("multilabel", name=name, target=("u", "v", "w")) for name in ("a", "b")]
    labels = (rng.random((16, 3)) > 0.5).astype(float)
    labels[::2, 1] = np.nan
    targets, observed = {}, {}
    for task in tasks:
        task.fit(labels)
        targets[task.name], observed[task.name] = map(torch.from_numpy, task.encode(labels))
    inputs = torch.zeros(16, 2)
    array = ArraySource("s", inputs, targets, observed)
    items = [(row.numpy(), None) for row in inputs]
    dataset = DatasetSource("s", items, lambda item: item, targets, observed)
    outputs = {task.name: torch.from_numpy(rng.normal(size=(16, 3))).float() for task in tasks}
    for values in outputs.values():
        values[::2, 1] = 30.0  # what nobody asked for
    rows = torch.arange(16)

    def found(source):
        objective = Objective(tasks, {"s": source})
        objective.together = together
        return {name: loss.item() for name, loss in objective(outputs, source.batch(rows)).items()}

    seen = observed["a"]
    expected = {
        name: torch.nn.functional.binary_cross_entropy_with_logits(values[seen], targets[name][seen].float()).item()
        for name, values in outputs.items()
    }
    for source in (array, dataset, RowsOf(array, rows), RowsOf(dataset, rows), RowsOf(RowsOf(dataset, rows), rows)):
        assert found(source) == pytest.approx(expected, rel=1e-5)
    assert dataset.coverage("a") == 1.0, "a share of rows, which says nothing of elements"
    # Where only batches tell, the share of rows is all there is to divide by; what is missing still does not count.
    share = seen.double().mean().item()
    assert found(Opaque(dataset)) == pytest.approx({name: loss * share for name, loss in expected.items()}, rel=1e-5)
