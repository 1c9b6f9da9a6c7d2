"""How to train, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from polytask.errors import RecipeError

__all__ = ["Regulariser", "Settings"]

OPTIMISERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "plateau")
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
            epochs bring nothing better).
        warmup: Share of all steps over which the learning rate rises from zero.
        clip_norm: Largest norm of the whole gradient, or ``None``.
        patience: Stop after this many epochs without a better one; ``None`` trains all epochs and keeps the last.
        stop_rule: What "better" means on the validation rows: ``mean_rank`` over tasks, ``mean`` (of each task's loss over
            that of its constant prediction), ``worst`` (task, same scale), or ``task:NAME``.
        mode: Mode of the balancing engine.
        regularisers: Penalties on parameters.
        seed: Of parameters, batches, dropout.
        device: Where to train, as PyTorch names it.
        checkpoint_seconds: A checkpoint is written at the end of an epoch, but not more often than this.
        max_seconds: Stop after the step in which this many seconds are over, or ``None``.
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
    stop_rule: str = "mean_rank"
    mode: str = "exact"
    regularisers: tuple[Regulariser, ...] = ()
    seed: int = 0
    device: str = "cpu"
    checkpoint_seconds: float = 20.0
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        _one_of("optimiser", self.optimiser, OPTIMISERS)
        _one_of("schedule", self.schedule, SCHEDULES)
        if not (self.stop_rule in ("mean_rank", "mean", "worst") or self.stop_rule.startswith("task:")):
            raise RecipeError(f"stop_rule must be mean_rank, mean, worst or task:NAME, got {self.stop_rule!r}.")
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} must be at least 1, got {getattr(self, name)!r}.")
        if not self.learning_rate > 0:
            raise RecipeError(f"learning_rate must be above 0, got {self.learning_rate!r}.")
        if not 0 <= self.warmup < 1:
            raise RecipeError(f"warmup is a share of the steps in [0, 1), got {self.warmup!r}.")

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> Settings:
        """From plain data, with a clear error for an unknown name."""
        from polytask.registry import check_options

        check_options("training", cls, options)
        given = dict(options)
        given["regularisers"] = tuple(
            r if isinstance(r, Regulariser) else Regulariser(**r) for r in given.get("regularisers", ())
        )
        return cls(**given)

    def options(self) -> dict[str, Any]:
        """As JSON can hold it."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**values, "regularisers": [vars(r) for r in self.regularisers]}


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise RecipeError(f"{what} must be one of {', '.join(known)}; got {value!r}.")
