import numpy as np
import pandas as pd
import pytest

from polytask.data import holdout, k_folds
from polytask.data.stratify import label_matrix
from polytask.errors import DataError


def whole(split):
    return np.sort(np.concatenate([split.train, split.validation, split.test])).tolist()


def equal(a, b):
    return all(np.array_equal(getattr(a, part), getattr(b, part)) for part in ("train", "validation", "test"))


def test_random_holdout():
    split = holdout(101, validation=0.2, test=0.1, seed=3)
    assert whole(split) == list(range(101))
    assert (len(split.validation), len(split.test)) == (20, 10)
    assert equal(split, holdout(101, validation=0.2, test=0.1, seed=3))
    assert not equal(split, holdout(101, validation=0.2, test=0.1, seed=4))
    assert np.all(np.diff(split.train) > 0)


def test_no_validation():
    split = holdout(10, validation=0.0)
    assert len(split.train) == 10
    assert len(split.validation) == len(split.test) == 0


@pytest.mark.parametrize(
    "by",
    [
        {},
        {"labels": {"a": [0, 1] * 30}},
        {"groups": list("abcdef") * 10},
        {"labels": {"a": [0, 1] * 30}, "groups": list("abcdef") * 10},
    ],
    ids=["random", "stratified", "grouped", "both"],
)
def test_folds_cover_every_row_once(by):
    folds = k_folds(60, 3, validation=0.25, repeats=2, seed=1, **by)
    assert len(folds) == 6
    for repeat in (folds[:3], folds[3:]):
        assert sorted(np.concatenate([fold.test for fold in repeat]).tolist()) == list(range(60))
    for fold in folds:
        assert whole(fold) == list(range(60))
        assert len(fold.validation) > 0
    assert all(
        equal(a, b) for a, b in zip(folds, k_folds(60, 3, validation=0.25, repeats=2, seed=1, **by), strict=True)
    )
    assert not equal(folds[0], folds[3])


def test_groups_stay_together():
    groups = np.random.default_rng(0).integers(0, 30, 500)
    splits = [holdout(500, validation=0.2, test=0.2, groups=groups), *k_folds(500, 5, validation=0.2, groups=groups)]
    for split in splits:
        parts = [set(groups[rows]) for rows in (split.train, split.validation, split.test)]
        assert sum(len(part) for part in parts) == len(set.union(*parts))
    assert max(len(s.test) for s in splits[1:]) - min(len(s.test) for s in splits[1:]) <= 5


def test_groups_with_labels_are_balanced():
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 200, 4000)
    label = (rng.random(200) < 0.2)[groups] & (rng.random(4000) < 0.8)
    counts = [label[fold.test].sum() for fold in k_folds(4000, 5, groups=groups, labels={"y": label})]
    assert max(counts) - min(counts) < 0.25 * np.mean(counts)


def test_rare_and_missing_labels():
    rng = np.random.default_rng(2)
    n = 1000
    rare = np.full(n, None, dtype=object)
    rare[rng.choice(n, 10, replace=False)] = "yes"
    rare[rng.choice(np.flatnonzero(rare == None), 500, replace=False)] = "no"  # noqa: E711
    number = np.where(rng.random(n) < 0.5, np.nan, rng.lognormal(0, 1, n))
    folds = k_folds(n, 5, labels={"rare": rare, "number": number})
    assert [(rare[fold.test] == "yes").sum() for fold in folds] == [2] * 5
    assert [(rare[fold.test] == "no").sum() for fold in folds] == [100] * 5
    top = number > np.nanquantile(number, 0.8)
    assert np.ptp([top[fold.test].sum() for fold in folds]) <= 2
    assert np.ptp([len(fold.test) for fold in folds]) <= 4


def test_a_label_with_one_row_goes_to_training():
    label = np.zeros(50)
    label[17] = 1
    assert all(17 in holdout(50, validation=0.2, test=0.2, labels={"y": label}, seed=seed).train for seed in range(20))


def test_by_time():
    times = pd.to_datetime("2024-01-01") + pd.to_timedelta(np.random.default_rng(0).permutation(100), unit="D")
    split = holdout(100, validation=0.2, test=0.1, times=times)
    assert times[split.train].max() < times[split.validation].min()
    assert times[split.validation].max() < times[split.test].min()
    assert (len(split.validation), len(split.test)) == (20, 10)
    folds = k_folds(100, 4, validation=0.25, times=times)
    assert [len(fold.test) for fold in folds] == [20] * 4
    for fold in folds:
        assert times[fold.train].max() < times[fold.validation].min() < times[fold.test].min()


def test_times_as_texts():
    split = holdout(4, validation=0.25, times=["2024-10-01", "2024-09-01T10:00", "2023-01-01", "2024-12-01"])
    assert split.validation.tolist() == [3]


def test_equal_times_stay_together():
    times = np.repeat([3, 1, 2], [10, 10, 10])
    split = holdout(30, validation=0.4, times=times)
    assert set(times[split.train]) & set(times[split.validation]) == set()


def test_label_matrix():
    matrix = label_matrix({"m": np.array([[0, 1], [1, np.nan]]), "t": pd.Series(["a", ""]), "n": np.array([1.5, 2.5])})
    assert matrix.astype(int).tolist() == [[1, 0, 1, 1, 1, 0], [0, 1, 0, 0, 0, 1]]
    bins = label_matrix({"n": np.r_[np.arange(100.0), np.nan]})
    assert bins.sum(0).tolist() == [20] * 5
    assert not bins[-1].any()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: holdout(10, validation=0.6, test=0.4), "sum to less than 1"),
        (lambda: holdout(10, validation=-0.1), "in 0 to 1"),
        (lambda: holdout(1), "at least 2 rows"),
        (lambda: holdout(3, validation=0.1), "3 rows cannot be split into 2 parts"),
        (lambda: holdout(4, validation=0.2, test=0.2, groups=[1, 1, 2, 2]), "2 groups cannot be split into 3"),
        (lambda: holdout(4, groups=[1, 2, None, 2]), "Every row needs a group; row 2"),
        (lambda: holdout(4, groups=[1, 2]), "4 rows need as many groups, got 2"),
        (lambda: holdout(3, times=["2024-01-31", "May", "2024-02-01"]), "Times need .* row 1 has 'May'"),
        (lambda: holdout(4, labels={"y": [1, 2]}), "have 2 rows, but 4"),
        (lambda: holdout(2, labels={"y": [1, 2], "z": [1]}), "same number of rows"),
        (lambda: holdout(2, labels={"y": np.zeros((2, 2, 2))}), "one or two dimensions"),
        (lambda: holdout(4, times=[1, 2, 3, None]), "Every row needs a time; row 3"),
        (lambda: holdout(4, times=[1, 2, 3, 4], groups=[1, 1, 2, 2]), "times alone"),
        (lambda: holdout(4, times=[1, 1, 1, 1]), "1 different times"),
        (lambda: k_folds(10, 1), "at least 2"),
        (lambda: k_folds(3, 5), "3 rows cannot be split into 5"),
        (lambda: k_folds(10, 5, groups=[0, 1] * 5), "2 groups cannot be split into 5"),
        (lambda: k_folds(10, 2, repeats=0), "at least 1"),
        (lambda: k_folds(10, 2, repeats=2, times=range(10)), "ask for one"),
        (lambda: k_folds(10, 2, validation=1.0), "validation share"),
    ],
)
def test_errors(make, words):
    with pytest.raises(DataError, match=words):
        make()
