"""A curriculum: order and timing of the tasks, given or learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polytask.errors import RecipeError
from polytask.training.schedule import Schedule, Stage, StageResult, check_names

__all__ = ["Curriculum"]

LEARNED = ("easy_first", "hard_first", "progress")


@dataclass(frozen=True)
class Curriculum(Schedule):
    r"""Brings the tasks in one after another, in an order that is given, or learned from the validation losses.

    With an order, stage :math:`k` trains its first :math:`k` tasks together (or the :math:`k`-th alone). Let
    :math:`v_{i,t}` be the validation loss of task :math:`t` after stage :math:`i` over that of its constant prediction.

    - ``easy_first``, ``hard_first``: a first stage of ``probe`` epochs trains all tasks; the order is that of
      :math:`v_{1,t}`, rising or falling.
    - ``progress``: the stages are turns of one task. After a first turn for each, the next is that of the task whose
      loss fell most by its own last turn, per epoch: :math:`(v_{i-1,t} - v_{i,t}) / E_i`.

    The timing is given by ``epochs``. Without it each stage has the settings' number, and the timing is learned: a
    stage ends when nothing got better for ``training.patience`` epochs. Both hold together: with a patience the given
    epochs are the most that a stage has, with ``training.patience: null`` it has exactly these.

    Args:
        order: Names of the tasks, or ``easy_first``, ``hard_first``, ``progress``.
        keeps: Whether tasks that came in earlier are trained on with the later ones; not used by ``progress``.
        probe: Epochs of the first stage, for an order by loss.
        turns: For ``progress``: turns for each task, a mean; each has that part of the epochs.
        epochs: Epochs of each stage, in the order of the stages and the probe left out: as many numbers as the order
            has tasks. Not for ``progress``, whose turns are of one length.

    Raises:
        RecipeError: If a number is below 1, the order is not one of these, there are no validation losses, or the
            epochs are not those of the stages.
        UnknownNameError: If the order names no task of the recipe.

    Example:
        >>> schedule = Curriculum("hard_first")
        >>> probe = schedule.next_stage(["a", "b"], 10, 2, [])
        >>> done = [StageResult(probe, losses={"a": 0.4, "b": 0.9})]
        >>> stage = schedule.next_stage(["a", "b"], 10, 2, done)
        >>> stage.tasks, schedule.next_stage(["a", "b"], 10, 2, [*done, StageResult(stage)]).tasks
        (('b',), ('b', 'a'))
        >>> timed, done = Curriculum(["b", "a"], epochs=[2, 6]), []
        >>> while (stage := timed.next_stage(["a", "b"], 10, 2, done)) is not None:
        ...     done.append(StageResult(stage))
        >>> [(result.stage.tasks, result.stage.epochs) for result in done]
        [(('b',), 2), (('b', 'a'), 6)]

    Note:
        ``progress`` is the greedy choice by the gain in validation loss, where the paper samples from a bandit's policy
        over gains measured within batches; the first turns are in the recipe's order. Ties go to the earlier task.
        Without ``epochs``, an order costs up to as many times the epochs of ``joint`` as there are tasks, and the
        probe; ``progress`` costs as many epochs of single tasks, whose turns have one epoch at least.

    References:
        Bengio et al., "Curriculum Learning", ICML 2009; Pentina, Sharmanska and Lampert, "Curriculum Learning of
        Multiple Tasks", CVPR 2015 (the order of tasks, by how well they do); Graves et al., "Automated Curriculum
        Learning for Neural Networks", ICML 2017, section 4 (learning progress).
    """

    order: Sequence[str] | str = "easy_first"
    keeps: bool = True
    probe: int = 1
    turns: int = 4
    epochs: Sequence[int] = ()

    def __post_init__(self) -> None:
        for name in ("probe", "turns"):
            if getattr(self, name) < 1:
                raise RecipeError(f"Schedule 'curriculum' needs {name} of at least 1, got {getattr(self, name)}.")
        if isinstance(self.order, str) and self.order not in LEARNED:
            raise RecipeError(
                f"Schedule 'curriculum' needs an order: a list of tasks, or {', '.join(LEARNED)}; got {self.order!r}."
            )
        if self.order == "progress" and self.epochs:
            raise RecipeError(
                "Schedule 'curriculum' with the order 'progress' divides the epochs among its turns: set `turns`, and "
                "take `epochs` out."
            )

    def never_trains(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """The tasks that a given order leaves out; a learned order has them all."""
        return () if isinstance(self.order, str) else super().never_trains(tasks)

    def next_stage(self, tasks: Sequence[str], epochs: int, n_layers: int, done: Sequence[StageResult]) -> Stage | None:
        """The next of the order, or the task that learns fastest."""
        if self.order == "progress":
            return self._turn(tasks, epochs, done)
        if isinstance(self.order, str):
            if not done:
                self._check_epochs(tasks, epochs)
                return Stage("probe", tuple(tasks), epochs=self.probe)
            losses = _losses(done[0], tasks)
            sign = 1 if self.order == "easy_first" else -1
            order = tuple(sorted(tasks, key=lambda task: sign * losses[task]))
            place = len(done) - 1
        else:
            order, place = check_names("the order of schedule 'curriculum'", self.order, tasks), len(done)
        self._check_epochs(order, epochs)
        if place == len(order):
            return None
        brought = order[: place + 1] if self.keeps else (order[place],)
        name = ("with " if self.keeps and place else "") + order[place]
        return Stage(name, brought, epochs=self.epochs[place] if self.epochs else None)

    def _check_epochs(self, order: Sequence[str], most: int) -> None:
        if self.epochs and len(self.epochs) != len(order):
            raise RecipeError(
                f"Schedule 'curriculum' has a stage for each of {', '.join(order)}, and so needs {len(order)} numbers "
                f"of epochs, got {list(self.epochs)}."
            )
        if not all(isinstance(number, int) and 1 <= number <= most for number in self.epochs):
            raise RecipeError(
                f"Schedule 'curriculum' needs epochs from 1 to the {most} of training.epochs, got {list(self.epochs)}; "
                "change one of the two."
            )

    def _turn(self, tasks: Sequence[str], epochs: int, done: Sequence[StageResult]) -> Stage | None:
        if len(done) == self.turns * len(tasks):
            return None
        length = max(1, epochs // self.turns)
        if len(done) < len(tasks):
            task = tasks[len(done)]
        else:
            gains = {name: _gain(name, done, tasks) for name in tasks}
            task = max(tasks, key=lambda name: gains[name])
        return Stage(f"{task} (turn {len(done) + 1})", (task,), epochs=length)


def _gain(task: str, done: Sequence[StageResult], tasks: Sequence[str]) -> float:
    """How much the task's loss fell by its last turn, per epoch; from the constant prediction's in the first stage."""
    last = max(i for i, result in enumerate(done) if task in result.stage.tasks)
    before = _losses(done[last - 1], tasks)[task] if last else 1.0
    return (before - _losses(done[last], tasks)[task]) / max(done[last].epochs, 1)


def _losses(result: StageResult, tasks: Sequence[str]) -> dict[str, float]:
    if missing := [task for task in tasks if task not in result.losses]:
        raise RecipeError(
            f"Schedule 'curriculum' learns its order from validation losses, and {', '.join(missing)} are without: "
            "give split.validation a share above 0, or the order itself."
        )
    return dict(result.losses)
