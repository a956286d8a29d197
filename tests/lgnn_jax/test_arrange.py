"""Orders of units on a grid against brute force and SciPy, and what is refused."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import quadratic_assignment

from lgnn_jax import Grid, _anneal, _exchange, arrange, distances, topography


def kernel(grid, sigma=1.0):
    """The neighbourhood between positions, float64, 0 on the diagonal."""
    return np.exp(-(distances(grid) ** 2) / (2 * sigma**2)) - np.eye(grid.units)


def objective(similarity, grid, order, sigma=1.0):
    order, total = np.asarray(order), 0.0
    near = kernel(grid, sigma)
    for i, j in itertools.combinations(range(grid.units), 2):
        total += float(similarity[order[i], order[j]]) * near[i, j]
    return total


def noise(units, seed=0, dimensions=4):
    return np.asarray(
        topography.cosines(np.random.default_rng(seed).standard_normal((dimensions, units)))
    ).copy()


GRIDS = [Grid((7,)), Grid((3, 2), wrap=True), Grid((2, 2, 2))]
OTHER = [Grid((7,), wrap=True), Grid((2, 3))]
slowly = functools.partial(pytest.param, marks=pytest.mark.slow)
grids = pytest.mark.parametrize("grid", [*GRIDS, *map(slowly, OTHER)], ids=str)


@grids
def test_it_is_the_best_of_all_orders(grid):
    similarity = noise(grid.units)
    near = kernel(grid)
    orders = np.array(list(itertools.permutations(range(grid.units))))
    orders = orders[orders[:, 0] < orders[:, -1]] if len(grid.shape) == 1 else orders
    sums = np.zeros(len(orders))
    for i, j in itertools.combinations(range(grid.units), 2):
        sums += similarity[orders[:, i], orders[:, j]] * near[i, j]
    found = objective(similarity, grid, arrange(similarity, grid, key=jax.random.key(0)))
    assert found == pytest.approx(sums.max(), rel=0.01)


@grids
@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_the_gain_of_every_exchange_is_the_difference(grid, sigma):
    values = noise(grid.units) - np.eye(grid.units, dtype=np.float32)
    values = (values + values.T) / 2
    near = _exchange.neighbourhood(grid, jnp.float32(sigma))
    gains, own = _exchange.gains(jnp.asarray(values), near)
    order = np.arange(grid.units)
    before = objective(values, grid, order, sigma)
    assert own.sum() / 2 == pytest.approx(before, abs=1e-5)
    for p, q in itertools.combinations(range(grid.units), 2):
        other = order.copy()
        other[[p, q]] = q, p
        difference = objective(values, grid, other, sigma) - before
        assert gains[p, q] == pytest.approx(difference, abs=1e-5)
        assert gains[q, p] == gains[p, q]


def bumps(grid, seed=0):
    """A similarity that falls with the distance on the grid, its units shuffled, and the order that undoes it."""
    place = np.random.default_rng(seed).permutation(grid.units)
    matrix = np.exp(-(distances(grid) ** 2) / 4)
    return matrix[place][:, place].astype(np.float32), np.argsort(place)


# Smaller ones of one and three dimensions are above, against all orders that there are.
PLANTED = [Grid((6, 4)), Grid((20,), wrap=True)]
LARGE = [
    Grid((6, 4), wrap=True),
    Grid((16, 8)),
    Grid((16, 8), wrap=True),
    Grid((8, 4, 4)),
    Grid((100,)),
    Grid((20,)),
    Grid((4, 3, 2)),
]


@pytest.mark.parametrize("grid", [*PLANTED, *map(slowly, LARGE)], ids=str)
def test_planted_orders_are_found_again(grid):
    similarity, planted = bumps(grid)
    order = np.asarray(arrange(similarity, grid, key=jax.random.key(0)))
    found = distances(grid)[np.argsort(order)[:, None], np.argsort(order)]
    np.testing.assert_allclose(found, distances(grid)[np.argsort(planted)[:, None], np.argsort(planted)])


@pytest.mark.parametrize(
    "grid",
    [Grid((4, 4)), *map(slowly, (Grid((4, 4), wrap=True), Grid((8, 8)), Grid((60,)), Grid((8, 4, 4))))],
    ids=str,
)
def test_it_is_no_worse_than_scipy(grid):
    similarity = noise(grid.units)
    found = objective(similarity, grid, arrange(similarity, grid))
    for method in ("faq", "2opt"):
        options = {"maximize": True, "rng": np.random.default_rng(0)}
        other = quadratic_assignment(kernel(grid), similarity, method=method, options=options).col_ind
        assert found > 0.99 * objective(similarity, grid, other)


@grids
def test_a_single_exchange_without_temperature_never_loses(grid):
    """Three live units: one pair a step, and after a few the best of their orders."""
    values = jnp.asarray(noise(grid.units)).at[3:].set(0).at[:, 3:].set(0)
    values = (values + values.T) / 2 - jnp.diag(jnp.diagonal(values))
    step = jax.jit(
        lambda order, key: _anneal.anneal(values, grid, order, jnp.int32(3), key, (1e-9, 1e-9), 1)
    )
    order = np.arange(grid.units, dtype=np.int32)
    reached, matrix = objective(values, grid, order), np.asarray(values)
    for key in jax.random.split(jax.random.key(1), 20):
        order, before = np.asarray(step(order, key)), reached
        reached = objective(matrix, grid, order)
        assert sorted(order[:3].tolist()) == [0, 1, 2] and order[3:].tolist() == list(range(3, grid.units))
        assert reached > before - 1e-5
    every = [[*first, *range(3, grid.units)] for first in itertools.permutations(range(3))]
    swapped = [one for one in every if (one != order).sum() == 2]
    assert len(swapped) == 3 and all(objective(matrix, grid, one) < reached + 1e-5 for one in swapped)


def test_annealing_tries_every_pair_and_keeps_a_permutation():
    grid = Grid((6, 5))
    values = jnp.asarray(noise(30))
    values = _exchange.standardised(values, jnp.full(30, True))
    order = jnp.arange(30, dtype=jnp.int32)
    found = [
        np.asarray(_anneal.anneal(values, grid, order, jnp.int32(30), jax.random.key(0), t, 2000))
        for t in ((1e-9, 1e-9), (1.0, 0.05))
    ]
    reached = [objective(np.asarray(values), grid, one) for one in found]
    assert all(sorted(one.tolist()) == list(range(30)) for one in found)
    assert reached[0] > objective(np.asarray(values), grid, order) + 10
    assert reached[1] > reached[0]  # Out of the first local optimum.


@pytest.mark.parametrize("key", [None, 0])
def test_no_exchange_of_two_improves_the_result(key):
    grid = Grid((4, 4))
    similarity = noise(16)
    order = np.asarray(arrange(similarity, grid, key=None if key is None else jax.random.key(key)))
    best = objective(similarity, grid, order)
    for p, q in itertools.combinations(range(16), 2):
        other = order.copy()
        other[[p, q]] = other[[q, p]]
        assert objective(similarity, grid, other) < best + 1e-4


def test_dead_units_go_to_the_end():
    similarity = noise(12)
    dead = [2, 7, 9]
    similarity[dead] = similarity[:, dead] = 0
    order = arrange(similarity, Grid((4, 3)))
    assert order.dtype == jnp.int32 and sorted(order.tolist()) == list(range(12))
    assert order[-3:].tolist() == dead
    given = np.arange(12)[::-1]
    assert arrange(similarity, Grid((4, 3)), start=given)[-3:].tolist() == dead


@pytest.mark.parametrize("live", [0, 1])
def test_fewer_than_two_live_units_stay(live):
    similarity = np.zeros((6, 6), np.float32)
    similarity[0, 0] = live
    assert arrange(similarity, Grid((3, 2)), key=jax.random.key(0)).tolist() == list(range(6))
    assert arrange(np.ones((1, 1)), Grid((1,))).tolist() == [0]


def test_a_start_is_gone_on_from():
    grid = Grid((8, 4))
    similarity, planted = bumps(grid)
    np.testing.assert_array_equal(arrange(similarity, grid, start=planted), planted)
    near = planted.copy()
    near[[3, 20]] = near[[20, 3]]
    np.testing.assert_array_equal(arrange(similarity, grid, start=near), planted)


def test_a_mean_of_similarities_and_a_box_serve_as_well():
    grid = Grid((4, 3))
    mean = (noise(12) + noise(12, seed=1)) / 2
    assert sorted(arrange(mean, grid).tolist()) == list(range(12))
    nnx = pytest.importorskip("flax.nnx")
    np.testing.assert_array_equal(arrange(nnx.Param(jnp.asarray(mean)), grid), arrange(mean, grid))


def test_it_is_the_same_again_and_under_jit():
    grid, similarity, key = Grid((4, 4)), noise(16), jax.random.key(0)
    order = arrange(similarity, grid, key=key)
    np.testing.assert_array_equal(order, arrange(similarity, grid, key=key))
    jitted = jax.jit(arrange, static_argnums=1)
    np.testing.assert_array_equal(order, jitted(similarity, grid, key=key))
    np.testing.assert_array_equal(
        arrange(similarity, grid, start=order), jitted(similarity, grid, start=order)
    )


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"similarity": np.ones((4, 6))}, r"similarity must be \(units, units\), got shape \(4, 6\)"),
        ({"similarity": np.triu(np.ones((6, 6)))}, "similarity must be symmetric"),
        ({"similarity": np.full((6, 6), np.nan)}, "similarity holds NaN"),
        ({"similarity": np.eye(6) + 1.5 * np.eye(6)[::-1]}, r"similarity must be cosines in \[-1, 1\]"),
        ({"grid": Grid((4, 2))}, "similarity has 6 units, but a grid of 4x2 holds 8"),
        ({"start": np.arange(5)}, r"each of 0 to 5 once, as arrange gives; got int64 of shape \(5,\)"),
        ({"start": np.arange(6.0)}, r"got float64 of shape \(6,\)"),
        ({"start": [0, 1, 2, 3, 4, 4]}, "got unit 4 2 times"),
        ({"start": [0, 1, 2, 3, 4, -1]}, "got unit 5 0 times"),
    ],
)
def test_what_cannot_be_arranged_is_refused(arguments, words):
    given = {"similarity": np.eye(6), "grid": Grid((3, 2))} | arguments
    with pytest.raises(ValueError, match=words):
        arrange(**given)
