"""Processor seconds of an epoch of the default joint network on a table, by the number of training rows.

A training of four epochs less one of a single epoch, divided by three, so that what is done once does not count.

    python bench/epoch_time.py [--rows 3000,30000] [--columns 8] [--tasks 4]
"""

from __future__ import annotations

import argparse
import time

import pandas as pd

from polytask import Recipe
from polytask.data.generators import related_regressions

FEW, MANY = 1, 4


def seconds(table: pd.DataFrame, tasks: list[str], epochs: int) -> float:
    """Of a whole training on all rows but one of validation and one of test, in which nothing stops early."""
    part = ["train"] * (len(table) - 2) + ["validation", "test"]
    split = {"method": "given", "column": "part"}
    recipe = Recipe(tasks=tasks, split=split, training={"epochs": epochs, "patience": None})
    began = time.process_time()
    recipe.run(table.assign(part=part))
    return time.process_time() - began


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", default="3000,30000")
    asked.add_argument("--columns", type=int, default=8)
    asked.add_argument("--tasks", type=int, default=4)
    options = asked.parse_args()
    for rows in map(int, options.rows.split(",")):
        made = related_regressions(options.tasks, rows + 2, n_inputs=options.columns)
        tasks = list(made.targets)
        seconds(made.frame, tasks, FEW)  # imports, and what PyTorch does once
        epoch = (seconds(made.frame, tasks, MANY) - seconds(made.frame, tasks, FEW)) / (MANY - FEW)
        print(f"{rows:,} training rows, {options.columns} columns, {options.tasks} tasks: {epoch:.2f} s an epoch")
