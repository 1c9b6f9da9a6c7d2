"""Leaf values, back-off, out-of-bag means and importances against loops over nodes and rows."""

import numpy as np
import pytest

from polytask.trees import JointForest
from polytask.trees.columns import read_columns
from polytask.trees.nodes import chunks_of_trees
from polytask.trees.targets import learn_code


def case(seed, missing, n=80):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4)).astype(np.float32)
    size = X[:, 0] + X[:, 1] * X[:, 2] + 0.3 * rng.normal(size=n)
    Y = np.column_stack([size, -size + rng.normal(size=n), size > 0, np.digitize(size, [-0.5, 0.5])]).astype(float)
    Y[6:][rng.random((n - 6, 4)) < missing] = np.nan
    Y[:3, 2:] = [[0, 0], [1, 1], [1, 2]]
    return X, Y


KINDS = ["regression", "regression", "binary", "multiclass"]


def parents_of(tree):
    parents = {0: None}
    for node in range(tree.node_count):
        for child in (tree.children_left[node], tree.children_right[node]):
            if child >= 0:
                parents[int(child)] = node
    return parents


def slow_values(tree, weight, X, outputs, owner, least):
    """Weighted mean of the observed outputs in each node, or in its nearest ancestor with enough of them."""
    inside = np.asarray(tree.decision_path(X).todense(), dtype=bool)
    parents, values = parents_of(tree), np.empty((tree.node_count, len(owner)))
    for node in range(tree.node_count):
        for output in range(len(owner)):
            at = node
            while True:
                rows = [
                    r
                    for r in range(len(X))
                    if inside[r, at] and weight[r] > 0 and outputs[r, output] == outputs[r, output]
                ]
                if len(rows) >= least or parents[at] is None:
                    break
                at = parents[at]
            total = sum(weight[r] for r in rows)
            values[node, output] = sum(weight[r] * outputs[r, output] for r in rows) / total if rows else 0.0
    return values


def slow_falls(tree, weight, X, outputs, owner):
    inside = np.asarray(tree.decision_path(X).todense(), dtype=bool)
    falls = np.zeros((owner[-1] + 1, X.shape[1]))

    def spread(node, output):
        rows = [
            r for r in range(len(X)) if inside[r, node] and weight[r] > 0 and outputs[r, output] == outputs[r, output]
        ]
        if not rows:
            return 0.0
        w, z = weight[rows], outputs[rows, output]
        return float((w * (z - np.average(z, weights=w)) ** 2).sum())

    for node in range(tree.node_count):
        left, right = tree.children_left[node], tree.children_right[node]
        if left >= 0:
            for output, task in enumerate(owner):
                falls[task, tree.feature[node]] += spread(node, output) - spread(left, output) - spread(right, output)
    return falls


@pytest.mark.parametrize("missing", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("leaf", [1, 3])
@pytest.mark.parametrize("fill", ["oob", "mean"])
def test_values_out_of_bag_means_and_importances(missing, leaf, fill):
    X, Y = case(0, missing)
    options = {"n_estimators": 6, "min_samples_leaf": leaf, "missing": fill, "random_state": 1}
    forest = JointForest(KINDS, **options).fit(X, Y)
    used = ~np.isnan(Y).all(axis=1)
    X, Y = X[used], Y[used]
    columns = read_columns(Y)
    code = learn_code(columns, KINDS, np.ones(len(X)))
    outputs = code.encode(columns)
    oob, times = np.zeros(outputs.shape), np.zeros(len(X))
    shares = []
    for tree, bag in zip(forest.forest_.estimators_, forest.forest_.estimators_samples_, strict=True):
        weight = np.bincount(bag, minlength=len(X)).astype(float)
        values = slow_values(tree.tree_, weight, X, outputs, code.owner, leaf)
        np.testing.assert_allclose(tree.tree_.value[:, :, 0], values, atol=1e-12)
        for row in np.flatnonzero(weight == 0):
            oob[row] += values[tree.apply(X[row : row + 1])[0]]
            times[row] += 1
        falls = slow_falls(tree.tree_, weight, X, outputs, code.owner)
        root = np.array([weight[columns.observed[:, task]].sum() for task in range(4)])
        falls /= np.where(root > 0, root, 1.0)[:, None]
        shares.append([task / task.sum() if task.sum() > 0 else task for task in falls])
    reached = times > 0
    expected = code.means(oob[reached] / times[reached, None])
    np.testing.assert_allclose(forest.oob_mean_[used][reached], expected, atol=1e-12)
    assert np.isnan(forest.oob_mean_[used][~reached]).all()
    mean_share = np.sum(shares, axis=0)
    mean_share /= mean_share.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(forest.task_importances_, mean_share, atol=1e-10)


def test_many_chunks_of_trees_give_the_same_forest(monkeypatch):
    X, Y = case(1, 0.5)
    whole = JointForest(KINDS, n_estimators=9, random_state=0).fit(X, Y)
    trees = whole.forest_.estimators_
    assert [part.stop - part.start for part in chunks_of_trees(trees, 5, 80, budget=1)] == [1] * 9
    monkeypatch.setattr(
        "polytask.trees.growing.chunks_of_trees", lambda trees, c, n: chunks_of_trees(trees, c, n, 2000)
    )
    parts = JointForest(KINDS, n_estimators=9, random_state=0).fit(X, Y)
    np.testing.assert_array_equal(whole.oob_mean_, parts.oob_mean_)
    np.testing.assert_array_equal(whole.predict(X), parts.predict(X))
    np.testing.assert_allclose(whole.task_importances_, parts.task_importances_, rtol=1e-12)
