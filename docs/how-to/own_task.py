"""A kind of task in one file: shares between 0 and 1, such as the part of a bill that was paid."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from polytask.errors import TargetError
from polytask.tasks import Metric, Prediction, Task
from polytask.testing import check_task


@dataclass(kw_only=True)
class Share(Task):
    """Predicts a share in [0, 1] by its log odds; the loss is the cross entropy over that of the training mean."""

    mean_: float | None = field(default=None, init=False, repr=False)

    kind: ClassVar[str] = "share"
    link: ClassVar[str] = "logit"
    decoding: ClassVar[str] = "share = sigmoid(output)"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("relative_error", higher_is_better=False),
        Metric("mae", higher_is_better=False, baseline_free=False),
    )

    def fit(self, labels: np.ndarray) -> None:
        """Learn the mean, the best constant."""
        shares, observed = self._shares(labels)
        if len(np.unique(shares[observed])) < 2:
            raise TargetError(f"{self.who} needs two different labels at least.")
        self.mean_ = float(shares[observed].mean())

    def encode(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shares as float32; 0 stands where there is none."""
        shares, observed = self._shares(labels)
        return np.where(observed, shares, 0).astype(np.float32), observed

    @property
    def n_outputs(self) -> int:
        """One log odds."""
        return 1

    def label_losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross entropy of each label; 1 is the constant's."""
        mean = self.fitted(self.mean_)
        constant = -mean * math.log(mean) - (1 - mean) * math.log(1 - mean)
        return cross_entropy(outputs.float().squeeze(-1), targets.float(), reduction="none") / constant

    def decode(self, outputs: torch.Tensor) -> Prediction:
        """Log odds to shares."""
        return Prediction(torch.sigmoid(outputs.double().squeeze(-1)).numpy())

    def outputs_from(self, prediction: Prediction) -> torch.Tensor:
        """Shares to log odds."""
        shares = np.asarray(prediction.values, dtype=np.float64)
        if not ((shares >= 0) & (shares <= 1)).all():
            raise TargetError(f"{self.who} needs shares between 0 and 1.")
        return torch.logit(torch.from_numpy(shares), eps=1e-12)[:, None]

    def evaluate(self, outputs: torch.Tensor, targets: torch.Tensor, observed: torch.Tensor) -> dict[str, float]:
        """Metrics over the observed labels; NaN without any."""
        seen, labels = outputs.detach()[observed].double(), targets[observed].double()
        if not len(seen) or not bool(seen.isfinite().all()):
            return {metric.name: math.nan for metric in self.metrics}
        constant = torch.full_like(labels, torch.logit(torch.tensor(self.fitted(self.mean_))).item())
        error = cross_entropy(seen.squeeze(-1), labels)
        return {
            "relative_error": (error / cross_entropy(constant, labels)).item(),
            "mae": (seen.squeeze(-1).sigmoid() - labels).abs().mean().item(),
        }

    def initial_bias(self) -> torch.Tensor:
        """Log odds of the mean."""
        return torch.logit(torch.tensor([self.fitted(self.mean_)]))

    def state(self) -> dict[str, Any]:
        """The mean."""
        return {"mean": self.fitted(self.mean_)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take the mean back."""
        self.mean_ = float(state["mean"])

    def _shares(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shares = np.asarray(labels, dtype=np.float64)
        observed = ~np.isnan(shares)
        bad = observed & ~((shares >= 0) & (shares <= 1))
        if bad.any():
            raise TargetError(f"{self.who} needs shares between 0 and 1, got {shares[bad][0]:g}.")
        return shares, observed


if __name__ == "__main__":
    labels = [0.0, 0.25, 0.5, 1.0, 0.75, 0.1, 0.9, 0.3]
    # registered=False because this file is not in the registry; the kind of an entry point is.
    check_task(lambda: Share(name="paid"), labels, registered=False)
    task = Share(name="paid")
    task.fit(np.array([*labels, np.nan]))
    print("best constant", round(float(task.decode(task.initial_bias()[None]).values[0]), 3))
