"""The mean of several models' answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polytask.shapes import Tensor
from polytask.tasks.task import Prediction, Task

__all__ = ["blended"]


def blended(task: Task, outputs: Sequence[Tensor]) -> Tensor:
    """Outputs of the mean answer: of probabilities where the task has them, else of numbers in the user's units.

    Example:
        >>> import torch
        >>> from polytask.tasks import Binary
        >>> task = Binary(name="ill")
        >>> task.fit(np.array([0, 1]))
        >>> mean = blended(task, [torch.tensor([[0.0]]), torch.tensor([[100.0]])])
        >>> task.decode(mean).probabilities.round(3).tolist()
        [[0.25, 0.75]]
    """
    if len(outputs) == 1:
        return outputs[0]
    answers = [task.decode(part) for part in outputs]
    probabilities = [answer.probabilities for answer in answers if answer.probabilities is not None]
    if len(probabilities) == len(answers):
        mean = np.mean(probabilities, axis=0)
        return task.outputs_from(Prediction(answers[0].values, mean, answers[0].labels)).float()
    values = np.mean([answer.values for answer in answers], axis=0)
    return task.outputs_from(Prediction(values, labels=answers[0].labels)).float()
