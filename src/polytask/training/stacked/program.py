"""The forward pass of all members of a stack as one program, on parameters that lie in one tensor each."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch.func import functional_call, vmap

from polytask.models.dropout import draw_masks, masks_from
from polytask.models.model import MultiTaskModel
from polytask.shapes import Inputs, Tensor
from polytask.training.stacked.member import Member

__all__ = ["Program"]

_Mask = tuple[tuple[int, ...], float]
"""Shape and probability of one dropout mask."""


class Program:
    """The members' networks, whose parameters are views into the stacked ones.

    Args:
        members: At least one; their parameters are moved.
    """

    def __init__(self, members: Sequence[Member]):
        self.members = list(members)
        model = members[0].training.model
        self.template: MultiTaskModel = copy.deepcopy(model).train()
        # One product for all heads: the losses go back together anyway.
        self.template.heads.together = True
        self.judge = copy.deepcopy(self.template).eval()
        self.source = members[0].source_name
        self.leaves = self._stack()
        self._masks: dict[int, list[_Mask]] = {}

    def _stack(self) -> dict[str, Tensor]:
        """One tensor for each parameter, and the members' own parameters views into it."""
        each = [dict(member.training.model.named_parameters()) for member in self.members]
        leaves: dict[str, Tensor] = {}
        for name in each[0]:
            stacked = torch.stack([mine[name].detach() for mine in each])
            for mine, part in zip(each, stacked.unbind(0), strict=True):
                mine[name].data = part
            leaves[name] = stacked.requires_grad_()
        return leaves

    def keep(self, positions: Sequence[int]) -> None:
        """Go on with some of the members; the others take their parameters with them."""
        for i, member in enumerate(self.members):
            if i not in positions:
                for parameter in member.training.model.parameters():
                    parameter.data = parameter.data.clone()
        self.members = [self.members[i] for i in positions]
        if self.members:
            self.leaves = self._stack()

    def outputs(self, at: Sequence[int], fields: Mapping[str, Tensor]) -> list[Tensor]:
        """Each task's outputs ``[M, B, ...]`` of the members at these positions, for as many rows of each.

        Every member's dropout masks come from its own generator, in the order in which its network alone draws them.

        Args:
            at: The positions.
            fields: Inputs, ``[M, B, ...]``.
        """
        members = [self.members[i] for i in at]
        inputs: Inputs = fields.get("", dict(fields))
        known = self._masks_of(next(iter(fields.values())).shape[1], inputs)
        masks = [torch.empty(len(members), *shape, dtype=torch.get_default_dtype()) for shape, _ in known]
        for i, member in enumerate(members if known else ()):
            for mask, (_, p) in zip(masks, known, strict=True):
                draw_masks([mask[i]], p * member.training.fading.strength, [member.generator])
        leaves = self._of(at, self.leaves)
        return self._run(self.template, leaves, inputs, masks)

    @torch.no_grad()
    def answers(self, at: Sequence[int], inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Each task's outputs ``[M, B, O]`` in prediction, of the members at these positions for rows of each."""
        given: Inputs = inputs.get("", dict(inputs))
        leaves = self._of(at, {name: leaf.detach() for name, leaf in self.leaves.items()})
        return self._run(self.judge, leaves, given, ())

    def _of(self, at: Sequence[int], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        """The parameters of the members at these positions; of all of them without a copy."""
        return leaves if len(at) == len(self.members) else {name: leaf[list(at)] for name, leaf in leaves.items()}

    def _run(
        self, network: MultiTaskModel, leaves: Mapping[str, Tensor], inputs: Inputs, masks: Sequence[Tensor]
    ) -> list[Tensor]:
        def one(leaves: dict[str, Tensor], inputs: Inputs, masks: Sequence[Tensor]) -> dict[str, Tensor]:
            given = iter(masks)
            with masks_from(lambda x, p: next(given)):
                out: dict[str, Tensor] = functional_call(
                    network, leaves, (inputs,), {"tasks": None, "source": self.source}
                )
            return out

        found: dict[str, Tensor] = vmap(one)(dict(leaves), inputs, tuple(masks))
        network.sharing.forget_gates()
        return [found[task] for task in network.tasks]

    def _masks_of(self, n_rows: int, inputs: Inputs) -> list[_Mask]:
        """The masks that one network draws for this many rows, in order; found by running it once."""
        if n_rows not in self._masks:
            found: list[_Mask] = []

            def note(x: Tensor, p: float) -> Tensor:
                found.append((tuple(x.shape), p))
                return torch.ones_like(x)

            one = inputs[0] if isinstance(inputs, Tensor) else {name: field[0] for name, field in inputs.items()}
            with torch.no_grad(), masks_from(note):
                self.template(one, None, self.source)
            self._masks[n_rows] = found
        return self._masks[n_rows]
