import json
from collections import Counter

import pytest
import torch

from polytask.data import BatchPlan
from polytask.data.sampler import apportion
from polytask.data.samplers import Annealed, Fixed, Proportional, RoundRobin, Temperature, Uniform, registry
from polytask.errors import DataError, RecipeError


def run(plan, epochs=1):
    return [(draw.source, draw.rows.tolist()) for _ in range(epochs) for draw in plan.epoch()]


def test_one_source_is_plain_shuffled_epochs():
    plan = BatchPlan({"a": 10}, 4, seed=1)
    first, second = run(plan), run(plan)
    assert [len(rows) for _, rows in first] == [4, 4, 2]
    for epoch in (first, second):
        assert sorted(row for _, rows in epoch for row in rows) == list(range(10))
    assert first != second
    assert first == run(BatchPlan({"a": 10}, 4, seed=1))
    assert first != run(BatchPlan({"a": 10}, 4, seed=2))


@pytest.mark.parametrize(
    ("rows", "size", "drop_last", "sizes"),
    [
        (9, 4, False, [4, 5]),  # a last batch of one row joins the one before
        (9, 4, True, [4, 4]),
        (8, 4, False, [4, 4]),
        (10, 4, False, [4, 4, 2]),
        (10, 4, True, [4, 4]),
        (1, 4, False, [1]),
        (1, 4, True, [1]),
        (3, 4, True, [3]),
        (3, 1, False, [1, 1, 1]),
        (5, 5, False, [5]),
        (6, 5, False, [6]),
    ],
)
def test_batch_sizes(rows, size, drop_last, sizes):
    plan = BatchPlan({"a": rows}, size, drop_last=drop_last)
    assert [len(found) for _, found in run(plan)] == sizes
    assert plan.n_steps == len(sizes)


def test_proportional_epoch_is_one_pass_over_every_source():
    plan = BatchPlan({"a": 70, "b": 13}, {"a": 8, "b": 3}, Proportional(), seed=3)
    assert plan.describe() == "a: 9 batches, 1.0 passes; b: 4 batches, 1.0 passes"
    for _ in range(3):
        seen = {"a": [], "b": []}
        for source, rows in run(plan):
            seen[source] += rows
        assert sorted(seen["a"]) == list(range(70))
        assert sorted(seen["b"]) == list(range(13))


def test_a_pass_goes_on_over_the_end_of_an_epoch():
    plan = BatchPlan({"a": 12}, 4, steps_per_epoch=2)
    rows = [row for _, found in run(plan, 3) for row in found]
    assert sorted(rows[:12]) == sorted(rows[12:]) == list(range(12))


def test_uniform_repeats_small_sources():
    plan = BatchPlan({"a": 60, "b": 10}, 10, Uniform())
    assert Counter(source for source, _ in run(plan)) in ({"a": 4, "b": 3}, {"a": 3, "b": 4})
    assert plan.describe(0).startswith(("a: 4 batches, 0.7 passes; b: 3", "a: 3 batches, 0.5 passes; b: 4"))


def test_round_robin_alternates():
    assert [source for source, _ in run(BatchPlan({"a": 4, "b": 4}, 2, RoundRobin()))] == ["a", "b", "a", "b"]


def test_batches_of_a_source_do_not_depend_on_the_others():
    alone = run(BatchPlan({"a": 20}, 5, seed=9), 2)
    both = [batch for batch in run(BatchPlan({"a": 20, "b": 7}, 5, seed=9), 2) if batch[0] == "a"]
    assert alone == both


def test_shares_by_hand():
    sizes = {"a": 8, "b": 1}
    assert Temperature(3.0).shares(sizes, 0)["a"] == pytest.approx(2 / 3)
    assert Temperature(1.0).shares(sizes, 0) == pytest.approx(Proportional().shares(sizes, 0))
    assert Temperature(float("inf")).shares(sizes, 0) == pytest.approx(Uniform().shares(sizes, 0))
    annealed = Annealed(epochs=5, end=0.2)
    assert annealed.shares(sizes, 0) == pytest.approx(Proportional().shares(sizes, 0))
    assert annealed.shares(sizes, 4)["b"] == pytest.approx(1 / (1 + 8**0.2))
    assert annealed.shares(sizes, 2)["b"] == pytest.approx(1 / (1 + 8**0.6))
    assert annealed.shares(sizes, 99) == annealed.shares(sizes, 4)
    assert Annealed(epochs=1, end=0.0).shares(sizes, 0)["a"] == 0.5
    assert Fixed({"a": 3, "b": 1}).shares(sizes, 0) == {"a": 0.75, "b": 0.25}
    assert Fixed({"a": 0}).shares(sizes, 0) == {"a": 0.0, "b": 1.0}


def test_apportion_is_right_on_average():
    generator = torch.Generator().manual_seed(0)
    mean = torch.stack([apportion([0.55, 0.33, 0.12], 5, generator) for _ in range(4000)]).double().mean(0)
    assert mean.tolist() == pytest.approx([2.75, 1.65, 0.6], abs=0.03)


def test_resume_in_the_middle_through_json():
    def make():
        return BatchPlan({"a": 33, "b": 9}, 4, Temperature(2.0), seed=5)

    whole = run(make(), 3)
    plan = make()
    done = []
    for draw in plan.epoch():
        done.append((draw.source, draw.rows.tolist()))
        if len(done) == 5:
            break
    state = json.loads(json.dumps(plan.state_dict()))
    other = make()
    other.load_state_dict(state)
    assert (other.epochs_done, other.steps_done) == (0, 5)
    rest = []
    while other.epochs_done < 3:
        rest += run(other)
    assert done + rest == whole


def test_global_randomness_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    run(BatchPlan({"a": 33, "b": 9}, 4))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: BatchPlan({}, 4), DataError, "at least one source"),
        (lambda: BatchPlan({"a": 0}, 4), DataError, "'a' has no rows"),
        (lambda: BatchPlan({"a": 3}, 0), RecipeError, "batch size"),
        (lambda: BatchPlan({"a": 3, "b": 3}, {"a": 2}), RecipeError, "'b'"),
        (lambda: BatchPlan({"a": 3}, 2, steps_per_epoch=0), RecipeError, "at least 1 step"),
        (lambda: Temperature(0.5), RecipeError, "at least 1"),
        (lambda: Annealed(epochs=0), RecipeError, "1 epoch"),
        (lambda: Annealed(end=2.0), RecipeError, "0 to 1"),
        (lambda: Fixed({"a": -1}), RecipeError, "'a' needs to be finite"),
        (lambda: Fixed({"a": 0}).shares({"a": 1}, 0), RecipeError, "are 0"),
        (lambda: Fixed({"digit": 1}).shares({"digits": 1}, 0), RecipeError, "Did you mean 'digits'"),
        (lambda: registry.create("unifrm"), RecipeError, "Did you mean 'uniform'"),
    ],
)
def test_errors(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_state_of_another_plan_is_refused():
    state = BatchPlan({"a": 3}, 2, seed=1).state_dict()
    for other in (BatchPlan({"a": 3}, 2, seed=2), BatchPlan({"b": 3}, 2, seed=1), BatchPlan({"a": 4}, 2, seed=1)):
        with pytest.raises(RecipeError, match="saved place"):
            other.load_state_dict(state)


def test_batches_of_alike_lengths_are_a_pass_over_all_rows_and_leave_little_padding():
    lengths = torch.randint(1, 60, (1003,), generator=torch.Generator().manual_seed(0))

    def passes(**given):
        plan = BatchPlan({"texts": 1003}, 16, seed=5, **given)
        return [[draw.rows for draw in plan.epoch()] for _ in range(2)]

    alike, plain = passes(lengths={"texts": lengths}), passes()
    for one in alike:
        assert sorted(torch.cat(one).tolist()) == list(range(1003))
        assert [len(rows) for rows in one] == [len(rows) for rows in plain[0]]
    assert not torch.equal(torch.cat(alike[0]), torch.cat(alike[1]))

    def computed(batches):
        return sum(int(lengths[rows].max()) * len(rows) for rows in batches)

    assert computed(alike[0]) < 1.15 * int(lengths.sum()) < computed(plain[0])
    longest = [int(lengths[rows].max()) for rows in alike[0][:20]]
    assert longest != sorted(longest)
