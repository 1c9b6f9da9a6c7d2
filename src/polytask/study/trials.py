"""Trials: arms are trained on folds and scored on rows that they did not see."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from polytask.errors import NonFiniteError
from polytask.records import without_nan
from polytask.shapes import Tensor, labelled
from polytask.study.arm import Arm, learn, outputs_of, why_not_learn
from polytask.study.finished import FinishedNetworks
from polytask.study.folds import JudgedFold
from polytask.study.networks import NetworkArm, whole
from polytask.study.store import Answers, KeptFold, Trial
from polytask.training.run import Fitted

__all__ = ["losses_of", "train_trials"]

Judged = tuple[Arm, KeptFold, JudgedFold]
"""An arm, the fold as it is kept, and the fold with its rows."""


def train_trials(asked: Sequence[Judged], finished: FinishedNetworks | None = None) -> list[tuple[Trial, Answers]]:
    """Train arms on folds and score them; the networks among them are trained together.

    Args:
        asked: The arms and folds.
        finished: Trains the networks, and knows those of them that are trained already; nothing is known if ``None``.
    """
    whys = [why_not_learn(arm, tested.data) for arm, _, tested in asked]
    trainings = [
        arm.trainings(tested.data) if isinstance(arm, NetworkArm) and not why and _has_one_source(tested) else []
        for (arm, _, tested), why in zip(asked, whys, strict=True)
    ]
    finished = finished or FinishedNetworks(None)
    fitted = iter(finished.fit([one for each in trainings for one in each]))
    found: list[tuple[Trial, Answers]] = []
    for (arm, kept, tested), why, each in zip(asked, whys, trainings, strict=True):
        mine = [next(fitted) for _ in each]
        try:
            found.append((Trial(arm.name, why), {}) if why else _train(arm, kept, tested, mine))
        except NonFiniteError as error:
            # A training that diverges is a result too, and no reason to lose the others.
            found.append((Trial(arm.name, str(error)), {}))
    return found


def _has_one_source(tested: JudgedFold) -> bool:
    return len(tested.data.prepared.train) == 1


def _train(
    arm: Arm, kept: KeptFold, tested: JudgedFold, networks: Sequence[Fitted | NonFiniteError]
) -> tuple[Trial, Answers]:
    began = time.perf_counter()
    if isinstance(arm, NetworkArm) and _has_one_source(tested):
        done = whole(networks)
        # Of trainings that were done together, each has its share of the time.
        began -= sum(one.seconds for one in done)
        fitted = arm.assemble(tested.data, done)
    else:
        fitted = learn(arm, tested.data)
    trained = time.perf_counter()
    everything = {"test": outputs_of(fitted.models, tested.parts["test"])}
    answered = time.perf_counter()
    if "validation" in tested.parts:
        everything["validation"] = outputs_of(fitted.choosing or fitted.models, tested.parts["validation"])
    answers = {}
    for part, outputs in everything.items():
        holders = {name: by[""] for by in tested.parts[part].values() for name in by[""].tasks}
        answers[part] = {
            name: out[labelled(holders[name].observed[name])].contiguous() for name, out in outputs.items()
        }
    metrics = {name: _score(kept, "test", name, out) for name, out in answers["test"].items()}
    validation = {
        name: _score(kept, "validation", name, out)["relative_error"]
        for name, out in answers.get("validation", {}).items()
    }
    n_test = max(tested.record.n_test, 1)
    return Trial(
        arm=arm.name,
        metrics=without_nan(metrics),
        validation=without_nan(validation),
        seconds=round(trained - began + fitted.earlier, 3),
        predict_seconds=round((answered - trained) * 1000 / n_test, 5),
        parameters=fitted.n_parameters,
        settled=dict(fitted.settled),
        curves=dict(fitted.curves),
        weights=dict(fitted.weights),
        conflict=dict(fitted.conflict),
        gates=dict(fitted.gates),
        affinity=dict(fitted.affinity),
        search=dict(fitted.search),
        notes=list(fitted.notes),
    ), answers


def _score(kept: KeptFold, part: str, task: str, outputs: Tensor) -> dict[str, float]:
    targets, observed = kept.truth[part][task]
    return kept.tasks[task].evaluate(outputs, targets, observed)


def losses_of(kept: KeptFold, part: str, task: str, outputs: Tensor) -> np.ndarray:
    """The loss of each observed label; of elements one a row, whose mean over rows is that over labels.

    The words of a sentence and the pixels of an image have their luck in common: what may be chance is counted by rows.
    """
    targets, observed = kept.truth[part][task]
    with torch.no_grad():
        losses = np.asarray(kept.tasks[task].loss(outputs.double(), targets, observed).double().numpy())
    if not kept.tasks[task].of_elements or observed.ndim == 1:
        return losses
    counts = observed.flatten(1).sum(1).numpy()
    rows = np.repeat(np.arange(len(counts)), counts)
    return np.bincount(rows, weights=losses, minlength=len(counts)) * (len(counts) / max(len(losses), 1))
