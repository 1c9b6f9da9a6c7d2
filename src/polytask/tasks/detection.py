"""Boxes around the objects of an image, found by their centres."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from polytask.errors import TargetError
from polytask.shapes import Bool, Float, Shaped, Tensor
from polytask.tasks._boxes import Box, Found, average_precision, read_boxes
from polytask.tasks._labels import Classes, Label, checked_order, distinct, shown
from polytask.tasks._scoring import RELATIVE_ERROR, finite, full_precision, observed_rows, relative_error, undefined
from polytask.tasks.task import Metric, Prediction, Task

__all__ = ["Detection"]

_SURE = 1e-4
"""How near to 0 and 1 the score of an answer may come, so that it can be turned back into an output."""


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
        the best constant. Two objects of one class with one centre pixel are one.

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
        known = [boxes for boxes in read_boxes(self.who, labels, self.extents_) if boxes is not None]
        if not known or all(boxes == known[0] for boxes in known):
            what = "all of them are missing" if not known else f"all {len(known)} observed ones are equal"
            raise TargetError(f"{self.who} needs at least two different labels to learn from: {what}.")
        every = [box for boxes in known for box in boxes]
        codes, names = distinct(self.who, _objects([box[0] for box in every]))
        counts = dict(zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True))
        order = self.classes or tuple(sorted(names, key=lambda name: (isinstance(name, str), name)))
        self.classes_ = Classes(order, tuple(counts.get(name, 0) for name in order))
        if self.classes:
            self._check_known(read_boxes(self.who, labels, self.extents_))
        self.n_objects_ = len(every) / len(known)
        extents = np.array([[right - left, bottom - top] for _, left, top, right, bottom in every])
        self.sizes_ = (float(extents[:, 0].mean()), float(extents[:, 1].mean()))
        self.bias_ = self._best_constant(torch.from_numpy(self.encode(_objects(known))[0]))

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
        heat = self._heat(targets, n).to(z.dtype)
        logits = z[..., :n]
        p = torch.sigmoid(logits)
        centres = (1 - p).square() * F.softplus(-logits)
        others = (1 - heat) ** 4 * p.square() * F.softplus(logits)
        focal = torch.where(heat == 1, centres, others).flatten(-3).sum(-1)
        is_object, place, wanted = self._wanted(targets)
        given = z[..., n:].flatten(-3, -2)
        given = given.gather(-2, place.unsqueeze(-1).expand(*place.shape, 4))
        misses = (given - wanted.to(z.dtype)).abs().sum(-1)
        boxes = torch.where(is_object, misses, torch.zeros_like(misses)).sum(-1)
        return (focal + self.box_weight * boxes) / max(self.n_objects_, 1e-6)

    def decode(self, outputs: Float[Tensor, "N H W O"]) -> Prediction:
        """The peaks of at least the threshold, from the highest score on."""
        names = self.fitted(self.classes_).names
        values = np.empty(len(outputs), dtype=object)
        for row, found in enumerate(self._peaks(finite(self.name, outputs))):
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
                score = min(max(box["score"], _SURE), 1 - _SURE)
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
        precision = average_precision(self._peaks(z), [_true(row.numpy()) for row in y])
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
        centre, half = targets[..., 1:3], targets[..., 3:] / 2
        signs = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
        corners = centre.unsqueeze(-2) + half.unsqueeze(-2) * signs  # [B, M, 4, 2]
        back = torch.linalg.inv(motion[:, :, :2]).to(targets.dtype)
        offset = motion[:, None, None, :, 2].to(targets.dtype)
        corners, middle = ((p - offset) @ back.transpose(1, 2)[:, None] for p in (corners, centre.unsqueeze(-2)))
        middle = middle.squeeze(-2)
        border = torch.tensor([self.extents_[1], self.extents_[0]], dtype=targets.dtype)
        low, high = (corners.amin(-2).clamp_min(0), torch.minimum(corners.amax(-2), border))
        stays = ((middle >= 0) & (middle < border)).all(-1) & (targets[..., 3] > 0) & (high > low).all(-1)
        moved = torch.cat([targets[..., :1], (low + high) / 2, high - low], -1)
        return torch.where(stays.unsqueeze(-1), moved, torch.zeros_like(moved)), observed

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

    def _heat(self, targets: Shaped[Tensor, "*N M 5"], n_classes: int) -> Float[Tensor, "*N H W K"]:
        """1 at the centres of each class, falling off around them."""
        code, x, y, width, height = targets.unbind(-1)
        here = torch.arange(n_classes, device=targets.device) == code.unsqueeze(-1)
        parts = []
        for centre, extent, n in ((y, height, self.extents_[0]), (x, width, self.extents_[1])):
            place = torch.arange(n, device=targets.device) - centre.floor().unsqueeze(-1)
            spread = (0.54 / 6 * extent).clamp_min(1e-3).unsqueeze(-1)
            parts.append(torch.exp(-0.5 * (place / spread).square()))
        down, across = parts
        across = torch.where((width > 0).unsqueeze(-1), across, torch.zeros_like(across))
        heat = torch.zeros((), dtype=targets.dtype, device=targets.device)
        for i in range(targets.shape[-2]):
            one = down[..., i, :, None, None] * across[..., i, None, :, None]
            heat = torch.maximum(heat, one * here[..., i, None, None, :])
        return heat

    def _wanted(
        self, targets: Shaped[Tensor, "*N M 5"]
    ) -> tuple[Bool[Tensor, "*N M"], Shaped[Tensor, "*N M"], Float[Tensor, "*N M 4"]]:
        """Which are objects, the pixel of each, and what to say there."""
        x, y, width, height = targets[..., 1:].unbind(-1)
        column = x.floor().clamp(0, self.extents_[1] - 1)
        line = y.floor().clamp(0, self.extents_[0] - 1)
        wanted = torch.stack([x - column, y - line, width / self.sizes_[0], height / self.sizes_[1]], -1)
        return width > 0, (line * self.extents_[1] + column).long(), wanted

    def _peaks(self, outputs: Float[Tensor, "N H W O"]) -> list[Found]:
        """The highest pixels among their neighbours, at most ``most`` of an image, and the boxes around them."""
        (height, width), n = self.extents_, outputs.shape[-1] - 4
        z = outputs.reshape(len(outputs), height, width, n + 4)
        if not len(z):
            return []
        scores = torch.sigmoid(z[..., :n].movedim(-1, 1))
        is_peak = F.max_pool2d(scores, 3, 1, 1) == scores
        ranked, place = (
            torch.where(is_peak, scores, torch.zeros_like(scores)).flatten(1).sort(dim=1, descending=True, stable=True)
        )
        ranked, place = ranked[:, : self.most], place[:, : self.most]
        code, place = place // (height * width), place % (height * width)
        about = z[..., n:].flatten(1, 2).gather(1, place.unsqueeze(-1).expand(-1, -1, 4)).numpy()
        pixel = place.numpy()
        # Kept inside the pixel after rounding too, so that an answer can be turned back into outputs.
        x = pixel % width + np.clip(about[..., 0], 0.001, 0.998)
        y = pixel // width + np.clip(about[..., 1], 0.001, 0.998)
        half = np.clip(about[..., 2:], 0, None) * np.array(self.sizes_) / 2
        edges = np.stack([x - half[..., 0], y - half[..., 1], x + half[..., 0], y + half[..., 1]], -1).round(3)
        shown_ = np.clip(ranked.numpy().round(4), _SURE, 1 - _SURE)
        return [
            Found(c[kept], e[kept], s[kept])
            for c, e, s, kept in zip(code.numpy(), edges, shown_, ranked.numpy() > 0, strict=True)
        ]

    def _best_constant(self, targets: Shaped[Tensor, "N M 5"]) -> tuple[float, ...]:
        """What costs least if it is said of every pixel."""
        from scipy.optimize import minimize_scalar

        n = len(self.fitted(self.classes_))
        centres, others = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
        for part in targets.double().split(64):
            heat = self._heat(part, n)
            centres += (heat == 1).sum((0, 1, 2))
            others += torch.where(heat == 1, torch.zeros_like(heat), (1 - heat) ** 4).sum((0, 1, 2))

        def best(a: float, b: float) -> float:
            def cost(z: float) -> float:
                p = 1 / (1 + np.exp(-z))
                return float(a * (1 - p) ** 2 * np.logaddexp(0, -z) + b * p**2 * np.logaddexp(0, z))

            return float(minimize_scalar(cost, bounds=(-15, 15), method="bounded", options={"xatol": 1e-10}).x)

        # A class that training did not see is as if half an object of it had been.
        heats = [best(max(a, 0.5), b) for a, b in zip(centres.tolist(), others.tolist(), strict=True)]
        is_object, _, wanted = self._wanted(targets)
        middle = np.median(wanted[is_object].double().numpy(), axis=0) if bool(is_object.any()) else np.array([0.5] * 4)
        return (*heats, *middle.tolist())


def _true(row: np.ndarray) -> Found:
    boxes = row[row[:, 3] > 0]
    centre, half = boxes[:, 1:3], boxes[:, 3:] / 2
    return Found(boxes[:, 0].astype(np.int64), np.concatenate([centre - half, centre + half], 1), np.ones(len(boxes)))


def _objects(values: list[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array
