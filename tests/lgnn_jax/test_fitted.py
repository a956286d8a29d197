"""Scores of fitted orders: what the relabelling null takes for organisation, and the rearranged one does not."""

import jax
import numpy as np
import pytest

from lgnn_jax import Grid, arrange, fitted_score, topography

GRID = Grid((4, 4))


def noise(seed=0):
    return np.random.default_rng(seed).standard_normal((30, 16))


def planted():
    """Responses that vary along a line, each a bump, in random order."""
    draw = np.random.default_rng(1)
    place = np.stack(np.meshgrid(*[np.arange(4.0)] * 2, indexing="ij"), -1).reshape(16, 2)
    centres = draw.uniform(0, 3, (30, 2))
    distance = ((centres[:, None] - place) ** 2).sum(-1)
    return np.exp(-distance / 2)[:, draw.permutation(16)] + 0.1 * noise()


def test_of_noise_the_relabelling_null_is_fooled_and_the_rearranged_is_not():
    observations, key = noise(), jax.random.key(0)
    found = fitted_score(observations, GRID, key=key, permutations=20)
    matrix = np.asarray(topography.correlations(observations))
    order = np.asarray(arrange(matrix, GRID))
    relabelled = topography.neighbour_cosine(matrix[order][:, order], GRID, key=key)
    assert found.value == pytest.approx(relabelled.value, abs=1e-6)
    assert relabelled.z > 4 and relabelled.p < 0.01
    assert found.samples.shape == (20,) and abs(found.z) < 2.5 and found.p > 0.05
    assert found.mean > relabelled.high


def test_planted_structure_is_above_both():
    found = fitted_score(planted(), GRID, key=jax.random.key(0), permutations=20)
    assert found.z > 5 and found.p == 1 / 21


def test_weights_take_cosines_and_another_metric_its_own_side():
    kernel = np.random.default_rng(0).standard_normal((3, 3, 4, 16)).astype(np.float32)
    kernel[..., 5] = 0
    rows = topography.filters(kernel).T
    found = fitted_score(
        rows, GRID, topography.distance_correlation, similarity=topography.cosines, key=jax.random.key(0),
        permutations=3,
    )  # fmt: skip
    assert found.left_out == 1 and found.side == "greater" and found.samples.shape == (3,)
    again = fitted_score(
        rows, GRID, topography.distance_correlation, similarity=topography.cosines, key=jax.random.key(0),
        permutations=3,
    )  # fmt: skip
    np.testing.assert_array_equal(found.samples, again.samples)
    assert list(found.summary()) == list(topography.Score(0.0).summary())


def test_a_shuffle_keeps_what_each_unit_responds():
    """Seen through the similarity: constant units stay dead, others keep their values."""
    observations, seen = noise(), []
    observations[:, 3] = 0.5

    def similarity(values):
        seen.append(values)
        return topography.correlations(values)

    found = fitted_score(observations, GRID, similarity=similarity, key=jax.random.key(0), permutations=2)
    assert found.left_out == 1 and len(seen) == 3
    np.testing.assert_array_equal(seen[0], observations)
    for shuffled in seen[1:]:
        np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(observations, axis=0))
        assert np.abs(np.corrcoef(shuffled[:, 0], observations[:, 0])[0, 1]) < 0.7
        moved = shuffled.argsort(0)[:, [0, 1]] - observations.argsort(0)[:, [0, 1]]
        assert (moved[:, 0] != moved[:, 1]).any()  # Each unit by a shuffle of its own.


@pytest.mark.parametrize(
    "observations, options, words",
    [
        (
            np.ones((3, 3, 2, 16)),
            {},
            r"observations must be \(observations, units\), got shape \(3, 3, 2, 16\)",
        ),
        (np.full((5, 16), np.nan), {}, "observations hold NaN"),
        (noise()[:, :12], {}, "similarity has 12 units, but a grid of 4x4 holds 16"),
        (noise(), {"permutations": 1}, "permutations must be at least 2, got 1"),
        (np.ones((5, 16)), {}, "no two live units"),
    ],
)
def test_what_cannot_be_scored_is_refused(observations, options, words):
    with pytest.raises(ValueError, match=words):
        fitted_score(observations, GRID, key=jax.random.key(0), **options)
