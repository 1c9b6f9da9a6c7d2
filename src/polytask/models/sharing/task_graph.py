"""Task graph: tasks that read other tasks' representations or outputs, as the user draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import ClassVar

import torch
from torch import nn

from polytask.errors import RecipeError, UnknownNameError
from polytask.models.encoders.encoder import Encoder
from polytask.models.heads import Heads, Hidden
from polytask.models.sharing._towers import dense_layers
from polytask.models.sharing.sharing import Features, Sharing
from polytask.models.stages import ByName, run_stages
from polytask.shapes import Float, Inputs, Tensor

__all__ = ["TaskGraph"]


class TaskGraph(Sharing):
    r"""Tasks on a graph without cycles: a task reads the shared trunk and the tasks that lead to it.

    With trunk output :math:`x` and the parents :math:`P(t)`, by representations

    .. math:: h_t = f_t([x, h_p : p \in P(t)]),

    or by outputs :math:`z`, with a small network :math:`m_t` that starts at zero,

    .. math:: z_t = \mathrm{head}_t(f_t(x)) + m_t([z_p : p \in P(t)]).

    Args:
        encoder: The encoder; all its stages are the shared trunk.
        tasks: Names of the tasks.
        parents: For each task that reads others, their names; by default each task reads the one before it.
        reads: ``representation`` or ``output``.
        detach: Whether a task leaves its parents as they are: its loss then trains only itself and the trunk.
        tower_widths: Widths of the dense layers of each task's tower.

    Shape:
        inputs of the encoder -> per task ``[B, D]``

    Raises:
        RecipeError: If a parent is no task of the run, or the graph has a cycle.
        UnknownNameError: If ``reads`` is neither.

    Example:
        >>> from polytask.models.encoders import registry
        >>> from polytask.models.inputs import InputShape
        >>> encoder = registry.create("mlp", {"main": InputShape.of(torch.zeros(1, 4))}, widths=(8,))
        >>> sharing = TaskGraph(encoder, ["c", "a", "b"], parents={"c": ["a", "b"]})
        >>> sharing(torch.zeros(2, 4), ["c"])["c"].shape
        torch.Size([2, 64])

    Note:
        A task that is asked runs all that lead to it. Parents are computed on the rows and inputs of the task that
        reads them, so that they need no label there.

    References:
        Søgaard and Goldberg, "Deep Multi-task Learning with Low Level Tasks Supervised at Lower Layers", ACL 2016;
        Read et al., "Classifier Chains for Multi-label Classification", Machine Learning 85, 2011 (outputs).
    """

    interleaved: ClassVar[bool] = True

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[str],
        parents: Mapping[str, Sequence[str]] | None = None,
        reads: str = "representation",
        detach: bool = False,
        tower_widths: Sequence[int] = (64,),
    ):
        super().__init__(encoder, tasks)
        if reads not in ("representation", "output"):
            raise UnknownNameError("thing that a task reads", reads, ("representation", "output"))
        chain = {task: [before] for before, task in zip(self.tasks, self.tasks[1:], strict=False)}
        self.parents = {task: tuple(names) for task, names in (chain if parents is None else parents).items() if names}
        self.reads, self.detach = reads, detach
        self.order = _in_order(self.tasks, self.parents)
        self.trunk = nn.ModuleList(encoder.stages)
        self.width = tower_widths[-1] if tower_widths else encoder.width
        extra = {task: self.width * len(self._read_by(task)) for task in self.tasks}
        widths = tower_widths or (encoder.width,)
        self.towers = ByName({task: dense_layers(encoder.width + extra[task], widths) for task in self.tasks})
        self.readers = ByName({})

    def _read_by(self, task: str) -> tuple[str, ...]:
        """The parents whose representation the task's tower reads."""
        return self.parents.get(task, ()) if self.reads == "representation" else ()

    def _leading_to(self, task: str) -> tuple[str, ...]:
        """The task and all that lead to it, in order."""
        found, todo = {task}, [task]
        while todo:
            more = [p for p in self.parents.get(todo.pop(), ()) if p not in found]
            found.update(more)
            todo += more
        return tuple(name for name in self.order if name in found)

    def shared(self, inputs: Inputs, tasks: Sequence[str], source: str | None = None) -> Features:
        """The trunk once, then the towers along the graph as far as any asked task needs."""
        trunk = run_stages(self.trunk, inputs, source)
        by_representation = self.reads == "representation"
        needed = {name for task in tasks for name in (self._leading_to(task) if by_representation else (task,))}
        known: dict[str, Tensor] = {}
        for task in self.order:
            if task in needed:
                read = [known[p].detach() if self.detach else known[p] for p in self._read_by(task)]
                known[task] = self.towers[task](torch.cat([trunk, *read], 1) if read else trunk)
        return {task: known[task] for task in tasks}

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """The trunk, the task's tower, and the towers that lead to it unless they are detached."""
        through = self.reads == "representation" and not self.detach
        parts = [self.trunk, *(self.towers[name] for name in (self._leading_to(task) if through else (task,)))]
        return [parameter for part in parts for parameter in part.parameters()]

    def make_heads(self, n_outputs: Mapping[str, int], hidden: Hidden = ()) -> Heads:
        """Plain heads; the networks that read outputs are made here, as they need the outputs' widths."""
        if self.reads == "output":
            readers = {t: (sum(n_outputs[p] for p in ps), n_outputs[t]) for t, ps in self.parents.items()}
            self.readers = ByName({task: _Reader(before, after) for task, (before, after) in readers.items()})
        return super().make_heads(n_outputs, hidden)

    def combined_from(self, task: str) -> tuple[str, ...]:
        """The tasks whose outputs lead to this one's."""
        return self._leading_to(task) if self.reads == "output" else (task,)

    def reached_through(self, task: str) -> tuple[str, ...]:
        """The same, or the task alone if parents are left as they are."""
        return (task,) if self.detach else self.combined_from(task)

    def combined_with(self, task: str) -> list[nn.Parameter]:
        """The networks that read outputs on the way to this task."""
        names = [name for name in self.reached_through(task) if name in self.readers]
        return [parameter for name in names for parameter in self.readers[name].parameters()]

    def combine(self, outputs: Mapping[str, Float[Tensor, "B O"]]) -> dict[str, Float[Tensor, "B O"]]:
        """Add what each task reads off its parents' outputs."""
        combined = dict(outputs)
        for task in self.order:
            if task in self.readers and task in combined:
                read = torch.cat([combined[parent] for parent in self.parents[task]], 1)
                combined[task] = outputs[task] + self.readers[task](read.detach() if self.detach else read)
        return combined


class _Reader(nn.Sequential):
    """Parents' outputs to what is added to a task's; nothing at the start."""

    def __init__(self, before: int, after: int, width: int = 16):
        last = nn.Linear(width, after)
        super().__init__(nn.Linear(before, width), nn.ReLU(), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)


def _in_order(tasks: Sequence[str], parents: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    for task, names in parents.items():
        unknown = [name for name in (task, *names) if name not in tasks]
        if unknown:
            raise RecipeError(f"The task graph names {unknown[0]!r}, which is no task of this run: {list(tasks)}.")
    graph = {task: list(parents.get(task, ())) for task in tasks}
    try:
        return tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise RecipeError(f"The task graph must have no cycle, got {' <- '.join(error.args[1])}.") from error
