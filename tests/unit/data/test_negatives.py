"""Rows of what did not happen: never what did, by popularity, the same whenever they are drawn."""

import numpy as np
import pandas as pd
import pytest

from polytask.data import sampled_negatives
from polytask.errors import DataError


def log(n=2000, seed=0):
    draw = np.random.default_rng(seed)
    items = np.minimum(draw.geometric(0.1, n), 40)
    return pd.DataFrame(
        {"user": draw.integers(0, 100, n), "item": items, "price": items * 1.5, "hour": draw.integers(0, 24, n)}
    )


def test_no_drawn_pair_was_chosen_and_rows_keep_their_user_and_context():
    frame = log()
    drawn = sampled_negatives(frame, "user", "item", per_row=3, seed=1)
    chosen = set(zip(frame["user"], frame["item"], strict=True))
    assert not chosen & set(zip(drawn["user"], drawn["item"], strict=True))
    assert 3 * len(frame) - 10 < len(drawn) <= 3 * len(frame)  # drawing anew ends for whom nearly all is chosen
    hours = frame.groupby("user")["hour"].agg(set)
    assert all(hour in hours[user] for user, hour in zip(drawn["user"], drawn["hour"], strict=True))
    assert (drawn["price"] == drawn["item"] * 1.5).all()
    assert drawn.equals(sampled_negatives(frame, "user", "item", per_row=3, seed=1))
    assert not drawn.equals(sampled_negatives(frame, "user", "item", per_row=3, seed=2))


def test_items_are_drawn_by_the_power_of_their_count():
    # Users who chose one item each: drawing anew changes the shares of the others little, and exactly so here.
    items = np.repeat([0, 1, 2, 3], [800, 400, 200, 100])
    frame = pd.DataFrame({"user": np.arange(len(items)), "item": items})
    for power in (0.0, 0.75, 1.0):
        shares = np.bincount(items) ** power
        drawn = sampled_negatives(frame, "user", "item", per_row=50, power=power)["item"]
        wanted = sum(
            count * np.where(np.arange(4) == own, 0, shares) / (shares.sum() - shares[own])
            for own, count in enumerate(np.bincount(items))
        )
        assert np.bincount(drawn) / len(drawn) == pytest.approx(wanted / wanted.sum(), abs=0.01)


def test_a_user_who_chose_everything_has_no_rows():
    drawn = sampled_negatives({"user": ["a", "a", "b"], "item": [1, 2, 1]}, "user", "item", per_row=2)
    assert set(drawn["user"]) == {"b"}


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(DataError, match="'usr'"):
        sampled_negatives(log(), "usr", "item")
    with pytest.raises(DataError, match="missing values"):
        sampled_negatives({"user": ["a", None], "item": [1, 2]}, "user", "item")
    with pytest.raises(DataError, match="one item only"):
        sampled_negatives({"user": ["a", "b"], "item": [1, 1]}, "user", "item")
    with pytest.raises(DataError, match="per_row"):
        sampled_negatives(log(), "user", "item", per_row=0)
