"""Concepts, beside loops in plain Python and SciPy."""

import itertools

import jax
import numpy as np
import pytest
import scipy
import scipy.stats
from matplotlib.figure import Figure

from lgnn_jax import Grid
from lgnn_jax.inspect import concept, plots

KEY = jax.random.key(0)
SEED = "rng" if tuple(map(int, scipy.__version__.split(".")[:2])) >= (1, 15) else "random_state"


def sets(seed, present=12, absent=15, units=40, shift=1.5, shifted=8):
    """Activations of units of which the first respond to a concept."""
    draw = np.random.default_rng(seed)
    first, second = draw.gamma(2, size=(present, units)), draw.gamma(2, size=(absent, units))
    first[:, :shifted] += shift
    return first, second


def test_p_is_the_share_of_all_ways_to_choose_the_images():
    first, second = sets(0, present=4, absent=5, units=6)
    first[:, 5] = second[:, 5] = 3.25  # A constant unit.
    found = concept(first, second, key=KEY, permutations=20_000)
    both = np.concatenate([first, second])
    for unit in range(6):
        differences = []
        for chosen in itertools.combinations(range(9), 4):
            inside = [both[image, unit] for image in chosen]
            outside = [both[image, unit] for image in range(9) if image not in chosen]
            differences.append(sum(inside) / 4 - sum(outside) / 5)
        own = differences[0]
        exact = sum(abs(value) >= abs(own) - 1e-9 for value in differences) / len(differences)
        assert found.difference[unit] == pytest.approx(own, abs=1e-12)
        assert found.p[unit] == pytest.approx(exact, abs=5 * (exact / 20_000) ** 0.5 + 1e-4)
        spread = (sum(value**2 for value in differences) / len(differences)) ** 0.5
        assert found.std[unit] == pytest.approx(spread, rel=0.03)
    assert found.p[5] == 1 and found.z[5] == 0 and found.difference[5] == 0


def test_rates_are_scipys_and_p_near_its_permutation_test():
    first, second = sets(1)
    found = concept(first, second, key=KEY)
    np.testing.assert_allclose(found.q, scipy.stats.false_discovery_control(found.p))
    theirs = scipy.stats.permutation_test(
        (first, second),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        n_resamples=4000,
        vectorized=True,
        **{SEED: np.random.default_rng(1)},
    )
    np.testing.assert_allclose(found.difference, theirs.statistic)
    np.testing.assert_allclose(found.p, theirs.pvalue, atol=0.05)
    np.testing.assert_allclose(found.z, theirs.statistic / theirs.null_distribution.std(0), rtol=0.1)
    np.testing.assert_allclose(found.direction, found.difference / np.sqrt((found.difference**2).sum()))


def test_units_that_respond_are_found_and_few_others():
    """Over many draws the mean share of units found by chance keeps below the rate."""
    shares = []
    for seed in range(60):
        first, second = sets(seed, units=30, shifted=6)
        found = concept(first, second, key=jax.random.key(seed), permutations=2000).units(0.1)
        shares.append((found >= 6).sum() / max(1, len(found)))
    assert 0.01 < np.mean(shares) < 0.12
    first, second = sets(3, shift=4)
    assert set(range(8)) <= set(concept(first, second, key=KEY).units())
    less = concept(second, first, key=KEY)  # On the other side.
    assert set(range(8)) <= set(less.units()) and (less.difference[:8] < 0).all()
    assert not len(concept(*sets(5, shift=0, units=5), key=KEY).units(0.001))


def test_maps_count_by_their_mean_over_space_in_any_order_of_units():
    draw = np.random.default_rng(0)
    first, second = draw.random((10, 3, 4, 6), np.float32), draw.random((9, 3, 4, 6), np.float32)
    maps = concept(first, second, key=KEY)
    means = concept(first.mean((1, 2), dtype=np.float64), second.mean((1, 2), dtype=np.float64), key=KEY)
    np.testing.assert_allclose(maps.difference, means.difference, atol=1e-7)
    np.testing.assert_array_equal(maps.p, means.p)
    order = [3, 1, 2, 0, 5, 4]
    np.testing.assert_array_equal(maps.reordered(order).q, maps.q[order])
    np.testing.assert_array_equal(maps.reordered(order).difference, maps.difference[order])


def test_the_figure_shows_differences_and_outlines_what_was_found():
    first, second = sets(2, units=12, shift=5, shifted=2)
    found = concept(first, second, key=KEY)
    figure, maps = plots.concept_maps(
        {"stripes": found, "moved": found.reordered(range(11, -1, -1))}, Grid((4, 3))
    )
    np.testing.assert_array_equal(maps["stripes"].ravel(), found.difference)
    np.testing.assert_array_equal(maps["moved"].ravel(), found.difference[::-1])
    panel, other = figure.axes[:2]
    np.testing.assert_array_equal(panel.images[0].get_array(), maps["stripes"])
    assert panel.images[0].norm.vmax == other.images[0].norm.vmax == -panel.images[0].norm.vmin
    assert panel.get_title() == "stripes" and panel.get_xlabel().startswith("2 of 12 units")
    assert len(panel.lines) == 6  # Around two squares side by side.
    own = Figure()
    assert plots.concept_maps({"a": found}, Grid((4, 3)), axes=own.subplots())[0] is own
    for concepts, grid, words in (
        ({}, Grid((4, 3)), "no concepts"),
        ({"a": found}, Grid((3, 3)), "concept 'a' has 12 units"),
        ({"a": found}, Grid((12,)), "two dimensions"),
    ):
        with pytest.raises(ValueError, match=words):
            plots.concept_maps(concepts, grid)


def test_wrong_input_says_what_to_do():
    first, second = sets(0, units=3)
    for arguments, options, words in (
        ((first, second[:, :2]), {}, "same units, got 3 and 2"),
        ((first[:1], second), {}, "present must be .* at least two images"),
        ((first, second[0]), {}, "absent must be"),
        ((first, np.where(second > 3, np.nan, second)), {}, "absent holds NaN"),
        ((first, second), {"permutations": 10}, "at least 100, got 10"),
    ):
        with pytest.raises(ValueError, match=words):
            concept(*arguments, key=KEY, **options)
    with pytest.raises(ValueError, match="rate must be a share"):
        concept(first, second, key=KEY).units(5)
    with pytest.raises(ValueError, match="order must be a permutation of the 3 units"):
        concept(first, second, key=KEY).reordered([0, 0, 1])
