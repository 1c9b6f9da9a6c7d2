"""What does each rule of early stopping keep, and what does it cost?

A stop rule does not change the path of a training, only where it ends. So one training to the last epoch, with the
losses on validation rows and the errors on test rows after every epoch, tells of every rule what it would have kept
and how many epochs it would have trained. Tables, splits and score are those of `bench/table_defaults.py`; the network
is the default joint one, with steady dropout: how far it fades would depend on the epochs so far, and on a patience.

A rule is `PATIENCE/SHARE/EPOCHS`: it stops after `PATIENCE` epochs without a better one, or after `SHARE` of the epochs
up to the best one if that is more, and at the latest after `EPOCHS`.

    python bench/stop_rules.py [--data FOLDER] [--tables enb,jura] [--splits 2] [--rules 16/0/100,16/0.5/300]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from table_defaults import Case, bundled, from_folder, generated, prepared_for, recipe_of

from polytask.training.evaluation import evaluate
from polytask.training.loop import Training
from polytask.training.planning import plan_of
from polytask.training.run import fit

RULES = "16/0/100,16/0/300,40/0/300,16/0.25/300,16/0.5/300,16/1/300"


@dataclass(frozen=True)
class Course:
    """One training to its last epoch: per epoch, the score that the stop rule looks at, and the error on test rows."""

    validation: np.ndarray
    test: np.ndarray
    seconds: float

    def under(self, patience: int, share: float, epochs: int) -> tuple[float, int]:
        """Error on test rows of the epoch that a rule keeps, and the epochs that it trains."""
        best = 0
        for epoch, score in enumerate(self.validation[:epochs]):
            if score < self.validation[best]:
                best = epoch
            if epoch - best >= max(patience, share * (best + 1)):
                return float(self.test[best]), epoch + 1
        return float(self.test[best]), min(epochs, len(self.validation))


def exact(n_rows: int) -> Case:
    """Three crooked functions of six inputs, without any noise."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(n_rows, 6))
    z = [np.sin(x[:, 0]) + x[:, 1] * x[:, 2], np.abs(x[:, 3]) - x[:, 1], np.tanh(x[:, 4] * x[:, 0]) + x[:, 5] ** 2 / 3]
    frame = pd.DataFrame(np.column_stack([x, *z]), columns=[*(f"x{i}" for i in range(6)), "y0", "y1", "y2"])
    return Case(frame, dict.fromkeys(("y0", "y1", "y2"), "regression"))


def trained(case: Case, seed: int, epochs: int) -> Course:
    """The path of one training of the default joint network."""
    recipe = recipe_of(case, seed, training={"dropout_fades": False})
    prepared = prepared_for(case, seed, recipe)
    plan = plan_of(recipe, prepared)
    test: list[float] = []
    scores: list[float] = []
    spent = 0.0
    end_epoch = Training.end_epoch

    def looking(self: Training) -> dict[str, Any]:
        nonlocal spent
        line = end_epoch(self)
        began = time.process_time()
        scores.append(np.mean([line["validation"][t] / max(self.constant[t], 1e-12) for t in self.constant]))
        metrics = evaluate(self.model, self.tasks, prepared.test)
        test.append(np.nanmean([metrics[task.name]["relative_error"] for task in self.tasks]))
        spent += time.process_time() - began
        return line

    Training.end_epoch = looking  # type: ignore[method-assign]
    began = time.process_time()
    try:
        fit(prepared, replace(plan, settings=replace(plan.settings, epochs=epochs, patience=epochs)))
    finally:
        Training.end_epoch = end_epoch  # type: ignore[method-assign]
    return Course(np.array(scores), np.array(test), time.process_time() - began - spent)


def report(name: str, paths: Sequence[Course], rules: Mapping[str, tuple[int, float, int]]) -> None:
    """A row: per rule the mean error, and the mean number of epochs."""
    cells = []
    for rule in rules.values():
        found = [path.under(*rule) for path in paths]
        cells.append(f"{np.mean([e for e, _ in found]):.4f} ({np.mean([n for _, n in found]):3.0f})")
    best = np.mean([path.test.min() for path in paths])
    seconds = np.mean([path.seconds / len(path.test) for path in paths])
    print(f"{name:<18} " + " ".join(f"{cell:>16}" for cell in cells) + f" {best:10.4f} {seconds:8.3f}", flush=True)
    for seed, path in enumerate(paths):
        each = "  ".join(f"{path.under(*rule)[0]:.4f}" for rule in rules.values())
        print(f"    split {seed}: {each}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with mulan_mtr/, parkinsons/ and adult/")
    parser.add_argument("--tables", default="enb,enb 80% missing,jura,jura 80% missing,related 100,kinds 600,"
                                            "diabetes,wine,cancer")  # fmt: skip
    parser.add_argument("--splits", type=int, default=2)
    parser.add_argument("--rules", default=RULES)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rules = {text: (int(p), float(s), int(e)) for text in given.rules.split(",") for p, s, e in [text.split("/")]}
    cases = dict(
        [("exact 600", exact(600)), *generated(), *bundled(), *(from_folder(given.data) if given.data else ())]
    )
    most = max(epochs for _, _, epochs in rules.values())
    print(f"{'error (epochs)':<18} " + " ".join(f"{rule:>16}" for rule in rules) + "  best epoch  s/epoch")
    for name in given.tables.split(","):
        report(name, [trained(cases[name], seed, most) for seed in range(given.splits)], rules)


if __name__ == "__main__":
    main()
