"""Groups: exact against brute force, the heuristic against exact and planted optima, budgets, controls."""

import itertools

import numpy as np
import pytest

from polytask.affinity.grouping import GroupBudget, arrangement, group_tasks, random_groups
from polytask.affinity.grouping.exact import best_groups
from polytask.affinity.grouping.heuristic import good_groups
from polytask.affinity.grouping.score import Group, scores_in, total_gain
from polytask.affinity.groups import make_grouping
from polytask.affinity.readings import as_matrix
from polytask.affinity.record import Found, Structure
from polytask.errors import RecipeError


def brute_force(gains, budget):
    """Every set of groups that covers the tasks, each task in the best group that has it."""
    n = len(gains)
    sets = [frozenset(i for i in range(n) if mask >> i & 1) for mask in range(1, 1 << n)]
    best = -np.inf
    for k in range(1, budget.most_models(n) + 1):
        for chosen in itertools.combinations(sets, k):
            cost = sum(1 + budget.head_cost * (len(g) - 1) for g in chosen)
            if budget.cost is not None and cost > budget.cost + 1e-9:
                continue
            if len(frozenset().union(*chosen)) == n:
                worth = [
                    max(np.mean([gains[i, j] for i in g if i != j]) if len(g) > 1 else 0.0 for g in chosen if j in g)
                    for j in range(n)
                ]
                best = max(best, sum(worth))
    return best


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "budget",
    [
        GroupBudget(models=1),
        GroupBudget(models=2),
        GroupBudget(models=4),
        GroupBudget(cost=3, head_cost=0.3),
        GroupBudget(models=3, cost=2.5, head_cost=0.2),
    ],
)
def test_the_exact_search_finds_what_brute_force_finds(n, budget):
    for seed in range(4):
        gains = np.random.default_rng(seed).normal(size=(n, n))
        np.fill_diagonal(gains, 0.0)
        groups = best_groups(gains, budget)
        assert budget.allows(groups)
        assert sorted(j for g in groups for j in g.serves) == list(range(n))
        assert all(g.serves <= g.tasks for g in groups)
        assert total_gain(groups, gains) == pytest.approx(brute_force(gains, budget))


@pytest.mark.parametrize("budget", [GroupBudget(models=3), GroupBudget(cost=4, head_cost=0.2)])
def test_the_heuristic_is_near_the_exact_optimum_even_on_noise(budget):
    ratios = []
    for seed in range(8):
        gains = np.random.default_rng([7, seed]).normal(size=(8, 8))
        np.fill_diagonal(gains, 0.0)
        good, best = good_groups(gains, budget), best_groups(gains, budget)
        assert budget.allows(good)
        ratios.append(total_gain(good, gains) / total_gain(best, gains))
    assert max(ratios) <= 1 + 1e-9
    assert min(ratios) > 0.9
    assert np.mean(ratios) > 0.97


def planted(sizes, noise, seed):
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    gains = np.where(cluster[:, None] == cluster, 1.0, -1.0) + noise * rng.normal(size=(len(cluster),) * 2)
    np.fill_diagonal(gains, 0.0)
    return gains, cluster


@pytest.mark.parametrize("exact", [True, False])
def test_planted_clusters_and_an_outcast_are_found(exact):
    gains, cluster = planted((4, 3, 3, 1), 0.2, 0)
    found = group_tasks(gains, [str(c) for c in range(11)], GroupBudget(models=4), exact=exact)
    assert [{cluster[int(t)] for t in serves} for serves in found.serves] == [{0}, {1}, {2}, {3}]
    assert found.serves[-1] == ("10",)


def test_many_planted_clusters_are_found():
    gains, cluster = planted((12,) * 12, 0.5, 1)
    found = group_tasks(gains, [str(c) for c in range(144)], GroupBudget(models=12))
    assert sorted(len(serves) for serves in found.serves) == [12] * 12
    assert all(len({cluster[int(t)] for t in serves}) == 1 for serves in found.serves)


def test_a_helper_joins_a_group_that_does_not_serve_it():
    # a helps b and c, which hurt each other and everyone hurts a.
    gains = np.array([[0, 1, 1], [-1, 0, -1], [-1, -1, 0.0]])
    found = group_tasks(gains, ["a", "b", "c"], GroupBudget(models=3))
    assert found.groups == (("a",), ("a", "b"), ("a", "c"))
    assert found.serves == (("a",), ("b",), ("c",))
    assert found.predicted == pytest.approx(2 / 3)


def test_of_equal_gains_the_fewest_models():
    assert group_tasks(np.zeros((3, 3)), ["a", "b", "c"], GroupBudget(models=3)).models == 1
    assert group_tasks(np.zeros((14, 14)), [str(i) for i in range(14)], GroupBudget(models=3)).models == 1


def test_what_is_not_known_is_neither_good_nor_bad():
    gains = np.full((2, 2), np.nan)
    assert group_tasks(gains, ["a", "b"], GroupBudget(models=2)).predicted == 0.0


def test_random_groups_have_the_same_sizes():
    like = [Group(frozenset({0, 1, 2}), frozenset({0, 1})), Group(frozenset({2}), frozenset({2}))]
    drawn = random_groups(like, 3, np.random.default_rng(0))
    assert [len(g.tasks) for g in drawn] == [3, 1]
    assert sorted(j for g in drawn for j in g.serves) == [0, 1, 2]


def test_what_was_chosen_is_no_control_of_itself():
    # Two of three: a third of the random groups would be the chosen ones.
    gains = as_matrix(np.array([[0, 1, -1], [1, 0, -1], [-1, -1, 0.0]]))
    found = Found("", True, True, gains, gains, gains, 2, {}, Structure(True, 0.01, 0.9, ""))
    for seed in range(10):
        made = make_grouping("lookahead", found, ["a", "b", "c"], GroupBudget(models=2), seed=seed)
        drawn = [one for name, one in made.controls.items() if name.startswith("random")]
        assert len(drawn) == 2  # of the three ways of dividing them, those that were not chosen
        assert len({frozenset(one.groups) for one in (made.chosen, *drawn)}) == 3


def test_no_random_groups_are_drawn_twice():
    gains = as_matrix(np.array([[0, 1, -1, -1], [1, 0, -1, -1], [-1, -1, 0, 1], [-1, -1, 1, 0.0]]))
    found = Found("", True, True, gains, gains, gains, 2, {}, Structure(True, 0.01, 0.9, ""))
    for seed in range(10):
        made = make_grouping("lookahead", found, list("abcd"), GroupBudget(models=2), seed=seed)
        assert made.chosen.groups == (("a", "b"), ("c", "d"))
        drawn = {name: frozenset(one.groups) for name, one in made.controls.items() if name.startswith("random")}
        assert list(drawn) == ["random 1", "random 2"]  # pairs of four tasks: there are but two other ways
        assert drawn["random 1"] != drawn["random 2"]


def test_scores_and_arrangement():
    gains = np.array([[9, 0.2, 0.6], [0.4, 9, 0.0], [0.2, 0.4, 9]])
    assert scores_in([0, 1, 2], gains) == pytest.approx({0: 0.3, 1: 0.3, 2: 0.3})
    made = arrangement([Group(frozenset({0, 1, 2}), frozenset({0, 1, 2}))], gains, ["a", "b", "c"])
    assert made.predicted == pytest.approx(0.3)
    assert made.cost == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GroupBudget(), "needs a budget"),
        (lambda: GroupBudget(models=0), "at least one model"),
        (lambda: GroupBudget(models=1, head_cost=-1), "less than nothing"),
        (lambda: group_tasks(np.zeros((2, 2)), ["a"], GroupBudget(models=1)), "matrix of 1 by 1"),
        (lambda: group_tasks(np.zeros((4, 4)), list("abcd"), GroupBudget(cost=2, head_cost=1.0)), "no room"),
    ],
)
def test_wrong_budgets_are_refused(make, message):
    with pytest.raises(RecipeError, match=message):
        make()
