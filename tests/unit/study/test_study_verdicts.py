import numpy as np
import pytest

from polytask.errors import RecipeError
from polytask.study.budget import Budget, seconds_of
from polytask.study.choice import choose
from polytask.study.verdicts import Pairs, judge


def pairs(gain: float, noise: float = 0.01, n: int = 10, seed: int = 0) -> Pairs:
    rng = np.random.default_rng(seed)
    single = rng.uniform(0.4, 0.6, n)
    return Pairs(single - gain + noise * rng.normal(size=n), single, 0.25)


def test_the_three_verdicts():
    found = judge({"a": pairs(0.1), "b": pairs(-0.1), "c": pairs(0.0)}, "joint", "single")
    assert [found[t].verdict for t in "abc"] == ["helped", "hurt", "no evidence"]
    assert found["a"].gain == pytest.approx(100 * 0.1 / 0.5, rel=0.2)
    assert found["a"].interval[0] > 0 > found["b"].interval[1]
    assert "helped" in found["a"].words
    assert "hurt" in found["b"].words
    assert "no evidence" in found["c"].words


def test_an_interval_is_named_as_that_of_the_gain_which_stands_beside_it():
    hurt = judge({"b": pairs(-0.1)}, "joint", "single")["b"]
    gain, (low, high) = hurt.gain, hurt.interval
    assert low < gain < high < 0
    assert (
        f"{-gain:.1f} % larger than alone (gain {gain:+.1f} %, 95 % interval {low:+.1f} to {high:+.1f} %" in hurt.words
    )


def test_more_tasks_ask_for_more_evidence():
    borderline = pairs(0.015, noise=0.02, seed=1)
    alone = judge({"a": borderline}, "joint", "single")["a"]
    assert alone.verdict == "helped"
    noise = {f"n{i}": pairs(0.0, seed=10 + i) for i in range(40)}
    among = judge({"a": borderline, **noise}, "joint", "single")["a"]
    assert among.p == alone.p
    assert among.p_corrected > 0.05
    assert among.verdict == "no evidence"


def test_an_absent_task_is_no_evidence():
    nothing = Pairs(np.full(5, np.nan), np.full(5, np.nan), 0.25)
    found = judge({"a": nothing, "b": Pairs(np.array([0.1]), np.array([0.9]), 0.25)}, "joint", "single")
    assert found["a"].verdict == found["b"].verdict == "no evidence"
    assert found["a"].gain is None
    assert found["b"].interval == (None, None)


def test_a_perfect_single_model_does_not_divide_by_zero():
    found = judge({"a": Pairs(np.full(5, 0.1), np.zeros(5), 0.25)}, "joint", "single")["a"]
    assert found.verdict == "hurt"
    assert found.gain is None
    assert found.words == "a: learning jointly hurt; the error alone is zero, jointly 0.1 (5 folds)."
    both = judge({"a": Pairs(np.zeros(5), np.zeros(5), 0.25)}, "joint", "single")["a"]
    assert both.verdict == "no evidence"
    assert "no relative gain is defined" in both.words


def test_choice_keeps_the_best_overall_unless_another_is_clearly_better():
    rng = np.random.default_rng(0)
    base = rng.random(100)
    errors = {("a",): {"x": 0.50, "y": 0.5, "z": 0.5}, ("b",): {"x": 0.49, "y": 0.3, "z": 0.9}}
    losses = {
        ("a",): {"x": base, "y": base, "z": base},
        ("b",): {"x": base + rng.normal(-0.001, 0.5, 100), "y": base - 0.2 + 0.05 * rng.random(100), "z": base + 1},
    }
    assert choose(("a",), errors, losses) == {"x": ("a",), "y": ("b",), "z": ("a",)}


def test_choice_falls_back_where_the_best_overall_does_not_serve():
    errors = {("a",): {"x": 0.5, "y": 0.5}, ("b",): {"x": 0.1}}
    losses = {("a",): {"x": np.full(5, 0.5)}, ("b",): {"x": np.linspace(0.09, 0.11, 5)}}
    assert choose(("a",), errors, losses) == {"x": ("b",), "y": ("a",)}
    nan = {("a",): {"x": np.nan}, ("b",): {"x": np.nan}}
    assert choose(("a",), nan, {("a",): {}, ("b",): {}})["x"] in nan


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), (30, 30), ("90s", 90), ("1.5h", 5400), (" 2 m ", 120), (None, None)]
)
def test_budgets_as_they_are_written(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "-3m", "10 days"])
def test_no_budget(text):
    with pytest.raises(RecipeError, match="90s, 10m or 1h"):
        seconds_of(text)


def test_budget_leaves_out_what_does_not_fit_and_says_so():
    budget = Budget(100.0, n_folds=4)
    assert not budget.why_not_keep("single", 10.0)  # 50 s planned
    assert not budget.why_not_keep("joint", 5.0)  # 75 s
    assert "would take about 50 s, and 25 s of the budget are left" in budget.why_not_keep("forest", 10.0)
    assert not budget.why_not_keep("linear", 1.0)
    assert not budget.why_not_try("single")
    assert "not tried: the arms before it take about" in budget.why_not_try("mmoe")
    assert budget.repeats(spent=64.0) == 1


def test_needed_arms_run_whatever_the_budget_is():
    budget = Budget(1.0, n_folds=5)
    assert not budget.why_not_try("joint")
    assert not budget.why_not_keep("joint", 100.0)


def test_time_left_becomes_repetitions():
    budget = Budget(1000.0, n_folds=5)
    assert not budget.why_not_keep("joint", 10.0)
    assert budget.repeats(spent=50.0) == 4
    assert Budget(None, 5).repeats(spent=50.0) == 1


def test_folds_are_left_out_before_a_budget_is_blown():
    budget = Budget(60.0, n_folds=5)
    assert not budget.why_not_keep("joint", 9.0)
    assert not budget.why_not_keep("single", 3.0)  # 72 s planned
    assert budget.folds() == 4
    assert not budget.why_not_keep("single", 30.0)
    assert budget.folds() == 3
    assert Budget(None, 5).folds() == 5
    two = Budget(1.0, n_folds=2)
    assert not two.why_not_keep("joint", 100.0)
    assert two.folds() == 2


def test_an_interval_ends_where_an_error_can_get_no_smaller():
    single, joint = np.array([0.9, 0.1, 0.5]), np.array([0.1, 0.2, 0.2])
    verdict = judge({"y": Pairs(joint, single, 0.5)}, "joint", "single")["y"]
    assert verdict.interval[1] > 100, "the record has what the test says"
    assert "to at most +100 %" in verdict.words


def test_an_interval_without_zero_beside_no_evidence_is_explained():
    rng = np.random.default_rng(0)
    hard = rng.uniform(0.4, 0.6, 10)
    better = Pairs(hard - 0.025 + 0.03 * rng.normal(size=10), hard, 0.1)
    none = {f"none {i}": Pairs(hard + 0.03 * rng.normal(size=10), hard, 0.1) for i in range(9)}
    alone, among = (judge(pairs, "joint", "single")["y"] for pairs in ({"y": better}, {"y": better, **none}))
    assert alone.verdict == "helped", alone.words
    assert among.verdict == "no evidence"
    assert among.interval == alone.interval
    assert "would count if this were the only task, but among 10 tasks tested at once may be chance" in among.words
