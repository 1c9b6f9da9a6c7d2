"""One step of the engine: which tasks are present, what they own, and how they reach the shared parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from polytask.balancing.balancer import Balancer
from polytask.balancing.graph import Reach, reach
from polytask.balancing.peers import Peers
from polytask.errors import NonFiniteError, RecipeError
from polytask.shapes import Float, Tensor
from polytask.wording import counted

__all__ = ["Heads", "Losses", "Step", "add_gradients", "check_finite", "given_heads", "open_step", "survey"]

Losses = Sequence["Tensor | None"] | Mapping[str, "Tensor | None"]
Heads = Mapping[str, "nn.Module | Iterable[Tensor]"] | Sequence["nn.Module | Iterable[Tensor]"]


@dataclass
class Step:
    """The present tasks of one step and what belongs to them; the lists run over the present tasks.

    Args:
        tasks: Names of all tasks.
        index: Positions of the present tasks.
        losses: Their losses, with graph.
        values: Their values, float64.
        shared: The shared parameters that are not frozen.
        features: The distinct feature tensors.
        heads: Each task's own parameters.
        used: Positions of the features through which each task reaches the shared parameters; empty for a task whose
            gradient is taken from its loss.
        own_graphs: Whether no two tasks share an inner node.
        heads_meet: Whether two tasks share a node above the features.
        unit: Factor that a gradient scaler wants on each loss.
        scale: Factor on everything that is added to ``.grad``.
        shares: In data parallel, the part that this process's batch has in each task's loss; else empty.
        peers: The processes among which the batch is split.
        given_features: The features as the caller gave them.
        given_heads: The heads as the caller gave them.
        notes: Remarks for the report.
        is_first: Whether the caller's arguments are seen for the first time.
    """

    tasks: tuple[str, ...]
    index: list[int]
    losses: list[Tensor]
    values: Float[Tensor, " T"]
    shared: list[Tensor]
    features: list[Tensor] = field(default_factory=list)
    heads: list[list[Tensor]] = field(default_factory=list)
    used: list[list[int]] = field(default_factory=list)
    own_graphs: bool = False
    heads_meet: bool = False
    unit: float = 1.0
    scale: float = 1.0
    shares: list[float] = field(default_factory=list)
    peers: Peers | None = None
    given_features: Tensor | Mapping[str, Tensor] | None = None
    given_heads: Heads | None = None
    notes: list[str] = field(default_factory=list)
    is_first: bool = False

    def unit_of(self, i: int) -> float:
        """Factor on the ``i``-th present loss."""
        return self.unit * self.shares[i] if self.shares else self.unit

    @property
    def names(self) -> list[str]:
        """Names of the present tasks."""
        return [self.tasks[i] for i in self.index]

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the tasks without an observed label in this batch."""
        present = set(self.index)
        return tuple(name for i, name in enumerate(self.tasks) if i not in present)

    def spread(self, values: Float[Tensor, " T"], fill: float = 0.0) -> Float[Tensor, " N"]:
        """Values of the present tasks, put at their places among all tasks."""
        if len(self.index) == len(self.tasks):
            return values.detach().to("cpu", torch.float64, copy=True)
        out = torch.full((len(self.tasks),), fill, dtype=torch.float64)
        out[self.index] = values.detach().to("cpu", torch.float64)
        return out


def open_step(losses: Losses, balancer: Balancer, shared: nn.Module | Iterable[Tensor]) -> Step:
    """Name the tasks, bind the balancer at the first step, and set the absent ones aside.

    Raises:
        RecipeError: If the tasks are not those that the balancer is bound to, an argument is of another kind, a loss is
            not one number, or one that is not zero carries no graph.
    """
    if isinstance(losses, Tensor) and losses.dim() == 0:
        raise RecipeError("balanced_backward takes one loss a task, in a list or by name; got one tensor, their sum?")
    if isinstance(shared, Tensor):
        raise RecipeError("shared takes the module of the shared part or a list of its parameters; got one tensor.")
    given = _named(losses, balancer)
    for name, loss in given.items():
        if loss is not None and not isinstance(loss, Tensor):
            raise RecipeError(f"Task {name!r}: the loss must be a tensor (None without a label), got {loss!r}.")
        if loss is not None and not loss.requires_grad and loss.detach().any():
            raise RecipeError(
                f"Task {name!r}: the loss is not zero and carries no graph, so nothing would learn from it: it was "
                "detached, found under no_grad, or all of its parameters are frozen. Give None to leave a task out."
            )
    position = {name: i for i, name in enumerate(balancer.tasks)}
    present = [(position[name], loss) for name, loss in given.items() if loss is not None and loss.requires_grad]
    present.sort(key=lambda pair: pair[0])
    for i, loss in present:
        if loss.numel() != 1:
            raise RecipeError(
                f"Task {balancer.tasks[i]!r}: the loss must be one number, got shape {tuple(loss.shape)}."
            )
    parameters = shared.parameters() if isinstance(shared, nn.Module) else shared
    trainable = [p for p in parameters if p.requires_grad]
    tensors = [loss for _, loss in present]
    values = torch.empty(0, dtype=torch.float64)
    if tensors:
        values = torch.stack([loss.detach().reshape(()) for loss in tensors]).to("cpu", torch.float64)
    step = Step(balancer.tasks, [i for i, _ in present], tensors, values, list(dict.fromkeys(trainable)))
    if constant := [name for name, loss in given.items() if loss is not None and not loss.requires_grad]:
        step.notes.append(f"{', '.join(constant)}: the loss carries no graph, so the task counts as absent")
    return step


def check_finite(step: Step) -> None:
    """In data parallel the values are those of the joined batch, so that all processes refuse it together.

    Raises:
        NonFiniteError: If a loss is NaN or infinite.
    """
    values = zip(step.names, step.values.tolist(), strict=True)
    bad = {name: value for name, value in values if value - value != 0}
    if bad:
        named = ", ".join(f"{name!r} ({value})" for name, value in bad.items())
        raise NonFiniteError(f"The loss of task {named} is not finite, so no gradient was taken.", tuple(bad))


def _named(losses: Losses, balancer: Balancer) -> dict[str, Tensor | None]:
    if not balancer.tasks and len(losses) == 0:
        raise RecipeError("balanced_backward needs the loss of one task or more, got none.")
    if isinstance(losses, Mapping):
        if not balancer.tasks:
            balancer.bind(tuple(losses))
        unknown = [name for name in losses if name not in balancer.tasks]
        if unknown:
            raise RecipeError(
                f"The balancer knows the tasks {', '.join(balancer.tasks)}; got a loss for {unknown[0]!r}."
            )
        return dict(losses)
    items = list(losses)
    if not balancer.tasks:
        balancer.bind([str(i) for i in range(len(items))])
    if len(items) != len(balancer.tasks):
        raise RecipeError(
            f"The balancer is bound to {counted(len(balancer.tasks), 'task')}, got "
            f"{counted(len(items), 'loss', 'losses')}: give one for each, and None for a task without a label here."
        )
    return dict(zip(balancer.tasks, items, strict=True))


def survey(step: Step) -> None:
    """Find each task's own parameters and its way to the shared ones.

    Raises:
        RecipeError: If the features carry no graph, none of the shared parameters is below them (without features:
            below a loss), or ``heads`` does not name every task.
    """
    step.features = _distinct(step.given_features, step)
    if step.is_first:
        _check_below(step)
    reaches = [reach([loss], step.features) for loss in step.losses]
    shared = {id(p) for p in step.shared}
    if step.is_first and not step.features:
        _check_reached(step, reaches)
    around = [any(id(leaf) in shared for leaf in one.leaves) for one in reaches] if step.features else []
    step.used = [one.stops if not goes else [] for one, goes in zip(reaches, around, strict=True)] if around else []
    for i, loss in enumerate(step.losses):
        if loss.grad_fn is None and step.features:  # labelled in other processes only: a zero cotangent here
            step.used[i] = list(range(len(step.features)))
    if not step.features:
        step.used = [[] for _ in step.losses]
    elif any(around):
        names = ", ".join(name for name, goes in zip(step.names, around, strict=True) if goes)
        step.notes.append(f"{names}: reaches shared parameters around the features; gradient taken from the loss")
    if step.given_heads is None:
        step.heads = [[leaf for leaf in one.leaves if id(leaf) not in shared] for one in reaches]
    else:
        step.heads = given_heads(step)
    step.heads_meet = _meet(one.nodes for one in reaches)
    step.own_graphs = not step.heads_meet and not _trunks_meet(step, reaches)


def _distinct(features: Tensor | Mapping[str, Tensor] | None, step: Step) -> list[Tensor]:
    if features is None:
        return []
    if isinstance(features, Mapping):
        tensors = [features[name] for name in step.names if name in features]
    else:
        tensors = [features]
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise RecipeError(f"features takes one tensor, or a mapping from tasks to tensors; got {type(tensor)}.")
        if tensor.grad_fn is None:
            raise RecipeError("The features carry no graph: give them as the shared part returned them, not detached.")
    return list({id(tensor): tensor for tensor in tensors}.values())


def _check_below(step: Step) -> None:
    """Parameters of another model would otherwise be trained by nothing, without a word."""
    shared = {id(p) for p in step.shared}
    below = reach(step.features).leaves
    if shared and below and not any(id(leaf) in shared for leaf in below):
        raise RecipeError(
            f"None of the shared parameters is below the features, but {len(below)} others are: "
            "shared= takes the parameters of what returned the features."
        )


def _check_reached(step: Step, reaches: Sequence[Reach]) -> None:
    """Gradients of parameters that no loss reaches are zero, and a balancer would weigh nothing without a word.

    Asked of a step with all tasks only: one that is absent may be the one that reaches them.
    """
    shared = {id(p) for p in step.shared}
    leaves = [id(leaf) for one in reaches for leaf in one.leaves]
    if shared and leaves and not step.absent and shared.isdisjoint(leaves):
        raise RecipeError(
            f"No loss reaches any of the {counted(len(shared), 'shared parameter')}: shared= takes the part of the "
            "network, or the parameters, that the tasks have in common."
        )


def given_heads(step: Step) -> list[list[Tensor]]:
    """The present tasks' own parameters as the caller gave them, those left out that are shared or frozen.

    Raises:
        RecipeError: If there is nothing for a present task.
    """
    heads, shared = step.given_heads, {id(p) for p in step.shared}
    if heads is None:
        return []
    if isinstance(heads, (Mapping, nn.ModuleDict)):
        missing = [name for name in step.names if name not in heads]
        if missing:
            raise RecipeError(f"heads names no parameters for task {missing[0]!r}.")
        chosen = [heads[name] for name in step.names]
    else:
        chosen = [list(heads)[i] for i in step.index]
    lists = [list(own.parameters()) if isinstance(own, nn.Module) else list(own) for own in chosen]
    return [[p for p in own if p.requires_grad and id(p) not in shared] for own in lists]


def _meet(node_sets: Iterable[set[torch.autograd.graph.Node]]) -> bool:
    seen: set[torch.autograd.graph.Node] = set()
    for nodes in node_sets:
        if not seen.isdisjoint(nodes):
            return True
        seen |= nodes
    return False


def _trunks_meet(step: Step, reaches: Sequence[Reach]) -> bool:
    """Whether two tasks share a node below the features; the first pair that meets ends the walk."""
    if not step.features:
        return False
    stops = [one.stops for one in reaches]
    if sum(len(own) for own in stops) > len({i for own in stops for i in own}):
        return True
    return _meet(reach([step.features[i] for i in own]).nodes for own in stops)


def add_gradients(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None], factor: float = 1.0) -> None:
    """Add ``factor`` times the gradients to ``.grad``; a parameter without one in this step is left alone."""
    pairs = [(p, g.detach()) for p, g in zip(parameters, gradients, strict=True) if g is not None]
    old = [(p.grad, g.to_dense() if g.is_sparse else g) for p, g in pairs if p.grad is not None]
    if old:
        torch._foreach_add_([grad for grad, _ in old], [g for _, g in old], alpha=factor)
    taken: set[int] = set()
    for parameter, gradient in pairs:
        if parameter.grad is not None:
            continue
        # Autograd may hand out one tensor twice, or an expanded one: neither can be somebody's .grad.
        fresh = gradient if factor == 1.0 else gradient * factor
        if not fresh.is_sparse:
            fresh = fresh.contiguous()
            fresh = fresh.clone() if fresh.data_ptr() in taken else fresh
            taken.add(fresh.data_ptr())
        parameter.grad = fresh
