"""Losses and metrics of pixels, boxes and embeddings against other programs and against values by hand."""

import json
import math
import sys
import types

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from polytask.tasks import DenseRegression, Detection, Retrieval, Segmentation
from polytask.tasks._boxes import Found, average_precision, overlaps


def objects(values):
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def fitted_masks(n_classes=4, size=(5, 7), n=12, seed=0, **options):
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, n_classes, (n, *size))
    masks[rng.random(masks.shape) < 0.2] = 255
    task = Segmentation(name="mask", missing=255, **options)
    task.fit(masks)
    targets, observed = (torch.from_numpy(part) for part in task.encode(masks))
    outputs = torch.randn(n, *size, n_classes, generator=torch.Generator().manual_seed(seed))
    return task, masks, outputs, targets, observed


def test_segmentation_is_torch_s_cross_entropy_with_an_ignored_class_and_torchmetrics_iou():
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

    task, masks, outputs, targets, observed = fitted_masks()
    channels_first = outputs.movedim(-1, 1)
    truth = torch.from_numpy(masks)
    theirs = F.cross_entropy(channels_first, truth, ignore_index=255)
    assert task.loss(outputs, targets, observed).mean().item() == pytest.approx(theirs.item(), rel=1e-6)
    found = task.evaluate(outputs, targets, observed)
    answers = outputs.argmax(-1)
    iou = multiclass_jaccard_index(answers, truth, 4, average="macro", ignore_index=255)
    right = multiclass_accuracy(answers, truth, 4, average="micro", ignore_index=255)
    assert found["mean_iou"] == pytest.approx(iou.item(), rel=1e-6)
    assert found["pixel_accuracy"] == pytest.approx(right.item(), rel=1e-6)
    assert found["log_loss"] == pytest.approx(theirs.item(), rel=1e-6)


def test_class_weights_of_pixels_are_those_of_torch_once_the_mean_is_one():
    task, masks, outputs, targets, observed = fitted_masks(class_weight={0: 5.0, 2: 0.5})
    weights = torch.tensor([5.0, 1.0, 0.5, 1.0])
    labels = torch.from_numpy(masks)[observed]
    scale = weights[labels].mean()
    theirs = F.cross_entropy(outputs[observed], labels, weight=weights, reduction="none") / scale
    torch.testing.assert_close(task.loss(outputs, targets, observed), theirs)


def test_depth_errors_by_hand_and_normals_by_torch():
    task = DenseRegression(name="depth")
    labels = np.array([[[1.0, 2.0], [4.0, np.nan]], [[3.0, 5.0], [np.nan, 1.0]]])
    task.fit(labels)
    targets, observed = (torch.from_numpy(part) for part in task.encode(labels))
    answers = np.where(np.isnan(labels), 100.0, labels) + np.array([[[0.5, 0], [-1, 0]], [[0, 1], [0, 0]]])
    outputs = task.outputs_from(type(task.decode(torch.zeros(2, 2, 2, 1)))(answers))
    found = task.evaluate(outputs, targets, observed)
    assert found["mae"] == pytest.approx((0.5 + 1 + 1) / 6)
    assert found["abs_rel"] == pytest.approx((0.5 / 1 + 1 / 4 + 1 / 5) / 6)
    assert found["relative_error"] == pytest.approx((0.25 + 1 + 1) / 6 / np.nanvar(labels), rel=1e-6)
    assert math.isnan(found["angle"])

    rng = np.random.default_rng(0)
    normals = rng.normal(loc=[0.0, 0.0, 1.5], size=(6, 3, 4, 3))
    normals[0, 0, 0] = 0.0
    normals[1, 1, 1, 2] = np.nan
    task = DenseRegression(name="normals", objective="cosine")
    task.fit(normals)
    targets, observed = (torch.from_numpy(part) for part in task.encode(normals))
    assert not observed[0, 0, 0].any()
    assert not observed[1, 1, 1].any()
    outputs = torch.randn(6, 3, 4, 3, dtype=torch.float64)
    there = observed[..., 0]
    cosine = F.cosine_similarity(outputs, targets.double(), dim=-1)[there]
    assert task.loss(outputs, targets, observed).mean().item() == pytest.approx((1 - cosine).mean().item(), rel=1e-6)
    angles = torch.rad2deg(torch.arccos(cosine)).mean().item()
    assert task.evaluate(outputs, targets, observed)["angle"] == pytest.approx(angles, rel=1e-6)


def centre_loss_by_loops(outputs, boxes, n_classes, sizes, n_objects):
    """The loss of one image, pixel by pixel and box by box."""
    height, width = outputs.shape[:2]
    total = 0.0
    for r in range(height):
        for c in range(width):
            for k in range(n_classes):
                y = 0.0
                for code, x0, y0, x1, y1 in boxes:
                    if code == k:
                        cx, cy = math.floor((x0 + x1) / 2), math.floor((y0 + y1) / 2)
                        sx, sy = 0.54 / 6 * (x1 - x0), 0.54 / 6 * (y1 - y0)
                        y = max(y, math.exp(-((c - cx) ** 2) / (2 * sx**2) - (r - cy) ** 2 / (2 * sy**2)))
                p = 1 / (1 + math.exp(-outputs[r, c, k].item()))
                total += -((1 - p) ** 2) * math.log(p) if y == 1 else -((1 - y) ** 4) * p**2 * math.log(1 - p)
    for _, x0, y0, x1, y1 in boxes:
        cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
        wanted = [cx % 1, cy % 1, (x1 - x0) / sizes[0], (y1 - y0) / sizes[1]]
        said = outputs[math.floor(cy), math.floor(cx), n_classes:].tolist()
        total += sum(abs(a - b) for a, b in zip(wanted, said, strict=True))
    return total / n_objects


def test_missing_pixels_are_not_transformed_and_a_channel_without_labels_has_no_bias():
    maps = np.random.default_rng(0).gamma(2.0, 3.0, (5, 2, 3, 2))
    maps[0, 0, 1, 0] = np.nan
    task = DenseRegression(name="depth", transform="log")
    task.fit(maps)
    logs = np.log(maps)
    wanted = (np.nanmean(logs, axis=(0, 1, 2)) - np.nanmean(logs)) / np.nanstd(logs)
    np.testing.assert_allclose(task.bias_, wanted, atol=1e-12)
    maps[..., 1] = np.nan
    for objective in ("squared", "absolute"):
        task = DenseRegression(name="depth", transform="log", objective=objective)
        task.fit(maps)
        assert task.bias_[1] == 0.0
        assert np.isfinite(task.bias_[0])
        targets, observed = map(torch.from_numpy, task.encode(maps))
        assert math.isfinite(task.loss(task.constant_outputs(targets), targets, observed).mean().item())


def test_the_loss_of_detection_is_that_of_its_equation():
    labels = objects([[(0, 1, 2, 6, 5), (1, 4, 4, 9, 10), (0, 2.5, 3, 4.25, 8)], [], [(1, 0, 0, 10, 12)]])
    task = Detection(name="boxes", size=(12, 10))
    task.fit(labels)
    targets, observed = (torch.from_numpy(part) for part in task.encode(labels))
    outputs = torch.randn(3, 12, 10, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    sizes = (np.mean([5, 5, 1.75, 10]), np.mean([3, 6, 5, 12]))
    ours = task.loss(outputs, targets, observed)
    theirs = [centre_loss_by_loops(outputs[i], labels[i], 2, sizes, 4 / 3) for i in range(3)]
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-6)


def test_the_best_constant_of_detection_is_where_each_output_s_loss_is_flat():
    labels = objects([[(0, 1, 2, 6, 5), (1, 4, 4, 9, 10)], [], [(1, 0, 0, 10, 12), (1, 3, 3, 5, 6)]])
    task = Detection(name="boxes", size=(12, 10))
    task.fit(labels)
    targets = torch.from_numpy(task.encode(labels)[0])
    bias = task.constant_outputs(targets).double()
    lowest = task.label_losses(bias, targets).sum()
    for output in range(6):
        for nudge in (1e-2, -1e-2):
            other = bias.clone()
            other[..., output] += nudge
            assert task.label_losses(other, targets).sum() >= lowest - 1e-7


def perfect(task, labels):
    answer = objects(
        [tuple({"class": c, "score": 0.9, "box": [x0, y0, x1, y1]} for c, x0, y0, x1, y1 in row) for row in labels]
    )
    return task.outputs_from(type(task.decode(torch.zeros(0, 12, 10, task.n_outputs)))(answer))


def test_outputs_made_of_the_boxes_are_found_again():
    labels = objects([[("a", 1, 2, 6, 5), ("b", 4, 4, 9, 10), ("a", 2.5, 3, 4.25, 8)], [], [("b", 0, 0, 10, 12)]])
    task = Detection(name="boxes", size=(12, 10))
    task.fit(labels)
    outputs = perfect(task, labels)
    found = task.evaluate(outputs, *(torch.from_numpy(part) for part in task.encode(labels)))
    assert found["ap"] == pytest.approx(1.0)
    assert found["relative_error"] < 0.1
    answers = task.decode(outputs).values
    assert [len(row) for row in answers] == [3, 0, 1]
    assert answers[2][0]["class"] == "b"
    np.testing.assert_allclose(answers[2][0]["box"], [0, 0, 10, 12], atol=0.02)
    assert sorted(box["class"] for box in answers[0]) == ["a", "a", "b"]


def found(*boxes):
    rows = np.array([[*box] for box in boxes], dtype=float).reshape(-1, 6)
    return Found(rows[:, 0].astype(int), rows[:, 2:], rows[:, 1])


def test_average_precision_by_hand():
    # Two true boxes; three found: right, wrong, right. Precision 1 up to recall 1/2, then 2/3 up to 1.
    true = [found((0, 1, 0, 0, 10, 10), (0, 1, 20, 20, 30, 30))]
    mine = [found((0, 0.9, 0, 0, 10, 10), (0, 0.8, 50, 50, 60, 60), (0, 0.7, 20, 20, 30, 30))]
    expected = (51 * 1.0 + 50 * 2 / 3) / 101
    np.testing.assert_allclose(average_precision(mine, true), expected)
    # A box is found once: the second on it is wrong, and comes after all recall is reached.
    twice = [found((0, 0.9, 0, 0, 10, 10), (0, 0.8, 20, 20, 30, 30), (0, 0.7, 1, 0, 10, 10))]
    np.testing.assert_allclose(average_precision(twice, true), 1.0)
    # 8 of 10 columns overlap: 0.8 is enough up to that threshold only.
    shifted = [found((0, 0.9, 0, 0, 8, 10), (0, 0.8, 20, 20, 28, 30))]
    np.testing.assert_allclose(average_precision(shifted, true), [1] * 7 + [0] * 3)
    assert np.isnan(average_precision([found()], [found()])).all()
    np.testing.assert_allclose(average_precision([found()], true), 0.0)


def random_boxes(rng, n, is_found):
    low = rng.uniform(0, 40, (n, 2))
    size = rng.uniform(5, 25, (n, 2))
    scores = rng.random(n) if is_found else np.ones(n)
    return Found(rng.integers(0, 3, n), np.concatenate([low, low + size], 1), scores)


def test_average_precision_is_that_of_torchmetrics(monkeypatch):
    """Its own evaluation in PyTorch, with the few functions it takes from torchvision put in their place."""
    from torchmetrics.detection import _mean_ap

    ops = types.ModuleType("torchvision.ops")
    ops.box_area = lambda b: (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    ops.box_convert = lambda b, in_fmt, out_fmt: b
    ops.box_iou = lambda a, b: torch.from_numpy(overlaps(a.numpy(), b.numpy()))
    for name, module in {"torchvision": types.ModuleType("torchvision"), "torchvision.ops": ops}.items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("pycocotools", "pycocotools.mask"):  # imported for masks only, of which there are none
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["pycocotools"].mask = sys.modules["pycocotools.mask"]
    for name in ("_TORCHVISION_AVAILABLE", "_PYCOCOTOOLS_AVAILABLE"):
        monkeypatch.setattr(_mean_ap, name, True)
    for name in ("box_area", "box_convert", "box_iou"):
        monkeypatch.setattr(_mean_ap, name, getattr(ops, name), raising=False)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        true = [random_boxes(rng, n, False) for n in (5, 0, 8, 3)]
        mine = [random_boxes(rng, n, True) for n in (9, 2, 12, 0)]
        for one, other in zip(mine, true, strict=True):  # some that are nearly right
            n = min(len(one.boxes), len(other.boxes))
            one.boxes[:n] = other.boxes[:n] + rng.normal(0, 1.0, (n, 4))
            one.codes[:n] = other.codes[:n]
        metric = _mean_ap.MeanAveragePrecision()

        def told(boxes, is_found):
            given = {"boxes": torch.from_numpy(boxes.boxes), "labels": torch.from_numpy(boxes.codes)}
            return {**given, "scores": torch.from_numpy(boxes.scores)} if is_found else given

        metric.update([told(b, True) for b in mine], [told(b, False) for b in true])
        theirs = metric.compute()
        ours = average_precision(mine, true)
        assert 0.2 < ours.mean() < 0.9
        assert ours.mean() == pytest.approx(theirs["map"].item(), abs=1e-6)
        assert ours[0] == pytest.approx(theirs["map_50"].item(), abs=1e-6)


def test_retrieval_is_a_softmax_of_cosines_and_recall_that_of_sorted_distances():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 60)
    for size in (8, 3):  # room for a simplex, and none
        task = Retrieval(name="look", size=size, temperature=0.2)
        task.fit(labels)
        targets, observed = (torch.from_numpy(part) for part in task.encode(labels))
        outputs = torch.randn(60, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        places = torch.from_numpy(task.proxies_)
        cosines = F.cosine_similarity(outputs[:, None], places[None], dim=-1)
        theirs = F.cross_entropy(cosines / 0.2, targets, reduction="none")
        torch.testing.assert_close(task.loss(outputs, targets, observed), theirs)
        unit = F.normalize(outputs, dim=-1).numpy()
        distances = np.linalg.norm(unit[:, None] - unit[None], axis=-1)
        np.fill_diagonal(distances, np.inf)
        order = distances.argsort(1)
        scores = task.evaluate(outputs, targets, observed)
        for k in (1, 5):
            hit = (labels[order[:, :k]] == labels[:, None]).any(1).mean()
            assert scores[f"recall_at_{k}"] == pytest.approx(hit)


@pytest.mark.parametrize(("n_classes", "size"), [(4, 4), (3, 8), (4, 2), (12, 3)])
def test_proxies_are_as_far_from_each_other_as_they_can_be(n_classes, size):
    from polytask.tasks.retrieval import proxies

    cosines = proxies(n_classes, size) @ proxies(n_classes, size).T
    np.testing.assert_allclose(np.diag(cosines), 1.0)
    nearest = (cosines - 2 * np.eye(n_classes)).max()
    # A simplex; four on a circle; the twelve corners of an icosahedron.
    best = {(4, 2): 0.0, (12, 3): 1 / math.sqrt(5)}.get((n_classes, size), -1 / (n_classes - 1))
    assert nearest == pytest.approx(best, abs=0.03)


def test_many_classes_cost_few_steps_and_are_stored(monkeypatch):
    from polytask.tasks import retrieval

    steps, gradient = [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **kw: [steps.append(1), gradient(*args, **kw)][1])
    for n_classes, wanted in ((20, 300), (300, 300), (600, 75), (2000, 6), (9000, 0)):
        steps.clear()
        found = retrieval.proxies(n_classes, 4)
        assert len(steps) == wanted
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0)
    old = Retrieval(name="look", size=4)
    labels = np.arange(320)
    old.fit(labels)
    state = json.loads(json.dumps(old.state()))
    made = old.proxies_
    again = Retrieval(name="look", size=4)
    with monkeypatch.context() as patch:
        patch.setattr(retrieval, "proxies", lambda *_: pytest.fail("stored proxies are not made anew"))
        again.load_state(state)
    assert np.array_equal(again.proxies_, made)
    del state["proxies"]
    again.load_state(state)
    assert np.array_equal(again.proxies_, retrieval.proxies(320, 4, 300)), "as they were when none were stored"
