import numpy as np
import pytest
from scipy import stats

from experiments.study.paired import bootstrap_interval, t_interval


@pytest.mark.parametrize("count", [2, 3, 5, 12])
def test_the_t_interval_is_scipys(count):
    values = np.random.default_rng(count).normal(0.002, 0.004, count)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(t_interval(values.tolist()), expected, rtol=1e-9)


def test_the_t_interval_holds_the_mean_as_often_as_it_says():
    """An independent computation: the share of experiments whose interval holds the truth."""
    draws = np.random.default_rng(0).normal(1, 2, (4000, 5))
    held = [low < 1 < high for low, high in map(t_interval, draws.tolist())]
    assert np.mean(held) == pytest.approx(0.95, abs=0.012)


def test_few_or_identical_differences():
    assert t_interval([]) is None and t_interval([0.1]) is None
    assert t_interval([0.25, 0.25, 0.25]) == (0.25, 0.25)


def some(seed, shape=(3, 400), rate=0.7):
    return np.random.default_rng(seed).random(shape) < rate


def test_the_bootstrap_is_that_of_pictures_drawn_one_by_one():
    reference = some(0)
    correct = reference ^ some(1, rate=0.15)
    low, high = bootstrap_interval(correct, reference)
    each = correct.mean(0) - reference.mean(0)
    drawn = np.random.default_rng(5).integers(0, 400, (20_000, 400))
    np.testing.assert_allclose((low, high), np.quantile(each[drawn].mean(1), [0.025, 0.975]), atol=0.0015)
    assert low < each.mean() < high
    independent = stats.bootstrap((each,), np.mean, n_resamples=5000, method="percentile", rng=1)
    np.testing.assert_allclose((low, high), independent.confidence_interval, atol=0.0015)


def test_the_bootstrap_is_paired_and_repeats_itself():
    reference = some(0, rate=0.5)
    assert bootstrap_interval(reference, reference) == (0, 0)
    better = reference | some(1, rate=0.1)
    found = bootstrap_interval(better, reference)
    assert found == bootstrap_interval(better, reference) and found[0] > 0
    assert bootstrap_interval(reference, better) == pytest.approx([-found[1], -found[0]], abs=0.003)


def test_the_bootstrap_of_one_or_no_seed_and_of_unequal_ones():
    one = bootstrap_interval(some(0, (1, 50)), some(1, (1, 50)))
    assert one is not None and one[0] < one[1]
    assert bootstrap_interval(np.zeros((0, 50), bool), np.zeros((0, 50), bool)) is None
    with pytest.raises(ValueError, match=r"\(seeds, pictures\) alike, got \(1, 50\) and \(2, 50\)"):
        bootstrap_interval(some(0, (1, 50)), some(1, (2, 50)))
