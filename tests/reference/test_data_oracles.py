"""The data path against independent implementations: scikit-learn's, pandas', and the published algorithm as written."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.preprocessing import QuantileTransformer, RobustScaler, StandardScaler

from polytask.data import TableTransform, k_folds
from polytask.data.stratify import deal_rows

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("scaling", "oracle"),
    [
        ("standard", StandardScaler()),
        ("robust", RobustScaler()),
        ("quantile", QuantileTransformer(output_distribution="normal", n_quantiles=1000)),
    ],
)
def test_scalings_against_scikit_learn(scaling, oracle):
    values = np.c_[RNG.lognormal(0, 1, 3000), RNG.normal(5, 3, 3000)]
    ours = TableTransform(scaling=scaling).fit(values[:2000]).transform(values)["numeric"].numpy()
    np.testing.assert_allclose(ours, oracle.fit(values[:2000]).transform(values), rtol=2e-4, atol=2e-4)


def test_date_parts_against_pandas():
    days = pd.Series(pd.date_range("2019-12-25 05:00", periods=500, freq="31h"))
    transform = TableTransform().fit({"d": days})
    out = pd.DataFrame(transform.transform({"d": days})["numeric"].numpy(), columns=transform.numeric_names)
    expected = {
        "d (year)": days.dt.year,
        "d (month)": days.dt.month,
        "d (day of week)": (days.dt.strftime("%u").astype(int) - 1),
        "d (hour)": days.dt.hour,
        "d (timestamp)": (days - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1),
        "d (day of year, sine)": np.sin(2 * np.pi * (days.dt.strftime("%j").astype(int) - 1) / 365.25),
        "d (day of year, cosine)": np.cos(2 * np.pi * (days.dt.strftime("%j").astype(int) - 1) / 365.25),
    }
    assert set(expected) == set(out)
    for name, values in expected.items():
        np.testing.assert_allclose(out[name], (values - values.mean()) / values.std(ddof=0), atol=2e-5)


def published(labels, proportions, rng):
    """Iterative stratification as the paper's algorithm 1 is written, a row at a time."""
    n = len(labels)
    part = np.full(n, -1)
    wanted = proportions[:, None] * labels.sum(axis=0)
    room = proportions * n
    while (part < 0).any():
        left = labels[part < 0].sum(axis=0)
        if not left.any():
            rows, label = np.flatnonzero(part < 0), None
        else:
            label = int(np.where(left > 0, left, n + 1).argmin())
            rows = np.flatnonzero((part < 0) & labels[:, label])
        for row in rows:
            lack = room if label is None else wanted[:, label]
            best = np.flatnonzero(np.isclose(lack, lack.max()))
            best = best[np.isclose(room[best], room[best].max())]
            part[row] = rng.choice(best)
            wanted[part[row]] -= labels[row]
            room[part[row]] -= 1
    return part


def deviation(labels, part, proportions):
    """The paper's label distribution measure, smaller is better: mean distance of the odds."""
    whole = labels.sum(axis=0) / (len(labels) - labels.sum(axis=0))
    odds = []
    for j in range(len(proportions)):
        inside = labels[part == j]
        odds.append(np.abs(inside.sum(axis=0) / np.maximum(len(inside) - inside.sum(axis=0), 1) - whole))
    return float(np.mean(odds))


@pytest.mark.parametrize("proportions", [np.full(5, 0.2), np.array([0.7, 0.1, 0.2])], ids=["folds", "holdout"])
def test_stratification_is_as_even_as_the_published_algorithm(proportions):
    ours, theirs, chance = [], [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        factor = rng.normal(size=(800, 1))
        labels = factor + rng.normal(size=(800, 12)) > np.linspace(0, 3, 12)
        ours.append(deviation(labels, deal_rows(labels, proportions, rng), proportions))
        theirs.append(deviation(labels, published(labels, proportions, rng), proportions))
        chance.append(deviation(labels, rng.choice(len(proportions), 800, p=proportions), proportions))
    assert np.mean(ours) <= 1.1 * np.mean(theirs)
    assert np.mean(ours) < 0.5 * np.mean(chance)


def test_one_class_target_is_split_as_by_scikit_learn():
    y = RNG.choice(["a", "b", "c"], 503, p=[0.7, 0.25, 0.05])
    ours = [pd.Series(y[fold.test]).value_counts().sort_index().tolist() for fold in k_folds(503, 5, labels={"y": y})]
    theirs = [pd.Series(y[test]).value_counts().sort_index().tolist() for _, test in StratifiedKFold(5).split(y, y)]
    assert np.abs(np.sort(ours, axis=0) - np.sort(theirs, axis=0)).max() <= 1


def test_grouped_stratification_is_as_even_as_scikit_learns():
    ours, theirs = [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        groups = rng.integers(0, 60, 2000)
        y = rng.random(2000) < (rng.random(60) ** 2)[groups]
        ours.append(
            np.std([y[fold.test].mean() for fold in k_folds(2000, 5, labels={"y": y}, groups=groups, seed=seed)])
        )
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        theirs.append(np.std([y[test].mean() for _, test in splitter.split(y, y, groups)]))
    assert np.mean(ours) < 1.5 * np.mean(theirs) + 0.005
