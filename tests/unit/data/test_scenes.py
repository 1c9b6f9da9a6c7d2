"""Composed scenes say the truth about themselves; pairs of digits overlap and differ."""

import numpy as np
import pytest

from polytask.data import composed_scenes, overlapping_digits
from polytask.errors import DataError


def test_a_scene_s_labels_agree_with_each_other():
    scenes = composed_scenes(60, 32, most=3, seed=4)
    for row in range(60):
        boxes = scenes.boxes[row]
        assert np.array_equal(np.bincount([b[0] for b in boxes], minlength=10), scenes.counts[row])
        assert boxes[-1][0] == scenes.front[row]
        inside = np.zeros((32, 32), bool)
        for digit, left, top, right, bottom in boxes:
            assert 0 <= left < right <= 32
            assert 0 <= top < bottom <= 32
            inside[top:bottom, left:right] = True
            assert digit in range(10)
        shows = (scenes.mask[row] >= 0) & (scenes.mask[row] < 10)
        assert not (shows & ~inside).any()
        assert np.array_equal(shows, np.isfinite(scenes.depth[row]))
        assert set(np.unique(scenes.mask[row][shows])) <= {b[0] for b in boxes}
        # The front digit is whole, and nothing is nearer.
        digit, left, top, right, bottom = boxes[-1]
        part = scenes.depth[row, top:bottom, left:right]
        nearest = np.nanmin(scenes.depth[row])
        assert (scenes.mask[row, top:bottom, left:right] == digit)[part == nearest].all()
        assert (part == nearest).any()
    # Near ones are large: the height falls with depth.
    tall = [scenes.boxes[row][-1][4] - scenes.boxes[row][-1][2] for row in range(60)]
    assert np.corrcoef(tall, np.nanmin(scenes.depth, axis=(1, 2)))[0, 1] < -0.9


def test_the_seed_says_everything():
    one, same, other = (composed_scenes(4, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.images, same.images)
    assert np.array_equal(one.depth, same.depth, equal_nan=True)
    assert not np.array_equal(one.images, other.images)


def test_pairs_of_given_digits_overlap_and_differ():
    rng = np.random.default_rng(0)
    images = (rng.random((30, 1, 28, 28)) * 255).astype(np.uint8)
    labels = np.arange(30) % 10
    pairs = overlapping_digits(20, digits=(images, labels), shift=0)
    assert pairs.images.shape == (20, 1, 36, 36)
    assert (pairs.left != pairs.right).all()
    alone = pairs.images[:, 0, :8, :8]
    # The left upper corner shows the first digit only.
    found = [[np.abs(alone[i].astype(int) - images[j, 0, :8, :8]).max() <= 1 for j in range(30)] for i in range(20)]
    assert all(labels[np.flatnonzero(row)].tolist() == [pairs.left[i]] for i, row in enumerate(found))
    assert overlapping_digits(2, 24).images.shape == (2, 1, 24, 24)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: composed_scenes(0), "at least 1 image"),
        (lambda: composed_scenes(2, digits=(np.zeros((3, 8, 8)), np.zeros(3, int))), "bright on dark"),
        (lambda: composed_scenes(2, digits=(np.zeros((3, 8)), np.zeros(3, int))), "a label each"),
        (lambda: composed_scenes(2, digits=(np.ones((3, 8, 8)), np.full(3, 12))), "labels 0 to 9"),
        (lambda: overlapping_digits(2, digits=(np.ones((3, 8, 8)), np.zeros(3, int))), "two digits to choose from"),
    ],
)
def test_what_cannot_be_drawn_is_said(make, message):
    with pytest.raises(DataError, match=message):
        make()
