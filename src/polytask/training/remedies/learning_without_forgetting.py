"""Learning without forgetting: distillation on the heads of earlier tasks."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from polytask.data.batch import Batch
from polytask.errors import RecipeError
from polytask.models.model import MultiTaskModel
from polytask.shapes import Float, Tensor
from polytask.training.ranks import here
from polytask.training.remedy import Remedy, Scene

__all__ = ["LearningWithoutForgetting", "distillation"]


@dataclass
class LearningWithoutForgetting(Remedy):
    r"""Keeps the answers of earlier tasks on the new stage's rows; no row of an earlier stage is needed.

    The network as it was before the stage answers the new rows too. With its outputs :math:`z'`, the present ones
    :math:`z` and a temperature :math:`T`, each earlier task adds :math:`\lambda` times the mean over rows (over the
    elements that are there, for tasks of elements) of

    .. math:: -\sum_k p'_k \log p_k, \qquad p = \mathrm{softmax}(z / T),\ p' = \mathrm{softmax}(z' / T)

    for classes, the same with two classes for each output that is the logit of one probability, and
    :math:`\tfrac{1}{2} \lVert z - z' \rVert^2` for numbers.

    Args:
        strength: :math:`\lambda`.
        temperature: :math:`T`, above 0.

    Raises:
        RecipeError: If the temperature is not above 0, or the strength is negative.

    Example:
        >>> LearningWithoutForgetting(temperature=1.0).strength
        1.0

    Note:
        As in the paper there is no factor :math:`T^2`. The heads of earlier tasks are trained too. The old network
        answers without dropout. A copy of the network, which a checkpoint holds too, and two forward passes more a
        step. Where sources differ, the rows of one pass through the layers of its own to the heads of tasks of another.
        It weakens where new rows are unlike the old ones.

    References:
        Li and Hoiem, "Learning without Forgetting", ECCV 2016, equations 2 to 4; Hinton, Vinyals and Dean, "Distilling
        the Knowledge in a Neural Network", arXiv:1503.02531, 2015 (the factor).
    """

    reads_rows: ClassVar[bool] = True

    strength: float = 1.0
    temperature: float = 2.0
    teacher: MultiTaskModel | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature > 0:
            raise RecipeError(f"{self.who} needs a temperature above 0, got {self.temperature!r}.")

    def begin(self, scene: Scene) -> None:
        """Keep the network as it is."""
        super().begin(scene)
        self.teacher = None
        if self.strength and scene.learned:
            self.teacher = copy.deepcopy(scene.model).requires_grad_(False).eval()
            # The members of an ensemble answer for themselves, as they do in the network that is trained.
            self.teacher.training, self.teacher.corruptions = True, {}

    def afterwards(self, scene: Scene) -> None:
        """The network itself is all that is needed."""

    def opens(self, scene: Scene) -> list[nn.Parameter]:
        """What earlier tasks reach."""
        return [parameter for task in scene.learned for parameter in scene.model.reached_by(task)]

    def term(self, batches: Sequence[Batch], step: int) -> Tensor | None:
        """How far the answers of earlier tasks went from what they were, on the step's rows."""
        if self.teacher is None:
            return None
        terms, is_asked = [], False
        for batch in batches:
            names = [name for name in self.here.learned if self._reads(name, batch.source)]
            if not names:
                continue
            with torch.no_grad():
                before = self.teacher(batch.inputs, names, batch.source)
            now = self.here.model(batch.inputs, names, batch.source)
            for name in names:
                task, pair, share = self.here.tasks[name], (now[name], before[name]), batch.part
                if task.of_elements:  # padding is no element, and has no answer to keep
                    there = self.here.model.sharing.present(batch.inputs)
                    pair = (now[name][there], before[name][there])
                    share, total = _share(len(pair[0]) if batch.part else 0)
                    if not total:
                        continue
                if share:
                    terms.append(share * distillation(*pair, task.link, self.temperature))
                is_asked = True
        return self.strength * sum(terms, torch.zeros(())) if is_asked else None

    def _reads(self, task: str, source: str) -> bool:
        """Whether the task can be asked about rows of the source: it cannot if it reads columns of another one."""
        views = self.here.model.views.get(task, {})
        return not views or source in views

    def state_dict(self) -> dict[str, Any]:
        """The old network's parameters."""
        return {"teacher": None if self.teacher is None else dict(self.teacher.state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        if self.teacher is not None and state["teacher"] is not None:
            self.teacher.load_state_dict(state["teacher"])


def _share(n_elements: int) -> tuple[float, float]:
    """Which part of the elements of all processes are this one's, and how many they are."""
    total = float(here().sum(torch.tensor(float(n_elements), dtype=torch.float64)))
    return n_elements / max(total, 1.0), total


def distillation(
    now: Float[Tensor, "*N O"], before: Float[Tensor, "*N O"], link: str, temperature: float
) -> Float[Tensor, ""]:
    """Mean over rows (or elements) of the distance of outputs from earlier ones, by what the outputs stand for.

    Example:
        >>> z = torch.tensor([[2.0, 0.0]])
        >>> distillation(z, z, "identity", 2.0).item(), round(distillation(z, 0 * z, "softmax", 2.0).item(), 4)
        (0.0, 0.8133)
    """
    if link == "softmax":
        logs = functional.log_softmax(now / temperature, -1)
        return -(functional.softmax(before / temperature, -1) * logs).sum(-1).mean()
    if link in ("logit", "steps"):
        answers = torch.sigmoid(before / temperature)
        losses = functional.binary_cross_entropy_with_logits(now / temperature, answers, reduction="none")
        return losses.sum(-1).mean()
    return (now - before).square().sum(-1).mean() / 2
