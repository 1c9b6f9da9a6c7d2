"""A joint forest is stored without pickle: skops, with scikit-learn's trees and our two classes as trusted types."""

import numpy as np
import pytest
import skops.io

from polytask.errors import BundleError
from polytask.trees import JointForest, JointForestCV

TRUSTED = ["polytask.trees.forest.JointForest", "polytask.trees.forest_cv.JointForestCV", "sklearn.tree._tree.Tree"]


@pytest.mark.parametrize(
    "forest",
    [
        JointForest(n_estimators=8, random_state=0),
        JointForest(n_estimators=8, random_state=np.random.RandomState(3), splits="best"),
        JointForest(n_estimators=8, random_state=0, bootstrap=False),
        JointForestCV(n_estimators=8, leaves=(1, 5), random_state=0),
    ],
    ids=["random", "best", "all rows", "chosen"],
)
@pytest.mark.parametrize("is_named", [True, False])
def test_a_round_trip_is_equal_to_the_bit(forest, is_named):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    Y = np.column_stack([X[:, 0], X[:, 1] > 0, np.digitize(X[:, 2], [-0.5, 0.5])])
    Y[rng.random(Y.shape) < 0.3] = np.nan
    kinds = ["regression", "binary", "multiclass"]
    targets = dict(zip("abc", Y.T, strict=True)) if is_named else Y
    forest.set_params(kinds=kinds).fit(X, targets)
    stored = skops.io.dumps(forest)
    assert set(skops.io.get_untrusted_types(data=stored)) <= set(TRUSTED)
    back = skops.io.loads(stored, trusted=TRUSTED)
    assert back.get_params().keys() == forest.get_params().keys()
    first, second = forest.predict(X), back.predict(X)
    chances, chances2 = forest.predict_proba(X), back.predict_proba(X)
    assert list(chances) == list(chances2)
    for name in chances:
        np.testing.assert_array_equal(chances[name], chances2[name])
    for name in "abc" if is_named else range(3):
        mine, theirs = (first[name], second[name]) if is_named else (first[:, name], second[:, name])
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(forest.task_importances_, back.task_importances_)
    assert forest.score(X, targets) == back.score(X, targets)
    if getattr(forest, "oob_score_", None) is not None:
        np.testing.assert_array_equal(forest.oob_mean_, back.oob_mean_)
        assert forest.oob_score_ == back.oob_score_


@pytest.mark.parametrize(
    ("field", "node", "number"),
    [
        ("left_child", 0, 10**9),
        ("right_child", 0, -5),
        ("right_child", 0, 0),
        ("left_child", 0, -1),
        ("feature", 0, 4),
        ("feature", 0, -2),
    ],
)
def test_a_forged_node_is_found_before_it_is_followed(field, node, number):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 4))
    forest = JointForest(n_estimators=3, random_state=0).fit(X, X[:, :2])
    forest.check_trees()
    tree = forest.forest_.estimators_[1].tree_
    state = tree.__getstate__()
    state["nodes"][field][node] = number
    tree.__setstate__(state)
    with pytest.raises(BundleError, match="Tree 1"):
        forest.check_trees()
