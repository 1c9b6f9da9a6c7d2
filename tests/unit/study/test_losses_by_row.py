"""Losses of elements are counted by rows, whose luck is one, and their mean stays that over all labels."""

import numpy as np
import pytest
import torch

from polytask.records import StudyFold
from polytask.study.folds import label_groups
from polytask.study.scores import FoldScores
from polytask.study.store import KeptFold
from polytask.study.trials import losses_of
from polytask.tasks import Multilabel, Tagging
from polytask.training.text_data import TextData


def kept_of(task, labels, groups=None) -> tuple[KeptFold, torch.Tensor]:
    targets, observed = map(torch.from_numpy, task.encode(labels))
    record = StudyFold(0, 0, 0, len(labels), 0, len(labels), {})
    outputs = torch.randn(*targets.shape[: 2 if task.of_elements else 1], task.n_outputs)
    truth = {"test": {task.name: (targets, observed)}}
    return KeptFold(record, {task.name: task}, truth, {} if groups is None else {task.name: groups}), outputs


def test_a_sentence_has_one_loss_and_the_mean_is_that_of_words():
    task = Tagging(name="pos")
    labels = np.array(["D N V", "N", "N _ V V"], dtype=object)
    task.fit(labels)
    kept, outputs = kept_of(task, labels)
    losses = losses_of(kept, "test", "pos", outputs)
    assert losses.shape == (3,)
    targets, observed = kept.truth["test"]["pos"]
    assert losses.mean() == pytest.approx(task.evaluate(outputs, targets, observed)["log_loss"])
    each = task.label_losses(outputs.double(), targets)
    by_hand = [each[row][observed[row]].sum().item() * 3 / 7 for row in range(3)]
    np.testing.assert_allclose(losses, by_hand)
    assert FoldScores(kept, {}, {}).groups("pos").tolist() == [0, 1, 2]
    of_writers, _ = kept_of(task, labels, np.array([4, 4, 9]))
    assert FoldScores(of_writers, {}, {}).groups("pos").tolist() == [4, 4, 9]


def test_labels_of_a_row_that_are_questions_of_their_own_stay_so():
    task = Multilabel(name="assays", target=("a", "b"))
    labels = np.array([[0.0, 1.0], [1.0, np.nan], [1.0, 0.0]])
    task.fit(labels)
    kept, outputs = kept_of(task, labels)
    assert losses_of(kept, "test", "assays", outputs).shape == (5,)
    assert FoldScores(kept, {}, {}).groups("assays").tolist() == [0, 0, 1, 2, 2]


def test_groups_of_validation_rows_are_as_many_as_their_losses():
    tags = [["N", "V"], ["N"], [None], ["V", "N", "N"]]
    texts = [["a"] * len(row) for row in tags]
    data = TextData("notes", texts, {"pos": tags}, columns={"writer": ["x", "y", "y", "x"]})
    task = Tagging(name="pos")
    task.fit(data.labels(task))
    assert label_groups(data, [task], np.array([0, 1, 2, 3]), "writer")["pos"].tolist() == [0, 1, 0]
