"""A whole study over one joint training of the same data: what its trainings cost, arm by arm, stacked or not.

A made table of regressions, the default arms (or those that are asked for), folds once, no budget, one process. CPU
seconds of the whole study, dealt among the arms as the clock had them (of networks in a stack each has its share); the
joint training is the ordinary one on four fifths of the rows, measured before and after the study, the better of both.

    python bench/study_cost.py [--rows 2000] [--tasks 4] [--folds 5] [--epochs 40]
                               [--encoder '{name: mlp, widths: [64, 64]}'] [--arms joint,single,linear]
"""

from __future__ import annotations

import argparse
import time

import torch
import yaml

from polytask.data.generators import related_regressions
from polytask.recipe import Recipe
from polytask.study import Protocol, Study
from polytask.study.naming import make_arm
from polytask.study.networks import NetworkArm
from polytask.training.opening import prepare_recipe
from polytask.training.planning import plan_of
from polytask.training.run import fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 2000), ("tasks", 4), ("folds", 5), ("epochs", 40)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--encoder", type=yaml.safe_load, default="auto")
    parser.add_argument("--arms", default="")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    made = related_regressions(asked.tasks, asked.rows)
    settings = {"encoder": asked.encoder, "training": {"epochs": asked.epochs}}
    recipe = Recipe(tasks=list(made.targets), **settings)
    prepared = prepare_recipe(recipe, made.frame)
    plan = plan_of(recipe, prepared)

    def one_training() -> tuple[float, int]:
        began = time.process_time()
        epochs = fit(prepared, plan).epochs
        return time.process_time() - began, epochs

    one_training()
    before, epochs = one_training()
    study = Study(
        made.frame,
        list(made.targets),
        arms=asked.arms.split(",") if asked.arms else None,
        protocol=Protocol(folds=asked.folds, repeats=1),
        **settings,
    )
    began = time.process_time()
    record = study.run()
    cpu = time.process_time() - began
    one = min(before, one_training()[0])
    print(f"{asked.rows} rows, {asked.tasks} tasks, {asked.folds} folds, encoder {asked.encoder}: one joint training "
          f"{one:.1f} CPU s, {epochs} epochs")  # fmt: skip
    on_clock = {name: found.seconds * asked.folds for name, found in record.arms.items()}
    rate = cpu / sum(on_clock.values())
    sums = {"networks": 0.0, "other models": 0.0}
    for name, seconds in on_clock.items():
        arm = make_arm(name)
        is_network = isinstance(arm, NetworkArm)
        n = asked.folds * (asked.tasks if arm.is_per_task else 1) if is_network else 0
        sums["networks" if is_network else "other models"] += seconds * rate
        print(f"{name:<24}{f'{n} networks' if n else '-':>14}{seconds * rate:9.1f} CPU s{seconds * rate / one:8.1f} x")
    told = ", ".join(f"{what} {spent / one:.1f} x" for what, spent in sums.items())
    print(
        f"{told}; with the final models the study took {cpu / one:.1f} x one joint training, "
        f"{cpu / 2 / one:.1f} x on two cores that are both busy (aim: 3 x)"
    )


if __name__ == "__main__":
    main()
