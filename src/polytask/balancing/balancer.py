"""The balancer's contract: numbers about the tasks in, one weight per task out."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, ClassVar

import torch
from torch import nn

from polytask.balancing.kept import KeptWeights
from polytask.errors import RecipeError
from polytask.ranges import Ranges
from polytask.shapes import Float, Int, Tensor

__all__ = ["SEES_GRADIENTS", "Balancer", "Signals"]

SEES_GRADIENTS = frozenset({"gramian", "rows", "cross_gramian", "validation"})
"""What a method may need that costs passes through the shared part."""


@dataclass(frozen=True)
class Signals:
    """What a balancer may look at in one step; always about the tasks that are present in the batch.

    A task without an observed label in the batch is left out before the balancer is asked, so that a method
    solves among the present tasks by construction. State that belongs to a task is read and written at
    ``index``, so that an absent task keeps its own.

    Args:
        index: Positions of the present tasks among all tasks the balancer is bound to; ``T`` below is their number.
        losses: Detached loss values, float64.
        gramian: Inner products of the tasks' gradients with respect to the shared parameters, float64;
            ``None`` unless the balancer needs it.
        rows: The gradients themselves, one row a task; ``None`` unless the balancer needs them.
        step: Number of steps done before this one.
        epoch: Number of epochs done before this one.
        cross_gramian: Inner products of the tasks' gradients on this batch (rows) with those on a second, independent
            batch (columns), float64; for methods whose solver must not see the same noise twice.
        validation: How much faster the validation loss falls per unit of weight of each task: inner products of the
            tasks' training gradients with the gradient of the validation loss, float64.
    """

    index: Int[Tensor, " T"]
    losses: Float[Tensor, " T"]
    gramian: Float[Tensor, "T T"] | None = None
    rows: Float[Tensor, "T P"] | None = None
    step: int = 0
    epoch: int = 0
    cross_gramian: Float[Tensor, "T T"] | None = None
    validation: Float[Tensor, " T"] | None = None

    @classmethod
    def of(cls, losses: Any, **fields: Any) -> Signals:
        """Signals from plain numbers, for tests, examples and one's own method; all tasks are present.

        Example:
            >>> signals = Signals.of([1.0, 2.0], rows=[[1.0, 0.0], [1.0, 1.0]])
            >>> signals.gramian
            tensor([[1., 1.],
                    [1., 2.]], dtype=torch.float64)
        """
        values = torch.as_tensor(losses, dtype=torch.float64)
        for name in ("gramian", "rows", "cross_gramian", "validation"):
            if fields.get(name) is not None:
                fields[name] = torch.as_tensor(fields[name], dtype=torch.float64)
        if "rows" in fields and "gramian" not in fields:
            fields["gramian"] = fields["rows"] @ fields["rows"].T
        index = fields.pop("index", None)
        positions = torch.arange(len(values)) if index is None else torch.as_tensor(index)
        return cls(index=positions, losses=values, **fields)

    def require(self, name: str, who: str) -> Tensor:
        """The signal of that name.

        Raises:
            TypeError: If it was not measured in this step.
        """
        value: Tensor | None = getattr(self, name)
        if value is None:
            raise TypeError(f"{who} needs the signal {name!r}, which was not measured: is it in the method's needs?")
        return value

    @property
    def is_finite(self) -> bool:
        """Whether there is no NaN and no infinity in anything that a method could take into its state."""
        rows = None if self.rows is None else self.rows.sum(dim=1)
        values = (self.losses, self.gramian, rows, self.cross_gramian, self.validation)
        return all(_is_finite(value) for value in values if value is not None)

    def to(self, device: torch.device) -> Signals:
        """The same on another device, except ``rows``, which stay where they are."""
        if self.losses.device == device:
            return self
        small = {
            field: value.to(device)
            for field in ("index", "losses", "gramian", "cross_gramian", "validation")
            if (value := getattr(self, field)) is not None
        }
        return replace(self, **small)


class Balancer(nn.Module, ABC):
    """Turns what is known about the tasks in a step into one weight per task.

    A subclass states what it ``needs`` and which laws it ``keeps``, and implements :meth:`weigh`. All its state
    is in buffers and parameters, so that its ``state_dict`` is complete: save, load and continue is bit-equal.

    Class attributes:
        needs: Which :class:`Signals` fields it reads: ``losses``, ``gramian``, ``rows``, ``cross_gramian``,
            ``validation``; further ``losses_after`` (the losses of the same batch after the step, given to
            :meth:`after_step`).
        keeps: Laws that the conformance suite checks: ``permutation`` (renaming tasks permutes the weights),
            ``scale`` (rescaling one loss does not change the direction), ``conflict_free`` (the combined gradient
            has no negative product with any task's), ``single`` (one task is plain training), ``duplicate`` (a task
            given twice changes nothing but the split of its weight). What an object needs and keeps may depend on its
            options.
        ranges: What ``polytask study --search`` tries of its options; it does not try the method at all if ``None``.
        sums_to_one: Whether the weights are shares; a matrix-free run then starts at equal shares, else at ones.
    """

    needs: frozenset[str] = frozenset({"losses"})
    keeps: frozenset[str] = frozenset({"permutation", "single"})
    sums_to_one: bool = False
    ranges: ClassVar[Ranges | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.tasks: tuple[str, ...] = ()
        self.fallbacks: list[str] = []
        self.calls = 0

    def bind(self, tasks: Sequence[str]) -> None:
        """Tell the balancer its tasks, once, before the first step; allocates per-task state in :meth:`reset`.

        Binding again to the same tasks does nothing, so that a resumed run keeps its state.

        Raises:
            RecipeError: If two tasks have one name, or an option does not fit the tasks.
        """
        names = tuple(tasks)
        if twice := [name for name, n in Counter(names).items() if n > 1]:
            raise RecipeError(f"{type(self).__name__} needs one name for each task, got {twice[0]!r} twice.")
        if names != self.tasks:
            self.tasks = names
            self._modules.pop("kept", None)
            self.reset(len(names))

    def reset(self, n_tasks: int) -> None:
        """Allocate the state for ``n_tasks`` tasks as buffers or parameters; stateless methods leave it."""

    def forward(self, signals: Signals) -> Float[Tensor, " T"]:
        """Weights of the present tasks; what the engine calls.

        Signals with a NaN or an infinity never reach :meth:`weigh`: the weights are those of plain summation, no state
        changes, and the fallback is noted. The gradient then carries the NaN to whoever guards the step (a gradient
        scaler, the training loop). Weights that come out not finite are replaced in the same way.
        """
        if not signals.is_finite:
            self.note_fallback("a loss or a gradient is not finite: plain summation, state unchanged")
            return torch.ones_like(signals.losses)
        own = itertools.chain(self._buffers.values(), self._parameters.values())
        held = next((tensor for tensor in own if tensor is not None), None)
        if held is None:  # parts may have state; to walk through them takes longer than many a method
            held = next(itertools.chain(self.buffers(), self.parameters()), signals.losses)
        with torch.no_grad():
            weights = self.weigh(signals.to(held.device)).to(signals.losses)
        if not _is_finite(weights):
            self.note_fallback("the weights came out not finite: plain summation")
            return torch.ones_like(signals.losses)
        return weights

    @abstractmethod
    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """Weights of the present tasks for the shared parameters, float64.

        A method with learned weights adds to the ``.grad`` of its own parameters here. Called through
        :meth:`forward`, so all signals are finite.
        """

    def head_weights(self, signals: Signals, weights: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """Weights with which each task's own parameters see their loss.

        By default those of the shared part for methods that weigh losses, and one for methods that look at
        gradients, because a task's own parameters take part in no conflict.
        """
        return torch.ones_like(weights) if self.needs & SEES_GRADIENTS else weights

    def after_step(self, signals: Signals) -> None:
        """Called after the optimiser's step with the losses of the same batch, if ``losses_after`` is needed."""

    def combine(self, signals: Signals, weights: Float[Tensor, " T"]) -> Float[Tensor, " P"] | None:
        """The combined gradient of a method for which it is no weighted sum of this step's rows; else ``None``.

        A method that masks elements, or remembers rows of earlier steps, returns its own vector; it ``needs`` rows.
        """
        return None

    def iterate(
        self, signals: Signals, weights: Float[Tensor, " T"], product: Float[Tensor, " T"]
    ) -> Float[Tensor, " T"]:
        """One warm-started step towards the method's weights from ``product``, the Gramian times ``weights``.

        A method that has such a step overrides this and so can run in the mode ``matrix_free``;
        ``signals.gramian`` is ``None`` there.
        """
        raise TypeError(f"{type(self).__name__} has no matrix-free step.")

    @property
    def is_mixture(self) -> bool:
        """Whether the combined gradient is the weighted sum of this step's rows, and no vector of the method's own."""
        return "rows" not in self.needs or type(self).combine is Balancer.combine

    def needs_in(self, signals: Signals) -> frozenset[str]:
        """What is needed in the step that ``signals`` (losses only) announces; may be less than ``needs``."""
        return self.needs

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes of the engine that this method can run in."""
        if not self.needs & SEES_GRADIENTS:
            return ("exact",)
        if self.needs & {"rows", "cross_gramian", "validation"}:
            return ("exact", "every_k") if self.is_mixture else ("exact",)
        has_step = type(self).iterate is not Balancer.iterate
        return ("exact", "every_k", "features", "sketch", *(("matrix_free",) if has_step else ()))

    def note_fallback(self, reason: str) -> None:
        """Record that a solver did not converge and what was done instead; the engine counts it in its report."""
        self.fallbacks.append(reason)

    def row_state(self, name: str, rows: Float[Tensor, "T P"]) -> Float[Tensor, "N P"]:
        """The buffer with a row as long as a gradient for each task; zeros at first and when that length changes.

        A change, as when a frozen layer is set free, is noted like a fallback.
        """
        held = self.get_buffer(name)
        if held.shape[1] != rows.shape[1]:
            if held.shape[1]:
                self.note_fallback(f"the number of shared parameters has changed: {name} starts anew")
            held = rows.new_zeros(len(self.tasks), rows.shape[1])
            setattr(self, name, held)
        return held

    def keep(self) -> KeptWeights:
        """The weights that outlive a step, part of the ``state_dict`` from the first call on."""
        if "kept" not in self._modules:
            self.add_module("kept", KeptWeights(len(self.tasks)))
        kept: KeptWeights = self.get_submodule("kept")  # type: ignore[assignment]
        return kept

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # State as large as the gradient is allocated in the first step, so that a fresh balancer has none yet.
        for name, buffer in self._buffers.items():
            stored = state_dict.get(f"{prefix}{name}")
            if stored is not None and buffer is not None and buffer.numel() == 0 and stored.numel() > 0:
                self._buffers[name] = buffer.new_empty(stored.shape, dtype=stored.dtype)
        # Likewise the kept weights of a mode in which the saved balancer was and a fresh one has not been yet.
        saved = state_dict.get(f"{prefix}kept.weights")
        if saved is not None and "kept" not in self._modules:
            kept = KeptWeights(len(saved))
            kept.load_state_dict({key: state_dict[f"{prefix}kept.{key}"] for key in ("weights", "known", "age")})
            self.add_module("kept", kept)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _is_finite(values: Tensor) -> bool:
    # A few numbers are looked at faster as numbers.
    return all(map(isfinite, values.tolist())) if values.ndim == 1 else bool(torch.isfinite(values).all())
