"""One of K classes for each pixel of an image, K logits each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from polytask.errors import TargetError
from polytask.shapes import Bool, Float, Shaped, Tensor
from polytask.tasks._class_weights import class_weights, restored_weights, stored_weights
from polytask.tasks._labels import Classes, Label, checked_order, shown
from polytask.tasks._maps import by_pixel, moved_map, read_maps
from polytask.tasks._scoring import (
    RELATIVE_ERROR,
    finite,
    full_precision,
    observed_rows,
    relative_error,
    undefined,
    weight_of_each,
)
from polytask.tasks.task import Metric, Prediction, Task

__all__ = ["Segmentation"]


@dataclass(kw_only=True)
class Segmentation(Task):
    r"""Predicts the class of each pixel of an image.

    The loss of a pixel is the cross-entropy of its class :math:`k`, times the class's weight :math:`w_k`:
    :math:`-w_k \log \mathrm{softmax}(z)_k`. Pixels without a label never enter it.

    Args:
        classes: The classes in the order of the outputs; empty to take those of the training masks, sorted.
        missing: What stands for a pixel whose class is not known, besides ``None`` and NaN; 255 in many data sets.
        class_weight: ``None``, ``"balanced"`` (inverse to the class's share of the pixels), or a weight for each class;
            scaled so that the average observed training pixel weighs 1.
        name: See :class:`Task`, as for the other arguments.

    Shape:
        labels ``[N, H, W]``, or ``[N]`` masks and ``None`` where there is none; a class alone is a mask of one pixel.
        Outputs ``[N, H, W, K]``, targets and values ``[N, H, W]``. Outputs ``[N, K]`` are those of masks of one pixel.

    Raises:
        TargetError: If masks differ in size, all pixels are missing, are of one class only, or one is not in
            ``classes``.

    Example:
        >>> task = Segmentation(name="mask", missing=255)
        >>> task.fit(np.array([[[0, 1], [1, 255]], [[0, 0], [2, 1]]]))
        >>> targets, observed = task.encode(np.array([[[2, 0], [255, 1]]]))
        >>> targets.tolist(), observed.tolist()
        ([[[2, 0], [0, 1]]], [[[True, True], [False, True]]])

    Note:
        ``mean_iou`` is the mean, over the classes that are in some mask or answer, of intersection over union, counted
        over all observed pixels together; ``pixel_accuracy`` is the share of them that is right. The relative error is
        log loss over that of the training shares. The memory of outputs and loss grows with the pixels times the
        classes.

    References:
        Long, Shelhamer and Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 5
        (metrics).
    """

    classes: tuple[Label, ...] = ()
    missing: Label = -1
    class_weight: str | dict[Label, float] | None = None
    classes_: Classes | None = field(default=None, init=False, repr=False)
    class_weights_: np.ndarray = field(default_factory=lambda: np.ones(0), init=False, repr=False, compare=False)
    extents_: tuple[int, ...] = field(default=(), init=False, repr=False)

    kind: ClassVar[str] = "segmentation"
    settled: ClassVar[tuple[str, str]] = ("classes", "classes_")
    decoding: ClassVar[str] = "class of pixel [h, w] = the largest of output[h, w]"
    has_mean: ClassVar[bool] = False
    link: ClassVar[str] = "softmax"
    of_elements: ClassVar[bool] = True
    of_pixels: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("mean_iou", higher_is_better=True),
        Metric("pixel_accuracy", higher_is_better=True),
        Metric("log_loss", higher_is_better=False),
        RELATIVE_ERROR,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.classes = checked_order(self.who, "classes", self.classes)
        self.class_weight = restored_weights(self.class_weight)

    def fit(self, labels: np.ndarray) -> None:
        """Learn the classes, their shares and weights, and the size of the masks."""
        maps, _ = read_maps(self.who, labels)
        seen = self._seen(maps)
        if self.classes:
            self._check_known(maps, seen, np.arange(len(maps)), Classes(self.classes, (1,) * len(self.classes)))
        self.classes_ = Classes.learn(self.who, maps[seen] if seen.any() else np.full(len(maps), np.nan), self.classes)
        self.class_weights_ = class_weights(self.who, self.classes_, self.class_weight)
        self.extents_ = maps.shape[1:]

    def encode(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Classes to their positions.

        Raises:
            TargetError: If a pixel is of none of the classes, or a mask has another size than in training.
        """
        classes = self.fitted(self.classes_)
        maps, there = read_maps(self.who, labels, self.extents_)
        seen = self._seen(maps)
        self._check_known(maps, seen, np.flatnonzero(there), classes)
        targets = np.zeros((len(there), *self.extents_), dtype=np.uint8 if len(classes) <= 256 else np.int64)
        observed = np.zeros(targets.shape, dtype=bool)
        codes = np.zeros(maps.shape, dtype=targets.dtype)
        if seen.any():
            codes[seen] = classes.encode(self.who, maps[seen])[0]
        targets[there], observed[there] = codes, seen
        return targets, observed

    def is_known(self, labels: np.ndarray) -> np.ndarray:
        """Which masks have only classes that training saw; all if ``classes`` says which there are."""
        if self.classes:
            return super().is_known(labels)
        maps, there = read_maps(self.who, labels, self.extents_)
        known = np.ones(len(there), dtype=bool)
        known[there] = ~self._unknown(maps, self._seen(maps), self.fitted(self.classes_)).any((1, 2))
        return known

    @property
    def map_extents(self) -> tuple[int, ...]:
        """Height and width of the images."""
        return self.extents_

    @property
    def n_outputs(self) -> int:
        """One logit for each class."""
        return len(self.fitted(self.classes_))

    def label_losses(
        self, outputs: Float[Tensor, "*N H W K"], targets: Shaped[Tensor, "*N H W"]
    ) -> Float[Tensor, "*N H W"]:
        """Cross-entropy of each pixel."""
        log_p = torch.log_softmax(full_precision(by_pixel(outputs, targets.ndim + 1)), dim=-1)
        codes = targets.long()
        losses = -log_p.gather(-1, codes.unsqueeze(-1)).squeeze(-1)
        return losses if self.class_weight is None else losses * weight_of_each(self.class_weights_, codes, losses)

    def decode(self, outputs: Float[Tensor, "N H W K"]) -> Prediction:
        """The likeliest class of each pixel."""
        z = by_pixel(finite(self.name, outputs), 4)
        return Prediction(self.fitted(self.classes_).decode(z.argmax(-1).numpy()))

    def outputs_from(self, prediction: Prediction) -> Float[Tensor, "N H W K"]:
        """Logarithms of certainty."""
        classes = self.fitted(self.classes_)
        codes, _ = classes.encode(self.who, np.asarray(prediction.values).ravel())
        sure = F.one_hot(torch.from_numpy(codes), len(classes)).double().clamp(1e-12, 1.0).log()
        return sure.view(*np.shape(prediction.values), len(classes))

    def evaluate(
        self, outputs: Float[Tensor, "N H W K"], targets: Shaped[Tensor, "N H W"], observed: Bool[Tensor, "N H W"]
    ) -> dict[str, float]:
        """Metrics over the observed pixels."""
        seen = observed_rows(outputs, targets, observed)
        if seen is None:
            return undefined(self.metrics)
        z, y = by_pixel(seen[0], 4)[seen[2]], seen[1][seen[2]].long()
        errors = F.cross_entropy(z, y, reduction="none")
        log_shares = torch.from_numpy(np.log(self.fitted(self.classes_).shares))
        counts = torch.bincount(y * z.shape[-1] + z.argmax(-1), minlength=z.shape[-1] ** 2).view(z.shape[-1], -1)
        both, either = counts.diagonal().double(), (counts.sum(0) + counts.sum(1) - counts.diagonal()).double()
        return {
            "mean_iou": (both / either)[either > 0].mean().item(),
            "pixel_accuracy": (both.sum() / counts.sum()).item(),
            "log_loss": errors.mean().item(),
            "relative_error": relative_error(errors, -log_shares[y]),
        }

    def initial_bias(self) -> Float[Tensor, " K"]:
        """Logarithms of the training shares, in the proportion of the class weights."""
        shares = self.fitted(self.classes_).shares
        if self.class_weight is not None:
            shares = shares * np.maximum(self.class_weights_, 1e-6)
        return torch.as_tensor(np.log(shares / shares.sum()), dtype=torch.get_default_dtype())

    def moved(self, targets: Tensor, observed: Tensor, motion: Float[Tensor, "B 2 3"]) -> tuple[Tensor, Tensor]:
        """The masks as their images were moved."""
        return moved_map(targets, observed, motion)

    def options(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().options() | {"class_weight": stored_weights(self.class_weight)}

    def state(self) -> dict[str, Any]:
        """Classes, counts and size."""
        classes = self.fitted(self.classes_)
        return {"classes": list(classes.names), "counts": list(classes.counts), "extents": list(self.extents_)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.classes_ = Classes(tuple(state["classes"]), tuple(state["counts"]))
        self.class_weights_ = class_weights(self.who, self.classes_, self.class_weight)
        self.extents_ = tuple(int(extent) for extent in state["extents"])

    def _seen(self, maps: np.ndarray) -> np.ndarray:
        """Which pixels have a class."""
        return np.asarray((maps != self.missing) & ~pd.isna(maps))

    def _unknown(self, maps: np.ndarray, seen: np.ndarray, classes: Classes) -> np.ndarray:
        unknown = np.zeros(maps.shape, dtype=bool)
        if seen.any():
            unknown[seen] = ~classes.is_known(self.who, maps[seen])
        return unknown

    def _check_known(self, maps: np.ndarray, seen: np.ndarray, rows: np.ndarray, classes: Classes) -> None:
        unknown = self._unknown(maps, seen, classes)
        if unknown.any():
            where = np.argwhere(unknown)[0]
            value = maps[tuple(where)]
            raise TargetError(
                f"{self.who} knows no class {value.item() if isinstance(value, np.generic) else value!r}, which "
                f"{int(unknown[where[0]].sum())} pixels of the mask in row {rows[where[0]]} are of. Known: "
                f"{shown(classes.names)}. If it stands for pixels that are not labelled, give it as `missing`."
            )
