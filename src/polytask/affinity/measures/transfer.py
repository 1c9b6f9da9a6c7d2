"""How far the frozen trunk of one task serves another."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from polytask.affinity.ground import Ground
from polytask.affinity.measure import Measure, Reading
from polytask.affinity.measures._representation import features_of, notes_of, with_sources
from polytask.data.batch import ArraySource
from polytask.errors import RecipeError
from polytask.models.model import MultiTaskModel
from polytask.shapes import Float, Tensor, labelled
from polytask.tasks.task import Task

__all__ = ["Transfer"]

_CLIP = 0.001


class Transfer(Measure):
    r"""How well a linear head for task j does on the frozen features of the network of task i.

    With :math:`L_{i \to j}` the validation loss of such a head and :math:`L_{0j}` that of the constant prediction,

    .. math:: A_{ij} = \frac{L_{j \to j} - L_{i \to j}}{L_{0j}} \quad (\texttt{normalise="own"}),

    zero if the trunk of i serves j as well as its own. With ``normalise="ahp"``, column j is the principal eigenvector,
    of sum one, of :math:`W' = W / W^\top`, where :math:`W_{ik}` is the share of validation labels on which the trunk of
    i has a smaller loss than that of k, clipped to 0.001 and 0.999.

    Args:
        normalise: ``own`` or ``ahp``.
        width: Principal components of the features that the head reads.
        penalty: Factor on half the squared weights of the head.

    Raises:
        RecipeError: If there is no such normalisation.

    Example:
        >>> from polytask.affinity import measure_affinity
        >>> from polytask.data.generators import related_regressions
        >>> made = related_regressions(2, 300, relatedness=1.0, noise=0.0)
        >>> options = {"seeds": 1, "training": {"epochs": 3}}
        >>> result = measure_affinity(made.frame, list(made.targets), "transfer", **options)
        >>> result.values[0][1] > -0.5
        True

    Note:
        Directed. A training for each task, and for each pair a convex fit of a head (L-BFGS) that costs little. The
        paper trains a small network on top, over images, and normalises as ``ahp`` does. Transfer one after the other
        is not learning together: a task with many labels lends a good trunk to one with few. Nearly all values are
        below zero, so that only their order counts for grouping.

    References:
        Zamir, Sax, Shen, Guibas, Malik and Savarese, "Taskonomy: disentangling task transfer learning", CVPR 2018,
        sections 3.2 and 3.3 (ordinal normalisation by the analytic hierarchy process).
    """

    words: ClassVar[str] = "loss of j on the frozen trunk of i against that on its own, as a share of the constant's"
    directed: ClassVar[bool] = True
    has_zero: ClassVar[bool] = False
    halves: ClassVar[bool] = False

    def __init__(self, normalise: str = "own", width: int = 32, penalty: float = 1e-2):
        if normalise not in ("own", "ahp"):
            raise RecipeError(f"The measure transfer needs normalise 'own' or 'ahp', got {normalise!r}.")
        self.normalise, self.width, self.penalty = normalise, width, penalty

    def read(self, ground: Ground) -> Reading:
        """The matrix for one network a task."""
        names = ground.names
        values = np.full((len(names), len(names)), np.nan)
        fitted, without = with_sources(ground)
        models = {task: one.model for task, one in fitted.items()}
        for j, task in enumerate(ground.tasks):
            # Only sources that a trunk can read, and only rows with a label of j.
            losses = {
                i: found
                for i, name in enumerate(names)
                if name in models and (found := self._losses(ground, models[name], task)) is not None
            }
            if j not in losses:
                continue
            values[:, j] = self._normalised(losses, j, ground, task, len(names))
        np.fill_diagonal(values, np.nan)
        return Reading(values, notes_of(values, without))

    def _losses(self, ground: Ground, model: MultiTaskModel, task: Task) -> Tensor | None:
        """Validation loss of each label of the task on the frozen features; ``None`` if there is nothing to read."""
        held = {
            part: [
                source.take(labelled(source.observed[task.name]).nonzero().flatten())
                for source in getattr(ground.prepared, part).values()
                if task.name in source.tasks and source.name in model.inputs
            ]
            for part in ("train", "validation")
        }
        if not all(any(map(len, sources)) for sources in held.values()):
            return None
        train, validation = (
            torch.cat([features_of(model, source) for source in sources if len(source)]) for sources in held.values()
        )
        ground.charge(len(train) + len(validation), forward=1)
        x, y = _components(train, validation, self.width)
        targets, observed = _labels(held["train"], task)
        weights, bias = _head(task, x, targets, observed, self.penalty)
        targets, observed = _labels(held["validation"], task)
        with torch.no_grad():
            return task.loss(y @ weights + bias, targets, observed).double()

    def _normalised(self, losses: dict[int, Tensor], j: int, ground: Ground, task: Task, n_tasks: int) -> np.ndarray:
        column = np.full(n_tasks, np.nan)
        if self.normalise == "own":
            targets, observed = _labels([s for s in ground.prepared.validation.values() if task.name in s.tasks], task)
            constant = task.loss(task.initial_bias().expand(len(targets), -1), targets, observed).double().mean()
            for i, found in losses.items():
                column[i] = (losses[j].mean() - found.mean()).item() / max(constant.item(), 1e-12)
            return column
        same = {i: found for i, found in losses.items() if len(found) == len(losses[j])}
        column[list(same)] = ahp(torch.stack(list(same.values())).numpy())
        return column


def ahp(losses_SN: np.ndarray) -> np.ndarray:
    """Merit of each of S, of sum one, from how often it has the smaller loss of two.

    Example:
        >>> ahp(np.array([[0.0, 0.0], [1.0, 1.0]])).round(3).tolist()
        [0.999, 0.001]
    """
    smaller = (losses_SN[:, None] < losses_SN[None]).mean(2) + 0.5 * (losses_SN[:, None] == losses_SN[None]).mean(2)
    wins = np.clip(smaller, _CLIP, 1 - _CLIP)
    ratios = wins / wins.T
    vectors = np.linalg.eig(ratios)
    principal = np.abs(np.real(vectors.eigenvectors[:, np.argmax(np.real(vectors.eigenvalues))]))
    merit: np.ndarray = principal / principal.sum()
    return merit


def _labels(sources: list[ArraySource], task: Task) -> tuple[Tensor, Tensor]:
    held = [source for source in sources if len(source)]
    targets = torch.cat([source.targets[task.name] for source in held])
    return targets, torch.cat([source.observed[task.name] for source in held])


def _components(
    train: Float[Tensor, "N D"], validation: Float[Tensor, "M D"], width: int
) -> tuple[Float[Tensor, "N C"], Float[Tensor, "M C"]]:
    """Principal components of the training features, the first of standard deviation one."""
    mean = train.mean(0)
    _, scale, axes = torch.linalg.svd(train - mean, full_matrices=False)
    kept = axes[:width].T / (scale[0] / max(len(train), 1) ** 0.5 + 1e-12)
    return ((train - mean) @ kept).float(), ((validation - mean) @ kept).float()


def _head(
    task: Task, x: Float[Tensor, "N C"], targets: Tensor, observed: Tensor, penalty: float
) -> tuple[Float[Tensor, "C O"], Float[Tensor, " O"]]:
    """The linear head of the smallest penalised mean loss."""
    weights = torch.zeros(x.shape[1], task.n_outputs, requires_grad=True)
    bias = task.initial_bias().clone().requires_grad_()
    optimiser = torch.optim.LBFGS([weights, bias], max_iter=40, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = task.loss(x @ weights + bias, targets, observed).mean() + penalty / 2 * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach(), bias.detach()
