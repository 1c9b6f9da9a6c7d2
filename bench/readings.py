"""What the benchmarks of reading have in common: a recipe as far as its first step, and the memory of this process."""

from __future__ import annotations

from pathlib import Path

from polytask import Recipe
from polytask.data import Source
from polytask.training.assembly import training_of
from polytask.training.building import network_of
from polytask.training.loop import Training
from polytask.training.opening import prepare_recipe
from polytask.training.planning import plan_of


def ready_to_step(recipe: Recipe) -> tuple[Source, Training]:
    """The training rows of the recipe's only source, and a training that has not begun."""
    prepared = prepare_recipe(recipe)
    (source,) = prepared.train.values()
    plan = plan_of(recipe, prepared)
    _, model = network_of(prepared, plan)
    return source, training_of(model, plan, prepared, plan.settings)


def memory(field: str) -> float:
    """MiB that this process holds (``VmRSS``) or held at most (``VmHWM``).

    The peak is that of this process alone, where ``ru_maxrss`` begins at what its parent had before a fork.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
