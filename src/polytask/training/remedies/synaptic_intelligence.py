"""Synaptic intelligence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from polytask.data.batch import Batch
from polytask.errors import RecipeError
from polytask.shapes import Tensor
from polytask.training.remedies._fisher import anchors, quadratic, reached
from polytask.training.remedy import Remedy, Scene

__all__ = ["SynapticIntelligence"]


@dataclass
class SynapticIntelligence(Remedy):
    r"""Holds parameters near what earlier stages left, the more their changes lowered those stages' losses.

    Along a stage each parameter earns the path integral of its gradient, and at the end of the stage

    .. math:: \omega_i = -\sum_s g_i(s)\, \Delta\theta_i(s), \qquad
        \Omega_i \leftarrow \Omega_i + \frac{\max(\omega_i, 0)}{(\theta_i^{end} - \theta_i^{start})^2 + \xi}.

    Later stages add :math:`c \sum_i \Omega_i (\theta_i - \theta^{end}_i)^2`.

    Args:
        strength: :math:`c`.
        damping: :math:`\xi`, above 0.

    Raises:
        RecipeError: If the damping is not above 0, or the strength is negative.

    Example:
        >>> SynapticIntelligence(strength=0.5).damping
        0.1

    Note:
        The gradient is that of the stage's own tasks, without penalties; the change is the optimiser's whole one,
        weight decay included. The integral ends at the epoch that is kept. Sums below 0, which noisy gradients
        give, count as 0, so that the penalty has a minimum. Two copies of the parameters a step, no further pass.

    References:
        Zenke, Poole and Ganguli, "Continual Learning Through Synaptic Intelligence", ICML 2017, equations 3 to 5.
    """

    strength: float = 1.0
    damping: float = 0.1
    importance: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    centre: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    path: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _start: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _best: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _step: list[tuple[str, Tensor, Tensor]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.damping > 0:
            raise RecipeError(f"{self.who} needs a damping above 0, got {self.damping!r}.")

    def begin(self, scene: Scene) -> None:
        """Start a path at the present parameters."""
        super().begin(scene)
        if self.strength:
            self._start = anchors(reached(scene))
            self.path = {name: torch.zeros_like(value) for name, value in self._start.items()}
            self._best = {}

    def term(self, batches: Sequence[Batch], step: int) -> Tensor | None:
        """The penalty of all earlier stages."""
        if not self.importance:
            return None
        term = quadratic(dict(self.here.model.named_parameters()), self.importance, self.centre)
        return None if term is None else self.strength * term

    def after_losses(self) -> None:
        """Remember gradients and parameters before the step."""
        self._step = [
            (name, parameter.grad.clone(), parameter.detach().clone())
            for name, parameter in self.here.model.named_parameters()
            if parameter.grad is not None and name in self.path
        ]

    def after_update(self) -> None:
        """Add the step to the path."""
        parameters = dict(self.here.model.named_parameters())
        for name, gradient, before in self._step:
            self.path[name] -= gradient * (parameters[name].detach() - before)
        self._step = []

    def new_best(self) -> None:
        """The path so far leads to the parameters that may be kept."""
        self._best = {name: value.clone() for name, value in self.path.items()}

    def end(self) -> None:
        """Turn the path into importance."""
        if not self.strength:
            return
        parameters = reached(self.here)
        path = self._best or self.path
        for name, parameter in parameters.items():
            moved = parameter.detach() - self._start[name]
            earned = path[name].clamp_min(0) / (moved.square() + self.damping)
            self.importance[name] = earned + self.importance[name] if name in self.importance else earned
        self.centre = {**self.centre, **anchors(parameters)}

    def state_dict(self) -> dict[str, Any]:
        """Importances, anchors and the present path."""
        return {name: dict(getattr(self, name)) for name in ("importance", "centre", "path", "_start", "_best")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        for name, value in state.items():
            setattr(self, name, dict(value))
