"""Metrics and regions on a torus: all of them measure the grid that the layer lies on."""

import itertools

import jax
import numpy as np
import pytest
import scipy.stats

from lgnn_jax import Grid, topography
from lgnn_jax.inspect import cosine_by_offset
from tests.lgnn_jax.topography.test_topography import SCORES, of_cosines, smooth_map

PLANE, TORUS = Grid((6, 5)), Grid((6, 5), wrap=True)
every_score = pytest.mark.parametrize("metric", SCORES.values(), ids=SCORES)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def round_map(shape):
    """Filters organised on a torus, and the more alike the nearer they are to the plane's border.

    Waves that close at the border, where they turn slowly, with a little noise.
    """
    waves: list[np.ndarray] = []
    for places, size in zip(np.indices(shape), shape, strict=True):
        angle = 2 * np.pi * (places + 0.5) / size
        angle = angle - 0.5 * np.sin(angle)
        waves += [np.cos(angle).ravel(), np.sin(angle).ravel()]
    waves += [waves[0] * waves[2], np.abs(waves[0] + waves[2])]
    return (np.stack(waves) + 0.02 * noise(6, waves[0].size)).astype(np.float32)


@every_score
def test_a_map_organised_on_a_torus_scores_higher_there(metric):
    kernel, key = round_map((8, 8)), jax.random.key(0)
    flat, closed = (metric(kernel, Grid((8, 8), wrap), key=key) for wrap in (False, True))
    better = flat.value - closed.value if closed.side == "less" else closed.value - flat.value
    assert better > 0.003 and abs(closed.z) > 8 and closed.p == 1 / 1001


@every_score
def test_rolling_a_torus_changes_nothing(metric):
    kernel = smooth_map(6, 5)
    rolled = np.roll(kernel.reshape(6, 6, 5), (2, 3), (1, 2)).reshape(6, 30)
    value = metric(kernel, TORUS).value
    assert metric(rolled, TORUS).value == pytest.approx(value, abs=2e-6)
    assert abs(metric(rolled, PLANE).value - metric(kernel, PLANE).value) > 1e-3
    assert abs(value - metric(kernel, PLANE).value) > 1e-3


def steps(shape):
    """Steps between units along every dimension, the short way round, ``(units, units, dims)``."""
    units = list(itertools.product(*map(range, shape)))
    short = [
        [[min(abs(i - j), n - abs(i - j)) for i, j, n in zip(a, b, shape, strict=True)] for b in units]
        for a in units
    ]
    return np.array(short)


@pytest.mark.parametrize("shape", [(6, 5), (2, 7), (1, 9), (3, 2, 4), (8,)])
def test_metrics_on_a_torus_are_their_formulas(shape):
    grid, apart = Grid(shape, wrap=True), steps(shape)
    kernel = noise(7, grid.units)
    unit = kernel / np.linalg.norm(kernel, axis=0)
    cosine, pairs = (unit.T @ unit).astype(np.float64), np.triu_indices(grid.units, 1)
    near = apart.sum(-1) == 1
    assert of_cosines("neighbour_cosine")(kernel, grid).value == pytest.approx(
        cosine[near].mean(), abs=1e-6
    )
    distance = np.sqrt((apart**2).sum(-1))
    expected = scipy.stats.pearsonr(cosine[pairs], 1 / (1 + distance[pairs]))[0]
    assert of_cosines("distance_correlation")(kernel, grid).value == pytest.approx(expected, abs=1e-5)
    touches = (apart.max(-1) == 1).astype(float)
    touches /= touches.sum(1, keepdims=True)
    x = kernel - kernel.mean(1, keepdims=True)
    expected = np.mean(np.einsum("ki,ij,kj->k", x, touches, x) / (x * x).sum(1))
    assert topography.morans_i(kernel, grid).value == pytest.approx(expected, abs=1e-5)
    curve = of_cosines("correlation_by_distance")(kernel, grid)
    bins = np.floor(distance[pairs] + 0.5)
    for index, bin in enumerate(np.unique(bins)):
        assert curve.mean[index] == pytest.approx(cosine[pairs][bins == bin].mean(), abs=1e-6)
    if len(shape) == 2:
        found = cosine_by_offset(cosine, grid, reach=3)
        units = np.arange(grid.units).reshape(shape)
        for row, column in itertools.product(range(-3, 4), repeat=2):
            other = np.roll(units, (-row, -column), (0, 1)).ravel()
            possible = abs(row) <= shape[0] // 2 and abs(column) <= shape[1] // 2 and (row or column)
            value = cosine[units.ravel(), other].mean() if possible else np.nan
            assert found[row + 3, column + 3] == pytest.approx(value, abs=1e-6, nan_ok=True)


def test_matches_across_the_border_are_no_errors():
    codebook = np.arange(5.0)[:, None]
    codebook[4] = -1  # A ring: -1, 0, 1, 2, 3, of which the first lies at the end of the line.
    samples = np.array([[-0.4], [-0.6]])
    assert topography.topographic_error(codebook, samples, Grid((5,))).value == 1
    assert topography.topographic_error(codebook, samples, Grid((5,), wrap=True)).value == 0
    with pytest.raises(ValueError, match="All units of a grid of 3x3 touch.*length of 4 or more"):
        topography.topographic_error(noise(9, 2), noise(5, 2), Grid((3, 3), wrap=True))
