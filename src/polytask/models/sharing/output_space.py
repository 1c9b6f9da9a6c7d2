"""Output-space sharing: tasks meet in the output layer, through embeddings of their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

from polytask.errors import RecipeError
from polytask.models.encoders.encoder import Encoder
from polytask.models.heads import Heads, Hidden, hidden_of
from polytask.models.sharing._towers import dense_layers, make_towers
from polytask.models.sharing.sharing import Features, Sharing, split_stages
from polytask.models.stages import ByName, run_stages
from polytask.shapes import Float, Inputs, Tensor

__all__ = ["OutputSpace"]


class OutputSpace(Sharing):
    r"""Each task maps its rows into one space of labels, in which a label has one place for all tasks.

    With task's projection :math:`V_t`, the label's embedding :math:`e_k` and the task's bias,

    .. math:: z_{t,k} = e_k^\top V_t h_t(x) + b_{t,k} .

    Args:
        encoder: The encoder; each task has copies of its stages above the split.
        tasks: Names of the tasks.
        label_width: Width of the space of labels.
        labels: Names of each task's outputs in order, so that equal names share an embedding. By default tasks with
            equally many outputs have the same labels in the same order.
        ratio: Share of the encoder's stages in the trunk, in [0, 1].

    Shape:
        inputs of the encoder -> per task ``[B, label_width]``

    Raises:
        RecipeError: If ``labels`` names another number of labels than the task has outputs.

    Example:
        >>> from polytask.models.encoders import registry
        >>> from polytask.models.inputs import InputShape
        >>> encoder = registry.create("mlp", {"main": InputShape.of(torch.zeros(1, 4))}, widths=(8,))
        >>> sharing = OutputSpace(encoder, ["a", "b"], label_width=5, labels={"a": ["x", "y"], "b": ["y", "z"]})
        >>> heads = sharing.make_heads({"a": 2, "b": 2})
        >>> [tuple(block.shape) for block in heads.blocks]
        [(1, 5), (1, 5), (1, 5)]

    Note:
        For tasks that answer the same question about different data: one sentiment scale for many products, one set of
        diagnoses in many hospitals. The default is wrong for tasks that only happen to have equally many classes.

    References:
        Amit et al., "Uncovering Shared Structures in Multiclass Classification", ICML 2007, section 2;
        Zhang et al., "Multi-Task Label Embedding for Text Classification", EMNLP 2018, section 3.
    """

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[str],
        label_width: int = 64,
        labels: Mapping[str, Sequence[str]] | None = None,
        ratio: float = 1.0,
    ):
        super().__init__(encoder, tasks)
        unknown = set(labels or {}) - set(self.tasks)
        if unknown:
            raise RecipeError(f"Output-space sharing got labels of {sorted(unknown)}, which are no tasks of this run.")
        self.labels = {task: tuple(names) for task, names in (labels or {}).items()}
        self.trunk, above = split_stages("Output-space sharing", encoder, ratio)
        self.towers = make_towers(self.tasks, above)
        self.projections = ByName({task: nn.Linear(encoder.width, label_width) for task in self.tasks})
        self.width = label_width

    def shared(self, inputs: Inputs, tasks: Sequence[str], source: str | None = None) -> Features:
        """The trunk's output, or the inputs themselves when there is no trunk."""
        features: Features = run_stages(self.trunk, inputs, source)
        return features

    def private(self, features: Features, tasks: Sequence[str], source: str | None = None) -> dict[str, Tensor]:
        """Each task's place in the space of labels."""
        above = {task: run_stages(self.towers[task].children(), features, source) for task in tasks}
        return {task: self.projections[task](h) for task, h in above.items()}

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """The trunk, and the task's own tower and projection."""
        parts = (self.trunk, self.towers[task], self.projections[task])
        return [parameter for part in parts for parameter in part.parameters()]

    def make_heads(self, n_outputs: Mapping[str, int], hidden: Hidden = ()) -> Heads:
        """Heads whose last layer is the labels' embeddings."""
        labels = {task: self.labels.get(task, tuple(f"{n}:{k}" for k in range(n))) for task, n in n_outputs.items()}
        for task, n in n_outputs.items():
            if len(labels[task]) != n:
                raise RecipeError(f"Task {task!r} has {n} outputs, but {len(labels[task])} labels were named for it.")
        return _LabelHeads(self.width, labels, hidden)


class _LabelHeads(Heads):
    """Heads that meet in the embeddings of the labels.

    Labels that are used by the same tasks lie in one block, so that a parameter is shared by exactly the tasks
    that use it.
    """

    def __init__(self, width: int, labels: Mapping[str, tuple[str, ...]], hidden: Hidden):
        super().__init__(width, {})
        users = {
            name: tuple(task for task in labels if name in labels[task]) for own in labels.values() for name in own
        }
        blocks: dict[tuple[str, ...], list[str]] = {}
        for name, by in users.items():
            blocks.setdefault(by, []).append(name)
        widths = {task: tuple(hidden_of(hidden, task)) for task in labels}
        ends = {own[-1] if own else width for own in widths.values()}
        if len(ends) > 1:
            raise RecipeError(f"Heads that meet in the labels' embeddings must end equally wide, got hidden {widths}.")
        last = ends.pop()
        self.hidden = ByName({task: dense_layers(width, own) for task, own in widths.items()})
        self.blocks = nn.ParameterList(nn.Parameter(torch.empty(len(names), last)) for names in blocks.values())
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(len(own))) for own in labels.values())
        self._bias_of = {task: i for i, task in enumerate(labels)}
        self._blocks_of = {task: [i for i, by in enumerate(blocks) if task in by] for task in labels}
        for task, own in labels.items():
            order = [name for i in self._blocks_of[task] for name in list(blocks.values())[i]]
            places = torch.tensor([order.index(name) for name in own])
            self.register_buffer(f"_places_{self._bias_of[task]}", places, persistent=False)
        for block in self.blocks:
            nn.init.uniform_(block, -(last**-0.5), last**-0.5)

    def forward(self, representations: Mapping[str, Float[Tensor, "B D"]]) -> dict[str, Float[Tensor, "B O"]]:
        """Inner products with the labels' embeddings."""
        return {task: self._one(task, rep) for task, rep in representations.items()}

    def _one(self, task: str, representation: Float[Tensor, "B D"]) -> Float[Tensor, "B O"]:
        index = self._bias_of[task]
        embeddings = torch.cat([self.blocks[i] for i in self._blocks_of[task]])
        places = self.get_buffer(f"_places_{index}")
        return functional.linear(self.hidden[task](representation), embeddings[places], self.biases[index])

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """The hidden layers, the bias, and the embeddings of the task's labels."""
        labels = [self.blocks[i] for i in self._blocks_of[task]]
        return [*self.hidden[task].parameters(), self.biases[self._bias_of[task]], *labels]

    def start_at(self, biases: Mapping[str, Float[Tensor, " O"]]) -> None:
        """Set the tasks' own biases."""
        with torch.no_grad():
            for task, bias in biases.items():
                self.biases[self._bias_of[task]].copy_(bias)
