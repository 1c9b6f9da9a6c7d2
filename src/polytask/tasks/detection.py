"""Boxes around the objects of an image, found by their centres."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from polytask.errors import TargetError
from polytask.shapes import Bool, Float, Shaped, Tensor, object_array
from polytask.tasks._boxes import Box, average_precision, read_boxes
from polytask.tasks._centres import SURE, at_centres, best_constant, heat_of, moved_boxes, peaks_of, true_boxes
from polytask.tasks._labels import Classes, Label, checked_order, distinct, in_row, shown
from polytask.tasks._scoring import RELATIVE_ERROR, finite, full_precision, observed_rows, relative_error, undefined
from polytask.tasks.task import Metric, Prediction, Task

__all__ = ["Detection"]


@dataclass(kw_only=True)
class Detection(Task):
    r"""Finds the objects of an image: a class, a box and a score for each.

    For each pixel the head says how much it is the centre of an object of each class (the heat :math:`p`), and, if it
    is one, where in the pixel and how large. With :math:`n` objects an image in training, the loss of an image is

    .. math:: \frac1n \sum_{x,k} \begin{cases} -(1 - p)^2 \log p & y = 1 \\ -(1 - y)^4 p^2 \log(1 - p) & y < 1
              \end{cases} \; + \; \frac{\beta}{n} \sum_{\mathrm{objects}} \lVert \hat o - o \rVert_1 +
              \lVert \hat s - s \rVert_1

    where :math:`y` is 1 at the centres and falls off around them as a Gaussian, :math:`o` is the place of the centre in
    its pixel and :math:`s` the object's size over the mean size in training. Answers are the peaks of the heat.

    Args:
        size: Height and width of the images; needed, unless labels are classes alone.
        classes: The classes in the order of the outputs; empty to take those of the training labels, sorted.
        box_weight: The weight :math:`\beta` of place and size.
        threshold: Least score of an answer; metrics look at all peaks.
        most: Largest number of peaks of an image.
        name: See :class:`Task`, as for the other arguments.

    Shape:
        labels ``[N]`` lists of boxes ``(class, left, top, right, bottom)`` in pixels, empty where there is no object,
        and ``None`` where nothing is known. Outputs ``[N, H, W, K + 4]``, targets ``[N, M, 5]`` (class, centre, size),
        values ``[N]`` tuples of dicts with ``class``, ``score`` and ``box``. Outputs ``[N, K + 4]`` are those of one
        pixel.

    Raises:
        TargetError: If a box is empty or reaches over the image, or all rows are missing or equal.

    Example:
        >>> task = Detection(name="boxes", size=(16, 16))
        >>> labels = np.empty(2, dtype=object)
        >>> labels[:] = [[("cat", 2, 3, 8, 9), ("dog", 0, 0, 4, 4)], []]
        >>> task.fit(labels)
        >>> targets, observed = task.encode(labels)
        >>> targets[0].tolist(), observed.tolist()
        ([[0.0, 5.0, 6.0, 6.0, 6.0], [1.0, 2.0, 2.0, 4.0, 4.0]], [True, True])

    Note:
        The heat falls off by the object's width and height (TTFNet), not by a radius (CenterNet); maps are as large as
        the image; one number of objects in training takes the place of that of each batch, so that no image's loss
        depends on its batch. ``ap`` is the mean average precision over overlaps of 0.5 to 0.95 as COCO has it,
        ``ap_50`` that at 0.5; both look at up to ``most`` boxes an image. The relative error is the loss over that of
        the best constant. Two objects of one class with one centre pixel are one. The memory of outputs and loss grows
        with the pixels times the classes, and the heat is drawn anew in each loss.

    References:
        Zhou, Wang and Krähenbühl, "Objects as Points", 2019, equations 1 to 4; Liu et al., "Training-Time-Friendly
        Network for Real-Time Object Detection", AAAI 2020, section 3.2 (the Gaussian).
    """

    size: tuple[int, int] | tuple[()] = ()
    classes: tuple[Label, ...] = ()
    box_weight: float = 1.0
    threshold: float = 0.3
    most: int = 32
    classes_: Classes | None = field(default=None, init=False, repr=False)
    extents_: tuple[int, int] = field(default=(1, 1), init=False, repr=False)
    n_objects_: float = field(default=1.0, init=False, repr=False)
    sizes_: tuple[float, float] = field(default=(1.0, 1.0), init=False, repr=False)
    bias_: tuple[float, ...] = field(default=(), init=False, repr=False)

    kind: ClassVar[str] = "detection"
    settled: ClassVar[tuple[str, str]] = ("classes", "classes_")
    decoding: ClassVar[str] = (
        "P(centre of class k at [h, w]) = sigmoid(output[h, w, k]), a peak among its 8 neighbours; then the centre "
        "(w + output[-4], h + output[-3]) and the size output[-2:] * state.sizes"
    )
    has_mean: ClassVar[bool] = False
    of_elements: ClassVar[bool] = True
    of_pixels: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("ap", higher_is_better=True),
        Metric("ap_50", higher_is_better=True),
        RELATIVE_ERROR,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.size = tuple(int(extent) for extent in self.size)  # type: ignore[assignment]
        if self.size and (len(self.size) != 2 or min(self.size) < 1):
            raise TargetError(f"{self.who} needs a size of the images, (height, width), got {self.size!r}.")
        self.classes = checked_order(self.who, "classes", self.classes)
        if not (self.box_weight >= 0 and 0 < self.threshold < 1 and self.most >= 1):
            raise TargetError(
                f"{self.who} needs a box_weight of at least 0, a threshold between 0 and 1 and most of at least 1; got "
                f"{self.box_weight!r}, {self.threshold!r} and {self.most!r}."
            )

    def fit(self, labels: np.ndarray) -> None:
        """Learn the classes, how many objects there are and how large, and the best constant."""
        self.extents_ = self.size or self._extents(labels)
        read = read_boxes(self.who, labels, self.extents_)
        known = [boxes for boxes in read if boxes is not None]
        if not known or all(boxes == known[0] for boxes in known):
            what = "all of them are missing" if not known else f"all {len(known)} observed ones are equal"
            raise TargetError(f"{self.who} needs at least two different labels to learn from: {what}.")
        every = [box for boxes in known for box in boxes]
        rows = [row for row, boxes in enumerate(read) for _ in boxes or ()]
        classes = object_array([box[0] for box in every])
        codes, names = distinct(self.who, classes, lambda position: in_row(rows[position]))
        counts = dict(zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True))
        order = self.classes or tuple(sorted(names, key=lambda name: (isinstance(name, str), name)))
        self.classes_ = Classes(order, tuple(counts.get(name, 0) for name in order))
        if self.classes:
            self._check_known(read)
        self.n_objects_ = len(every) / len(known)
        extents = np.array([[right - left, bottom - top] for _, left, top, right, bottom in every])
        self.sizes_ = (float(extents[:, 0].mean()), float(extents[:, 1].mean()))
        self.bias_ = best_constant(
            torch.from_numpy(self.encode(object_array(known))[0]), len(order), self.extents_, self.sizes_
        )

    def encode(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each box's class, centre and size; rows of size 0 where an image has fewer boxes than others.

        Raises:
            TargetError: If a box is empty, reaches over the image, or is of a class that training did not see.
        """
        code_of = {name: code for code, name in enumerate(self.fitted(self.classes_).names)}
        rows = read_boxes(self.who, labels, self.extents_)
        self._check_known(rows)
        targets = np.zeros((len(rows), max([1, *(len(boxes or ()) for boxes in rows)]), 5), dtype=np.float32)
        for row, boxes in enumerate(rows):
            for i, (name, left, top, right, bottom) in enumerate(boxes or ()):
                targets[row, i] = (code_of[name], (left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
        return targets, np.array([boxes is not None for boxes in rows], dtype=bool)

    def is_known(self, labels: np.ndarray) -> np.ndarray:
        """Which rows have only objects of classes that training saw; all if ``classes`` says which there are."""
        if self.classes:
            return super().is_known(labels)
        names = set(self.fitted(self.classes_).names)
        rows = read_boxes(self.who, labels, self.extents_)
        return np.array([all(box[0] in names for box in boxes or ()) for boxes in rows], dtype=bool)

    @property
    def map_extents(self) -> tuple[int, ...]:
        """Height and width of the images."""
        return self.extents_

    @property
    def n_outputs(self) -> int:
        """The heat of each class, the place in the pixel, and the size."""
        return len(self.fitted(self.classes_)) + 4

    def label_losses(
        self, outputs: Float[Tensor, "*N H W O"], targets: Shaped[Tensor, "*N M 5"]
    ) -> Float[Tensor, "*N"]:
        """The loss of each image."""
        z = full_precision(outputs)
        z = z.reshape(*targets.shape[:-2], *self.extents_, z.shape[-1])
        n = z.shape[-1] - 4
        heat = heat_of(targets, n, self.extents_).to(z.dtype)
        logits = z[..., :n]
        p = torch.sigmoid(logits)
        centres = (1 - p).square() * F.softplus(-logits)
        others = (1 - heat) ** 4 * p.square() * F.softplus(logits)
        focal = torch.where(heat == 1, centres, others).flatten(-3).sum(-1)
        is_object, place, wanted = at_centres(targets, self.extents_, self.sizes_)
        given = z[..., n:].flatten(-3, -2)
        given = given.gather(-2, place.unsqueeze(-1).expand(*place.shape, 4))
        misses = (given - wanted.to(z.dtype)).abs().sum(-1)
        boxes = torch.where(is_object, misses, torch.zeros_like(misses)).sum(-1)
        return (focal + self.box_weight * boxes) / max(self.n_objects_, 1e-6)

    def decode(self, outputs: Float[Tensor, "N H W O"]) -> Prediction:
        """The peaks of at least the threshold, from the highest score on."""
        names = self.fitted(self.classes_).names
        values = np.empty(len(outputs), dtype=object)
        for row, found in enumerate(peaks_of(finite(self.name, outputs), self.extents_, self.sizes_, self.most)):
            values[row] = tuple(
                {"class": names[code], "score": score, "box": box}
                for code, score, box in zip(
                    found.codes.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True
                )
                if score >= self.threshold
            )
        return Prediction(values)

    def outputs_from(self, prediction: Prediction) -> Float[Tensor, "N H W O"]:
        """Heat at the boxes' centres, none elsewhere."""
        names = list(self.fitted(self.classes_).names)
        (height, width), n = self.extents_, len(names)
        outputs = torch.zeros(len(prediction.values), height, width, n + 4, dtype=torch.float64)
        outputs[..., :n] = -20.0
        for row, boxes in enumerate(prediction.values):
            for box in boxes:
                left, top, right, bottom = box["box"]
                x, y = (left + right) / 2, (top + bottom) / 2
                column, line = min(max(int(x), 0), width - 1), min(max(int(y), 0), height - 1)
                score = min(max(box["score"], SURE), 1 - SURE)
                outputs[row, line, column, names.index(box["class"])] = float(np.log(score / (1 - score)))
                size = [(right - left) / self.sizes_[0], (bottom - top) / self.sizes_[1]]
                outputs[row, line, column, n:] = torch.tensor([x - column, y - line, *size], dtype=torch.float64)
        return outputs

    def evaluate(
        self, outputs: Float[Tensor, "N H W O"], targets: Shaped[Tensor, "N M 5"], observed: Bool[Tensor, " N"]
    ) -> dict[str, float]:
        """Metrics over the observed images."""
        seen = observed_rows(outputs, targets, observed)
        if seen is None:
            return undefined(self.metrics)
        z, y = seen[0], seen[1].double()
        precision = average_precision(
            peaks_of(z, self.extents_, self.sizes_, self.most), [true_boxes(row.numpy()) for row in y]
        )
        constant = self.label_losses(self.constant_outputs(y).double(), y)
        return {
            "ap": float(precision.mean()),
            "ap_50": float(precision[0]),
            "relative_error": relative_error(self.label_losses(z, y), constant),
        }

    def initial_bias(self) -> Float[Tensor, " O"]:
        """The heat of a pixel of which nothing is known, and the median place and size."""
        return torch.tensor(self.fitted(self.bias_ or None))

    def constant_outputs(self, targets: Shaped[Tensor, "N M 5"]) -> Float[Tensor, "N H W O"]:
        """The initial bias at every pixel."""
        return self.initial_bias().expand(len(targets), *self.extents_, -1)

    def moved(self, targets: Tensor, observed: Tensor, motion: Float[Tensor, "B 2 3"]) -> tuple[Tensor, Tensor]:
        """The boxes as their images were moved: those around the turned ones, cut at the border.

        Objects whose centre left the image are gone.
        """
        return moved_boxes(targets, motion, self.extents_), observed

    def state(self) -> dict[str, Any]:
        """Classes, counts, sizes and the best constant."""
        classes = self.fitted(self.classes_)
        return {
            "classes": list(classes.names),
            "counts": list(classes.counts),
            "extents": list(self.extents_),
            "n_objects": self.n_objects_,
            "sizes": list(self.sizes_),
            "bias": list(self.bias_),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.classes_ = Classes(tuple(state["classes"]), tuple(state["counts"]))
        self.extents_ = (int(state["extents"][0]), int(state["extents"][1]))
        self.n_objects_ = float(state["n_objects"])
        self.sizes_ = (float(state["sizes"][0]), float(state["sizes"][1]))
        self.bias_ = tuple(float(value) for value in state["bias"])

    def _extents(self, labels: Any) -> tuple[int, int]:
        """One pixel, where labels are classes alone."""
        rows = np.asarray(labels, dtype=object) if not isinstance(labels, np.ndarray) else labels
        if rows.ndim != 1 or any(isinstance(value, list | tuple | np.ndarray) for value in rows.tolist()):
            raise TargetError(f"{self.who} needs the size of the images: give it as size=(height, width).")
        return 1, 1

    def _check_known(self, rows: list[list[Box] | None]) -> None:
        names = self.fitted(self.classes_).names
        for row, boxes in enumerate(rows):
            for box in boxes or ():
                if box[0] not in names:
                    raise TargetError(f"{self.who} knows no class {box[0]!r} (row {row}). Known: {shown(names)}.")
