"""From the tasks' losses to one gradient in ``.grad``: the engine's one entry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import nn
from torch.distributed import ProcessGroup

from polytask.balancing.balancer import SEES_GRADIENTS, Balancer, Signals
from polytask.balancing.distributed import Counts, join
from polytask.balancing.every_k import EveryK
from polytask.balancing.ghost import Ghost
from polytask.balancing.outcome import Outcome, Report
from polytask.balancing.routes import Extras, Result, by_features, by_known_weights, by_product, by_rows
from polytask.balancing.step import Heads, Losses, Step, check_finite, open_step
from polytask.errors import RecipeError, UnknownNameError
from polytask.shapes import Tensor

__all__ = ["MODES", "SKETCH", "balanced_backward"]

Check = Callable[[Sequence[str], Sequence[float]], None]
MODES = ("exact", "every_k", "features", "sketch", "matrix_free")
SKETCH = 1024
"""Numbers a task in the mode ``sketch``: inner products are then off by three hundredths of the norms' product."""


def balanced_backward(
    losses: Losses,
    shared: nn.Module | Iterable[Tensor],
    features: Tensor | Mapping[str, Tensor] | None = None,
    *,
    balancer: Balancer,
    mode: str = "exact",
    heads: Heads | None = None,
    every: int = 10,
    ghost: Ghost | None = None,
    step: int | None = None,
    epoch: int = 0,
    scale: float = 1.0,
    scaler: torch.amp.GradScaler | None = None,
    group: ProcessGroup | None = None,
    counts: Counts | None = None,
    second: Losses | None = None,
    validation: Tensor | None = None,
    bf16: bool = False,
    check: Check | None = None,
    sketch: int = SKETCH,
) -> Outcome:
    """Balance the tasks and add one gradient to ``.grad``, in place of ``sum(losses).backward()``.

    Each task's own parameters receive the gradient of their own loss; the shared ones receive ``J.T w`` where the
    rows of ``J`` are the tasks' gradients and ``w`` are the balancer's weights, found from ``G = J J.T``.

    Args:
        losses: One scalar a task. A loss that is ``None``, or a zero without graph, marks a task without a label in
            this batch: it gets no weight and keeps its state. A sequence holds every task; a mapping may leave some out
            once the balancer is bound.
        shared: The parameters on which the tasks meet, or the module that has them; frozen ones are passed over.
        features: What the shared part returned: one tensor, or one for each task. With it the tasks' own parts are
            gone through once, down to the features, and the mode ``features`` is possible.
        balancer: The method; bound to the tasks at the first call if it is not yet.
        mode: ``exact``; ``every_k`` (exact weights kept for ``every`` steps); ``features`` (a different Gramian: that
            of the gradients at the features); ``sketch`` (an unbiased estimate of the exact Gramian, for which
            data-parallel processes send ``sketch`` numbers a task in place of whole gradients); ``matrix_free`` (one
            product of the exact Gramian with the weights).
        heads: The tasks' own parameters or modules; found in the graph if not given.
        every: Steps from one solution to the next in the mode ``every_k``.
        ghost: Watches the shared part's layers, so that some can do without a weight gradient a task.
        step: Number of steps done before; counted here if not given. A loop that resumes gives it.
        epoch: Number of epochs done before.
        scale: Factor on everything that is added to ``.grad``: ``1 / n`` to accumulate over ``n`` batches.
        scaler: A gradient scaler. The losses are given unscaled; the gradients are left scaled, as it expects.
        group: In data parallel, the processes that share the batch. Needs ``heads``. The Gramian is that of the joined
            batch, all processes find the same weights, and ``.grad`` holds the sum, so do not reduce it again.
        counts: What each task's loss here counts for in the mean over the processes: as many labels as are observed in
            this process's batch, or as many rows as it has if the losses are means over rows; 1 if not given. A task
            without a loss here counts as a loss of zero.
        second: Losses of a second, independent batch, for methods that need one (MoDo, SDMGrad). In data parallel the
            mean over the processes is meant, and a process without the loss counts as zero.
        validation: A loss on validation data, for methods that need one; in data parallel as ``second``.
        bf16: Whether to find the Gramian by passes in bfloat16 and only the final gradient in full precision: worth it
            where matrix products are several times as fast in bfloat16, costs one pass more.
        check: Told names and losses of the present tasks before anything is done; may raise. In data parallel they are
            those of the joined batch, so that all processes come to the same.
        sketch: Numbers a task in the mode ``sketch``; the relative error of an inner product falls with its root.

    Shape:
        ``outcome.weights``: [T]. ``outcome.gramian``: [T, T]. Both over all tasks, with zeros for absent ones.

    Raises:
        NonFiniteError: If a loss is NaN or infinite, or a gradient that the method looks at; names the task.
        RecipeError: If the method cannot run in the mode, the arguments contradict each other, a loss that is not zero
            carries no graph, or no loss reaches a shared parameter.

    Example:
        >>> from polytask.balancing.balancer import Balancer
        >>> class ByNorm(Balancer):
        ...     needs = frozenset({"gramian"})
        ...     def weigh(self, signals):
        ...         return signals.gramian.diagonal().rsqrt()
        >>> trunk = torch.nn.Linear(2, 2, bias=False)
        >>> torch.nn.init.eye_(trunk.weight).requires_grad
        True
        >>> z = trunk(torch.tensor([[1.0, 0.0]]))
        >>> outcome = balanced_backward([z[0, 0], 4 * z[0, 1]], trunk.parameters(), z, balancer=ByNorm())
        >>> outcome.weights.tolist(), outcome.gramian.tolist()
        ([1.0, 0.25], [[1.0, 0.0], [0.0, 16.0]])
        >>> trunk.weight.grad.tolist()
        [[1.0, 0.0], [1.0, 0.0]]

    Note:
        A method that sees losses only costs one plain backward. One that sees gradients costs one pass through the
        shared part for each task and one buffer of T times the shared parameters; tasks whose graphs do not meet
        (each its own batch) cost no extra arithmetic and nothing is retained. Batch normalisation and dropout are as
        in one forward pass, because there is one.
    """
    if not isinstance(balancer, Balancer):
        raise RecipeError(
            f"balancer takes an object that lives as long as the training, e.g. NashMTL() or "
            f"polytask.balancing.registry.create('nash_mtl'); got {balancer!r}."
        )
    _check_mode(balancer, mode)
    for name, number in (("sketch", sketch), ("every", every)):
        if number < 1:
            raise RecipeError(f"balanced_backward needs {name} of at least 1, got {number}.")
    opened = open_step(losses, balancer, shared)
    opened.unit = 1.0 if scaler is None or not opened.index else float(scaler.scale(torch.ones(())).item())
    opened.scale, opened.given_features, opened.given_heads = scale, features, heads
    if group is not None:
        join(opened, balancer, group, counts)
    check_finite(opened)
    if check is not None:
        check(opened.names, opened.values.tolist())
    count = balancer.calls if step is None else step
    opened.is_first = balancer.calls == 0
    balancer.calls = count + 1
    if not opened.index:
        return _outcome(opened, mode, Result("nothing", torch.empty(0)), balancer)
    signals = Signals(torch.tensor(opened.index), opened.values, step=count, epoch=epoch)
    solver = EveryK(balancer, every) if mode == "every_k" else balancer
    _clear_fallbacks(solver)
    if not solver.needs_in(signals) & SEES_GRADIENTS:
        result = by_known_weights(opened, solver, signals)
    elif mode == "features":
        result = by_features(opened, solver, signals)
    elif mode == "matrix_free":
        result = by_product(opened, solver, signals)
    else:
        width = sketch if mode == "sketch" else None
        result = by_rows(opened, solver, signals, Extras(ghost, second, validation, bf16, width))
    return _outcome(opened, mode, result, solver)


def _check_mode(balancer: Balancer, mode: str) -> None:
    if mode not in MODES:
        raise UnknownNameError("mode", mode, MODES)
    if mode not in balancer.modes:
        name, can = type(balancer).__name__, ", ".join(balancer.modes)
        raise RecipeError(f"{name} cannot run in the mode {mode!r}. It can run in: {can}.")


def _clear_fallbacks(balancer: Balancer) -> None:
    for module in balancer.modules():
        if isinstance(module, Balancer):
            module.fallbacks.clear()


def _outcome(step: Step, mode: str, result: Result, balancer: Balancer) -> Outcome:
    methods = [module for module in balancer.modules() if isinstance(module, Balancer)]
    report = Report(
        mode=mode,
        route=result.route,
        passes=result.passes,
        absent=step.absent,
        fallbacks=tuple(reason for method in methods for reason in method.fallbacks) if step.index else (),
        own_graphs=step.own_graphs,
        overflow=result.overflow,
        layers=result.layers,
        notes=tuple(step.notes),
        sent=0 if step.peers is None else step.peers.sent,
    )
    gramian = None
    if result.gramian is not None:
        at = torch.tensor(step.index)
        gramian = torch.zeros(len(step.tasks), len(step.tasks), dtype=torch.float64)
        gramian[at.unsqueeze(1), at] = result.gramian
    return Outcome(
        tasks=step.tasks,
        weights=step.spread(result.weights),
        gramian=gramian,
        losses=step.spread(step.values, float("nan")),
        report=report,
        signals=result.signals,
    )
