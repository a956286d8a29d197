import jax
import numpy as np
import pytest

from lgnn_jax import Grid, topography
from lgnn_jax.grid import neighbours


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def plain_neighbour_cosine(rows, grid):
    values = []
    for i, j in neighbours(grid):
        a, b = rows[i].astype(np.float64), rows[j].astype(np.float64)
        values.append(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))
    return np.mean(values)


@pytest.mark.parametrize("shape, axis", [((8, 8), -1), ((16, 4), 0), ((5,), -1), ((2, 3, 4), -1)])
def test_the_value_is_the_mean_cosine_over_neighbours(shape, axis):
    grid = Grid(shape, axis)
    kernel = noise(3, 3, 5, grid.units)
    kernel = np.moveaxis(kernel, -1, axis)
    rows = np.moveaxis(kernel, axis, 0).reshape(grid.units, -1)
    score = topography.neighbour_cosine(kernel, grid)
    assert score.value == pytest.approx(plain_neighbour_cosine(rows, grid), abs=1e-6)
    assert score[1:] == (None, None, None, None, 0)


def test_the_null_is_what_explicit_relabelling_gives():
    grid, kernel = Grid((4, 4)), noise(3, 3, 2, 16)
    score = topography.neighbour_cosine(kernel, grid, key=jax.random.key(1), permutations=4000)
    rows, draw = kernel.reshape(-1, 16).T, np.random.default_rng(5)
    null = [plain_neighbour_cosine(rows[draw.permutation(16)], grid) for _ in range(2000)]
    spread = np.std(null)
    assert score.null_mean == pytest.approx(np.mean(null), abs=0.15 * spread)
    assert score.null_low == pytest.approx(np.quantile(null, 0.025), abs=0.3 * spread)
    assert score.null_high == pytest.approx(np.quantile(null, 0.975), abs=0.3 * spread)
    assert score.z == pytest.approx((score.value - np.mean(null)) / spread, abs=0.3)


def test_noise_stays_within_its_band_about_nineteen_times_in_twenty():
    grid, outside = Grid((8, 8)), 0
    for seed in range(200):
        score = topography.neighbour_cosine(noise(9, 64, seed=seed), grid, key=jax.random.key(seed))
        outside += not score.null_low <= score.value <= score.null_high
    assert 2 <= outside <= 20  # 5 % of 200 is 10; a binomial leaves these bounds once in 500.


def test_a_planted_order_is_found_and_lost_by_shuffling():
    grid = Grid((8, 8))
    angle = np.add.outer(np.linspace(0, 3, 8), np.linspace(0, 1, 8)).ravel()
    kernel = np.stack([np.cos(angle), np.sin(angle)]) + 0.1 * noise(2, 64)
    found = topography.neighbour_cosine(kernel, grid, key=jax.random.key(0))
    assert found.z > 10 and found.value > found.null_high
    shuffled = kernel[:, np.random.default_rng(0).permutation(64)]
    lost = topography.neighbour_cosine(shuffled, grid, key=jax.random.key(0))
    assert abs(lost.z) < 4 and lost.null_mean == pytest.approx(found.null_mean, abs=0.02)


def test_scale_does_not_matter_not_even_a_tiny_one():
    grid, kernel = Grid((4, 4)), noise(3, 3, 2, 16)
    scale = 10.0 ** -np.arange(16) * 1e-10
    tiny = topography.neighbour_cosine((kernel * scale).astype(np.float32), grid)
    assert tiny.value == pytest.approx(topography.neighbour_cosine(kernel, grid).value, abs=1e-5)


def test_filters_that_are_exactly_zero_are_left_out():
    grid, kernel = Grid((3,)), np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    score = topography.neighbour_cosine(kernel, grid)
    assert score.value == pytest.approx(0.5**0.5) and score.left_out == 1


@pytest.mark.parametrize(
    "kernel, words",
    [(np.zeros((2, 4)), "0 of 4 filters are not"), (np.full((2, 4), np.nan), "NaN or infinite")]
    + [(np.full((2, 4), np.inf), "NaN or infinite"), (np.ones((2, 5)), "has 5 units")],
)
def test_what_cannot_be_measured_is_an_error(kernel, words):
    with pytest.raises(ValueError, match=words):
        topography.neighbour_cosine(kernel, Grid((2, 2)), key=jax.random.key(0))


def test_a_null_needs_relabellings():
    with pytest.raises(ValueError, match="at least 2, got 1"):
        topography.neighbour_cosine(noise(2, 4), Grid((2, 2)), key=jax.random.key(0), permutations=1)


def test_the_key_decides_the_null_whichever_its_kind():
    grid, kernel = Grid((4, 4)), noise(3, 3, 2, 16)
    new = topography.neighbour_cosine(kernel, grid, key=jax.random.key(3))
    old = topography.neighbour_cosine(kernel, grid, key=jax.random.PRNGKey(3))
    other = topography.neighbour_cosine(kernel, grid, key=jax.random.key(4))
    assert new == old and new != other
