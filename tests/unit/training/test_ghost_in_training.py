"""A training that passes over weight gradients is the training that does not."""

from contextlib import nullcontext

import numpy as np
import pytest

from polytask.balancing.ghost import Ghost
from polytask.data import related_regressions
from polytask.recipe import Recipe
from polytask.training.passes import Passes


@pytest.mark.parametrize("balancer", ["nash_mtl", "pcgrad"])
def test_ghost_changes_no_result(balancer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = related_regressions(3, 120, seed=0, missing=0.3)
    recipe = Recipe(
        tasks=dict.fromkeys(made.targets, "regression"),
        encoder={"name": "mlp", "widths": [96, 96]},
        balancer=balancer,
        training={"epochs": 3, "batch_size": 16},
    )
    watched: list[Ghost] = []
    make = Ghost.__enter__
    monkeypatch.setattr(Ghost, "__enter__", lambda ghost: watched.append(ghost) or make(ghost))
    with_ghost = recipe.run(made.frame).history
    assert watched
    monkeypatch.setattr(Passes, "ghosts", lambda passes: nullcontext())
    without = recipe.run(made.frame).history
    for ours, theirs in zip(with_ghost, without, strict=True):
        for part in ("train", "validation"):
            np.testing.assert_allclose(list(ours[part].values()), list(theirs[part].values()), rtol=2e-3)
