"""What a score says of its null."""

import json

import jax
import numpy as np
import pytest

from lgnn_jax import Grid, topography

SAMPLES = np.array([0.0, 1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize(
    "value, side, p",
    [
        (5.0, "greater", 1 / 6),
        (3.0, "greater", 3 / 6),
        (-1.0, "greater", 6 / 6),
        (5.0, "less", 6 / 6),
        (1.0, "less", 3 / 6),
        (-1.0, "less", 1 / 6),
    ],
)
def test_p_counts_the_value_and_the_samples_as_extreme_on_its_side(value, side, p):
    assert topography.Score(value, SAMPLES, side=side).p == pytest.approx(p)


def test_equal_up_to_rounding_is_as_extreme():
    assert topography.Score(3.0 + 1e-9, SAMPLES).p == 3 / 6
    assert topography.Score(1.0 - 1e-9, SAMPLES, side="less").p == 3 / 6


def test_the_null_is_numpys():
    samples = np.random.default_rng(0).standard_normal(500)
    score = topography.Score(2.0, samples, left_out=3)
    assert score.mean == samples.mean() and score.z == pytest.approx((2 - samples.mean()) / samples.std())
    assert (score.low, score.high) == tuple(np.quantile(samples, (0.025, 0.975)))
    expected = {
        "value": 2.0,
        "null_mean": score.mean,
        "null_low": score.low,
        "null_high": score.high,
        "z": score.z,
        "left_out": 3,
        "p": score.p,
    }
    assert list(score.summary()) == list(expected)
    assert json.loads(json.dumps(score.summary())) == expected


def test_without_a_key_there_is_no_null():
    score = topography.Score(0.5)
    assert score.samples is score.mean is score.low is score.high is score.z is score.p is None
    assert repr(score) == "Score(value=0.5, left_out=0)"


def test_samples_are_kept_and_not_written():
    similarity = topography.cosines(np.random.default_rng(0).standard_normal((6, 16)))
    found = topography.neighbour_cosine(similarity, Grid((4, 4)), key=jax.random.key(0), permutations=50)
    assert found.samples.shape == (50,) and found.samples.dtype == np.float64
    assert len(json.dumps(found.summary())) < 300 and "samples" not in found.summary()
    curve = topography.correlation_by_distance(
        similarity, Grid((4, 4)), key=jax.random.key(0), permutations=50
    )
    assert curve.samples.shape == (50, len(curve.mean)) and curve.samples.dtype == np.float64
    np.testing.assert_array_equal(curve.null_mean, curve.samples.mean(0))
    fields = "distance mean error pairs null_mean null_low null_high left_out".split()
    assert list(curve.summary()) == fields and json.dumps(curve.summary())


def test_organised_maps_have_a_small_p_on_their_side():
    place = np.stack(np.meshgrid(*[np.arange(5.0)] * 2, indexing="ij"), -1).reshape(25, 2)
    samples = np.random.default_rng(0).uniform(0, 4, (300, 2))
    found = topography.topographic_error(place, samples, Grid((5, 5)), key=jax.random.key(0))
    assert found.z < -5 and found.p == 1 / 1001
    lost = topography.topographic_error(
        np.random.default_rng(1).permutation(place), samples, Grid((5, 5)), key=jax.random.key(0)
    )
    assert lost.p > 0.05


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"grid": (4, 4)}, r"grid must be a Grid, such as Grid\(\(8, 8\)\), got \(4, 4\)"),
        ({"key": 0}, r"key must be a PRNG key, such as jax.random.key\(0\), got 0"),
        ({"permutations": 2.5}, "permutations must be at least 2, got 2.5"),
    ],
)
def test_what_is_no_grid_key_or_number_is_refused(arguments, words):
    similarity = topography.cosines(np.random.default_rng(0).standard_normal((5, 16)))
    given = {"grid": Grid((4, 4)), "key": jax.random.key(0)} | arguments
    with pytest.raises((TypeError, ValueError), match=words):
        topography.neighbour_cosine(similarity, **given)
