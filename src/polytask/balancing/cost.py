"""What a step costs with each method, over plain summation, before anybody trains with it."""

from __future__ import annotations

import gc
import importlib.util
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile

from polytask.balancing import registry
from polytask.balancing.backward import balanced_backward
from polytask.balancing.balancer import SEES_GRADIENTS, Balancer
from polytask.balancing.ghost import Ghost
from polytask.balancing.workloads import Workload, workload
from polytask.errors import MissingExtraError, RecipeError
from polytask.shapes import Tensor

__all__ = ["CostRow", "step_cost"]

PLAIN = "plain summation"
_PEERS = ("Mean", "AlignedMTL", "PCGrad")  # its other methods need solvers that are not installed with it


@dataclass(frozen=True)
class CostRow:
    """One line of the table.

    Args:
        method: Name of the balancer, or of the peer.
        mode: Mode of the engine; ``+ghost`` with a ghost, ``torchjd`` for a peer.
        threads: Threads of the run.
        seconds: Median seconds a step: all forward and backward passes that the method asks for, no optimiser.
        ratio: Median over the rounds of a step's time over that of plain summation in the same round.
        extra_memory: Peak bytes during the step above the peak of plain summation.
    """

    method: str
    mode: str
    threads: int
    seconds: float
    ratio: float
    extra_memory: int


def step_cost(
    work: str | Workload,
    methods: Sequence[str] = ("nash_mtl",),
    modes: Sequence[str] = ("exact",),
    *,
    peers: bool = False,
    rounds: int = 5,
    threads: Sequence[int] = (1,),
) -> list[CostRow]:
    """Measure steps of plain summation and of each method in turn, round after round, in one process.

    Args:
        work: A built-in workload's name, or a :class:`Workload` of one's own.
        methods: Names of balancers.
        modes: Modes of the engine; a mode that a method cannot run is left out of its lines. Where a :class:`Ghost`
            pays, the mode ``exact`` has a second line with it and ``every_k`` uses it.
        peers: Whether to measure TorchJD beside us.
        rounds: How often each is measured, after one round of warming up.
        threads: Numbers of threads, each a run of its own.

    Raises:
        RecipeError: If no method is given or ``rounds`` is below one.
        MissingExtraError: If peers are asked for and TorchJD is not installed.

    Example:
        >>> rows = step_cost("sources4_mlp", ["equal"], rounds=1)
        >>> [(row.method, row.mode) for row in rows]
        [('plain summation', 'plain'), ('equal', 'exact')]

    Note:
        Times on a busy machine scatter; the ratio is taken within each round for that reason. In the mode ``every_k``
        a whole period of ten steps is measured and divided by ten.
    """
    if not methods or rounds < 1:
        raise RecipeError("step_cost needs one method or more, and one round or more.")
    made = workload(work) if isinstance(work, str) else work
    before = torch.get_num_threads()
    rows: list[CostRow] = []
    try:
        for number in threads:
            torch.set_num_threads(number)
            rows += _measure(made, _arms(made, methods, modes, peers), rounds, number)
    finally:
        torch.set_num_threads(before)
    return rows


@dataclass
class _Arm:
    method: str
    mode: str
    run: Callable[[], object]
    steps: int = 1


def _arms(work: Workload, methods: Sequence[str], modes: Sequence[str], peers: bool) -> list[_Arm]:
    def plain() -> None:
        losses, _ = work.forward()
        torch.stack(losses).sum().backward()

    arms = [_Arm(PLAIN, "plain", plain)]
    for name in methods:
        for mode in modes:
            probe: Balancer = registry.create(name)
            if mode in probe.modes and not probe.needs & {"cross_gramian", "validation"}:
                arms += _ours(work, name, mode)
    if peers:
        arms += [_peer(work, name) for name in _PEERS]
    return arms


def _ours(work: Workload, name: str, mode: str) -> Iterator[_Arm]:
    own_graphs = isinstance(work.inputs, list)
    if mode == "features" and isinstance(work.forward()[1], dict):
        return  # representations of their own have no common gradient
    balancer: Balancer = registry.create(name)
    shared = work.shared

    scratch: dict[tuple[object, ...], Tensor] = {}

    def step() -> str:
        losses, z = work.forward()
        outcome = balanced_backward(losses, shared, z, balancer=balancer, mode=mode)
        if "losses_after" in balancer.needs and outcome.signals is not None:
            with torch.no_grad():
                after = torch.stack(work.forward()[0]).double()
            balancer.after_step(replace(outcome.signals, losses=after))
        return outcome.report.route

    def ghost_step() -> str:
        with Ghost(work.trunk) as ghost:
            ghost.scratch = scratch  # memory that a ghost of a whole run would have kept
            losses, z = work.forward()
            route = balanced_backward(losses, shared, z, balancer=balancer, mode=mode, ghost=ghost).report.route
            ghost.scratch = {}
        return route

    sees = bool(balancer.needs & SEES_GRADIENTS) and not own_graphs
    if mode == "every_k":
        pays = sees and ghost_step() == "ghost"
        balancer.keep().known.fill_(False)
        one = ghost_step if pays else step

        def period() -> None:
            for _ in range(10):
                _clear(work)
                one()

        yield _Arm(name, "every_k+ghost" if pays else mode, period, steps=10)
        return
    yield _Arm(name, mode, step)
    if mode == "exact" and sees and ghost_step() == "ghost":
        yield _Arm(name, "exact+ghost", ghost_step)


def _peer(work: Workload, name: str) -> _Arm:
    if importlib.util.find_spec("torchjd") is None:
        raise MissingExtraError("step_cost(peers=True)", "torchjd", "peers")
    from torchjd import aggregation, autojac

    aggregator = getattr(aggregation, name)()
    shared = work.shared

    def step() -> None:
        losses, z = work.forward()
        if isinstance(z, dict):
            autojac.backward(losses)
            for parameter in work.heads.parameters():
                del parameter.jac  # type: ignore[attr-defined]
        else:
            autojac.mtl_backward(losses, features=z)
        autojac.jac_to_grad(shared, aggregator)

    return _Arm(f"torchjd {name}", "torchjd", step)


def _clear(work: Workload) -> None:
    for parameter in (*work.trunk.parameters(), *work.heads.parameters()):
        parameter.grad = None


def _measure(work: Workload, arms: Sequence[_Arm], rounds: int, threads: int) -> list[CostRow]:
    times: list[list[float]] = [[] for _ in arms]
    with _no_garbage_collection():
        for i in range(rounds + 1):
            for arm, found in zip(arms, times, strict=True):
                _clear(work)
                start = time.perf_counter()
                arm.run()
                if i > 0:
                    found.append((time.perf_counter() - start) / arm.steps)
    peaks = [_peak(work, arm) for arm in arms]
    ratios = [median(t / p for t, p in zip(found, times[0], strict=True)) for found in times]
    return [
        CostRow(arm.method, arm.mode, threads, median(found), ratio, max(0, peak - peaks[0]))
        for arm, found, ratio, peak in zip(arms, times, ratios, peaks, strict=True)
    ]


def _peak(work: Workload, arm: _Arm) -> int:
    """Largest sum of live allocations of one run, counted by the profiler, with no memory kept from an earlier one."""
    from polytask.balancing.rows import forget_buffers

    forget_buffers()
    _clear(work)
    with _quiet_profiler(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        arm.run()
    changes = [
        (event.start_ns(), event.nbytes())
        for event in record.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    live = peak = 0
    for _, size in sorted(changes):
        live += size
        peak = max(peak, live)
    return peak


@contextmanager
def _quiet_profiler() -> Iterator[None]:
    """The profiler's library writes two lines to the process's standard error at each start, whatever it is told."""
    kept, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(sink)
        os.close(kept)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
