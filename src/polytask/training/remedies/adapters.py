"""Adapters of each task's own over a trunk that stays as the first stage left it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from polytask.errors import RecipeError
from polytask.training.remedy import Remedy, Scene

__all__ = ["Adapters"]


@dataclass
class Adapters(Remedy):
    r"""Freezes what the tasks share after the first stage; later tasks learn their own adapters and heads.

    Nothing is forgotten, bit for bit, because no later stage changes a parameter that an earlier task reaches. The
    sharing needs parameters of each task's own below the heads: ``residual_adapters`` or ``lora``, for instance.

    With the strength :math:`\lambda`, a parameter that an earlier task reaches has, in later stages, the learning
    rate

    .. math:: \eta' = (1 - \lambda)\, \eta .

    Args:
        strength: In [0, 1]: the learning rate of shared parameters in later stages is lowered by this share; 1 freezes
            them.

    Raises:
        RecipeError: If the strength is above 1, or the sharing gives a later task nothing to learn but its head.

    Example:
        >>> Adapters().strength
        1.0

    Note:
        The trunk is what the first stage made of it, so that the first task, or tasks, should be the richest ones.
        The frozen trunk runs as in prediction. No pass more a step, and no rows or copies are kept; parameters grow
        with each task by its adapters and head.

    References:
        Rebuffi et al., "Learning Multiple Visual Domains with Residual Adapters", NeurIPS 2017; Houlsby et al.,
        "Parameter-Efficient Transfer Learning for NLP", ICML 2019.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strength > 1:
            raise RecipeError(f"{self.who} needs a strength in [0, 1], got {self.strength!r}.")

    def slows(self, scene: Scene) -> dict[nn.Parameter, float]:
        """Less, or nothing, for what earlier tasks reach."""
        if not scene.learned:
            return {}
        earlier = {id(p) for task in scene.learned for p in scene.model.reached_by(task)}
        own = [p for task in scene.stage.tasks for p in scene.model.sharing.reached_by(task) if id(p) not in earlier]
        if not own:
            raise RecipeError(
                f"{self.who} needs a sharing in which tasks have parameters of their own below the heads, such as "
                f"residual_adapters or lora; in {type(scene.model.sharing).__name__} every one is shared."
            )
        return {p: 1.0 - self.strength for p in scene.model.parameters() if id(p) in earlier}
