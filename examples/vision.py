"""Vision: masks, depth, boxes and classes of whole images from one encoder, joint beside single, two ways of sharing.

Scenes are composed of real digits at known places, the near ones larger and in front of the far ones. Without options
the digits are those of 8 x 8 pixels that ship with scikit-learn; others can be given as IDX files:

    python examples/vision.py --digits t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz

Every task is learned jointly with hard sharing, jointly with attention (mtan), and alone, on the same rows and for as
many epochs. Six networks are six times the parameters, and here four times the training: with --longer 20 the joint
one is trained once more for 20 epochs, in which each task keeps the network of its own best epoch, and which still take
less time than the six together. A picture of answers beside the truth is written at the end.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from polytask import Recipe
from polytask.cli.terminal import print_record, say
from polytask.data import Scenes, composed_scenes, read_idx_images
from polytask.training.data_sets import ArrayData
from polytask.training.progress import Bar

SIZE = 24
TASKS = {
    "mask": {"kind": "segmentation"},
    "depth": {"kind": "dense_regression"},
    "boxes": {"kind": "detection", "size": [SIZE, SIZE]},
    "digits": {"kind": "multilabel"},
    "number": {"kind": "count"},
    "look": {"kind": "retrieval"},
}


def data_of(scenes: Scenes, part: np.ndarray) -> ArrayData:
    """Scenes with their labels; ``part`` says which are learned from, stopped by and tested on."""
    labels = {
        "mask": scenes.mask,
        "depth": scenes.depth,
        "boxes": scenes.boxes,
        "digits": (scenes.counts > 0).astype(int),
        "number": scenes.counts.sum(1),
        "look": scenes.front,
    }
    return ArrayData("scenes", scenes.images, labels, {"part": part})


def recipe(epochs: int, sharing: dict, balancer: str = "equal", tasks: dict = TASKS, **training) -> Recipe:
    return Recipe(
        tasks=tasks,
        encoder={"name": "unet", "channels": [12, 24, 48], "width": 32},
        sharing=sharing,
        balancer=balancer,
        split={"method": "given", "column": "part"},
        training={"epochs": epochs, "batch_size": 16, "learning_rate": 3e-3, **training},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=Path, nargs=2, metavar=("IMAGES", "LABELS"), help="IDX files of digits")
    parser.add_argument("--rows", type=int, default=1500, help="scenes")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--longer", type=int, help="also train the joint network for so many epochs")
    parser.add_argument("--balancer", default="equal", help="see: polytask list balancers")
    parser.add_argument("--picture", type=Path, default=Path("vision.png"), help="where the picture goes")
    arguments = parser.parse_args()

    digits = read_idx_images(*arguments.digits) if arguments.digits else None
    scenes = composed_scenes(arguments.rows, SIZE, most=2, digits=digits)
    # Of the last fifth, every other scene is for early stopping and the rest for the test.
    n_train = int(0.8 * arguments.rows)
    part = np.array(["train"] * arguments.rows, dtype=object)
    part[n_train:] = np.resize(["test", "validation"], arguments.rows - n_train)
    data = data_of(scenes, part)

    epochs, balancer = arguments.epochs, arguments.balancer
    hard = recipe(epochs, {"name": "hard"}, balancer).run(data, compare=True, progress=Bar())
    print_record(hard.record)
    mtan = recipe(epochs, {"name": "mtan", "squeeze": 16}, balancer).run(data, progress=Bar())
    joint = {"hard": hard, "mtan": mtan}
    if arguments.longer:
        # Of more epochs than a patience a training ends early, unless each task waits for all of them.
        patient = {name: {**task, "patience": arguments.longer} for name, task in TASKS.items()}
        hard = recipe(arguments.longer, {"name": "hard"}, balancer, patient).run(data, progress=Bar())
        joint[f"{arguments.longer} epochs"] = hard
    print_metrics(joint)

    rows = np.flatnonzero(part == "test")[:10]
    sheet(scenes, rows, hard.bundle.predict(scenes.images[rows])).save(arguments.picture)
    say(
        f"{arguments.picture}: boxes, masks and depth of {len(rows)} test scenes, the truth above the answer each time."
    )


def print_metrics(joint: dict) -> None:
    """The first metric of each task by how it was learned, and what the networks cost."""
    say("\nThe same test rows, the first metric of each task: hard sharing, attention, one model a task.")
    say(" " * 23 + "  ".join(f"{name:>9}" for name in (*joint, "single")))
    for name, found in joint["hard"].record.tasks.items():
        metric = next(iter(found.metrics))
        values = [*(run.record.tasks[name].metrics[metric] for run in joint.values()), (found.single or {}).get(metric)]
        shown = "  ".join(f"{'-':>9}" if value is None else f"{value:9.3f}" for value in values)
        say(f"{name:8} {metric:14} {shown}")
    costs = {name: (sum(run.record.parameters.values()), run.record.seconds) for name, run in joint.items()}
    say("; ".join(f"{name}: one network of {n:,} numbers, {seconds:.0f} s" for name, (n, seconds) in costs.items()))
    say(f"Single models are {len(TASKS)} networks, each nearly as large as that of hard sharing.")


# The picture: one scene a column; image, true and found boxes, mask and depth.
COLOURS = np.array([[230, 25, 75], [60, 180, 75], [255, 225, 25], [0, 130, 200], [245, 130, 48], [145, 30, 180],
                    [70, 240, 240], [240, 50, 230], [210, 245, 60], [250, 190, 190], [20] * 3], np.uint8)  # fmt: skip
SCALE = 5


def with_boxes(image: np.ndarray, boxes: list) -> Image.Image:
    large = Image.fromarray(image).convert("RGB").resize((SIZE * SCALE, SIZE * SCALE), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(large)
    for digit, *edges in boxes:
        draw.rectangle([SCALE * edge for edge in edges], outline=tuple(int(c) for c in COLOURS[digit]))
        draw.text((SCALE * edges[0] + 2, SCALE * edges[1]), str(digit), fill="white")
    return large


def enlarged(colours: np.ndarray) -> Image.Image:
    return Image.fromarray(colours).resize((SIZE * SCALE, SIZE * SCALE), Image.Resampling.NEAREST)


def grey(depth: np.ndarray) -> np.ndarray:
    return np.clip(255 * (2.8 - np.nan_to_num(depth, nan=2.8)) / 1.8, 0, 255).astype(np.uint8)


def sheet(scenes: Scenes, rows: np.ndarray, answers: dict) -> Image.Image:
    """One scene a column; from above: image with true and found boxes, true and found mask, true and found depth."""
    whole = Image.new("RGB", (len(rows) * SIZE * SCALE, 6 * SIZE * SCALE))
    for column, row in enumerate(rows):
        image, found = scenes.images[row, 0], answers["boxes"].values[column]
        is_digit = answers["mask"].values[column] < 10
        cells = [
            with_boxes(image, scenes.boxes[row]),
            with_boxes(image, [(box["class"], *box["box"]) for box in found]),
            enlarged(COLOURS[scenes.mask[row]]),
            enlarged(COLOURS[answers["mask"].values[column]]),
            enlarged(grey(scenes.depth[row])).convert("RGB"),
            # Depth is only defined where there is a digit: where the model says so.
            enlarged(grey(np.where(is_digit, answers["depth"].values[column], np.nan))).convert("RGB"),
        ]
        for line, cell in enumerate(cells):
            whole.paste(cell, (column * SIZE * SCALE, line * SIZE * SCALE))
    return whole


if __name__ == "__main__":
    main()
