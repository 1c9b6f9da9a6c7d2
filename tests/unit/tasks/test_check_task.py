"""check_task finds what it says it finds: each broken kind below breaks one promise."""

from typing import ClassVar

import numpy as np
import pytest
import torch

from polytask.errors import TargetError
from polytask.tasks import Binary, Count, Regression, Task
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


class Positive(Count):
    """Takes no zeros."""

    example_labels: ClassVar = (1, 2, 3, 1, 2, 5, 1, 4)

    def encode(self, labels):
        if (np.asarray(labels, dtype=float) == 0).any():
            raise TargetError(f"{self.who} needs labels above 0.")
        return super().encode(labels)


def test_a_kind_that_does_not_take_0_and_1_is_checked_on_labels_of_its_own():
    check_task(lambda: Positive(name="t"), registered=False)
    with pytest.raises(TargetError, match="above 0"):
        check_task(lambda: Positive(name="t"), LABELS, registered=False)


class Mute(Count):
    decoding: ClassVar = Task.decoding


class Misnaming(Count):
    decoding: ClassVar = "rate = exp(output) * state.scaler.scale"


@pytest.mark.parametrize(("kind", "message"), [(Mute, "must say in decoding"), (Misnaming, "state has mean")])
def test_what_graph_json_says_of_the_outputs_is_there_and_true_of_the_state(kind, message):
    with pytest.raises(AssertionError, match=message):
        check_task(lambda: kind(name="t"))


def test_an_unregistered_kind_that_keeps_its_promises_passes():
    class Mine(Regression):
        """Nothing new."""

    check_task(lambda: Mine(name="t"), LABELS, registered=False)
