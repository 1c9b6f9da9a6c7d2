"""The network of a run: encoder, sharing and heads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TypeAlias

import torch
from torch import nn

from polytask.errors import InputError
from polytask.models.corruption import Corruption
from polytask.models.heads import Heads
from polytask.models.inputs import InputShape
from polytask.models.recompute import recomputed
from polytask.models.sharing.sharing import Features, Sharing
from polytask.models.source_norms import SourceNorm
from polytask.models.views import View, adapter_name, select_view, view_of
from polytask.shapes import Bool, Float, Inputs, Tensor
from polytask.tasks.members import mean_answer, where_there

__all__ = ["MultiTaskModel"]

_Group: TypeAlias = "tuple[list[str], View | None, Corruption | None]"


class MultiTaskModel(nn.Module):
    """Encoder, sharing and heads: inputs of a source to each task's outputs.

    Args:
        sharing: The shared and private parts below the heads.
        heads: The heads.
        views: For tasks that read part of the inputs only, see :class:`~polytask.models.spec.ModelSpec`.
        inputs: Shape of each source's inputs, to check each batch against; not checked if not given.
        corruptions: For tasks that read spoiled copies of the inputs in training: they run apart from the others then,
            and with them in prediction.
        element_tasks: Tasks that answer for each element of a row; the others answer for the largest value of each
            number over the elements, where the encoder represents elements, or for the one that stands for the whole
            image, where they are pixels.

    Shape:
        inputs ``[B, ...]`` -> per task ``[B, O]``; in training, with an encoder that is an ensemble of k members,
        ``[B, k, O]``; for tasks of elements ``[B, L, O]``, zeros where there is no element, or ``[B, H, W, O]``

    Raises:
        InputError: If a batch does not have the shape that the network was built for, or its source is not known.
    """

    def __init__(
        self,
        sharing: Sharing,
        heads: Heads,
        views: Mapping[str, Mapping[str, View]] | None = None,
        inputs: Mapping[str, InputShape] | None = None,
        links: Mapping[str, str] | None = None,
        corruptions: Mapping[str, Corruption] | None = None,
        element_tasks: Sequence[str] = (),
    ):
        super().__init__()
        self.sharing = sharing
        self.heads = heads
        self.tasks = sharing.tasks
        self.views = dict(views or {})
        self.inputs = dict(inputs or {})
        self.corruptions = dict(corruptions or {})
        self.links = dict(links or {})
        self.n_members = sharing.n_members
        self.element_tasks = frozenset(element_tasks)
        self.precision: torch.dtype | None = None
        """Of matrix products and convolutions in training, where it is not that of the parameters."""
        self.pieces = 0
        """In training: in how many pieces of its rows the shared part runs, all computed again on the way back."""
        self._held: list[nn.Module] = []
        self._trainable: list[nn.Parameter] | None = None

    def train_only(self, parameters: Iterable[nn.Parameter] | None) -> None:
        """Train these parameters and no others; ``None`` trains again all that could be trained at the first call.

        Parts none of whose parameters are trained any more run as in prediction, also in training: neither dropout nor
        running statistics change what they give.
        """
        if self._trainable is None:
            self._trainable = [p for p in self.parameters() if p.requires_grad]
        wanted = {id(p) for p in (self._trainable if parameters is None else parameters)}
        for parameter in self.parameters():
            parameter.requires_grad_(id(parameter) in wanted)
        able = {id(p) for p in self._trainable}
        self._held = []
        waiting: list[nn.Module] = [self]
        while waiting:
            module = waiting.pop()
            mine = {id(p) for p in module.parameters()} & able
            if mine and not mine & wanted:
                self._held.append(module)
            else:
                waiting += module.children()
        self.train(self.training)

    def train(self, mode: bool = True) -> MultiTaskModel:
        """Held parts stay as in prediction."""
        super().train(mode)
        for module in self._held:
            module.eval()
        return self

    def forward(
        self, inputs: Inputs, tasks: Sequence[str] | None = None, source: str | None = None
    ) -> dict[str, Float[Tensor, "B O"]]:
        """Outputs of the given tasks (all by default); the shared part runs once."""
        return self.features_and_outputs(inputs, tasks, source)[1]

    def features_and_outputs(
        self, inputs: Inputs, tasks: Sequence[str] | None = None, source: str | None = None
    ) -> tuple[Features, dict[str, Float[Tensor, "B O"]]]:
        """The tensors at which the shared part ends, for the balancer, and the outputs.

        No features at all are given where no tensor separates what is shared from what is private; the balancer then
        takes the gradients from the losses.
        """
        asked = self.tasks if tasks is None else tuple(tasks)
        if source is None and len(self.inputs) == 1:
            source = next(iter(self.inputs))
        if self.inputs and not torch.compiler.is_exporting():
            self._check(inputs, source)
        if self.precision is None or not self.training:
            return self._features_and_outputs(inputs, asked, source)
        with torch.autocast(next(self.parameters()).device.type, self.precision):
            features, outputs = self._features_and_outputs(inputs, asked, source)
        return features, {task: output.float() for task, output in outputs.items()}

    def _features_and_outputs(
        self, inputs: Inputs, asked: Sequence[str], source: str | None
    ) -> tuple[Features, dict[str, Float[Tensor, "B O"]]]:
        needed = tuple(dict.fromkeys(other for task in asked for other in self.sharing.combined_from(task)))
        features, representations = self._run(inputs, needed, source)
        if self.sharing.has_elements or self.sharing.has_pixels:
            answer = self._pixels if self.sharing.has_pixels else self._elements
            return features, answer(representations, self.sharing.present(inputs), asked)
        outputs = self.sharing.combine(self.heads(representations))
        return features, {task: self._answer(task, outputs[task]) for task in asked}

    def _elements(
        self, representations: Mapping[str, Float[Tensor, "BL D"]], there: Bool[Tensor, "B L"], asked: Sequence[str]
    ) -> dict[str, Tensor]:
        """Outputs from representations of elements; an encoder may have left padding out that all rows have."""
        n_rows, n_elements = there.shape
        read = {}
        for task, elements in representations.items():
            if task not in self.element_tasks:
                by_row = elements.unflatten(0, (n_rows, -1))
                seen = there[:, : by_row.shape[1], None]
                # A row without any element is all zeros, not all infinities.
                elements = by_row.masked_fill(~seen, -torch.inf).amax(1).masked_fill(~seen.any(1), 0.0)
            read[task] = elements
        outputs = self.sharing.combine(self.heads(read))
        for task in self.element_tasks.intersection(asked):
            by_row = outputs[task].unflatten(0, (n_rows, -1))
            whole = nn.functional.pad(by_row, (0, 0, 0, n_elements - by_row.shape[1]))
            outputs[task] = where_there(whole, there, self.links.get(task, "identity"))
        return {task: outputs[task] for task in asked}

    def _pixels(
        self, representations: Mapping[str, Float[Tensor, "BL D"]], there: Bool[Tensor, "B H W"], asked: Sequence[str]
    ) -> dict[str, Tensor]:
        """Outputs from representations of pixels, the last of each row being that of the whole image."""
        n_rows, *extents = there.shape
        # Tasks with one representation go on having one, so that their heads may run as one layer.
        whole = {id(pixels): pixels.unflatten(0, (n_rows, -1))[:, -1] for pixels in representations.values()}
        read = {t: x if t in self.element_tasks else whole[id(x)] for t, x in representations.items()}
        outputs = self.sharing.combine(self.heads(read))
        for task in self.element_tasks.intersection(asked):
            outputs[task] = outputs[task].unflatten(0, (n_rows, -1))[:, :-1].unflatten(1, extents)
        return {task: outputs[task] for task in asked}

    def _answer(self, task: str, outputs: Float[Tensor, "Bk O"]) -> Tensor:
        """The members of each row side by side in training, and their mean answer in evaluation."""
        if self.n_members == 1:
            return outputs
        members = outputs.unflatten(0, (-1, self.n_members))
        return members if self.training else mean_answer(members, self.links.get(task, "identity"))

    def _run(self, inputs: Inputs, tasks: Sequence[str], source: str | None) -> tuple[Features, dict[str, Tensor]]:
        for norm in self._norms:
            norm.source = source
        if not self.views and not (self.training and self.corruptions):
            features = self._shared(inputs, tasks, source, source)
            return self._cut(features, tasks), self.sharing.private(features, tasks, source)
        by_task: dict[str, Tensor] = {}
        representations: dict[str, Tensor] = {}
        for together, view, corruption in self._groups(tasks, source):
            read = select_view(inputs, view)
            if corruption is not None:
                read = corruption(read)
            features = self._shared(read, together, adapter_name(source, view), source)
            representations |= self.sharing.private(features, together, adapter_name(source, view))
            cut = self._cut(features, together)
            by_task |= dict.fromkeys(together, cut) if isinstance(cut, Tensor) else cut
        return by_task, {task: representations[task] for task in tasks}

    def _shared(self, inputs: Inputs, tasks: Sequence[str], adapter: str | None, source: str | None) -> Features:
        if not (self.pieces and self.training and torch.is_grad_enabled()):
            return self.sharing.shared(inputs, tasks, adapter)

        def run(piece: Inputs) -> Features:
            for norm in self._norms:  # another source may have run in between
                norm.source = source
            return self.sharing.shared(piece, tasks, adapter)

        return recomputed(run, inputs, self.pieces, self.sharing)

    @cached_property
    def _norms(self) -> list[SourceNorm]:
        return [module for module in self.sharing.modules() if isinstance(module, SourceNorm)]

    def _cut(self, features: Features, tasks: Sequence[str]) -> Features:
        """The features that separate shared from private and carry a graph."""
        if self._is_interleaved:
            return {}
        if isinstance(features, Tensor):
            return features if features.requires_grad else {}
        return {task: features[task] for task in tasks if task in features and features[task].requires_grad}

    @cached_property
    def _is_interleaved(self) -> bool:
        chained = any(self.sharing.combined_from(task) != (task,) for task in self.tasks)
        in_sharing = {id(p) for p in self.sharing.shared_parameters()}
        return self.sharing.interleaved or chained or any(id(p) not in in_sharing for p in self._met())

    def _check(self, inputs: Inputs, source: str | None) -> None:
        """Compare a batch's shape with the source's, at the price of a few tuples."""
        if source not in self.inputs:
            known = ", ".join(map(repr, self.inputs))
            raise InputError(f"The network knows the sources {known}; got rows of {source!r}.")
        self.inputs[source].check(inputs, f"The network (source {source!r})")

    def _groups(self, tasks: Sequence[str], source: str | None) -> list[_Group]:
        """Tasks that read the same inputs, so that the shared part runs once for them."""
        groups: list[_Group] = []
        for task in tasks:
            view = view_of(self.views, task, source)
            corruption = self.corruptions.get(task) if self.training else None
            for members, *known in groups:
                if known == [view, corruption]:
                    members.append(task)
                    break
            else:
                groups.append(([task], view, corruption))
        return groups

    def start_at(self, biases: Mapping[str, Float[Tensor, " O"]]) -> None:
        """Set the heads' last biases, so that the first outputs are right on average."""
        self.heads.start_at(self.sharing.head_biases(biases))

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """Parameters that the task's outputs depend on, heads included."""
        reached: dict[nn.Parameter, None] = {}
        for other in self.sharing.reached_through(task):
            reached |= dict.fromkeys([*self.sharing.reached_by(other), *self.heads.reached_by(other)])
        return [*reached, *(p for p in self.sharing.combined_with(task) if p not in reached)]

    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters that more than one task reaches and that are trained.

        With a single task these are all that lie below its head, so that every balancer has something to weigh.
        """
        if len(self.tasks) == 1:
            return [p for p in self.sharing.reached_by(self.tasks[0]) if p.requires_grad]
        return [parameter for parameter in self._met() if parameter.requires_grad]

    def _met(self) -> list[nn.Parameter]:
        count = Counter(id(p) for task in self.tasks for p in self.reached_by(task))
        return [parameter for parameter in self.parameters() if count[id(parameter)] > 1]

    def count_parameters(self) -> dict[str, int]:
        """Numbers of parameters, heads included: ``shared`` by several tasks, and ``private`` to one."""
        shared = sum(parameter.numel() for parameter in self._met())
        return {"shared": shared, "private": sum(p.numel() for p in self.parameters()) - shared}
