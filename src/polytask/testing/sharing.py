"""Conformance of a way of sharing: what every one of them must do, whoever wrote it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from polytask.models.model import MultiTaskModel
from polytask.models.sharing import registry
from polytask.models.sharing.sharing import Sharing
from polytask.shapes import Inputs, Tensor
from polytask.testing.sharing_cases import TASKS, Case, all_cases, every, length, numbers, shift, spoil_first, take

__all__ = ["check_sharing"]


def check_sharing(
    sharing: str | type[Sharing],
    *,
    options: Mapping[str, Any] | None = None,
    cases: Sequence[str] | None = None,
) -> None:
    """Check that a way of sharing keeps its contract, with every kind of encoder.

    Checked are: one finite representation of the stated width per task; a subset of tasks gives what all tasks give;
    a task's loss gives a gradient to exactly the parameters that it declares to reach; everything above the features
    is private and everything below shared, unless it is interleaved; counts of parameters; gate weights that sum to
    one; a penalty that is finite and can be differentiated after the losses; saving, loading and copying; one task
    and many; a batch of one row; several sources; float64; rows of NaN that stay where they are; and export, if it
    is claimed.

    Args:
        sharing: A name, or a class of your own.
        options: Options to build it with.
        cases: Names of the encoders to check it with; all by default.

    Raises:
        AssertionError: Saying what is broken, with which encoder.

    Example:
        >>> check_sharing("hard", cases=["mlp"])
    """
    cls: type[Sharing] = registry.load(sharing) if isinstance(sharing, str) else sharing
    chosen = dict(options or {})
    known = {case.name: case for case in all_cases()}
    for name in known if cases is None else cases:
        for check in _CHECKS:
            try:
                check(cls, known[name], chosen)
            except AssertionError as error:
                doc = (check.__doc__ or "").strip().splitlines()[0]
                raise AssertionError(f"{cls.__name__} on {name}: {doc} {error}") from error


def _check_shapes(cls: type[Sharing], case: Case, options: Mapping[str, Any]) -> None:
    """One finite representation of the stated width per task, whatever the batch."""
    sharing = case.build(cls, TASKS, options).train()
    for source, rows in case.rows.items():
        for some in (rows, take(rows, 2)):
            out = sharing(some, source=source)
            assert list(out) == list(TASKS), f"got the tasks {list(out)}"
            for task, h in out.items():
                assert h.shape == (length(some), sharing.width), f"{task}: {tuple(h.shape)}, width {sharing.width}"
                assert bool(h.isfinite().all()), f"{task}: not finite"
    sharing.eval()
    one = sharing(take(rows, 1), source=source)
    assert all(h.shape == (1, sharing.width) for h in one.values()), "a batch of one row"
    if len(case.rows) == 1:
        _assert_same(sharing(rows), sharing(rows, source=source), "the only source need not be named")


def _check_subset(cls: type[Sharing], case: Case, options: Mapping[str, Any]) -> None:
    """A subset of tasks, in any order, gives what all tasks give."""
    model = case.model(cls, TASKS, options).eval()
    for source, rows in case.rows.items():
        everything = model(rows, source=source)
        for asked in (TASKS[2:], TASKS[1::-1]):
            some = model(rows, asked, source)
            assert list(some) == list(asked), f"asked {asked}, got {list(some)}"
            _assert_same(some, {task: everything[task] for task in asked}, f"asked {asked}")


def _check_reach(cls: type[Sharing], case: Case, options: Mapping[str, Any]) -> None:
    """A task's loss gives a gradient to exactly the parameters that it declares."""
    model = case.model(cls, TASKS, options).train()
    _move(model)
    names = {id(p): name for name, p in model.named_parameters()}
    for task in TASKS:
        got: set[int] = set()
        declared = {id(p) for p in model.reached_by(task) if p.requires_grad}
        for draw in range(5):  # units at zero and samples may hide a parameter once
            if got == declared:
                break
            for source, rows in case.rows.items():
                torch.manual_seed(draw)
                loss = model(shift(rows, draw), [task], source)[task].square().sum()
                for p, g in zip(model.parameters(), _gradients(loss, model), strict=True):
                    if g is not None and bool((g != 0).any()):
                        got.add(id(p))
        missing = sorted(names[i] for i in declared - got)
        secret = sorted(names[i] for i in got - declared)
        assert not missing, f"{task} declares {missing} but gives them no gradient."
        assert not secret, f"{task} gives a gradient to {secret}, which it does not declare."


def _check_cut(cls: type[Sharing], case: Case, options: Mapping[str, Any]) -> None:
    """Above the features everything is private, below everything is shared, unless it is interleaved."""
    sharing = case.build(cls, TASKS, options).train()
    shared = {id(p) for p in sharing.shared_parameters()}
    trained = [p for p in sharing.parameters() if p.requires_grad]
    assert shared <= {id(p) for p in sharing.parameters()}, "shared parameters that are not its own"
    if sharing.interleaved:
        return
    source, rows = next(iter(case.rows.items()))
    features = sharing.shared(rows, TASKS, source)
    tensors = [features] if isinstance(features, Tensor) else [t for t in features.values() if t.is_floating_point()]
    with_graph = [t for t in tensors if t.requires_grad]
    if with_graph:
        below = _gradients(torch.stack([t.sum() for t in with_graph]).sum(), sharing)
        for p, g in zip(
            trained, [g for q, g in zip(sharing.parameters(), below, strict=True) if q.requires_grad], strict=True
        ):
            assert g is None or id(p) in shared, "a private parameter lies below the features."
    cut: Any = features.detach() if isinstance(features, Tensor) else {k: t.detach() for k, t in features.items()}
    for task, h in sharing.private(cut, TASKS, source).items():
        if h.requires_grad:
            above = [
                p for p, g in zip(sharing.parameters(), _gradients(h.sum(), sharing), strict=True) if g is not None
            ]
            own = {id(p) for p in sharing.reached_by(task)}
            assert not any(id(p) in shared for p in above), f"{task}: a shared parameter lies above the features."
            assert all(id(p) in own for p in above), f"{task}: another's parameter lies above the features."


def _check_counts(cls: type[Sharing], case: Case, options: Mapping[str, Any]) -> None:
    """Parameters are counted once each, and belong to some task."""
    sharing = case.build(cls, TASKS, options)
    count = sharing.count_parameters()
    assert count["shared"] + count["private"] == sum(p.numel() for p in sharing.parameters()), f"got {count}"
    reached = {id(p) for task in TASKS for p in sharing.reached_by(task)}
    orphans = [name for name, p in sharing.named_parameters() if id(p) not in reached]
    assert not orphans, f"no task reaches {orphans}."


def _check_gates(cls: type[Sharing], case: Case, options: Mapping[str, Any]) -> None:
    """Gate weights of the last batch sum to one, are numbers, and are no state."""
    sharing = case.build(cls, TASKS, options).eval()
    before = set(sharing.state_dict())
    source, rows = next(iter(case.rows.items()))
    sharing(rows, source=source)
    for task, weights in sharing.gate_use().items():
        assert task in TASKS, f"gates of an unknown task {task}"
        assert abs(sum(weights.values()) - 1) < 1e-5, f"{task}: {dict(weights)}"
    assert set(sharing.state_dict()) == before, "the forward pass changes what is saved"


def _check_penalty(cls: type[Sharing], case: Case, options: Mapping[str, Any]) -> None:
    """The penalty is one finite number that can be differentiated after the losses' graph is gone."""
    model = case.model(cls, TASKS, options).train()
    source, rows = next(iter(case.rows.items()))
    torch.stack([o.sum() for o in model(rows, source=source).values()]).sum().backward()  # type: ignore[no-untyped-call]
    penalty = model.sharing.penalty()
    if penalty is not None:
        assert penalty.ndim == 0, f"shape {tuple(penalty.shape)}"
        assert bool(penalty.isfinite()), f"value {penalty}"
        penalty.backward()  # type: ignore[no-untyped-call]
    bad = [n for n, p in model.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    assert not bad, f"gradients of {bad} are not finite."


def _check_state(cls: type[Sharing], case: Case, options: Mapping[str, Any]) -> None:
    """Saved and loaded, or copied, it answers the same."""
    sharing = case.build(cls, TASKS, options).train()
    source, rows = next(iter(case.rows.items()))
    sharing(rows, source=source)
    again = case.build(cls, TASKS, options, seed=7)
    again.load_state_dict(sharing.state_dict())
    others = (again, copy.deepcopy(sharing))
    for one in others:
        _assert_same(one.eval()(rows, source=source), sharing.eval()(rows, source=source), "after loading or copying")
    torch.manual_seed(3)
    trained = sharing.train()(rows, source=source)
    for one in others:
        torch.manual_seed(3)
        _assert_same(one.train()(rows, source=source), trained, "in training, after loading or copying")


def _check_many(cls: type[Sharing], case: Case, options: Mapping[str, Any]) -> None:
    """One task works, and so do many."""
    if any(repr(task) in repr(options) for task in TASKS):
        return  # options that name tasks fit no others
    for n in (1, 20) if case.name == "mlp" else (1,):
        names = [f"task {i}" for i in range(n)]
        model = case.model(cls, names, options).train()
        for source, rows in case.rows.items():
            features, outputs = model.features_and_outputs(rows, names, source)
            assert list(outputs) == names, f"{n} tasks: got {list(outputs)}"
            torch.stack([o.sum() for o in outputs.values()]).sum().backward()  # type: ignore[no-untyped-call]
        assert n > 1 or model.shared_parameters(), "one task: nothing for a balancer to weigh"
        assert isinstance(features, Tensor | dict), f"features are {type(features)}"


def _check_double(cls: type[Sharing], case: Case, options: Mapping[str, Any]) -> None:
    """It runs in float64."""
    sharing = case.build(cls, TASKS, options).double().eval()
    source, rows = next(iter(case.rows.items()))
    out = sharing(numbers(rows, torch.Tensor.double), source=source)
    assert all(h.dtype == torch.float64 for h in out.values()), f"got {[h.dtype for h in out.values()]}"


def _check_rows_apart(cls: type[Sharing], case: Case, options: Mapping[str, Any]) -> None:
    """In prediction a row of NaN spoils itself only, and the order of rows does not matter."""
    sharing = case.build(cls, TASKS, options).eval()
    source, rows = next(iter(case.rows.items()))
    clean = sharing(rows, source=source)
    spoiled = sharing(numbers(rows, spoil_first), source=source)
    _assert_same({t: h[1:] for t, h in spoiled.items()}, {t: h[1:] for t, h in clean.items()}, "rows beside NaN")
    if isinstance(rows, Tensor) or all(t.is_floating_point() for t in rows.values()):
        assert all(not bool(h[0].isfinite().all()) for h in spoiled.values()), "the row of NaN got an answer"
    turned = sharing(every(rows, lambda t: t.flip(0)), source=source)
    _assert_same({t: h.flip(0) for t, h in turned.items()}, clean, "rows in another order")


def _check_export(cls: type[Sharing], case: Case, options: Mapping[str, Any]) -> None:
    """It exports, with a batch of any size, if it says so."""
    if not (cls.exports and case.is_exported):
        return
    source, rows = next(iter(case.rows.items()))
    model = _OneSource(case.model(cls, TASKS, options).eval(), source)
    batch = torch.export.Dim("batch", min=2)
    dynamic = {0: batch} if isinstance(rows, Tensor) else {name: {0: batch} for name in rows}
    exported = torch.export.export(model, (rows,), dynamic_shapes=(dynamic,)).module()
    fewer = take(rows, 4)
    for got, expected in zip(exported(fewer), model(fewer), strict=True):
        assert torch.allclose(got, expected, atol=1e-5), "the exported program answers differently."


class _OneSource(nn.Module):
    def __init__(self, model: MultiTaskModel, source: str):
        super().__init__()
        self.model, self.source = model, source

    def forward(self, inputs: Inputs) -> tuple[Tensor, ...]:
        return tuple(self.model(inputs, source=self.source).values())


_CHECKS: tuple[Callable[[type[Sharing], Case, Mapping[str, Any]], None], ...] = (
    _check_shapes,
    _check_subset,
    _check_reach,
    _check_cut,
    _check_counts,
    _check_gates,
    _check_penalty,
    _check_state,
    _check_many,
    _check_double,
    _check_rows_apart,
    _check_export,
)


def _gradients(value: Tensor, module: nn.Module) -> list[Tensor | None]:
    trained = [p for p in module.parameters() if p.requires_grad]
    found = dict(zip(map(id, trained), torch.autograd.grad(value, trained, allow_unused=True), strict=True))
    return [found.get(id(p)) for p in module.parameters()]


@torch.no_grad()
def _move(module: nn.Module) -> None:
    """Away from zeros at the start, which hide that a parameter is reached."""
    g = torch.Generator().manual_seed(5)
    for p in module.parameters():
        p += 0.1 * torch.randn(p.shape, generator=g)


def _assert_same(got: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str) -> None:
    for task in expected:
        close = torch.allclose(got[task], expected[task], atol=1e-5, rtol=1e-4, equal_nan=True)
        assert close, f"{what}: {task} differs by {(got[task] - expected[task]).abs().max():.2g}."
