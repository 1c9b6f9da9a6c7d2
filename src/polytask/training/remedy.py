"""The contract of a remedy against forgetting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from polytask.data.batch import Batch, Source
from polytask.errors import RecipeError
from polytask.models.model import MultiTaskModel
from polytask.shapes import Tensor
from polytask.tasks.task import Task
from polytask.training.schedule import Stage

__all__ = ["Remedy", "Scene"]


@dataclass(frozen=True)
class Scene:
    """What a remedy may look at before, in and after a stage.

    Args:
        model: The network.
        tasks: All tasks by name, those of later stages among them.
        train: Training sources by name, with the labels of all tasks.
        stage: The stage.
        number: Its position, from 0.
        learned: Tasks of earlier stages that this one does not train.
        seed: Of everything that the remedy draws in this stage; its draws come from generators of its own, so that a
            remedy of strength 0 changes nothing at all.
    """

    model: MultiTaskModel
    tasks: Mapping[str, Task]
    train: Mapping[str, Source]
    stage: Stage
    number: int = 0
    learned: tuple[str, ...] = ()
    seed: int = 0


@dataclass
class Remedy:
    """Keeps what earlier stages learned while a later one is trained.

    The loop calls, in each step: the balanced gradient of the stage's own tasks is there (:meth:`after_losses`); the
    :meth:`term` is added; all of the gradient is there (:meth:`before_update`); the parameters were changed
    (:meth:`after_update`). Before a stage it calls :meth:`begin`, after it :meth:`end`. All do nothing by default.

    The state that a stage after the next depends on is in :meth:`state_dict`, complete: save, load and go on is
    bit-equal. At a strength of 0 the training is that without the remedy, bit for bit.

    In data parallel every process has all the rows of a stage, draws the same of them and keeps the same state. What is
    found row by row is shared out (:func:`polytask.training.ranks.here`) and summed, so that all find the same.

    Args:
        strength: How much it counts, at least 0.

    Attributes:
        reads_rows: Whether the term depends on rows. Then in data parallel it is this process's part of a sum over the
            processes, and is ``None`` in all of them or in none.

    Raises:
        RecipeError: If the strength is negative.
    """

    reads_rows: ClassVar[bool] = False

    strength: float = 1.0
    scene: Scene | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.strength < float("inf"):
            raise RecipeError(f"{self.who} needs a strength of at least 0, got {self.strength!r}.")

    @property
    def who(self) -> str:
        """The remedy as messages name it."""
        return f"Remedy {type(self).__module__.rpartition('.')[2]!r}"

    @property
    def here(self) -> Scene:
        """The present stage's scene.

        Raises:
            RuntimeError: If no stage has begun.
        """
        if self.scene is None:
            raise RuntimeError(f"{self.who} was asked before a stage began; call begin(scene) first.")
        return self.scene

    def begin(self, scene: Scene) -> None:
        """A stage begins; whatever is loaded from a checkpoint is loaded after this."""
        self.scene = scene

    def afterwards(self, scene: Scene) -> None:
        """Learn from tasks that were trained earlier, without this remedy, what it needs to keep them.

        Args:
            scene: The network as it is, and the tasks; ``train`` holds their rows, where those are at hand.

        Raises:
            RecipeError: If that cannot be done afterwards; by default it cannot.
        """
        raise RecipeError(
            f"{self.who} has to be there while the old tasks are trained, so it cannot keep them now; "
            "learning_without_forgetting, ewc and online_ewc can."
        )

    def opens(self, scene: Scene) -> list[nn.Parameter]:
        """Parameters that are to be trained in the stage though its own tasks do not reach them: earlier heads."""
        return []

    def slows(self, scene: Scene) -> dict[nn.Parameter, float]:
        """Factors on the learning rates of parameters in the stage; 0 leaves a parameter as it is."""
        return {}

    def term(self, batches: Sequence[Batch], step: int) -> Tensor | None:
        """A term of the loss, strength included, or ``None``."""
        return None

    def after_losses(self) -> None:
        """``.grad`` holds the gradient of the stage's tasks, and nothing else yet."""

    def before_update(self, batches: Sequence[Batch], step: int) -> None:
        """``.grad`` holds everything; it may be changed."""

    def after_update(self) -> None:
        """The optimiser changed the parameters."""

    def new_best(self) -> None:
        """The present parameters are the best so far: those that the stage will end with, unless better ones come."""

    def end(self) -> None:
        """The stage is over, and the network holds the parameters that were kept."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that later steps and stages depend on: tensors and JSON values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
