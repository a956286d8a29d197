"""Similarities: cosines and correlations, and what metrics refuse in their place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lgnn_jax import Grid, topography
from tests.lgnn_jax.topography.test_topography import OF_SIMILARITY, of_cosines

every_metric = pytest.mark.parametrize("metric", OF_SIMILARITY.values(), ids=OF_SIMILARITY)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("axis", [-1, 0, 2, -3])
def test_cosines_are_those_of_rows(axis):
    kernel = noise(3, 4, 5, 6)
    rows = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = topography.cosines(kernel, axis)
    np.testing.assert_allclose(found, rows @ rows.T, atol=1e-6)
    np.testing.assert_array_equal(np.diagonal(found), 1)
    assert topography.filters(kernel, axis).shape == (kernel.shape[axis], 360 // kernel.shape[axis])


@pytest.mark.parametrize("offset", [0, 1e3])
def test_correlations_are_numpys(offset):
    responses = noise(40, 7) + np.float32(offset)
    expected = np.corrcoef(responses.T.astype(np.float64))
    np.testing.assert_allclose(topography.correlations(responses), expected, atol=1e-5)
    np.testing.assert_array_equal(np.diagonal(topography.correlations(responses)), 1)


@pytest.mark.parametrize("scale", [1e-30, 1, 1e30])
def test_scale_does_not_matter_and_dead_units_have_zeros(scale):
    kernel = noise(9, 5) * np.float32(scale)
    kernel[:, 2] = 0
    found = np.asarray(topography.cosines(kernel))
    alive = np.arange(5) != 2
    np.testing.assert_allclose(
        found[np.ix_(alive, alive)], topography.cosines(noise(9, 5)[:, alive]), atol=1e-6
    )
    assert not found[2].any() and not found[:, 2].any() and np.abs(found).max() <= 1
    responses = noise(9, 5)
    responses[:, 2] = 0.1  # Its mean in float32 is not 0.1.
    found = np.asarray(topography.correlations(responses))
    assert not found[2].any() and not found[:, 2].any()
    assert topography.dead_units(found) == 1
    assert not np.asarray(topography.cosines(np.zeros((3, 4)))).any()


def test_boxes_are_opened():
    nn, nnx = pytest.importorskip("flax.linen"), pytest.importorskip("flax.nnx")
    kernel = jnp.asarray(noise(3, 3, 2, 8))
    for box in (nnx.Param(kernel), nn.Partitioned(kernel, names=(None,) * 4)):
        np.testing.assert_array_equal(topography.cosines(box), topography.cosines(kernel))
        np.testing.assert_array_equal(topography.filters(box), topography.filters(kernel))
        assert topography.dead_share(box) == topography.dead_share(kernel)
    similarity = topography.cosines(kernel)
    found = topography.neighbour_cosine(nnx.Param(similarity), Grid((4, 2)))
    assert found.value == topography.neighbour_cosine(similarity, Grid((4, 2))).value


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: topography.cosines(noise(3, 4), 2), r"kernel of shape \(3, 4\) has no axis 2"),
        (lambda: topography.cosines(np.full((3, 4), np.nan)), "kernel holds NaN"),
        (lambda: topography.correlations(np.full((3, 4), np.inf)), "responses hold NaN"),
        (lambda: topography.correlations(np.ones((5, 3, 3, 4))), "got an array of 4 dimensions. Average"),
    ],
)
def test_what_has_no_similarity(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@every_metric
@pytest.mark.parametrize(
    "matrix, words",
    [
        (np.ones((3, 3, 2, 4)), r"got shape \(3, 3, 2, 4\). Of a kernel give topography.cosines\(kernel\)"),
        (np.ones((6, 4)), r"got shape \(6, 4\). Of a kernel give topography.cosines\(kernel\)"),
        (noise(4, 4), r"must be symmetric, got differences of .* give topography.cosines\(kernel\)"),
        (np.full((4, 4), np.nan), "Set the rows and columns of dead units"),
        (2 * np.eye(4), "1 on its diagonal .* got 2 to 2. Divide a covariance by both stds"),
        (np.eye(4) + np.eye(4)[::-1] * 1.1, r"cosines in \[-1, 1\], got 0 to 1.1"),
        (np.diag([1, 1, 1, 0]) + np.eye(4)[::-1] * 0.5, "0 for dead units, with their rows"),
        (np.eye(5), "similarity has 5 units, but a grid of 2x2 holds 4"),
        (np.diag([1, 0, 0, 0]), "1 of 4 are; a dead one has 0 on the diagonal"),
        (np.ones((4, 4)), "All 4 live units of similarity are identical"),
    ],
)
def test_what_is_no_similarity_is_refused(metric, matrix, words):
    with pytest.raises(ValueError, match=words):
        metric(matrix, Grid((2, 2)))


@every_metric
def test_what_is_gone_says_what_to_write(metric):
    with pytest.raises(TypeError, match=r"no argument centre any more.*correlations\(responses\)"):
        metric(topography.cosines(noise(6, 16)), Grid((4, 4)), centre=True)


def test_a_grid_is_no_axis():
    kernel, grid = noise(6, 16), Grid((4, 4))
    for call in (topography.filters, topography.cosines, topography.dead_share):
        with pytest.raises(TypeError, match="There is an axis where a grid was"):
            call(kernel, grid)
    with pytest.raises(TypeError, match="no argument grid any more. The error does not depend on"):
        topography.quantisation_error(kernel, kernel, grid)
    with pytest.raises(TypeError, match="no argument axis any more"):
        Grid((4, 4), axis=0)


def test_a_similarity_of_float64_and_of_bfloat16_serve_as_well():
    similarity, grid = topography.cosines(noise(9, 20)), Grid((5, 4))
    for metric in list(OF_SIMILARITY.values())[:4]:
        value = metric(similarity, grid).value
        assert metric(np.float64(similarity), grid).value == pytest.approx(value, abs=1e-6)
        assert metric(similarity.astype(jnp.bfloat16), grid).value == pytest.approx(value, abs=0.02)


def test_correlations_gathered_elsewhere_score_as_the_responses_do():
    responses, key = noise(60, 20) + 2, jax.random.key(0)
    responses[:, 3] = 0
    with np.errstate(invalid="ignore"):
        matrix = np.nan_to_num(np.corrcoef(responses.T.astype(np.float64)))
    for metric in list(OF_SIMILARITY.values())[:4]:
        direct = metric(topography.correlations(responses), Grid((5, 4)), key=key)
        found = metric(matrix, Grid((5, 4)), key=key)
        assert direct.left_out == found.left_out == 1
        assert found.value == pytest.approx(direct.value, abs=1e-5)
        np.testing.assert_allclose(found.samples, direct.samples, atol=1e-5)


def test_of_a_kernel_and_of_its_cosines_is_the_same():
    """One similarity serves all metrics: none changes it."""
    kernel, grid = noise(3, 3, 2, 12), Grid((4, 3))
    similarity = np.array(topography.cosines(kernel))
    kept = similarity.copy()
    for name, metric in OF_SIMILARITY.items():
        first = metric(similarity, grid, key=jax.random.key(1), permutations=20)
        again = of_cosines(name)(kernel, grid, key=jax.random.key(1), permutations=20)
        np.testing.assert_array_equal(first.samples, again.samples)
        np.testing.assert_array_equal(similarity, kept)
