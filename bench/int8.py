"""What weights of 8 bits change in each task's metrics, on rows that no training saw.

    python bench/int8.py

Tables of scikit-learn, with some of their columns as tasks; a third of the rows is kept for the comparison.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import datasets

from polytask import Recipe
from polytask.serving.export import export
from polytask.serving.quantisation import quantise


def wine() -> tuple[pd.DataFrame, dict[str, str]]:
    frame = datasets.load_wine(as_frame=True).frame
    frame["cultivar"] = frame.pop("target").map({0: "A", 1: "B", 2: "C"})
    return frame, {"cultivar": "multiclass", "alcohol": "regression", "color_intensity": "regression"}


def diabetes() -> tuple[pd.DataFrame, dict[str, str]]:
    frame = datasets.load_diabetes(as_frame=True, scaled=False).frame
    frame["ill"] = np.where(frame["target"] > 140, "yes", "no")
    return frame, {"target": "regression", "ill": "binary", "bp": "regression"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="*", default=["tabm", "tabular"])
    options = parser.parse_args()
    print("| data | encoder | task | metric | 32 bits | 8 bits | bytes, 32 | bytes, 8 |", "|---" * 8 + "|", sep="\n")
    for name, (frame, tasks) in {"wine": wine(), "diabetes": diabetes()}.items():
        held = np.random.default_rng(0).random(len(frame)) < 1 / 3
        for encoder in options.encoders:
            with tempfile.TemporaryDirectory() as folder:
                recipe = Recipe(tasks=tasks, encoder=encoder, training={"epochs": 60})
                made = export(recipe.run(frame[~held]).bundle, Path(folder) / "graph")
                path, metrics = quantise(made.about, frame[held])
                sizes = made.graph.stat().st_size, path.stat().st_size
            for task, found in metrics.items():
                metric, (before, after) = next(iter(found.items()))
                numbers = f"{before:.4f} | {after:.4f} | {sizes[0]:,} | {sizes[1]:,}"
                print(f"| {name} | {encoder} | {task} | {metric} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
