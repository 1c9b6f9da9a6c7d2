"""Records for the tests of pages: the made-up sample, and changed copies of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from polytask.records import Interval, Recommendation, RunRecord, StudyRecord, TaskResult

FIXTURE = Path(__file__).parents[2] / "fixtures" / "study_record.json"

NASTY = ["<script>alert(1)</script>", "\"quoted\" & 'co'", "a | b", "</title><b>", "{{ 7 * 7 }}", "%{x}", ""]


def sample() -> StudyRecord:
    return StudyRecord.load(FIXTURE)


def renamed(names: list[str]) -> StudyRecord:
    """The sample with other names; its tasks in turn, for as many names as there are."""
    record = sample()
    old = list(record.tasks)
    of = {name: old[index % len(old)] for index, name in enumerate(names)}

    def spread(by_task: Any) -> dict[str, Any]:
        return {name: by_task[of[name]] for name in names if of[name] in by_task}

    arms = {
        name: dataclasses.replace(arm, errors=spread(arm.errors), error=spread(arm.error), metrics=spread(arm.metrics))
        for name, arm in record.arms.items()
    }
    advice = record.recommendation
    rng = np.random.default_rng(0)
    pairs = {f"{a} | {b}": rng.uniform(-1, 1, 20).tolist() for i, a in enumerate(names) for b in names[i + 1 :]}
    epochs = record.curves["joint"][old[0]]["epoch"]
    share = rng.uniform(0.1, 1, len(names))
    return dataclasses.replace(
        record,
        tasks=spread(record.tasks),
        arms=arms,
        verdicts=spread(record.verdicts),
        recommendation=dataclasses.replace(
            advice, arms=spread(advice.arms), errors=spread(advice.errors), error=spread(advice.error),
            chosen=spread(advice.chosen),
        ),
        curves={arm: spread(found) for arm, found in record.curves.items()},
        weights={"joint:mmoe": {"epoch": epochs, "tasks": {name: rng.uniform(0, 2, 20).tolist() for name in names}}},
        conflict={"joint:mmoe": {"epoch": epochs, "pairs": pairs}},
        gates={"joint:mmoe": {name: rng.dirichlet(np.ones(3)).tolist() for name in names}},
        calibration=spread(record.calibration),
        residuals=spread(record.residuals),
        coverage={"tasks": names, "share": share.tolist(), "together": np.minimum.outer(share, share).tolist()},
    )  # fmt: skip


def bare() -> StudyRecord:
    """One task, one arm, nothing measured, and none of the optional parts."""
    record = sample()
    arm = dataclasses.replace(
        record.arms["joint"],
        errors={}, error={"relapse": Interval(None)}, metrics={}, mean_rank=None, gain=None,
        seconds=float("nan"), predict_seconds=float("nan"), parameters=float("nan"),
    )  # fmt: skip
    return StudyRecord(
        tasks={"relapse": record.tasks["relapse"]},
        folds=(),
        arms={"joint": arm},
        verdicts={},
        recommendation=Recommendation({}, "", {}, {}, None, None, {}),
    )


def run_record() -> RunRecord:
    return RunRecord(
        tasks={
            "relapse": TaskResult(
                "binary", "auroc", True, {"auroc": 0.81, "log_loss": None}, {"auroc": 0.79}, 900, 300
            ),
            "stay_days": TaskResult("regression", "mae", False, {"mae": 2.5}, {"mae": 2.0}, 1000, 310),
        },
        recipe={"sharing": {"name": "hard"}, "seed": 0},
        recipe_hash="abcdef012345",
        data={"patients": {"path": "patients.csv", "rows": 2000, "sha256": "4f" * 32}},
        epochs=31,
        best_epoch=20,
        seconds=12.5,
        parameters={"shared": 1000, "private": 0, "heads": 40},
        notes=("Column 'id' left out.",),
        environment={"python": "3.11.9"},
    )
