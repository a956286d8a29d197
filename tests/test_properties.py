"""What holds for any shape, grid, window, dtype and tree, against the dense float64 operator."""

import functools
import math

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lgnn_jax import ConvLayout, Grid, HeatKernel, LGNNState, Window, largest_sigma, lgnn, smooth
from tests.reference import apply, operator

pytestmark = pytest.mark.usefixtures("form")

# A fixed set of examples: every one compiles a program, and a failure must come back.
some = hypothesis.settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
shapes = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)
windows = st.one_of(
    st.builds(
        Window,
        st.sampled_from([3, 5, 7]),
        st.sampled_from(["edge", "wrap"]),
        st.sampled_from([True, True, False]),
    ),
    st.builds(HeatKernel, st.sampled_from(["edge", "wrap"])),
)
tori = st.one_of(st.builds(Window, st.sampled_from([3, 5]), st.just("wrap")), st.just(HeatKernel("wrap")))
widths = st.sampled_from([0.0, 0.3, 0.5, 0.8])
seeds = st.integers(0, 100)


def draw(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@some
@hypothesis.given(
    shape=shapes,
    lead=st.lists(st.integers(1, 3), max_size=3).map(tuple),
    trail=st.lists(st.integers(1, 3), max_size=1).map(tuple),
    sigma=widths,
    window=windows,
    dtype=st.sampled_from([np.float32, np.float16, jnp.bfloat16]),
    seed=seeds,
)
def test_smooth_is_the_dense_operator(shape, lead, trail, sigma, window, dtype, seed):
    x = jnp.asarray(draw((2, *lead, math.prod(shape), *trail), seed), dtype)
    grid = Grid(shape, -1 - len(trail))
    dense = apply(operator(shape, sigma, window), np.asarray(x, np.float64), x.ndim + grid.axis)
    one = functools.partial(smooth, grid=grid, sigma=sigma, window=window)
    tolerance = {"float32": 2e-6, "float16": 1e-3, "bfloat16": 8e-3}[x.dtype.name]
    for result in (one(x), jax.jit(one)(x), jax.vmap(one)(x)):
        chex.assert_equal_shape([result, x])
        chex.assert_type(result, x.dtype)
        np.testing.assert_allclose(
            np.asarray(result, np.float64),
            dense,
            rtol=tolerance,
            atol=tolerance * max(1, np.abs(dense).max()),
        )


@some
@hypothesis.given(shape=shapes, sigma=widths, window=windows, seed=seeds, scale=st.floats(-3, 3, width=32))
def test_it_is_linear(shape, sigma, window, seed, scale):
    x, y = draw((2, 3, math.prod(shape)), seed)
    one = functools.partial(smooth, grid=Grid(shape), sigma=sigma, window=window)
    np.testing.assert_allclose(one(x + np.float32(scale) * y), one(x) + scale * one(y), atol=2e-5)


@some
@hypothesis.given(shape=shapes, window=windows, share=st.floats(0.05, 1))
def test_it_is_positive_definite_up_to_the_largest_sigma(shape, window, share):
    sigma = share * min(largest_sigma(window), 2.0)
    columns = smooth(np.eye(math.prod(shape), dtype=np.float32), Grid(shape), sigma, window)
    matrix = np.asarray(columns, np.float64).T
    np.testing.assert_allclose(matrix, operator(shape, sigma, window), atol=2e-6)
    assert np.linalg.eigvalsh((matrix + matrix.T) / 2)[0] > -2e-6


@some
@hypothesis.given(shape=shapes, sigma=widths, window=windows, seed=seeds)
def test_constants_and_totals_are_kept_where_promised(shape, sigma, window, seed):
    x, grid = draw((3, math.prod(shape)), seed), Grid(shape)
    heat = isinstance(window, HeatKernel)
    if heat or window.normalise:
        constant = np.full_like(x, x[0, 0])
        np.testing.assert_allclose(smooth(constant, grid, sigma, window), constant, rtol=2e-6)
        if heat or window.boundary == "wrap" or window.size == 3:
            np.testing.assert_allclose(smooth(x, grid, sigma, window).sum(1), x.sum(1), atol=2e-5)


@some
@hypothesis.given(shape=shapes, sigma=widths, window=windows, seed=seeds, which=st.integers(0, 2))
def test_it_commutes_with_flips_of_the_grid(shape, sigma, window, seed, which):
    x, grid = draw((2, math.prod(shape)), seed), Grid(shape)

    def flip(x):
        return np.flip(np.asarray(x).reshape(2, *shape), 1 + which % len(shape)).reshape(x.shape)

    np.testing.assert_allclose(
        smooth(flip(x), grid, sigma, window), flip(smooth(x, grid, sigma, window)), atol=3e-6
    )


@some
@hypothesis.given(shape=shapes, sigma=widths, window=tori, seed=seeds, by=st.integers(1, 5))
def test_on_a_torus_it_commutes_with_shifts(shape, sigma, window, seed, by):
    x, grid = draw((2, math.prod(shape)), seed), Grid(shape)

    def shift(x):
        return np.roll(np.asarray(x).reshape(2, *shape), by, 1 + by % len(shape)).reshape(x.shape)

    np.testing.assert_allclose(
        smooth(shift(x), grid, sigma, window), shift(smooth(x, grid, sigma, window)), atol=3e-6
    )


kernels = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 12))
leaves = st.one_of(kernels, st.lists(st.integers(1, 4), max_size=3).map(tuple))
trees = st.recursive(
    st.one_of(leaves.map(lambda shape: np.ones(shape, np.float32)), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(st.sampled_from(["kernel", "bias", "b"]), inner, max_size=2),
    ),
    max_leaves=4,
)


@pytest.mark.filterwarnings("ignore:Axis -1 of")  # Some of the kernels are shaped like OIHW ones.
@some
@hypothesis.given(tree=trees, seed=seeds)
def test_any_tree_keeps_its_structure_and_what_has_no_grid(tree, seed):
    updates = jax.tree.map(lambda leaf: jnp.asarray(draw(leaf.shape, seed)), tree)
    tx = lgnn(0.5)
    smoothed, state = tx.update(updates, tx.init(updates))
    chex.assert_trees_all_equal_structs(smoothed, updates)
    chex.assert_trees_all_equal_shapes_and_dtypes(smoothed, updates)
    assert int(state.count) == 1
    before, after = jax.tree.leaves(updates), jax.tree.leaves(smoothed)
    grids = jax.tree.leaves(ConvLayout().grids(updates), is_leaf=lambda grid: grid is None)
    grids = [grid for grid in grids if grid is not None]
    for old, new in zip(before, after, strict=True):
        if old.ndim != 4 or old.size == old.shape[3]:
            assert new is old
        else:
            grid = grids.pop(0)
            expected = apply(operator(grid.shape, 0.5, Window()), old, 3)
            np.testing.assert_allclose(new, expected, atol=2e-6)
    assert not grids


@some
@hypothesis.given(sigma=widths, decay=st.floats(0, 0.99), window=windows, seed=seeds)
def test_it_commutes_with_momentum_at_constant_sigma(sigma, decay, window, seed):
    gradients = draw((4, 1, 1, 2, 12), seed)
    first = optax.chain(lgnn(sigma, window=window), optax.trace(decay))
    last = optax.chain(optax.trace(decay), lgnn(sigma, window=window))
    state_first, state_last = first.init(gradients[0]), last.init(gradients[0])
    for gradient in map(jnp.asarray, gradients):
        one, state_first = first.update(gradient, state_first)
        other, state_last = last.update(gradient, state_last)
        np.testing.assert_allclose(one, other, atol=5e-5)


@pytest.mark.parametrize("window", [Window(), Window(5), Window(3, "wrap"), HeatKernel()])
def test_a_quadratic_reaches_the_same_minimum(window):
    """A positive definite preconditioner changes the way, not where it ends."""
    curvature = jnp.asarray(1 + np.random.default_rng(0).random((1, 1, 2, 16)), jnp.float32)
    minimum = jnp.asarray(draw((1, 1, 2, 16), 1))
    tx = optax.chain(lgnn(0.5, window=window), optax.sgd(0.3))

    def step(_, carry):
        params, state = carry
        updates, state = tx.update(curvature * (params - minimum), state)
        return optax.apply_updates(params, updates), state

    params = jnp.zeros((1, 1, 2, 16))
    reached, _ = jax.jit(lambda p: jax.lax.fori_loop(0, 300, step, (p, tx.init(p))))(params)
    np.testing.assert_allclose(reached, minimum, atol=1e-5)


@pytest.mark.parametrize("window", [Window(), Window(7, "wrap"), Window(normalise=False), HeatKernel()])
def test_sigma_to_nought_is_the_identity_in_the_same_program(window):
    x = jnp.asarray(draw((3, 12), 0))
    update = jax.jit(lambda x, sigma: smooth(x, Grid((4, 3)), sigma, window))
    slope = jax.jit(jax.grad(lambda sigma: (smooth(x, Grid((4, 3)), sigma, window) ** 2).sum()))
    for sigma in (0.5, 0.1, 1e-2, 1e-20, 0.0):
        assert np.isfinite(slope(sigma))
        change = np.abs(np.asarray(update(x, sigma)) - x).max()
    assert change == 0 and update._cache_size() == slope._cache_size() == 1


def test_what_is_not_finite_is_kept_out_by_optax():
    """``zero_nans`` before ``lgnn``, or the whole chain within ``apply_if_finite``."""
    gradient = jnp.asarray(draw((1, 1, 2, 12), 0)).at[0, 0, 1, 5].set(jnp.nan)
    zeroed = gradient.at[0, 0, 1, 5].set(0.0)
    tx = optax.chain(optax.zero_nans(), lgnn(0.5))
    got, _ = tx.update(gradient, tx.init(gradient))
    np.testing.assert_allclose(got, lgnn(0.5).update(zeroed, LGNNState(jnp.int32(0)))[0], atol=1e-7)
    tx = optax.apply_if_finite(optax.chain(lgnn(0.5), optax.sgd(0.1)), max_consecutive_errors=3)
    got, state = tx.update(gradient, tx.init(gradient))
    np.testing.assert_array_equal(got, jnp.zeros_like(gradient))
    assert int(state.inner_state[0].count) == 0 and not bool(state.last_finite)
