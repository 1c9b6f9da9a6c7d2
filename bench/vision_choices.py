"""What the joint network of the vision example is worth by how it is trained, on scenes of its own to choose by.

The scenes are made as those of ``examples/vision.py`` with another seed, so that nothing is chosen on its test rows:
1,200 to learn from, 150 to stop by, 300 to choose by. A line for each way, the first metric of each task, and the
seconds of one processor; each task alone comes last.

    python bench/vision_choices.py [--only "equal,ratio 0.5"]
"""

import argparse
import time

import numpy as np

from polytask import Recipe
from polytask.data import composed_scenes
from polytask.training.data_sets import ArrayData

SIZE = 24
TASKS = {
    "mask": {"kind": "segmentation"},
    "depth": {"kind": "dense_regression"},
    "boxes": {"kind": "detection", "size": [SIZE, SIZE]},
    "digits": {"kind": "multilabel"},
    "number": {"kind": "count"},
    "look": {"kind": "retrieval"},
}
WAYS = {
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


def run(data: ArrayData, way: dict) -> str:
    """One training, as a line."""
    epochs = way.get("epochs", 6)
    # As long as the example's, but that of a longer training each task keeps its best epoch.
    patience = {"patience": epochs} if epochs > 6 else {}
    tasks = {
        name: {**options, "weight": way.get("weights", {}).get(name, 1.0), **patience}
        for name, options in TASKS.items()
        if name in way.get("only", TASKS)
    }
    training = {"epochs": epochs, "batch_size": 16, "learning_rate": way.get("learning_rate", 3e-3)}
    began = time.process_time()
    done = Recipe(
        tasks=tasks,
        encoder={"name": "unet", "channels": [12, 24, 48], "width": 32},
        sharing={"name": "hard", "ratio": way.get("ratio", 1.0)},
        balancer=way.get("balancer", "equal"),
        split={"method": "given", "column": "part"},
        training={**training, "schedule": way.get("schedule", "constant")},
    ).run(data)
    found = {name: result.metrics[next(iter(result.metrics))] for name, result in done.record.tasks.items()}
    shown = "".join(f"{found[name]:9.3f}" if name in found else f"{'-':>9}" for name in TASKS)
    return f"{shown} {time.process_time() - began:8.0f}"


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--only", help=f"some of: {', '.join(WAYS)}")
asked = parser.parse_args().only
scenes = composed_scenes(1650, SIZE, most=2, seed=1)
labels = {
    "mask": scenes.mask,
    "depth": scenes.depth,
    "boxes": scenes.boxes,
    "digits": (scenes.counts > 0).astype(int),
    "number": scenes.counts.sum(1),
    "look": scenes.front,
}
part = np.repeat(["train", "validation", "test"], [1200, 150, 300]).astype(object)
data = ArrayData("scenes", scenes.images, labels, {"part": part})
print(f"{'':17}" + "".join(f"{name:>9}" for name in TASKS) + f" {'seconds':>8}")
for name in asked.split(",") if asked else WAYS:
    print(f"{name:17}{run(data, WAYS[name])}", flush=True)
