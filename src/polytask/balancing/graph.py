"""What one walk over the autograd graph tells: each task's own parameters, and where graphs meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.autograd.graph import Node

__all__ = ["Reach", "reach"]

Edge = tuple[Node, int]


@dataclass
class Reach:
    """What is reached from one tensor, without going beyond the tensors at which the walk stops.

    Args:
        leaves: Every leaf that would receive a gradient, once each, in the order of the walk.
        stops: Positions of the tensors at which the walk stopped.
        nodes: The inner nodes of the graph that were visited.
        consumers: For each visited edge that ends in a leaf, the nodes that consume the leaf, with repetitions.
    """

    leaves: list[Tensor] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)
    nodes: set[Node] = field(default_factory=set)
    consumers: dict[int, list[Node]] = field(default_factory=dict)


def reach(roots: Sequence[Tensor], stops: Sequence[Tensor] = ()) -> Reach:
    """Walk the graph from ``roots`` down to its leaves or to ``stops``, visiting each node once.

    Example:
        >>> import torch
        >>> w, v = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        >>> z = w * 2
        >>> found = reach([(z * v).sum()], stops=[z])
        >>> found.stops, [leaf is v for leaf in found.leaves]
        ([0], [True])
    """
    found = Reach()
    ends: dict[Edge, int] = {(s.grad_fn, s.output_nr): i for i, s in enumerate(stops) if s.grad_fn is not None}
    hit: set[int] = set()
    stack: list[Node] = []
    for root in roots:
        if root.grad_fn is None:
            continue
        position = ends.get((root.grad_fn, root.output_nr))
        if position is not None:
            hit.add(position)
        elif root.grad_fn not in found.nodes:
            found.nodes.add(root.grad_fn)
            stack.append(root.grad_fn)
    leaf_nodes: set[Any] = set()
    while stack:
        consumer = stack.pop()
        for edge in consumer.next_functions:
            node = edge[0]
            if node is None:
                continue
            if edge in ends:
                hit.add(ends[edge])
            elif hasattr(node, "variable"):
                leaf: Tensor = node.variable
                found.consumers.setdefault(id(leaf), []).append(consumer)
                if node not in leaf_nodes:
                    leaf_nodes.add(node)
                    found.leaves.append(leaf)
            elif node not in found.nodes:
                found.nodes.add(node)
                stack.append(node)
    found.stops = sorted(hit)
    return found
