"""What a step on one task does to the loss of another."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from polytask.affinity.ground import Ground
from polytask.affinity.measure import Measure, Reading
from polytask.affinity.probe import Probe, probes
from polytask.affinity.trace import absent_notes, mean_over
from polytask.errors import RecipeError
from polytask.shapes import Tensor

__all__ = ["Lookahead"]


class Lookahead(Measure):
    r"""How much of task j's loss a step of the shared parameters on task i takes away, over a joint training.

    .. math:: Z_{i \to j}^s = 1 - \frac{L_j(\theta_{s|i})}{L_j(\theta_s)}, \qquad
        \theta_{s|i} = \theta_s - \eta D_s \nabla_{\theta_s} L_i(\theta_s), \qquad
        A_{ij} = \frac{1}{|S|} \sum_{s \in S} Z_{i \to j}^s

    on the same rows; the tasks' own parameters stay as they are.

    Args:
        looks: At most so many moments S, dense at the beginning of the training.
        step: ``optimiser``: :math:`D_s` is the scale that the training's own optimiser has for each parameter (for
            Adam, one over the root of its second moments); ``sgd``: it is one, as in the paper.

    Raises:
        RecipeError: If there is no such step.

    Example:
        >>> from polytask.affinity import measure_affinity
        >>> from polytask.data.generators import related_regressions
        >>> made = related_regressions(2, 300, relatedness=1.0, noise=0.0)
        >>> options = {"seeds": 1, "training": {"epochs": 3}}
        >>> result = measure_affinity(made.frame, list(made.targets), "lookahead", **options)
        >>> result.values[0][1] > 0
        True

    Note:
        Directed. One joint training for all pairs; each look costs a backward pass and a forward pass more for every
        task. The paper looks every 10 steps or so with the step of plain SGD; with an adaptive optimiser that step is
        not the one that the training takes, so that the default differs. The paper's step is taken on the batch of the
        training; here on rows of its own, 512 of each source and more for rare labels. A loss that may be negative
        (of counts) is divided by its absolute value.

    References:
        Fifty, Amid, Zhao, Yu, Anil and Finn, "Efficiently identifying task groupings for multi-task learning",
        NeurIPS 2021, equation 1 and section 3.2.
    """

    words: ClassVar[str] = "share of the loss of j that a step on i takes away"
    directed: ClassVar[bool] = True

    def __init__(self, looks: int = 10, step: str = "optimiser"):
        if step not in ("optimiser", "sgd"):
            raise RecipeError(f"The measure lookahead needs step 'optimiser' or 'sgd', got {step!r}.")
        self.looks, self.step = looks, step

    def read(self, ground: Ground) -> Reading:
        """The matrix for one training."""

        def look(probe: Probe) -> np.ndarray:
            n_tasks = len(probe.training.tasks)
            ground.charge(probe.n_rows, forward=1 + n_tasks, backward=n_tasks)
            return self.look(probe)

        each = np.stack(probes(ground, look, self.looks))
        return Reading(mean_over(each), absent_notes(ground, each))

    def look(self, probe: Probe) -> np.ndarray:
        """The matrix at one moment."""
        training = probe.training
        names = [task.name for task in training.tasks]
        shared = training.passes.shared
        values = np.full((len(names), len(names)), np.nan)
        losses = probe.losses()[1]
        present: list[tuple[int, Tensor]] = []
        for i, name in enumerate(names):
            found = losses.get(name)
            if found is not None:
                present.append((i, found))
        if not shared or not present:
            return values
        before = {i: float(loss.detach().item()) for i, loss in present}
        gradients = [
            torch.autograd.grad(loss, shared, retain_graph=n + 1 < len(present), allow_unused=True)
            for n, (_, loss) in enumerate(present)
        ]
        kept = [parameter.detach().clone() for parameter in shared]
        for (i, _), rows in zip(present, gradients, strict=True):
            with torch.no_grad():
                for parameter, gradient in zip(shared, rows, strict=True):
                    if gradient is not None:
                        parameter -= self._change(training.optimisation.optimiser, parameter, gradient)
                after = probe.losses()[1]
                for parameter, old in zip(shared, kept, strict=True):
                    parameter.copy_(old)
            for j, old_loss in before.items():
                new_loss = after[names[j]]
                if i != j and new_loss is not None and abs(old_loss) > 1e-12:
                    values[i, j] = (old_loss - new_loss.item()) / abs(old_loss)
        return values

    def _change(self, optimiser: torch.optim.Optimizer, parameter: Tensor, gradient: Tensor) -> Tensor:
        """What the step takes away from a parameter."""
        group = next(g for g in optimiser.param_groups if any(p is parameter for p in g["params"]))
        rate = float(group["lr"])
        if self.step == "sgd" or "betas" not in group:
            return gradient.mul(rate)
        state: dict[str, Any] = optimiser.state.get(parameter, {})
        moments: Tensor | None = state.get("exp_avg_sq")
        if moments is None:  # before the first step, whose second moments are the gradient's own
            return gradient.div(gradient.abs().add(group["eps"])).mul(rate)
        unbiased = moments.div(1.0 - group["betas"][1] ** float(state["step"]))
        return gradient.div(unbiased.sqrt().add(group["eps"])).mul(rate)
