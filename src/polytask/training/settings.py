"""How to train, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pydantic import ValidationError

from polytask.errors import RecipeError, UnknownNameError
from polytask.options import adapter_of, check_options, in_words

__all__ = ["Regulariser", "Settings"]

OPTIMISERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "plateau")
PRECISIONS = ("fp32", "bf16", "fp16")
PENALTIES = ("l1", "l2", "group_l21")
PARTS = ("shared", "private", "all")


@dataclass(frozen=True)
class Regulariser:
    """A penalty on parameters, added to the joint loss.

    Args:
        penalty: ``l2`` (half the sum of squares), ``l1`` (sum of absolute values), or ``group_l21`` (sum over the
            inputs of each weight matrix of the Euclidean norm of what leaves that input).
        strength: Factor, at least 0.
        on: ``shared`` (reached by several tasks), ``private`` (a task's own, its head included), or ``all``.
    """

    penalty: str
    strength: float
    on: str = "shared"

    def __post_init__(self) -> None:
        _one_of("penalty", self.penalty, PENALTIES)
        _one_of("on", self.on, PARTS)
        if not self.strength >= 0:
            raise RecipeError(f"A regulariser needs a strength of at least 0, got {self.strength!r}.")


@dataclass(frozen=True)
class Settings:
    """Settings of one training.

    Args:
        epochs: At most this many; an epoch is as long as the sampler says.
        batch_size: Rows a step (of one source).
        optimiser: ``adam``, ``adamw`` or ``sgd`` (momentum 0.9).
        learning_rate: The highest one.
        weight_decay: Of the optimiser; not applied to biases, norms and embeddings' tables.
        schedule: ``constant``, ``cosine`` (to zero at the last epoch), or ``plateau`` (halved when ``patience // 2``
            epochs bring nothing better on the validation rows; it stays without these, or without a patience).
        warmup: Share of all steps over which the learning rate rises from zero.
        clip_norm: Largest norm of the whole gradient, or ``None``.
        patience: Stop after this many epochs without a better one; ``None`` trains all epochs and keeps the last.
        patience_share: Stop after this share of the epochs up to the best one, where that is more than ``patience``: a
            training that was long in getting better may take long again.
        stop_rule: What "better" means on the validation rows: ``mean_rank`` over tasks, ``mean`` (of each task's loss
            over that of its constant prediction), ``worst`` (task, same scale), or ``task:NAME``.
        dropout_fades: Whether dropout (but not that of encoders of texts, or of the user's own modules) gets weaker
            where tasks are learned nearly exactly: its probability is multiplied by four times the lowest mean of their
            losses so far, relative to constant predictions, where that is below 1; on the validation rows, or on the
            training rows where there are none. An epoch that lacks one of the tasks changes nothing; those of weight 0
            do not count. The patience grows as dropout gets weaker, to 16 times at most.
        mode: Mode of the balancing engine.
        sketch: Numbers a task in the mode ``sketch``.
        together: Whether a step reads a batch of every source, so that the balancer sees all tasks at once, or of one
            source in turn. ``None``: of every source if the balancer changes weights and the sampler is the usual one.
        alike_lengths: Whether a batch is of texts of alike lengths, which leaves less padding to compute; the rows are
            still drawn anew in each pass.
        regularisers: Penalties on parameters.
        seed: Of parameters, batches, dropout.
        device: Where to train, as PyTorch names it.
        checkpoint_seconds: A checkpoint is written at the end of an epoch, but not more often than this.
        max_seconds: Stop after the step in which this many seconds are over, or ``None``.
        precision: Of matrix products and convolutions in training: ``fp32``, ``bf16``, or ``fp16`` with a gradient
            scaler. Parameters, losses, balancers, optimiser and evaluation stay in full precision.
        recompute: Whether activations of the shared part are computed again on the way back in place of being kept.
        accumulate: In how many pieces of its rows a batch goes through the shared part, so that the activations of one
            piece have to fit into memory; they are computed again on the way back. The balancer sees the whole batch.
        skips: How many batches in a row a task whose loss is NaN, infinite or exploded is left out of, while the others
            go on, before the training stops; 0 stops at the first.
        explosion: A loss of more than this many times what the task's losses usually are has exploded; 0 for none.
        load_seconds: How long reading a batch may take before the training stops and names the source, or ``None``.
        read_ahead: Of sources that are not in memory, how many batches are read, each in a thread of its own, while the
            network computes; 0 reads each when its step comes. What is learned does not depend on it.
        deterministic: Whether PyTorch may use deterministic algorithms only. On the CPU the same seed gives the same
            bits in any case; on an accelerator this makes it so, at a cost that depends on the network (scatters and
            convolutions' gradients are slower), and an operation that has no such algorithm ends the training.
    """

    epochs: int = 100
    batch_size: int = 256
    optimiser: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    schedule: str = "constant"
    warmup: float = 0.0
    clip_norm: float | None = None
    patience: int | None = 16
    patience_share: float = 0.0
    stop_rule: str = "mean_rank"
    dropout_fades: bool = False
    mode: str = "exact"
    sketch: int = 1024
    together: bool | None = None
    alike_lengths: bool = False
    regularisers: tuple[Regulariser, ...] = ()
    seed: int = 0
    device: str = "cpu"
    checkpoint_seconds: float = 20.0
    max_seconds: float | None = None
    precision: str = "fp32"
    recompute: bool = False
    accumulate: int = 1
    skips: int = 10
    explosion: float = 1e4
    load_seconds: float | None = None
    read_ahead: int = 2
    deterministic: bool = False

    def __post_init__(self) -> None:
        _one_of("optimiser", self.optimiser, OPTIMISERS)
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("precision", self.precision, PRECISIONS)
        if not (self.stop_rule in ("mean_rank", "mean", "worst") or self.stop_rule.startswith("task:")):
            raise RecipeError(f"stop_rule must be mean_rank, mean, worst or task:NAME, got {self.stop_rule!r}.")
        for name in ("epochs", "batch_size", "patience", "sketch", "accumulate"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RecipeError(f"{name} must be at least 1, got {value!r}.")
        for name in ("learning_rate", "clip_norm", "max_seconds", "load_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise RecipeError(f"{name} must be a number above 0, got {value!r}.")
        for name in ("weight_decay", "checkpoint_seconds", "skips", "patience_share", "explosion", "read_ahead"):
            if not getattr(self, name) >= 0:
                raise RecipeError(f"{name} must be at least 0, got {getattr(self, name)!r}.")
        if not 0 <= self.warmup < 1:
            raise RecipeError(f"warmup is a share of the steps in [0, 1), got {self.warmup!r}.")
        if not 0 <= self.seed < 2**32:
            raise RecipeError(f"The seed must be a whole number from 0 to 2^32 - 1, got {self.seed!r}.")

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Settings:
        """From plain data.

        Raises:
            RecipeError: If a name is not known, or a value is of the wrong type or out of range.
        """
        check_options("training", cls, options)
        try:
            return adapter_of(cls).validate_python(dict(options))
        except ValidationError as error:
            raise RecipeError(f"training: {in_words(error)}") from None

    def options(self) -> dict[str, Any]:
        """As JSON can hold it."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**values, "regularisers": [vars(r) for r in self.regularisers]}


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        near = UnknownNameError.nearest(value, known)
        hint = f" Did you mean {near!r}?" if near else ""
        raise RecipeError(f"{what} must be one of {', '.join(known)}; got {value!r}.{hint}")
