"""Can a network on few groups be kept from being worse than a constant, by what its validation groups say?

The table is parkinsons: rows of 42 patients, 25 of them to learn from and 8 for validation. The default joint network
is trained, and its answers are then pulled to the mean of the training rows in several ways; the error on the test rows
is relative to that of this mean.

    network    as it is
    slope      times the slope that is best on the validation rows, in 0 to 1
    shrunken   times that slope, less what its standard error over validation patients says is chance:
               s max(0, 1 - (error / s)^2)
    clear      as it is if it is better than the mean by two standard errors over validation patients; else the mean

    python bench/grouped_answers.py --data FOLDER --splits 4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from table_defaults import SPLIT, from_folder, prepared_for, recipe_of

from polytask.data.splits import holdout
from polytask.training.evaluation import outputs_of
from polytask.training.planning import plan_of
from polytask.training.run import fit


def error_of_sum(values: np.ndarray, groups: np.ndarray) -> float:
    """Standard error of a sum over rows, of groups drawn at random."""
    sums = np.bincount(groups, weights=values)
    return float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)))


def factors(y: np.ndarray, answer: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """What each way multiplies the answers with; both are deviations from the mean of the training rows."""
    power = float((answer**2).sum())
    slope = float((answer * y).sum()) / power
    error = error_of_sum(answer * (y - slope * answer), groups) / power
    kept = min(max(slope, 0.0), 1.0)
    gains = y**2 - (y - answer) ** 2
    is_clear = gains.sum() > 2 * error_of_sum(gains - gains.mean(), groups)
    shrunken = kept * max(0.0, 1.0 - (error / slope) ** 2) if kept else 0.0
    return {"network": 1.0, "slope": kept, "shrunken": shrunken, "clear": float(is_clear)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with mulan_mtr/, parkinsons/ and adult/")
    parser.add_argument("--splits", type=int, default=4)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    case = dict(from_folder(asked.data))["parkinsons"]
    patients = case.frame[case.groups].to_numpy()
    for seed in range(asked.splits):
        recipe = recipe_of(case, seed)
        prepared = prepared_for(case, seed, recipe)
        held = holdout(len(case.frame), seed=seed, groups=patients, **SPLIT).validation
        groups = np.unique(patients[held], return_inverse=True)[1]
        model = fit(prepared, plan_of(recipe, prepared)).model
        names = [task.name for task in prepared.tasks]
        found: dict[str, list[float]] = {}
        by_part = {part: outputs_of(model, getattr(prepared, part)["data"], names) for part in ("validation", "test")}
        for name in names:
            (known, y), (answer, truth) = (
                (outputs[name][:, 0].double().numpy(), targets[name].double().numpy())
                for outputs, targets, _ in by_part.values()
            )
            found.setdefault("validation", []).append(float(((y - known) ** 2).mean() / (y**2).mean()))
            for way, factor in factors(y, known, groups).items():
                error = ((truth - factor * answer) ** 2).mean() / (truth**2).mean()
                found.setdefault(way, []).append(float(error))
        cells = "  ".join(f"{way} {np.mean(errors):.3f}" for way, errors in found.items())
        print(f"split {seed}, {groups.max() + 1} validation patients: {cells}", flush=True)


if __name__ == "__main__":
    main()
