"""What the joint network of the vision example is worth by how it is trained, on scenes of its own to choose by.

Tasks, network and settings are those of ``examples/vision.py``; its scenes are made with another seed here, so that
nothing is chosen on the example's test rows: 1,200 to learn from, 150 to stop by, 300 to choose by. A line for each
way, the first metric of each task, and the seconds of one processor; each task alone comes last.

    python bench/vision_choices.py [--only "equal,ratio 0.5"] [--rows 1650]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from polytask.data import composed_scenes
from polytask.training.data_sets import ArrayData

sys.path.append(str(Path(__file__).parents[1] / "examples"))
from vision import SIZE, TASKS, data_of, recipe

WAYS: dict[str, dict[str, Any]] = {
    "equal": {},
    "cosine": {"schedule": "cosine"},
    "rate 0.01": {"learning_rate": 1e-2},
    "weights": {"weights": {"mask": 10.0, "depth": 3.0, "boxes": 0.3}},
    "fairgrad": {"balancer": "fairgrad"},
    "ratio 0.83": {"ratio": 0.83},
    "ratio 0.5": {"ratio": 0.5},
    "20 epochs": {"epochs": 20},
    **{f"{name} alone": {"only": (name,)} for name in TASKS},
    **{f"mask and {name}": {"only": ("mask", name)} for name in ("depth", "boxes", "look", "number")},
}


def run(
    data: ArrayData,
    *,
    epochs: int = 6,
    only: tuple[str, ...] = tuple(TASKS),
    weights: dict[str, float] | None = None,
    ratio: float = 1.0,
    balancer: str = "equal",
    **training: Any,
) -> str:
    """One training, as a line."""
    # As long as the example's, but that of a longer training each task keeps its best epoch.
    patience = {"patience": epochs} if epochs > 6 else {}
    tasks = {name: {**TASKS[name], "weight": (weights or {}).get(name, 1.0), **patience} for name in only}
    began = time.process_time()
    done = recipe(epochs, {"name": "hard", "ratio": ratio}, balancer, tasks, **training).run(data)
    found = {name: result.metrics[next(iter(result.metrics))] for name, result in done.record.tasks.items()}
    shown = "".join(f"{found[name]:9.3f}" if name in found else f"{'-':>9}" for name in TASKS)
    return f"{shown} {time.process_time() - began:8.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"some of: {', '.join(WAYS)}")
    parser.add_argument("--rows", type=int, default=1650, help="scenes")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(WAYS)
    if unknown := [name for name in chosen if name not in WAYS]:
        parser.error(f"--only needs names of ways, got {unknown}; there are: {', '.join(WAYS)}")
    n_validation, n_test = options.rows // 11, 2 * options.rows // 11
    part = np.array(
        ["train"] * (options.rows - n_validation - n_test) + ["validation"] * n_validation + ["test"] * n_test
    )
    data = data_of(composed_scenes(options.rows, SIZE, most=2, seed=1), part.astype(object))
    print(f"{'':17}" + "".join(f"{name:>9}" for name in TASKS) + f" {'seconds':>8}")
    for name in chosen:
        print(f"{name:17}{run(data, **WAYS[name])}", flush=True)


if __name__ == "__main__":
    main()
