"""The self-organising map against its definition, sample by sample and unit by unit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lgnn_jax import Grid, som, topography
from tests.lgnn_jax import reference
from tests.lgnn_jax.test_modes import enable_x64

GRIDS = [Grid((5, 3)), Grid((4, 5), wrap=True), Grid((1, 7)), Grid((2, 3, 2), wrap=True)]
SIGMA, RATE = (2.0, 0.6), (0.7, 0.05)
every_grid = pytest.mark.parametrize(
    "grid",
    [pytest.param(grid, marks=[pytest.mark.slow] * (grid is GRIDS[1])) for grid in GRIDS],
    ids=[f"{grid.size}{' torus' * grid.wrap}" for grid in GRIDS],
)


def samples(n=40, features=4, seed=0, offset=0.0):
    return np.random.default_rng(seed).standard_normal((n, features)) + offset


def key(seed=0):
    return jax.random.key(seed)


def fit(data, grid, steps, **options):
    """In float64, in which rounding decides about no winner."""
    with enable_x64(True):
        return np.asarray(som.fit(data, grid, key=key(), steps=steps, **options))


@pytest.mark.parametrize("grid", [GRIDS[0], GRIDS[3]], ids=str)
def test_the_online_map_is_eq_1_and_2(grid):
    data, start = samples(), samples(grid.units, seed=1)
    with enable_x64(True):
        order = np.asarray(som._order(jax.random.split(key())[1], len(data), 100))
    found = fit(data, grid, 100, batch=False, start=start, sigma=SIGMA, learning_rate=RATE)
    expected = reference.som_online(data, order, start, grid, SIGMA, RATE)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("rate", [(1.0, 1.0), RATE], ids=str)
@every_grid
def test_the_batch_map_is_the_mean_of_eq_2(grid, rate):
    data, start = samples(), samples(grid.units, seed=1)
    found = fit(data, grid, 6, start=start, sigma=SIGMA, learning_rate=rate)
    np.testing.assert_allclose(found, reference.som_batch(data, 6, start, grid, SIGMA, rate), atol=1e-12)


def test_in_float32_it_is_as_near_also_far_from_zero():
    data, start, grid = samples(offset=100.0), samples(15, seed=1, offset=100.0), Grid((5, 3))
    found = som.fit(data, grid, steps=3, start=start, sigma=SIGMA)
    assert found.dtype == jnp.float32
    expected = reference.som_batch(data, 3, start, grid, SIGMA, (1, 1))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_pass_sees_every_sample_once_in_a_new_order():
    order = np.asarray(som._order(key(), 7, 17))
    passes = [order[:7], order[7:14]]
    assert all(sorted(one) == list(range(7)) for one in passes) and len(set(order[14:])) == 3
    assert passes[0].tolist() != passes[1].tolist()


@pytest.mark.parametrize("wrap, batch", [(False, True), (False, False), (True, True)])
def test_a_square_is_unfolded(wrap, batch):
    square, grid = np.random.default_rng(0).random((600, 2)), Grid((8, 8), wrap)
    if wrap:  # Closed to a torus in four dimensions.
        square = np.concatenate([np.cos(2 * np.pi * square), np.sin(2 * np.pi * square)], axis=1)
    weights = som.fit(square, grid, key=key(), batch=batch, steps=40 if batch else 6000, start="samples")
    assert topography.topographic_error(weights, square, grid).value < 0.05
    random = square[:64]
    assert topography.topographic_error(random, square, grid).value > 0.5
    if not wrap:
        assert topography.quantisation_error(weights, square) < 0.07


@pytest.mark.slow
def test_chunks_change_nothing(monkeypatch):
    data, grid = samples(53), Grid((4, 3))
    whole = [fit(data, grid, 5), som.assign(data, data[:12])]
    monkeypatch.setattr(som, "_SCORES", 12 * 10)  # Chunks of 10, of which the last overlaps.
    assert som._chunk(data, 12) == 10
    jax.clear_caches()
    np.testing.assert_allclose(fit(data, grid, 5), whole[0], atol=1e-12)
    np.testing.assert_array_equal(som.assign(data, data[:12]), whole[1])
    jax.clear_caches()


def test_units_that_hear_of_no_sample_stay_where_they_are():
    data, start = np.zeros((5, 2)), np.arange(40.0).reshape(20, 2)
    with jax.debug_nans(True):
        found = som.fit(data, Grid((20,)), steps=3, start=start, sigma=(0.3, 1e-40))
    np.testing.assert_array_equal(found[5:], start[5:])
    np.testing.assert_array_equal(found[:2], 0)


def test_samples_that_do_not_differ_give_no_nan():
    for batch in (True, False):
        found = som.fit(np.ones((8, 3)), Grid((2, 2)), batch=batch, steps=4, key=key())
        np.testing.assert_allclose(found, 1, atol=1e-6)


def test_a_key_decides():
    data, grid = samples(), Grid((4, 3))

    def online(seed, **options):
        return np.asarray(som.fit(data, grid, key=key(seed), batch=False, steps=60, **options))

    np.testing.assert_array_equal(online(0), online(0))
    assert np.abs(online(0) - online(1)).max() > 1e-3
    drawn = som.fit(data, grid, key=key(), start="samples", steps=1, learning_rate=(1e-9, 1e-9))
    assert (np.abs(np.asarray(drawn)[:, None] - data[None]).max(-1).min(1) < 1e-5).all()
    assert len(np.unique(np.asarray(drawn), axis=0)) == 12


@pytest.mark.parametrize("n, features", [(300, 5), (4, 9)])
def test_the_start_is_a_plane_along_the_principal_components(n, features):
    data = samples(n, features) * np.arange(1, features + 1) + 3
    plane = np.asarray(som._plane(jnp.asarray(data, jnp.float32), Grid((3, 5)))).reshape(3, 5, features)
    _, values, vectors = np.linalg.svd(data - data.mean(0), full_matrices=False)
    reach = 2 * values[:2] / np.sqrt(n)
    np.testing.assert_allclose(plane[1, 2], data.mean(0), atol=1e-4)
    for side, component in ((plane[1, 4] - plane[1, 2], 0), (plane[2, 2] - plane[1, 2], 1)):
        np.testing.assert_allclose(abs(side @ vectors[component]), reach[component], rtol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(side), reach[component], rtol=1e-4)


def test_a_grid_may_have_more_dimensions_than_the_samples():
    assert som.fit(samples(30, 1), Grid((3, 2, 2)), steps=3).shape == (12, 1)


def test_assign_is_the_nearest_unit():
    data, weights = samples(30, offset=50.0), samples(9, seed=1, offset=50.0)
    expected = np.linalg.norm(data[:, None] - weights[None], axis=-1).argmin(1)
    found = som.assign(data, weights)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == jnp.int32


@every_grid
def test_the_u_matrix_is_the_mean_over_neighbours(grid):
    weights = samples(grid.units)
    expected = []
    for i in range(grid.units):
        apart = [reference.grid_distance(grid.shape, grid.wrap, i, j) for j in range(grid.units)]
        steps = [np.linalg.norm(weights[i] - weights[j]) for j, d in enumerate(apart) if d == 1]
        expected.append(np.mean(steps))
    np.testing.assert_allclose(som.u_matrix(weights, grid), expected, rtol=1e-5)
    assert som.u_matrix(weights[:1], Grid((1, 1))).tolist() == [0]


@pytest.mark.parametrize("batch", [True, False])
def test_it_works_under_jit_and_vmap(batch):
    data, grid = jnp.asarray(samples(), jnp.float32), Grid((3, 2))

    def one(key):
        return som.fit(data, grid, key=key, batch=batch, steps=20, start="samples")

    keys = jax.random.split(key(), 3)
    expected = jnp.stack([one(k) for k in keys])
    np.testing.assert_allclose(jax.jit(jax.vmap(one))(keys), expected, atol=1e-5)


def test_so_do_what_a_map_is_asked():
    data, maps, grid = samples(), jnp.asarray(samples(18)).reshape(3, 6, 4), Grid((3, 2))
    best, apart = jax.jit(jax.vmap(lambda w: (som.assign(data, w), som.u_matrix(w, grid))))(maps)
    np.testing.assert_array_equal(best[1], som.assign(data, maps[1]))
    np.testing.assert_allclose(apart[1], som.u_matrix(maps[1], grid), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "uint8"])
def test_narrow_numbers_are_computed_in_float32(dtype):
    data = jnp.asarray(np.arange(24).reshape(8, 3), dtype)
    with jax.numpy_dtype_promotion("strict"):
        for batch in (True, False):
            assert som.fit(data, Grid((2, 2)), key=key(), batch=batch, steps=4).dtype == jnp.float32
        assert som.assign(data, data).tolist() == list(range(8))


DATA, GRID = samples(10, 3), Grid((2, 2))
WRONG = {
    "a vector": (dict(data=DATA[0]), r"data must be \(samples, features\), got shape \(3,\)"),
    "no samples": (dict(data=DATA[:0]), r"got shape \(0, 3\)"),
    "NaN": (dict(data=DATA * np.nan), "data must be finite, got NaN"),
    "batch": (dict(batch=1), "batch must be True .* or False .*, got 1"),
    "no steps": (dict(steps=0), "steps must be an integer of at least 1, got 0. None is 50 here"),
    "half a step": (dict(steps=1.5, batch=False), "got 1.5. None is 200 here"),
    "narrow first": (dict(sigma=(1, 2)), r"sigma must be two .* above 0, got \(1, 2\). Write .*\(8, 1\)"),
    "sigma zero": (dict(sigma=(1, 0)), "both above 0"),
    "sigma alone": (dict(sigma=2.0), "two numbers.*got 2.0"),
    "three sigmas": (dict(sigma=(3, 2, 1)), "two numbers"),
    "endless sigma": (dict(sigma=(np.inf, 1)), "two numbers"),
    "large rate": (dict(learning_rate=(2, 1)), r"learning_rate must be .*at most 1, got \(2, 1\)"),
    "no key": (dict(key=None, batch=False), "The online map needs a key, got None. Give"),
    "no key to draw": (dict(key=None, start="samples"), 'start="samples" needs a key'),
    "start": (dict(start="random"), '"pca", "samples" or weights .*, got \'random\''),
    "start's shape": (
        dict(start=DATA[:3]),
        r"start must be .* = \(4, 3\), got shape \(3, 3\).*grid of 2x2",
    ),
    "start's NaN": (dict(start=DATA[:4] * np.nan), "start must be finite"),
}


@pytest.mark.parametrize("options, words", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(options, words):
    with pytest.raises(ValueError, match=words):
        som.fit(**(dict(data=DATA, grid=GRID, key=key()) | options))


def test_what_does_not_fit_is_said():
    with pytest.raises(TypeError, match=r"grid must be a Grid, such as Grid\(\(8, 8\)\), got \(2, 2\)"):
        som.fit(DATA, (2, 2))
    with pytest.raises(ValueError, match=r"data must be \(samples, 3\), .*got shape \(10, 2\)"):
        som.assign(DATA[:, :2], DATA)
    with pytest.raises(ValueError, match="weights must be finite"):
        som.assign(DATA, DATA * np.inf)
    with pytest.raises(ValueError, match="weights has 10 units, but a grid of 2x2 holds 4"):
        som.u_matrix(DATA, GRID)
    with pytest.raises(ValueError, match=r"weights must be \(units, features\)"):
        som.u_matrix(DATA[0], GRID)
