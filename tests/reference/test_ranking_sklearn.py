"""Metrics of rankings within groups, held against scikit-learn group by group."""

import math

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk

from polytask import Recipe
from polytask.errors import DataError, RecipeError
from polytask.tasks._ranking import group_auroc, ndcg, ranking_metrics
from polytask.training.opening import prepare_recipe


def rows(n=500, ties=False, seed=0):
    draw = np.random.default_rng(seed)
    scores = draw.normal(size=n)
    return np.round(scores, 0) if ties else scores, draw.integers(0, 2, n), draw.integers(0, 60, n)


@pytest.mark.parametrize("ties", [False, True])
def test_group_auroc_is_the_mean_of_the_groups_areas(ties):
    scores, truth, groups = rows(ties=ties)
    truth[groups == 3] = 1  # a group with one class has no area
    areas, weights = [], []
    for group in np.unique(groups):
        mine = groups == group
        if len(np.unique(truth[mine])) == 2:
            areas.append(sk.roc_auc_score(truth[mine], scores[mine]))
            weights.append(mine.sum())
    assert group_auroc(scores, truth, groups) == pytest.approx(np.average(areas, weights=weights), abs=1e-12)
    assert len(areas) < 60


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("first", [1, 3, 10])
def test_ndcg_is_the_mean_of_the_groups(ties, first):
    scores, _, groups = rows(ties=ties)
    relevance = np.random.default_rng(1).integers(0, 5, len(scores)).astype(float)
    relevance[groups == 3] = 0  # a group without anything relevant does not count
    found = [
        sk.ndcg_score([relevance[groups == g]], [scores[groups == g]], k=first)
        for g in np.unique(groups)
        if relevance[groups == g].any() and (groups == g).sum() > 1
    ]
    alone = [1.0 for g in np.unique(groups) if (groups == g).sum() == 1 and relevance[groups == g].any()]
    assert ndcg(scores, relevance, groups, first) == pytest.approx(np.mean(found + alone), abs=1e-12)


def test_what_is_not_defined_is_nan():
    scores, truth, groups = rows(20)
    assert math.isnan(group_auroc(scores, np.ones(20), groups))
    assert math.isnan(ndcg(scores, np.zeros(20), groups))
    assert math.isnan(ndcg(scores, -truth, groups))
    none = ranking_metrics(scores, truth, np.full(20, -1), binary=True)
    assert all(math.isnan(value) for value in none.values())
    scores[0] = math.nan
    assert all(math.isnan(value) for value in ranking_metrics(scores, truth, groups, binary=True).values())
    some = np.where(np.arange(20) < 5, -1, groups)
    assert ranking_metrics(scores, truth, some, binary=True) == ranking_metrics(
        scores[5:], truth[5:], groups[5:], binary=True
    )


def table(n=400, seed=0):
    draw = np.random.default_rng(seed)
    user, x = draw.integers(0, 25, n), draw.normal(size=n)
    click = draw.random(n) < 1 / (1 + np.exp(-2 * x))
    stars = np.where(click, np.clip(np.round(3 + x), 1, 5), np.nan)
    return pd.DataFrame({"user": [f"u{i}" for i in user], "x": x, "click": click, "stars": stars})


def recipe(**tasks):
    return Recipe(
        tasks=tasks,
        data={"log": {"inputs": ["x"]}},
        encoder={"name": "tabular", "width": 8, "n_blocks": 1},
        training={"epochs": 3, "batch_size": 32},
    )


def test_a_recipe_judges_its_tasks_user_by_user():
    frame = table()
    tasks = {"click": {"kind": "binary", "ranked_by": "user"}, "stars": {"kind": "regression", "ranked_by": "user"}}
    run = recipe(**tasks).run({"log": frame})
    metrics = {name: result.metrics for name, result in run.record.tasks.items()}
    assert "group_auroc" not in metrics["stars"]
    split = prepare_recipe(recipe(**tasks), {"log": frame}).splits["log"]
    rows = frame.iloc[split.test]
    answers = run.predict(frame.iloc[split.test])
    groups = pd.factorize(rows["user"])[0]
    chance = answers["click"].probabilities[:, 1]
    assert metrics["click"]["group_auroc"] == pytest.approx(group_auroc(chance, rows["click"], groups), abs=1e-9)
    assert metrics["click"]["ndcg_10"] == pytest.approx(ndcg(chance, rows["click"], groups), abs=1e-9)
    rated = rows["stars"].notna().to_numpy()
    expected = ndcg(answers["stars"].values[rated], rows["stars"][rated].to_numpy(), groups[rated])
    assert metrics["stars"]["ndcg_10"] == pytest.approx(expected, abs=1e-6)


def test_rankings_that_cannot_be_are_refused():
    with pytest.raises(DataError, match="No column named 'usr', for ranked_by"):
        recipe(click={"kind": "binary", "ranked_by": "usr"}).run({"log": table()})
    with pytest.raises(RecipeError, match="multiclass and cannot be ranked_by 'user'"):
        recipe(stars={"kind": "multiclass", "ranked_by": "user"}).run({"log": table()})
