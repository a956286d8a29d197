"""Distance preservation quality, beside its definition written out."""

import itertools

import jax
import numpy as np
import pytest

from lgnn_jax import Grid, topography


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def plain_dpq(rows, grid, p, ties):
    """The definition, unit by unit; among equals ``best`` takes the nearest in the rows' space first."""
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    place = list(itertools.product(*map(range, grid.shape)))

    def apart(i, j):
        steps = [abs(a - b) for a, b in zip(place[i], place[j], strict=True)]
        if grid.wrap:
            steps = [min(step, size - step) for step, size in zip(steps, grid.shape, strict=True)]
        return sum(step * step for step in steps)

    walks, best = [], []
    for i, row in enumerate(rows):
        others = [j for j in range(len(rows)) if j != i]
        distance = {j: np.linalg.norm(row - rows[j]) for j in others}
        best.append(sorted(distance.values()))
        if ties == "best":
            order = sorted(others, key=lambda j: (apart(i, j), distance[j]))
            walks.append([distance[j] for j in order])
        else:
            order = sorted(apart(i, j) for j in others)
            walks.append([np.mean([distance[j] for j in others if apart(i, j) == step]) for step in order])

    def norm(walks):
        means = [np.mean([walk[:k] for walk in walks]) for k in range(1, len(rows))]
        return sum(max(0, 1 - mean / np.mean(best)) ** p for mean in means) ** (1 / p)

    return norm(walks) / norm(best)


@pytest.mark.parametrize("ties", ["mean", "best"])
@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("shape", [(5, 4), (9,), (1, 6), (2, 3, 3)])
def test_dpq_is_its_definition(shape, wrap, ties):
    grid = Grid(shape, wrap)
    rows = noise(grid.units, 5) + np.indices(shape).reshape(len(shape), -1).T.sum(1, keepdims=True)
    for p in (1, 2, 16):
        found = topography.distance_preservation_quality(topography.cosines(rows, 0), grid, p=p, ties=ties)
        assert found.value == pytest.approx(plain_dpq(rows, grid, p, ties), abs=1e-5)


def test_a_planted_order_is_near_1_and_noise_near_0():
    angle = 2 * np.pi * np.arange(40) / 40
    ring, key = np.stack([np.cos(angle), np.sin(angle)]), jax.random.key(0)
    found = topography.distance_preservation_quality(topography.cosines(ring), Grid((40,), True), key=key)
    assert found.value == pytest.approx(1, abs=1e-6) and found.z > 10
    plane = np.indices((8, 8)).reshape(2, 64) / 8 - 0.5
    similarity = topography.cosines(np.concatenate([plane, np.ones((1, 64))]))
    found = topography.distance_preservation_quality(similarity, Grid((8, 8)), key=key)
    assert found.value > 0.9 and found.mean < 0.15
    random = topography.cosines(noise(50, 256))
    found = topography.distance_preservation_quality(random, Grid((16, 16)), key=key, permutations=100)
    assert found.value < 0.05 and found.mean < 0.05
    optimistic = topography.distance_preservation_quality(random, Grid((16, 16)), ties="best")
    assert optimistic.value > 0.2


def test_dead_units_are_left_out_and_do_not_move():
    kernel, key = noise(6, 20), jax.random.key(3)
    kernel[:, 16:] = 0  # The last row of the grid.
    found = topography.distance_preservation_quality(topography.cosines(kernel), Grid((5, 4)), key=key)
    expected = topography.distance_preservation_quality(
        topography.cosines(kernel[:, :16]), Grid((4, 4)), key=key
    )
    assert found.left_out == 4 and found.value == pytest.approx(expected.value, abs=1e-6)
    np.testing.assert_allclose(found.samples, expected.samples, atol=1e-6)


@pytest.mark.parametrize(
    "options, words",
    [({"p": 0.5}, "at least 1, got 0.5"), ({"p": np.nan}, "got nan"), ({"ties": "worst"}, "got 'worst'")],
)
def test_what_is_out_of_range_is_an_error(options, words):
    with pytest.raises(ValueError, match=words):
        topography.distance_preservation_quality(topography.cosines(noise(6, 16)), Grid((4, 4)), **options)
