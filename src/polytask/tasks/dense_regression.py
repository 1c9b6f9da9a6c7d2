"""One number, or several, for each pixel of an image: depth, surface normals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from polytask.errors import RecipeError, TargetError
from polytask.shapes import Bool, Float, Shaped, Tensor
from polytask.tasks._labels import different, in_array, numbers
from polytask.tasks._maps import by_pixel, moved_map, read_maps
from polytask.tasks._scaling import Scaler
from polytask.tasks._scoring import RELATIVE_ERROR, finite, full_precision, observed_rows, relative_error, undefined
from polytask.tasks.task import Metric, Prediction, Task

__all__ = ["DenseRegression"]

_OBJECTIVES = ("squared", "absolute", "cosine")


@dataclass(kw_only=True)
class DenseRegression(Task):
    r"""Predicts a number for each pixel, such as its depth, or a direction, such as the normal of a surface.

    With label :math:`y` in standard units and output :math:`z`, the loss of a pixel is :math:`(z - y)^2`
    (``squared``), :math:`|z - y|` (``absolute``) or, for directions :math:`y` of length 1 (``cosine``),

    .. math:: 1 - \frac{z^\top y}{\lVert z \rVert} = \tfrac12 \Big\lVert \frac{z}{\lVert z \rVert} - y \Big\rVert^2 .

    Pixels without a label never enter it.

    Args:
        objective: ``"squared"`` aims at the mean, ``"absolute"`` at the median, ``"cosine"`` at a direction.
        scaling: ``"standard"`` or ``"robust"``, see :class:`polytask.tasks.Regression`; not for directions.
        transform: ``"none"``, ``"log"``, ``"log1p"`` or ``"quantile"``, see there; not for directions.
        name: See :class:`Task`, as for the other arguments.

    Shape:
        labels ``[N, H, W]`` or ``[N, H, W, C]``, NaN where missing, or ``[N]`` such maps and ``None`` where there is
        none; a number alone is a map of one pixel. Outputs and targets ``[N, H, W, C]``, values as the labels.

    Raises:
        TargetError: If maps differ in size, a label is no finite number, or all are missing or equal.

    Example:
        >>> task = DenseRegression(name="depth")
        >>> task.fit(np.array([[[1.0, 3.0], [np.nan, 3.0]], [[1.0, 1.0], [3.0, np.nan]]]))
        >>> targets, observed = task.encode(np.array([[[3.0, np.nan], [1.0, 2.0]]]))
        >>> targets[..., 0].tolist(), observed[..., 0].tolist()
        ([[[1.0, 0.0], [-1.0, 0.0]]], [[[True, False], [True, True]]])

    Note:
        ``mae`` and ``abs_rel``, the mean of the absolute error over the label's size (labels of 0 left out), are in the
        user's units; ``angle`` is the mean angle in degrees, NaN unless the objective is ``cosine``. The relative error
        is the mean loss over that of the best constant. The cosine loss of a pixel is given in C parts, one a
        channel, whose mean it is. The memory of outputs and loss grows with the pixels times the channels of the
        labels.

    References:
        Eigen, Puhrsch and Fergus, "Depth Map Prediction from a Single Image using a Multi-Scale Deep Network",
        NeurIPS 2014, section 4.2 (metrics of depth); Eigen and Fergus, "Predicting Depth, Surface Normals and Semantic
        Labels with a Common Multi-Scale Convolutional Architecture", ICCV 2015, equation 2 (normals).
    """

    objective: str = "squared"
    scaling: str = "standard"
    transform: str = "none"
    scaler_: Scaler | None = field(default=None, init=False, repr=False)
    bias_: tuple[float, ...] = field(default=(), init=False, repr=False)
    extents_: tuple[int, ...] = field(default=(), init=False, repr=False)

    kind: ClassVar[str] = "dense_regression"
    decoding: ClassVar[str] = (
        "value of pixel [h, w] = output[h, w] * state.scaler.scale + state.scaler.centre, or output over its length"
    )
    of_elements: ClassVar[bool] = True
    of_pixels: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("mae", higher_is_better=False, baseline_free=False),
        Metric("abs_rel", higher_is_better=False),
        Metric("angle", higher_is_better=False),
        RELATIVE_ERROR,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective not in _OBJECTIVES:
            raise TargetError(f"{self.who} needs an objective out of {', '.join(_OBJECTIVES)}, got {self.objective!r}.")
        Scaler.check(self.who, self.scaling, self.transform)
        if self.objective == "cosine" and self.transform != "none":
            raise TargetError(f"{self.who} predicts directions, which have no transform; take {self.transform!r} out.")

    def fit(self, labels: np.ndarray) -> None:
        """Learn centre, scale and transform, the best constant, and the size of the maps."""
        values, observed, _ = self._read(labels, ())
        seen = different(self.who, values[observed], len(values))
        if self.objective == "cosine":
            if values.shape[-1] < 2:
                raise TargetError(f"{self.who} needs directions of 2 or 3 numbers a pixel, got maps of one number.")
            self.scaler_ = Scaler("none", 0.0, 1.0)
            mean = values[observed[..., 0]].mean(0)
            self.bias_ = tuple((mean / max(float(np.linalg.norm(mean)), 1e-6)).tolist())
        else:
            self.scaler_ = Scaler.learn(self.who, seen, self.scaling, self.transform)
            best = np.mean if self.objective == "squared" else np.median
            of_channels = [values[..., c][observed[..., c]] for c in range(values.shape[-1])]
            self.bias_ = tuple(
                float(best(self.scaler_.to_standard(self.who, of_one))) if len(of_one) else 0.0
                for of_one in of_channels
            )
        self.extents_ = values.shape[1:]

    def encode(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels to standard units; directions to length 1.

        Raises:
            TargetError: If a map has another size than in training.
        """
        scaler = self.fitted(self.scaler_)
        values, seen, there = self._read(labels, self.extents_)
        targets = np.zeros((len(there), *self.extents_), dtype=np.float32)
        observed = np.zeros(targets.shape, dtype=bool)
        where = in_array(values.shape, np.flatnonzero(there))
        targets[there] = scaler.encode(self.who, values.ravel(), seen.ravel(), where).reshape(values.shape)
        observed[there] = seen
        return targets, observed

    @property
    def map_extents(self) -> tuple[int, ...]:
        """Height and width of the images."""
        return self.extents_

    @property
    def n_outputs(self) -> int:
        """One number for each channel."""
        return len(self.fitted(self.bias_ or None))

    def label_losses(
        self, outputs: Float[Tensor, "*N H W C"], targets: Shaped[Tensor, "*N H W C"]
    ) -> Float[Tensor, "*N H W C"]:
        """Loss of each number in standard units."""
        z = by_pixel(full_precision(outputs), targets.ndim)
        if self.objective == "cosine":
            return 0.5 * z.shape[-1] * (F.normalize(z, dim=-1, eps=1e-6) - targets.to(z.dtype)).square()
        residuals = z - targets.to(z.dtype)
        return residuals.square() if self.objective == "squared" else residuals.abs()

    def decode(self, outputs: Float[Tensor, "N H W C"]) -> Prediction:
        """Numbers in the user's units, or directions of length 1."""
        z = by_pixel(finite(self.name, outputs), 4)
        z = F.normalize(z, dim=-1) if self.objective == "cosine" else z
        values = self.fitted(self.scaler_).to_user(z.numpy())
        return Prediction(values[..., 0] if values.shape[-1] == 1 else values)

    def outputs_from(self, prediction: Prediction) -> Float[Tensor, "N H W C"]:
        """Standard units."""
        values = np.asarray(prediction.values, dtype=np.float64)
        values = values if values.ndim == 4 else values[..., None]
        return torch.from_numpy(self.fitted(self.scaler_).to_standard(self.who, values))

    def evaluate(
        self, outputs: Float[Tensor, "N H W C"], targets: Shaped[Tensor, "N H W C"], observed: Bool[Tensor, "N H W C"]
    ) -> dict[str, float]:
        """Metrics over the observed pixels."""
        seen = observed_rows(outputs, targets, observed)
        if seen is None:
            return undefined(self.metrics)
        z, y, mask = by_pixel(seen[0], 4), seen[1].double(), seen[2]
        scaler = self.fitted(self.scaler_)
        direction = F.normalize(z, dim=-1) if self.objective == "cosine" else z
        answers = torch.from_numpy(scaler.to_user(direction.numpy()))[mask]
        truth = torch.from_numpy(scaler.to_user(y.numpy()))[mask]
        errors, sizes = (answers - truth).abs(), truth.abs()
        constant = self.constant_outputs(y).double()
        cosine = (direction * y).sum(-1)[mask[..., 0]].clamp(-1, 1)
        is_direction = self.objective == "cosine"
        return {
            "mae": errors.mean().item(),
            "abs_rel": (errors / sizes)[sizes > 0].mean().item() if bool((sizes > 0).any()) else float("nan"),
            "angle": torch.rad2deg(torch.arccos(cosine)).mean().item() if is_direction else float("nan"),
            "relative_error": relative_error(self.label_losses(z, y)[mask], self.label_losses(constant, y)[mask]),
        }

    def initial_bias(self) -> Float[Tensor, " C"]:
        """The best constant, in standard units."""
        return torch.tensor(self.fitted(self.bias_ or None))

    def constant_outputs(self, targets: Shaped[Tensor, "N H W C"]) -> Float[Tensor, "N H W C"]:
        """The best constant at every pixel."""
        return self.initial_bias().expand(targets.shape)

    def moved(self, targets: Tensor, observed: Tensor, motion: Float[Tensor, "B 2 3"]) -> tuple[Tensor, Tensor]:
        """The maps as their images were moved.

        Raises:
            RecipeError: If the images were turned and the labels are directions.
        """
        if self.objective == "cosine" and not torch.equal(
            motion[:, :, :2], torch.eye(2).to(motion).expand_as(motion[:, :, :2])
        ):
            raise RecipeError(
                f"{self.who} has directions for labels, which do not stay the same when an image is turned; leave "
                "that augmentation out."
            )
        return moved_map(targets, observed, motion)

    def state(self) -> dict[str, Any]:
        """Scaler, best constant and size."""
        return {
            "scaler": self.fitted(self.scaler_).state(),
            "bias": list(self.bias_),
            "extents": list(self.extents_),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.scaler_ = Scaler.from_state(state["scaler"])
        self.bias_ = tuple(float(value) for value in state["bias"])
        self.extents_ = tuple(int(extent) for extent in state["extents"])

    def _read(self, labels: np.ndarray, extents: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers ``[M, H, W, C]`` of the M rows that have a map, which are observed, and which rows these are."""
        maps, there = read_maps(self.who, labels, extents, has_channels=True)
        if maps.dtype.kind == "f" and not np.isinf(maps).any():
            values, observed = maps.astype(np.float64), ~np.isnan(maps)
        else:
            flat, seen = numbers(self.who, maps.ravel(), in_array(maps.shape, np.flatnonzero(there)))
            values, observed = flat.reshape(maps.shape), seen.reshape(maps.shape)
        if self.objective == "cosine":
            length = np.linalg.norm(np.where(observed, values, 0.0), axis=-1, keepdims=True)
            observed = np.broadcast_to(observed.all(-1, keepdims=True) & (length > 0), values.shape)
            values = values / np.where(length > 0, length, 1.0)
        return np.where(observed, values, 0.0), observed, there
