"""check_task finds what it says it finds: each broken kind below breaks one promise."""

import numpy as np
import pytest
import torch

from polytask.tasks import Binary, Regression
from polytask.testing import check_task

LABELS = [0, 1, 1, 0, 1, 0, 0, 1]


class Leaky(Regression):
    def loss(self, outputs, targets, observed):
        return self.label_losses(outputs, targets)[observed]


class Detached(Regression):
    def loss(self, outputs, targets, observed):
        return super().loss(outputs, targets, observed) if observed.any() else torch.zeros(0, requires_grad=True)


class Overflowing(Regression):
    def label_losses(self, outputs, targets):
        return torch.exp(outputs.float().squeeze(-1)) - targets * outputs.squeeze(-1)


class Forgetful(Regression):
    def state(self):
        return super().state() | {"bias": 1.0}


class Hiding(Binary):
    def evaluate(self, outputs, targets, observed):
        return super().evaluate(outputs.nan_to_num(), targets, observed)


class Lenient(Regression):
    def fit(self, labels):
        values = np.asarray(labels, dtype=float)
        super().fit(values if len(np.unique(values)) > 1 else np.array([0.0, 1.0]))


class Unstacked(Binary):
    def label_losses(self, outputs, targets):
        return super().label_losses(outputs, targets).reshape(len(outputs), -1)[:, 0]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Leaky, "gradient"),
        (Detached, "attached"),
        (Overflowing, "finite"),
        (Forgetful, "initial_bias changes"),
        (Hiding, "NaN in an output"),
        (Lenient, "fit must raise"),
        (Unstacked, "leading dimensions"),
    ],
)
def test_a_broken_promise_is_named(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_task(lambda: broken(name="t"), LABELS, registered=False)


def test_an_unregistered_kind_that_keeps_its_promises_passes():
    class Mine(Regression):
        """Nothing new."""

    check_task(lambda: Mine(name="t"), LABELS, registered=False)
