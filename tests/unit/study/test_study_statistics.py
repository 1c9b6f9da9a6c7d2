import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from polytask.study.statistics import (
    corrected_t,
    fixed_split,
    gain_of,
    holm,
    interval_of,
    mean_ranks,
    place_among,
    relative_gain,
)


@pytest.mark.parametrize(("n", "share"), [(3, 0.25), (5, 0.25), (10, 0.111), (25, 0.5)])
def test_the_corrected_t_is_scipys_with_the_standard_error_enlarged(n, share):
    d = np.random.default_rng(n).normal(0.3, 1.0, n)
    plain = stats.ttest_1samp(d, 0.0)
    shrink = np.sqrt((1 / n) / (1 / n + share))
    found = corrected_t(d, share)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(plain.statistic * shrink), n - 1), rel=1e-10)
    ends = plain.confidence_interval(0.95)
    assert found.high - found.mean == pytest.approx((ends.high - d.mean()) / shrink, rel=1e-10)
    assert (found.low + found.high) / 2 == pytest.approx(d.mean())


def test_without_a_test_share_it_is_the_plain_t_test():
    d = np.array([0.1, 0.4, -0.2, 0.3])
    assert corrected_t(d, 0.0).p == pytest.approx(stats.ttest_1samp(d, 0.0).pvalue)


def test_interval_excludes_zero_exactly_if_p_is_below_five_percent():
    rng = np.random.default_rng(1)
    for _ in range(200):
        found = corrected_t(rng.normal(rng.uniform(-2, 2), 1.0, 6), 0.25)
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


@pytest.mark.parametrize("d", [[], [0.5], [0.5, 0.5], [np.nan, 0.1, 0.2]])
def test_too_few_differences_prove_nothing(d):
    found = corrected_t(d, 0.25)
    assert found.p == 1.0
    assert found.low == -np.inf
    assert found.high == np.inf


def test_missing_differences_do_not_count():
    assert corrected_t([0.1, np.nan, 0.2, 0.4], 0.25) == corrected_t([0.1, 0.2, 0.4], 0.25)


def test_equal_differences():
    assert corrected_t([0.0, 0.0, 0.0], 0.25).p == 1.0
    assert corrected_t([0.2, 0.2, 0.2, 0.2], 0.25).p < 1e-6


def test_false_alarms_on_correlated_resamples_are_at_most_five_percent():
    # Differences of folds share training rows: correlation n_test / (n_test + n_train), the model behind the correction.
    rng = np.random.default_rng(2)
    n, share, runs = 10, 0.25, 4000
    rho = share / (1 + share)
    common = rng.normal(size=(runs, 1)) * np.sqrt(rho)
    d = common + rng.normal(size=(runs, n)) * np.sqrt(1 - rho)
    corrected = np.mean([corrected_t(row, share).p < 0.05 for row in d])
    plain = np.mean([corrected_t(row, 0.0).p < 0.05 for row in d])
    assert corrected < 0.06
    assert plain > 0.2


def holm_by_definition(p):
    """Smallest level at which the step-down procedure rejects each hypothesis, by trying levels."""
    levels = sorted({min(1.0, value * k) for value in p for k in range(1, len(p) + 1)} | {1.0})
    found = []
    for i in range(len(p)):
        for level in levels:
            rejected = set()
            order = sorted(range(len(p)), key=lambda j: p[j])
            for step, j in enumerate(order):
                if p[j] * (len(p) - step) > level * (1 + 1e-12):
                    break
                rejected.add(j)
            if i in rejected:
                found.append(level)
                break
        else:
            found.append(1.0)
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=7))
def test_holm_is_the_smallest_level_that_rejects(p):
    assert holm(p) == pytest.approx(holm_by_definition(p), rel=1e-9)


def test_holm_of_nothing():
    assert holm([]) == []


def test_a_choice_takes_no_place_from_the_arms_it_is_made_of():
    errors = np.array([[0.1, 0.5, np.nan], [0.2, 0.4, 0.3], [0.3, 0.6, 0.2]])
    assert place_among(errors, np.array([0.1, 0.4, 0.2])) == 1.0, "the best arm of each task"
    assert place_among(errors, np.array([0.1, 0.5, 0.25])) == pytest.approx((1 + 2 + 2) / 3)
    assert place_among(errors, np.array([0.05, np.nan, 0.4])) == (1 + 3) / 2
    assert np.isnan(place_among(errors, np.full(3, np.nan)))


def test_mean_ranks_leave_out_what_is_not_served():
    errors = np.array([[1.0, 3.0, np.nan], [2.0, 1.0, 5.0], [3.0, 3.0, np.nan]])
    assert mean_ranks(errors).tolist() == [(1 + 2.5) / 2, (2 + 1 + 1) / 3, (3 + 2.5) / 2]
    assert np.isnan(mean_ranks(np.array([[np.nan], [1.0]]))[0])


def test_relative_gain_is_bounded_odd_and_safe_for_zeros():
    e, b = np.array([0.0, 0.5, 1e-300]), np.array([0.0, 0.0, 3.0])
    assert relative_gain(e[:1], b[:1]) == 0.0
    assert relative_gain(e[1:2], b[1:2]) == -200.0
    assert relative_gain(e, b) == pytest.approx(-relative_gain(b, e))
    assert np.isnan(relative_gain(np.array([np.nan]), np.array([1.0])))
    assert gain_of({"a": None}, {"a": 1.0}) is None
    assert gain_of({"a": 0.9, "b": None}, {"a": 1.1, "b": 1.0}) == pytest.approx(20.0)


def test_interval_of_folds():
    found = interval_of([0.5, None, 0.7, 0.6], 0.25)
    assert found.mean == pytest.approx(0.6)
    assert found.low < 0.5 < 0.7 < found.high
    assert interval_of([None, None], 0.25).mean is None
    assert interval_of([0.5], 0.25).low is None


def test_a_fixed_split_gives_the_standard_error_of_a_mean_where_seeds_do_not_matter():
    d = np.random.default_rng(0).normal(0.05, 1.0, 3000)
    found = fixed_split(np.stack([d] * 4), np.arange(3000), 0.0)
    plain = stats.ttest_1samp(d, 0.0)
    assert found.p == pytest.approx(plain.pvalue, rel=0.2)
    assert found.high - found.mean == pytest.approx(1.96 * d.std(ddof=1) / 3000**0.5, rel=0.08)


def test_seeds_that_differ_count_as_few():
    offsets = np.array([0.4, 0.1, 0.25])[:, None]
    values = offsets + 0.01 * np.random.default_rng(0).normal(size=(3, 5000))
    found = fixed_split(values, np.arange(5000), 0.2)
    assert found.p == pytest.approx(stats.ttest_1samp(offsets[:, 0], 0.0).pvalue, rel=0.1)


def test_rows_of_a_group_are_no_evidence_of_their_own():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 100)
    values = np.stack([rng.normal(size=20)[groups]] * 3)
    means = values[0].reshape(20, 100).mean(1)
    found = fixed_split(values, groups, 0.0)
    assert found.high - found.mean == pytest.approx(2.09 * means.std(ddof=1) / 20**0.5, rel=0.1)
    assert fixed_split(values, np.arange(2000), 0.0).high - found.mean < 0.5 * (found.high - found.mean)


def test_false_alarms_of_a_fixed_split_are_at_most_five_percent():
    # A model's luck: of its seed, common to all rows; of the training rows, common to all seeds; of each test row.
    rng = np.random.default_rng(3)
    n, share, wrong = 60, 0.3, 0
    for _ in range(600):
        rows = rng.normal(size=n)
        luck = rng.normal() * np.sqrt(share / n)
        values = luck + rows + 0.1 * rng.normal(size=(3, 1)) + 0.5 * rng.normal(size=(3, n))
        wrong += fixed_split(values, np.arange(n), share).p < 0.05
    assert wrong / 600 < 0.065


@pytest.mark.parametrize("values", [np.zeros((2, 50)), np.zeros((3, 2)), np.zeros((0, 0))])
def test_few_trainings_or_rows_prove_nothing(values):
    found = fixed_split(values, np.arange(values.shape[1]), 0.2)
    assert found.p == 1.0
    assert found.high == np.inf
