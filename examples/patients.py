"""Patients: the time until a relapse, the risk of one within a year, and a laboratory value, from the same visits.

Each patient comes several times, and all visits of a patient are on one side of every split. Some are watched too
short to know: their times are censored, and whether they relapse within a year is a missing label. Besides how well
visits are ranked, it is told how far risks can be believed (calibration), for joint and single models. The patients are
made up. Real ones: the voices of 42 people with Parkinson's disease (Tsanas et al. 2010), of whom the motor score, the
risk of a high total score, and the time until it has risen by three points are asked:

    python examples/patients.py [--parkinsons parkinsons_updrs.csv] [--balancer uncertainty]
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from polytask import Recipe
from polytask.cli.terminal import print_record, print_table, say
from polytask.training.progress import Bar

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--patients", type=int, default=400, help="made-up ones")
parser.add_argument("--parkinsons", type=Path, help="the table of the UCI repository")
parser.add_argument("--sharing", default="hard", help="see: polytask list sharing")
parser.add_argument("--balancer", default="equal", help="see: polytask list balancers")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--epochs", type=int, default=60)
arguments = parser.parse_args()
YEAR = 365.0


def made_up(n: int) -> pd.DataFrame:
    """Visits of patients whose frailty, which nobody measures, is behind all three outcomes."""
    draw = np.random.default_rng(0)
    patient = np.repeat(np.arange(n), draw.integers(1, 5, n))
    m = len(patient)
    age, smokes = draw.normal(60, 10, n)[patient], (draw.random(n) < 0.3)[patient]
    frailty = (0.04 * (age - 60) + 0.8 * smokes + draw.normal(0, 0.6, n)[patient]) + draw.normal(0, 0.3, m)
    measured = {f"marker {i}": weight * frailty + draw.normal(0, 1, m) for i, weight in enumerate((0.9, 0.6, -0.5, 0))}
    days = draw.exponential(700 * np.exp(-frailty))
    watched = draw.uniform(100, 1500, m)
    came = days <= watched
    within = np.where(came & (days <= YEAR), 1.0, np.where(np.minimum(days, watched) > YEAR, 0.0, np.nan))
    filtration = 90 - 12 * frailty + draw.normal(0, 10, m)
    return pd.DataFrame(
        {
            "patient": patient, "age": age.round(), "smokes": smokes, **measured,
            "days": np.minimum(days, watched).round(), "relapsed": came.astype(int), "relapse within a year": within,
            "filtration": np.where(draw.random(m) < 0.4, np.nan, filtration),
        }
    )  # fmt: skip


def voices(path: Path) -> pd.DataFrame:
    """Recordings, and from the later ones of the same patient, how long until the score has risen."""
    table = pd.read_csv(path).rename(columns={"subject#": "patient"}).sort_values(["patient", "test_time"])
    days, rose = np.full(len(table), np.nan), np.full(len(table), np.nan)
    for rows in table.reset_index(drop=True).groupby("patient").indices.values():
        time, score = table["test_time"].to_numpy()[rows], table["total_UPDRS"].to_numpy()[rows]
        for i, row in enumerate(rows[:-1]):
            later = np.flatnonzero(score[i + 1 :] >= score[i] + 3)
            rose[row] = float(len(later) > 0)
            days[row] = time[i + 1 + later[0]] - time[i] if len(later) else time[-1] - time[i]
    table["days"], table["rose"] = np.where(days > 0, days, np.nan), rose
    table["high score"] = (table["total_UPDRS"] >= 30).astype(int)
    return table.drop(columns=["total_UPDRS"])


if arguments.parkinsons:
    table = voices(arguments.parkinsons)
    tasks = {
        "rise": {"kind": "survival", "target": ["days", "rose"]},
        "high score": {"kind": "binary"},
        "motor_UPDRS": {"kind": "regression"},
    }
else:
    table = made_up(arguments.patients)
    tasks = {
        "relapse": {"kind": "survival", "target": ["days", "relapsed"]},
        "relapse within a year": {"kind": "binary"},
        "filtration": {"kind": "regression"},
    }
    say("The patients are made up.")
say(f"{len(table):,} visits of {table['patient'].nunique()} patients.")
recipe = Recipe(
    tasks=tasks,
    data={"visits": {"drop": ["patient"]}},
    sharing=arguments.sharing,
    balancer=arguments.balancer,
    split={"method": "grouped", "column": "patient", "validation": 0.15, "test": 0.25},
    training={"epochs": arguments.epochs},
    seed=arguments.seed,
)
run = recipe.run({"visits": table}, compare=True, progress=Bar())
print_record(run.record)
rows = []
for name, metrics in zip(tasks, (("concordance", "brier"), ("auroc", "calibration_error")), strict=False):
    found = run.record.tasks[name]
    rows += [[name, m, found.metrics[m], (found.single or {})[m]] for m in metrics]
print_table(["task", "metric", "joint", "single"], rows, title="How visits are ranked, and how far risks are believed")
