"""What the tests of several processes train: a table, its tasks, and a case of every path that numbers go between them."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import torch

from polytask import Recipe

ROWS = 131  # 92 to train on: steps of 30, 30, 30 rows and a last one of 2, in which the second process is idle


def table(n: int = ROWS, seed: int = 0) -> pd.DataFrame:
    """Half of the labels of price are missing, and all but a few of rare; d has two groups."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    x[:, 3] = x[:, 3] > 0
    made = pd.DataFrame(x, columns=list("abcd"))
    made["price"] = np.where(rng.random(n) < 0.5, np.nan, x @ [1.0, -1.0, 0.5, 0.0] + rng.normal(size=n))
    made["ill"] = np.where(x[:, 0] + rng.normal(size=n) > 0, "yes", "no")
    made["rare"] = np.where(rng.random(n) < 0.9, np.nan, x[:, 1] + rng.normal(size=n))
    return made


def recipe(**changes) -> Recipe:
    settings = {
        "tasks": {"price": "regression", "ill": "binary", "rare": "regression"},
        "encoder": {"name": "mlp", "widths": [8, 6], "dropout": 0.0},
        "training": {
            "epochs": 3,
            "batch_size": 30,
            "optimiser": "sgd",
            "learning_rate": 0.02,
            **changes.pop("train", {}),
        },
        "seed": 3,
    }
    return Recipe(**{**settings, **changes})


def several(**changes) -> tuple[Recipe, dict[str, pd.DataFrame]]:
    """Two sources, of which each step has a batch."""
    tables = {"one": table(80).drop(columns="rare"), "two": table(60, 1).drop(columns=["price", "ill"])}
    return recipe(**changes), tables


CASES = {
    "equal": {"balancer": "equal"},
    "learned weights": {"balancer": "uncertainty"},
    "losses after the step": {"balancer": "famo"},
    "gramian": {"balancer": "nash_mtl"},
    "rows": {"balancer": "moco"},
    "second batch": {"balancer": {"name": "modo", "independent": True}},
    "validation batch": {"balancer": "auto_lambda"},
    "features": {"balancer": "nash_mtl", "train": {"mode": "features"}},
    "matrix-free": {"balancer": "nash_mtl", "train": {"mode": "matrix_free"}},
    "mixture of experts": {"balancer": "upgrad", "sharing": "mmoe"},
    "chained tasks": {"balancer": "mgda", "sharing": "aitm"},
    "penalty": {"train": {"regularisers": [{"penalty": "group_l21", "strength": 0.01}]}},
    "stages": {"schedule": {"name": "sequential"}},
    "constraints": {"constraints": ["price.loss<=0.5", "ill.specificity>=0.8", "rare.loss<=0.4"]},
    "constraints beside gradients": {
        "balancer": "upgrad",  # by nash_mtl two scores come so near that rounding decides their order
        "constraints": ["ill.loss by d within 0.001", "ill.auroc>=0.9"],
    },
}
REMEDIES = {
    "ewc": {"name": "ewc", "strength": 40.0, "rows": 20},
    "online_ewc": {"name": "online_ewc", "strength": 40.0, "decay": 0.5, "rows": 20},
    "synaptic_intelligence": {"name": "synaptic_intelligence", "strength": 500.0},
    "learning_without_forgetting": {"name": "learning_without_forgetting", "strength": 20.0},
    "replay": {"name": "replay", "rows": 9, "batch": 5, "keeping": "class_balanced"},
    "a_gem": {"name": "a_gem", "rows": 9, "batch": 5},
}
CASES |= {name: {"schedule": {"name": "sequential", "remedies": [remedy]}} for name, remedy in REMEDIES.items()}


def numbers(run) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in run.bundle.models[0].model.state_dict().items()}


def metrics(run) -> dict[str, dict[str, float]]:
    return {t: {k: v for k, v in r.metrics.items() if v is not None} for t, r in run.record.tasks.items()}


def story(run) -> list[dict]:
    return [{k: v for k, v in line.items() if k not in ("seconds", "bytes_per_step")} for line in run.history]


@functools.cache
def by_one_process(name: str):
    return recipe(**CASES[name]).run(table())


def assert_equal(one, other) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
