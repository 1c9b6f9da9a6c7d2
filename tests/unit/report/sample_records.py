"""Records for the tests of pages: the made-up sample, and changed copies of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from polytask.records import (
    Interval,
    Recommendation,
    RunRecord,
    SequenceResult,
    StageRecord,
    StudyRecord,
    TaskResult,
)

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


def staged_record(n_tasks: int = 2, rounds: int = 1) -> RunRecord:
    """A run in stages, each task in turn, with single models and the joint model beside it."""
    names = ["relapse", "stay_days", *(f"score_{i}" for i in range(2, n_tasks))][:n_tasks]
    stages, metrics = [], {}
    for turn in range(rounds * n_tasks):
        for i, name in enumerate(names):
            metrics[name] = {"r2": round(0.9 - 0.07 * ((turn - i) % n_tasks), 3)}
        task = names[turn % n_tasks]
        stages.append(StageRecord(f"{task} (round {turn // n_tasks + 1})", (task,), dict(metrics), 5, 4, 0.5))
    lost = {name: 0.9 - metrics[name]["r2"] for name in names[:-1]} | {names[-1]: None}
    sequence = SequenceResult(
        "alternating", ("ewc",), {name: {"r2": -0.01} for name in names}, tuple(stages),
        backward={name: None if value is None else -value for name, value in lost.items()},
        forward=dict.fromkeys(names[1:], 0.02) | {names[0]: None}, forgetting=lost,
        intransigence=dict.fromkeys(names, -0.004), means={"forgetting": 0.07},
    )  # fmt: skip
    tasks = {
        name: TaskResult("regression", "r2", True, metrics[name], {"r2": 0.8}, 900, 300, joint={"r2": 0.85})
        for name in names
    }
    return dataclasses.replace(run_record(), tasks=tasks, sequence=sequence)
