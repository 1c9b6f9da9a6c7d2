"""Masks, depth and boxes follow their images; what cannot follow is refused; labels that do not fit are named."""

import json
import math

import numpy as np
import pytest
import torch

from polytask import Recipe
from polytask.data.augmentations import Rotate, Shift
from polytask.data.augmentations.augmentation import moved
from polytask.data.batch import Batch
from polytask.errors import DataError, InputError, RecipeError, TargetError
from polytask.models.inputs import InputShape
from polytask.tasks import DenseRegression, Detection, Multiclass, Reconstruction, Segmentation
from polytask.training.data_sets import ArrayData
from polytask.training.objective import Objective
from polytask.training.variation import Variation

SIZE = 16


def scene(n=8, seed=0):
    """Bright rectangles on dark; the mask is where they are, the depth how bright, the box around them."""
    rng = np.random.default_rng(seed)
    images = np.zeros((n, 1, SIZE, SIZE), np.float32)
    boxes = np.empty(n, dtype=object)
    for row in range(n):
        left, top = rng.integers(5, 8, 2)
        wide, tall = rng.integers(2, 5, 2)
        images[row, 0, top : top + tall, left : left + wide] = rng.uniform(0.5, 1.0)
        boxes[row] = [(int(row % 2), int(left), int(top), int(left + wide), int(top + tall))]
    mask = (images[:, 0] > 0).astype(int)
    depth = np.where(mask, images[:, 0], np.nan)
    return images, {"mask": mask, "depth": depth, "boxes": boxes, "kind": np.arange(n) % 2}


def tasks():
    return [
        Segmentation(name="mask"),
        DenseRegression(name="depth"),
        Detection(name="boxes", size=(SIZE, SIZE)),
        Multiclass(name="kind"),
    ]


def varied(augment, fit=None):
    images, labels = scene()
    fitted = fit or tasks()
    for task in fitted:
        task.fit(labels[task.name])
    source = ArrayData("scenes", images, labels).source(fitted, np.arange(len(images)))
    variation = Variation({"scenes": augment}, {"scenes": InputShape.of(source.inputs)}, 3, fitted)
    batch = source.batch(torch.arange(len(images)))
    return fitted, batch, variation([batch], 5)[0]


def test_a_shift_moves_masks_depth_and_boxes_with_the_pixels():
    (mask, depth, boxes, _), before, after = varied([("shift", {"most": 0.25})])
    assert not torch.equal(before.inputs, after.inputs)
    there = after.observed["mask"]
    image = after.inputs[:, 0]
    assert torch.equal((image > 0)[there], (after.targets["mask"] == 1)[there])
    # What came in is missing, and nothing else: as many pixels as the move takes.
    gone = after.motion[:, :, 2].abs().long()
    lost = SIZE**2 - (SIZE - gone[:, 0]) * (SIZE - gone[:, 1])
    assert torch.equal((~there).flatten(1).sum(1), lost)
    seen = after.observed["depth"][..., 0]
    assert torch.equal(seen, (image > 0) & there)
    values = depth.decode(after.targets["depth"]).values
    np.testing.assert_allclose(values[seen.numpy()], image[seen].numpy(), atol=1e-5)
    for row in range(len(image)):
        y, x = (image[row] > 0).nonzero().T
        edges = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()
        _, cx, cy, w, h = after.targets["boxes"][row, 0]
        torch.testing.assert_close(torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]), edges)
    assert torch.equal(before.targets["kind"], after.targets["kind"])
    assert mask.n_outputs == boxes.n_outputs - 4 == 2


def test_a_turn_turns_masks_and_the_boxes_around_them():
    _, _, after = varied([("rotate", {"degrees": 40})])
    bright = after.inputs[:, 0] > 0.5 * after.inputs[:, 0].amax((1, 2), keepdim=True)
    there = after.observed["mask"]
    agree = ((after.targets["mask"] == 1) == bright)[there].float().mean()
    assert agree > 0.97
    assert not there.all()
    for row in range(len(bright)):
        y, x = bright[row].nonzero().T
        _, cx, cy, w, _ = after.targets["boxes"][row, 0]
        middle = torch.stack([x.float().mean() + 0.5, y.float().mean() + 0.5])
        torch.testing.assert_close(torch.stack([cx, cy]), middle, atol=0.8, rtol=0)
        # The box lies around the turned rectangle, so that it holds all of it but for the rounding of pixels.
        assert x.min() >= cx - w / 2 - 1
        assert x.max() <= cx + w / 2 + 1


def test_moves_one_after_another_are_one():
    grid = torch.rand(1, 1, SIZE, SIZE)
    batch = Batch(grid, {}, {}, "scenes")
    first = Shift(most=0.3)(batch, torch.Generator().manual_seed(1))
    both = Shift(most=0.3)(first, torch.Generator().manual_seed(2))
    alone = Shift(most=0.3)(batch, torch.Generator().manual_seed(2))
    torch.testing.assert_close(both.motion[:, :, 2], first.motion[:, :, 2] + alone.motion[:, :, 2])
    turned = Rotate(degrees=90)(batch, torch.Generator().manual_seed(4))
    middle = turned.motion @ torch.tensor([SIZE / 2, SIZE / 2, 1.0])
    torch.testing.assert_close(middle, torch.tensor([[SIZE / 2, SIZE / 2]]), atol=1e-4, rtol=0)
    quarter = torch.tensor([[[0.0, -1.0, SIZE], [1.0, 0.0, 0.0]]])
    again = moved(moved(batch, lambda x: x, quarter), lambda x: x, quarter)
    torch.testing.assert_close(again.motion, torch.tensor([[[-1.0, 0, SIZE], [0, -1.0, SIZE]]]))


def test_objects_that_leave_the_image_are_gone_and_others_cut():
    task = Detection(name="boxes", size=(10, 10))
    labels = np.empty(2, dtype=object)
    labels[:] = [[("a", 0, 0, 2, 2), ("b", 4, 4, 8, 8)], []]
    task.fit(labels)
    targets, observed = (torch.from_numpy(part) for part in task.encode(labels))
    motion = torch.eye(2, 3).repeat(2, 1, 1)
    motion[:, 0, 2] = -4.0  # the new place is 4 to the right of the old one
    boxes, _ = task.moved(targets, observed, -motion * torch.tensor([-1.0, -1.0, 1.0]))
    assert boxes[0, 0].tolist() == [0.0, 0.0, 0.0, 0.0, 0.0]
    assert boxes[0, 1].tolist() == [1.0, 2.0, 6.0, 4.0, 4.0]
    boxes, _ = task.moved(targets, observed, motion + torch.tensor([0, 0, 1.0]))
    assert boxes[0, 1].tolist() == [1.0, 8.5, 5.0, 3.0, 4.0]


def test_pixels_that_came_in_cost_nothing():
    fitted, _, after = varied([("shift", {"most": 0.25})])
    images, labels = scene()
    source = ArrayData("scenes", images, labels).source(fitted, np.arange(len(images)))
    objective = Objective(fitted, {"scenes": source})
    outputs = {t.name: t.constant_outputs(after.targets[t.name]).clone() for t in fitted}
    losses = objective(outputs, after)
    wild = {**outputs, "mask": outputs["mask"].masked_fill(~after.observed["mask"][..., None], math.nan)}
    assert torch.equal(objective(wild, after)["mask"], losses["mask"])
    whole = fitted[0].loss(outputs["mask"], after.targets["mask"], after.observed["mask"])
    assert losses["mask"].item() == pytest.approx(whole.sum().item() / after.observed["mask"].numel(), rel=1e-5)


def test_what_cannot_follow_is_refused():
    shapes = {"scenes": InputShape.of(torch.zeros(1, 1, SIZE, SIZE))}
    shift, mixup = ("shift", {}), ("mixup", {})
    with pytest.raises(RecipeError, match="'mixup' last"):
        Variation({"scenes": [mixup, shift]}, shapes, 0, tasks())
    Variation({"scenes": [shift, mixup]}, shapes, 0, tasks())
    with pytest.raises(RecipeError, match="rebuilds them where they were"):
        Variation({"scenes": [shift]}, shapes, 0, [Reconstruction(name="inputs")])
    normals = DenseRegression(name="normals", objective="cosine")
    targets = torch.zeros(1, 4, 4, 3)
    still = torch.eye(2, 3)[None]
    normals.moved(targets, targets > 0, still)
    with pytest.raises(RecipeError, match="directions"):
        normals.moved(targets, targets > 0, torch.tensor([[[0.0, -1.0, 4.0], [1.0, 0.0, 0.0]]]))


def run_with(change, **options):
    images, labels = scene(24)
    labels["look"] = labels["kind"]
    change(images, labels)
    recipe = Recipe(
        tasks={
            "mask": "segmentation",
            "boxes": {"kind": "detection", "size": [SIZE, SIZE]},
            **options.pop("tasks", {}),
        },
        encoder={"name": "unet", "channels": [4, 16], "width": 8},
        split={"method": "stratified", "validation": 0.2, "test": 0.2},
        training={"epochs": 1},
        **options,
    )
    return recipe.run(ArrayData("scenes", images, labels))


def put(labels, name, row, value):
    labels[name] = labels[name].copy() if isinstance(labels[name], np.ndarray) else labels[name]
    labels[name][row] = value


BAD = [
    (
        lambda x, y: put(y, "boxes", 3, [(0, 1, 1, 20, 8)]),
        TargetError,
        r"box \(1.0, 1.0, 20.0, 8.0\) in row 3 that reaches",
    ),
    (lambda x, y: put(y, "boxes", 3, [(0, 6, 1, 6, 8)]), TargetError, "in row 3 that is empty"),
    (lambda x, y: put(y, "boxes", 3, [(0, 6, 1)]), TargetError, r"boxes as \(class, left, top.*in row 3"),
    (lambda x, y: put(y, "boxes", 3, [(0, "a", 1, 6, 8)]), TargetError, "numbers for the edges.*row 3"),
    (lambda x, y: y.update(mask=[*y["mask"][:-1], np.zeros((8, 8), int)]), TargetError, "map of 8 x 8 in row 23"),
    (
        lambda x, y: y.update(mask=y["mask"][:, :8, :8]),
        TargetError,
        "images of 8 x 8 pixels, and the images have 16 x 16",
    ),
    (lambda x, y: y.update(mask=y["mask"].reshape(24, -1)), TargetError, r"needs a map \[H, W\] a row"),
    (lambda x, y: y.update(mask=np.zeros_like(y["mask"])), TargetError, "one class only"),
    (lambda x, y: y.update(mask=y["mask"][:-1]), DataError, "23 values for the 24 rows"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD, ids=[message[:18] for *_, message in BAD])
def test_labels_that_do_not_fit_are_named(change, error, message):
    with pytest.raises(error, match=message):
        run_with(change)


def test_a_class_that_is_not_among_those_named_is_told_with_its_row():
    with pytest.raises(TargetError, match=r"knows no class 7, which 1 pixels of the mask in row 3 are of. Known: 0, 1"):
        run_with(lambda x, y: put(y, "mask", (3, 0, 0), 7), tasks={"mask": {"kind": "segmentation", "classes": [0, 1]}})
    task = Detection(name="boxes")
    labels = np.empty(2, dtype=object)
    labels[:] = [[(0, 1, 2, 3, 4)], []]
    with pytest.raises(TargetError, match=r"size=\(height, width\)"):
        task.fit(labels)


def test_answers_go_to_tables_and_arrays(tmp_path):
    import pandas as pd

    from polytask.data.tables import write_table
    from polytask.serving.answers import as_json, json_text

    def missing(images, labels):
        labels["depth"][::3] = np.nan
        labels["boxes"][2] = None
        labels["mask"] = [None if row == 4 else mask for row, mask in enumerate(labels["mask"])]

    run = run_with(missing, tasks={"depth": "dense_regression", "look": {"kind": "retrieval", "size": 4}})
    assert run.record.tasks["mask"].metrics["pixel_accuracy"] > 0.3
    bundle = run.bundle
    images = scene(5, seed=1)[0]
    bundle.task("boxes").threshold = 0.02
    answers = bundle.predict(images)
    assert answers["mask"].values.shape == answers["depth"].values.shape == (5, SIZE, SIZE)
    np.testing.assert_allclose(np.linalg.norm(answers["look"].values, axis=1), 1.0)
    frame = bundle.predict_frame(images)
    for ending in ("csv", "parquet", "arrow"):
        write_table(frame, tmp_path / f"answers.{ending}")
    text = pd.read_csv(tmp_path / "answers.csv")
    assert np.array_equal(np.array([json.loads(t) for t in text["mask"]]), answers["mask"].values)
    nested = pd.read_parquet(tmp_path / "answers.parquet")
    assert nested["mask"][0][0].tolist() == answers["mask"].values[0, 0].tolist()
    assert len(nested["boxes"][0]) == len(answers["boxes"].values[0]) > 0
    assert set(nested["boxes"][0][0]) == {"class", "score", "box"}
    np.savez_compressed(tmp_path / "answers.npz", **bundle.predict_arrays(images))
    with np.load(tmp_path / "answers.npz", allow_pickle=False) as kept:
        assert kept["depth"].shape == (5, SIZE, SIZE)
        assert kept["boxes.box"].shape == (len(kept["boxes.row"]), 4)
    told = as_json(answers, 5)
    assert len(told[0]["mask"]["value"]) == SIZE
    assert json_text(told)


def test_sources_without_images_are_named():
    source = ArrayData("words", np.zeros((6, 3), np.float32), {"mask": np.arange(6) % 2})
    with pytest.raises(InputError, match=r"labels for the pixels of images, and 'words' has inputs of \[\(3,\)\]"):
        Recipe(tasks={"mask": "segmentation"}, encoder="mlp").run(source)
