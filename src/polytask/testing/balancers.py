"""What every balancer must keep, as one call for authors of new ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.shapes import Float, Tensor

__all__ = ["check_balancer", "direction", "random_signals"]

Make: TypeAlias = Callable[[], Balancer]

_NEEDS = {"losses", "gramian", "rows", "cross_gramian", "validation", "losses_after"}
_LAWS = {"permutation", "scale", "conflict_free", "single", "duplicate"}
_PARAMETERS = 11  # of the imagined shared part; no number of tasks here equals it
_TIGHT = 1e-6


def check_balancer(make: Make, *, n_tasks: int = 4) -> None:
    """Check a balancer against the contract of :class:`polytask.balancing.Balancer`, and the laws it says it keeps.

    Weights are finite float64, one per present task; the signals are not changed; tasks absent from a batch keep their
    state and have no influence on the others; save, load and continue is bit-equal; a NaN changes no state and is
    noted; zero, rank-one, huge and tiny gradients give finite weights; one task and 100 tasks work; each law in
    ``keeps`` holds over several steps.

    Args:
        make: Makes a fresh balancer, always the same.
        n_tasks: Number of tasks in most checks, from 3 on.

    Raises:
        AssertionError: If the balancer breaks the contract; the message says how.

    Example:
        >>> from polytask.balancing import NashMTL
        >>> check_balancer(NashMTL)
    """
    balancer = make()
    assert balancer.needs <= _NEEDS, f"needs has {sorted(balancer.needs - _NEEDS)}; known are {sorted(_NEEDS)}"
    assert balancer.keeps <= _LAWS, f"keeps has {sorted(balancer.keeps - _LAWS)}; known are {sorted(_LAWS)}"
    for size in (1, 2, n_tasks, 100):
        _check_weights(make, size)
    _check_hard_gradients(make, n_tasks)
    _check_absent(make, n_tasks)
    _check_saved(make, n_tasks)
    _check_not_finite(make, n_tasks)
    laws = {
        "permutation": _check_permutation,
        "scale": _check_scale,
        "conflict_free": _check_conflict_free,
        "single": _check_single,
        "duplicate": _check_duplicate,
    }
    for law in sorted(balancer.keeps):
        laws[law](make, n_tasks)


def random_signals(n_tasks: int, seed: int = 0, rows: Float[Tensor, "T P"] | None = None) -> Signals:
    """Signals with every field, the same for the same seed.

    Example:
        >>> random_signals(3).gramian.shape
        torch.Size([3, 3])
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    losses = draw(n_tasks).mul(0.5).exp()
    others, slope, own = draw(n_tasks, _PARAMETERS), draw(_PARAMETERS), draw(n_tasks, _PARAMETERS)
    return _with_rows(losses, own if rows is None else rows, others, slope)


def direction(balancer: Balancer, signals: Signals) -> Float[Tensor, " P"]:
    """The combined gradient of one step, as the engine forms it.

    Example:
        >>> from polytask.balancing import Equal
        >>> direction(Equal(), Signals.of([1.0, 1.0], rows=[[1.0, 0.0], [2.0, 3.0]]))
        tensor([3., 3.], dtype=torch.float64)
    """
    weights = balancer(signals)
    own = balancer.combine(signals, weights) if "rows" in balancer.needs else None
    if own is not None:
        return own
    if signals.rows is None:
        raise TypeError("The direction needs the rows, which the signals do not hold.")
    combined: Tensor = weights.to(signals.rows) @ signals.rows
    return combined


def _with_rows(losses: Tensor, rows: Tensor, others: Tensor, slope: Tensor) -> Signals:
    return Signals.of(losses, rows=rows, cross_gramian=rows @ others.T, validation=rows @ slope)


def _take(signals: Signals, order: Sequence[int], index: Sequence[int] | None = None) -> Signals:
    """The signals of some tasks, in an order, at some positions."""
    at = torch.tensor(order)
    fields = {"rows": signals.rows, "validation": signals.validation}
    squares = {"gramian": signals.gramian, "cross_gramian": signals.cross_gramian}
    taken = {name: value[at] for name, value in fields.items() if value is not None}
    taken |= {name: value[at][:, at] for name, value in squares.items() if value is not None}
    return Signals.of(signals.losses[at], index=range(len(at)) if index is None else index, **taken)


def _bound(make: Make, n_tasks: int) -> Balancer:
    balancer = make()
    balancer.bind([f"task{i}" for i in range(n_tasks)])
    return balancer


def _step(balancer: Balancer, signals: Signals, seed: int) -> Float[Tensor, " P"]:
    found = direction(balancer, signals)
    if "losses_after" in balancer.needs:
        after = random_signals(100, seed + 500).losses[signals.index]
        balancer.after_step(Signals.of(after, index=signals.index))
    return found


def _reasons(balancer: Balancer) -> list[str]:
    return [reason for m in balancer.modules() if isinstance(m, Balancer) for reason in m.fallbacks]


def _state(balancer: Balancer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in balancer.state_dict().items()}


def _assert_same_state(found: dict[str, Tensor], expected: dict[str, Tensor], why: str) -> None:
    assert found.keys() == expected.keys(), f"{why}: other names in the state"
    for name, value in expected.items():
        same = torch.equal(found[name].nan_to_num(nan=-9.25), value.nan_to_num(nan=-9.25))
        assert same, f"{why}: {name} differs"


def _assert_close(found: Tensor, expected: Tensor, why: str, tolerance: float = _TIGHT) -> None:
    size = float(expected.abs().max()) if expected.numel() else 0.0
    error = float((found - expected).abs().max()) if expected.numel() else 0.0
    assert error <= tolerance * max(size, 1e-30), f"{why}: off by {error:.2g} at a size of {size:.2g}"


def _check_weights(make: Make, n_tasks: int) -> None:
    balancer = _bound(make, n_tasks)
    for seed in range(3):
        signals = random_signals(n_tasks, seed)
        before = copy.deepcopy(signals)
        weights = balancer(signals)
        assert weights.shape == (n_tasks,), f"{n_tasks} tasks gave weights of shape {tuple(weights.shape)}"
        assert weights.dtype == torch.float64, f"weights are {weights.dtype}, not float64"
        assert bool(weights.isfinite().all()), f"weights are not finite: {weights}"
        assert not weights.requires_grad, "weights carry a graph"
        heads = balancer.head_weights(signals, weights)
        assert heads.shape == weights.shape, f"head weights have shape {tuple(heads.shape)}"
        assert bool(heads.isfinite().all()), f"head weights are not finite: {heads}"
        for name in ("losses", "gramian", "rows", "cross_gramian", "validation"):
            assert torch.equal(getattr(signals, name), getattr(before, name)), f"{name} of the signals was changed"


def _check_hard_gradients(make: Make, n_tasks: int) -> None:
    base = random_signals(n_tasks).rows
    line = torch.outer(torch.linspace(-1, 2, n_tasks, dtype=torch.float64), torch.ones(_PARAMETERS).double())
    some = torch.ones(n_tasks, 1, dtype=torch.float64)
    some[0] = 0.0
    scales = torch.logspace(-15, 15, n_tasks, dtype=torch.float64)[:, None]
    assert base is not None
    hard = {
        "zero": 0.0 * base,
        "one zero": some * base,
        "rank one": line,
        "huge": 1e30 * base,
        "tiny": 1e-30 * base,
        "of all sizes": scales * base,
        "equal": base[:1].expand_as(base).clone(),
    }
    for name, rows in hard.items():
        balancer = _bound(make, n_tasks)
        for seed in range(2):
            found = _step(balancer, random_signals(n_tasks, seed, rows), seed)
            assert bool(found.isfinite().all()), f"{name} gradients gave a direction that is not finite"


def _check_absent(make: Make, n_tasks: int) -> None:
    """Task 0 stays: a method may have a main task, and by default that is the first."""
    present = [i for i in range(n_tasks) if i != 1]
    balancer, alone = _bound(make, n_tasks), _bound(make, len(present))
    for seed in range(3):
        signals = random_signals(n_tasks, seed)
        found = _step(balancer, _take(signals, present, present), seed)
        expected = direction(alone, _take(signals, present))
        if "losses_after" in alone.needs:
            after = random_signals(100, seed + 500).losses[present]
            alone.after_step(Signals.of(after))
        _assert_close(found, expected, "an absent task has influence on the others")
    balancer = _bound(make, n_tasks)
    for seed in range(2):
        _step(balancer, random_signals(n_tasks, seed), seed)
    before = _state(balancer)
    _step(balancer, _take(random_signals(n_tasks, 2), present, present), 2)
    for name, value in _state(balancer).items():
        for axis, length in enumerate(value.shape):
            if length == n_tasks:
                old, new = (x.select(axis, 1).nan_to_num(nan=-9.25) for x in (before[name], value))
                assert torch.equal(old, new), f"{name} of an absent task changed"


def _check_saved(make: Make, n_tasks: int) -> None:
    through = _bound(make, n_tasks)
    for seed in range(3):
        _step(through, random_signals(n_tasks, seed), seed)
    saved = _state(through)
    assert all(isinstance(value, Tensor) for value in saved.values()), "the state holds something that is no tensor"
    resumed = _bound(make, n_tasks)
    resumed.load_state_dict(saved)
    _assert_same_state(_state(resumed), saved, "loading")
    for seed in range(3, 6):
        expected = _step(through, random_signals(n_tasks, seed), seed)
        found = _step(resumed, random_signals(n_tasks, seed), seed)
        assert torch.equal(found, expected), "a resumed balancer continues with other bits"
    _assert_same_state(_state(resumed), _state(through), "continuing after loading")


def _check_not_finite(make: Make, n_tasks: int) -> None:
    for bad in (float("nan"), float("inf")):
        balancer = _bound(make, n_tasks)
        _step(balancer, random_signals(n_tasks, 0), 0)
        before, noted = _state(balancer), len(_reasons(balancer))
        rows = random_signals(n_tasks, 1).rows
        assert rows is not None
        rows[0, 0] = bad
        signals = random_signals(n_tasks, 1, rows)
        weights = balancer(signals)
        balancer.combine(signals, weights)
        assert bool(weights.isfinite().all()), f"a {bad} in the gradients gave weights {weights}"
        assert len(_reasons(balancer)) > noted, f"a {bad} in the gradients was not noted as a fallback"
        _assert_same_state(_state(balancer), before, f"a {bad} in the gradients")


def _check_permutation(make: Make, n_tasks: int) -> None:
    order = torch.randperm(n_tasks, generator=torch.Generator().manual_seed(3)).tolist()
    plain, renamed = _bound(make, n_tasks), _bound(make, n_tasks)
    for seed in range(3):
        signals = random_signals(n_tasks, seed)
        moved = _take(signals, order)
        weights, other = plain(signals), renamed(moved)
        _assert_close(other, weights[order], "permutation: the weights do not move with their tasks")
        if "rows" in plain.needs:
            own, moved_own = plain.combine(signals, weights), renamed.combine(moved, other)
            if own is not None and moved_own is not None:
                _assert_close(moved_own, own, "permutation: the direction changes")


def _check_scale(make: Make, n_tasks: int) -> None:
    factor = torch.logspace(-2, 3, n_tasks, dtype=torch.float64)
    plain, scaled = _bound(make, n_tasks), _bound(make, n_tasks)
    for seed in range(3):
        signals = random_signals(n_tasks, seed)
        assert signals.rows is not None
        found = direction(scaled, Signals.of(signals.losses * factor, rows=signals.rows * factor[:, None]))
        expected = direction(plain, signals)
        _assert_close(found / found.norm(), expected / expected.norm(), "scale: the direction depends on loss scales")


def _check_conflict_free(make: Make, n_tasks: int) -> None:
    balancer = _bound(make, n_tasks)
    for seed in range(10):
        signals = random_signals(n_tasks, seed)
        assert signals.rows is not None
        rows = signals.rows - (seed % 2) * 0.8 * signals.rows.mean(dim=0)
        gains = rows @ direction(balancer, random_signals(n_tasks, seed, rows))
        assert bool((gains >= -_TIGHT * rows.norm(dim=1) * rows.norm()).all()), f"conflict_free: the gains are {gains}"


def _check_single(make: Make, n_tasks: int) -> None:
    balancer = _bound(make, 1)
    for seed in range(4):
        signals = random_signals(1, seed)
        assert signals.rows is not None
        _assert_close(_step(balancer, signals, seed), signals.rows[0], "single: one task is not plain training")


def _check_duplicate(make: Make, n_tasks: int) -> None:
    plain, doubled = _bound(make, n_tasks), _bound(make, n_tasks + 1)
    for seed in range(3):
        signals = random_signals(n_tasks, seed)
        twice = _take(signals, [*range(n_tasks), 1])
        _assert_close(direction(doubled, twice), direction(plain, signals), "duplicate: the direction changes", 1e-5)
