"""Entire-space multi-task model: the probability of a chain of events as a product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from polytask.errors import RecipeError
from polytask.models.encoders.encoder import Encoder
from polytask.models.heads import Heads, Hidden
from polytask.models.sharing._towers import dense_layers
from polytask.models.sharing.sharing import Features, Sharing, split_stages
from polytask.models.stages import ByName, run_stages
from polytask.shapes import Float, Inputs, Tensor

__all__ = ["ESMM"]


class ESMM(Sharing):
    r"""A chain of events, each possible only after the one before: seen, clicked, bought.

    The head of each event gives the log-odds of its probability given the event before, and the task's output is
    the probability of the whole chain up to it,

    .. math:: P(y_i = 1 \mid x) = \prod_{j \le i} \sigma(z_j(x)) ,

    as log-odds. So the label of every task is defined for every row (bought or not, among all that were shown), the
    probabilities never grow along the chain, and :math:`\sigma(z_i)` estimates the rate among the clicked without
    being trained on the clicked alone, which are no fair sample.

    Args:
        encoder: The encoder; all its stages are the shared trunk.
        tasks: Names of the tasks.
        chain: The events in order, binary tasks; the first two tasks if not given. Other tasks stand alone.
        tower_widths: Widths of the dense layers of each task's tower.
        ratio: Must be 1, as sharing the embedding is the point; here for recipes that give a ratio to any sharing.

    Shape:
        inputs of the encoder -> per task ``[B, D]``

    Raises:
        RecipeError: If the chain names something that is no task, a task in it has not exactly one output, or the ratio
            leaves a stage out of the trunk.

    Example:
        >>> from polytask.models.building import build_model
        >>> from polytask.models.spec import ModelSpec
        >>> from polytask.models.inputs import InputShape
        >>> spec = ModelSpec({"shown": InputShape.of(torch.zeros(1, 4))}, {"click": 1, "buy": 1}, sharing="esmm")
        >>> out = build_model(spec)(torch.randn(5, 4))
        >>> bool((out["buy"].sigmoid() <= out["click"].sigmoid()).all())
        True

    Note:
        The loss of a later event trains the heads and towers of the earlier ones too. Where events do not follow each
        other this is wrong: use hard sharing. :meth:`conditional` gives the rate after the event before.

    References:
        Ma et al., "Entire Space Multi-Task Model: An Effective Approach for Estimating Post-Click Conversion Rate",
        SIGIR 2018, equations 2 to 4.
    """

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[str],
        chain: Sequence[str] | None = None,
        tower_widths: Sequence[int] = (64,),
        ratio: float = 1.0,
    ):
        super().__init__(encoder, tasks)
        self.chain = tuple(self.tasks[:2] if chain is None else chain)
        unknown = [name for name in self.chain if name not in self.tasks]
        if unknown or len(set(self.chain)) != len(self.chain):
            raise RecipeError(f"ESMM needs a chain of different tasks of this run, got {list(self.chain)}.")
        self.trunk, above = split_stages("ESMM", encoder, ratio)
        if above:
            raise RecipeError(f"ESMM shares all stages of the encoder: ratio must be 1, got {ratio}.")
        self.towers = ByName({task: dense_layers(encoder.width, tower_widths) for task in self.tasks})
        self.width = tower_widths[-1] if tower_widths else encoder.width

    def shared(self, inputs: Inputs, tasks: Sequence[str], source: str | None = None) -> Features:
        """The trunk."""
        features: Features = run_stages(self.trunk, inputs, source)
        return features

    def private(self, features: Features, tasks: Sequence[str], source: str | None = None) -> dict[str, Tensor]:
        """Each task's tower."""
        return {task: self.towers[task](features) for task in tasks}

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """The trunk and the task's own tower; the earlier towers come in with the outputs."""
        return [*self.trunk.parameters(), *self.towers[task].parameters()]

    def make_heads(self, n_outputs: Mapping[str, int], hidden: Hidden = ()) -> Heads:
        """Plain heads, once it is sure that each event has one log-odds."""
        wide = {task: n_outputs[task] for task in self.chain if n_outputs[task] != 1}
        if wide and len(self.chain) > 1:
            raise RecipeError(f"ESMM needs binary tasks with one output each in its chain, got outputs {wide}.")
        return super().make_heads(n_outputs, hidden)

    def check_kinds(self, kinds: Mapping[str, str]) -> None:
        """Only binary tasks have a probability to multiply."""
        wrong = {task: kinds[task] for task in self.chain if kinds.get(task, "binary") != "binary"}
        if wrong and len(self.chain) > 1:
            raise RecipeError(
                f"ESMM multiplies probabilities of binary tasks, got {wrong}. Name the events as its chain."
            )

    def combined_from(self, task: str) -> tuple[str, ...]:
        """The task and the events before it."""
        return self.chain[: self.chain.index(task) + 1] if task in self.chain else (task,)

    def combine(self, outputs: Mapping[str, Float[Tensor, "B O"]]) -> dict[str, Float[Tensor, "B O"]]:
        """Conditional log-odds to those of the chain of events."""
        combined = dict(outputs)
        before: Tensor | None = None
        for task in self.chain:
            if task not in outputs:
                break
            if before is not None:
                combined[task] = log_odds_of_both(before, outputs[task])
            before = combined[task]
        return combined

    def head_biases(self, biases: Mapping[str, Float[Tensor, " O"]]) -> dict[str, Float[Tensor, " O"]]:
        """The log-odds of each event after the one before."""
        inner = dict(biases)
        for earlier, task in zip(self.chain, self.chain[1:], strict=False):
            if earlier in biases and task in biases:
                inner[task] = _log_odds_of_rest(biases[earlier], biases[task])
        return inner

    def conditional(self, outputs: Mapping[str, Float[Tensor, "B 1"]], task: str) -> Float[Tensor, "B 1"]:
        """The probability of the event after the one before, from the tasks' outputs."""
        place = self.chain.index(task)
        own = outputs[task].sigmoid()
        return own if place == 0 else own / outputs[self.chain[place - 1]].sigmoid()


def log_odds_of_both(a: Tensor, b: Tensor) -> Tensor:
    r"""Log-odds of :math:`\sigma(a) \sigma(b)`: as :math:`1/p - 1 = e^{-a} + e^{-b} + e^{-a-b}`, without overflow.

    Example:
        >>> both = log_odds_of_both(torch.tensor(0.0), torch.tensor(0.0))
        >>> round(both.sigmoid().item(), 6), log_odds_of_both(torch.tensor(500.0), torch.tensor(-500.0)).item()
        (0.25, -500.0)
    """
    return -torch.logsumexp(torch.stack([-a, -b, -a - b]), 0)


def _log_odds_of_rest(first: Tensor, both: Tensor) -> Tensor:
    """The log-odds b with ``log_odds_of_both(first, b) == both``, but at most 4."""
    rest = ((-both).exp() - (-first).exp()) / (1 + (-first).exp())
    return -rest.clamp_min(torch.tensor(-4.0).exp().item()).log()
