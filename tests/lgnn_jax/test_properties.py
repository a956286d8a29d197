"""What holds for any shape, grid, window, dtype and tree, against the dense float64 operator."""

import functools

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lgnn_jax import ConvLayout, Grid, HeatKernel, LGNNState, Window, largest_sigma, lgnn, smooth
from tests.conftest import FORMS_TOO
from tests.lgnn_jax.reference import apply, operator

pytestmark = pytest.mark.usefixtures("form")

# A fixed set of examples: every one compiles a program, and a failure must come back.
some = hypothesis.settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
shapes = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)
windows = st.one_of(
    st.builds(Window, st.sampled_from([3, 5, 7]), st.sampled_from([True, True, False])),
    st.just(HeatKernel()),
)
grids = st.builds(Grid, shapes, st.booleans())
widths = st.sampled_from([0.0, 0.3, 0.5, 0.8])
seeds = st.integers(0, 100)


def draw(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@some
@hypothesis.given(
    grid=grids,
    lead=st.lists(st.integers(1, 3), max_size=3).map(tuple),
    trail=st.lists(st.integers(1, 3), max_size=1).map(tuple),
    sigma=widths,
    window=windows,
    dtype=st.sampled_from([np.float32, np.float16, jnp.bfloat16]),
    seed=seeds,
    within=st.sampled_from([lambda f: f, jax.jit, jax.vmap]),
)
def test_smooth_is_the_dense_operator(grid, lead, trail, sigma, window, dtype, seed, within):
    x = jnp.asarray(draw((2, *lead, grid.units, *trail), seed), dtype)
    axis = -1 - len(trail)
    dense = apply(operator(grid, sigma, window), np.asarray(x, np.float64), x.ndim + axis)
    one = functools.partial(smooth, grid=grid, sigma=sigma, window=window, axis=axis)
    tolerance = {"float32": 2e-6, "float16": 1e-3, "bfloat16": 8e-3}[x.dtype.name]
    result = within(one)(x)
    chex.assert_equal_shape([result, x])
    chex.assert_type(result, x.dtype)
    np.testing.assert_allclose(
        np.asarray(result, np.float64), dense, rtol=tolerance, atol=tolerance * max(1, np.abs(dense).max())
    )


@FORMS_TOO
@some
@hypothesis.given(grid=grids, sigma=widths, window=windows, seed=seeds, scale=st.floats(-3, 3, width=32))
def test_it_is_linear(grid, sigma, window, seed, scale):
    x, y = draw((2, 3, grid.units), seed)
    one = functools.partial(smooth, grid=grid, sigma=sigma, window=window)
    np.testing.assert_allclose(one(x + np.float32(scale) * y), one(x) + scale * one(y), atol=2e-5)


@FORMS_TOO
@some
@hypothesis.given(grid=grids, window=windows, share=st.floats(0.05, 1))
def test_it_is_positive_definite_up_to_the_largest_sigma(grid, window, share):
    sigma = share * min(largest_sigma(window), 2.0)
    columns = smooth(np.eye(grid.units, dtype=np.float32), grid, sigma, window)
    matrix = np.asarray(columns, np.float64).T
    np.testing.assert_allclose(matrix, operator(grid, sigma, window), atol=2e-6)
    assert np.linalg.eigvalsh((matrix + matrix.T) / 2)[0] > -2e-6


@FORMS_TOO
@some
@hypothesis.given(grid=grids, sigma=widths, window=windows, seed=seeds)
def test_constants_and_totals_are_kept_where_promised(grid, sigma, window, seed):
    x = draw((3, grid.units), seed)
    heat = isinstance(window, HeatKernel)
    if heat or window.normalise:
        constant = np.full_like(x, x[0, 0])
        np.testing.assert_allclose(smooth(constant, grid, sigma, window), constant, rtol=2e-6)
        if heat or grid.wrap or window.size == 3:
            np.testing.assert_allclose(smooth(x, grid, sigma, window).sum(1), x.sum(1), atol=2e-5)


@FORMS_TOO
@some
@hypothesis.given(grid=grids, sigma=widths, window=windows, seed=seeds, which=st.integers(0, 2))
def test_it_commutes_with_flips_of_the_grid(grid, sigma, window, seed, which):
    x, shape = draw((2, grid.units), seed), grid.shape

    def flip(x):
        return np.flip(np.asarray(x).reshape(2, *shape), 1 + which % len(shape)).reshape(x.shape)

    np.testing.assert_allclose(
        smooth(flip(x), grid, sigma, window), flip(smooth(x, grid, sigma, window)), atol=3e-6
    )


@FORMS_TOO
@some
@hypothesis.given(
    grid=st.builds(Grid, shapes, st.just(True)),
    sigma=widths,
    window=windows,
    seed=seeds,
    by=st.integers(1, 5),
)
def test_on_a_torus_it_commutes_with_shifts(grid, sigma, window, seed, by):
    x, shape = draw((2, grid.units), seed), grid.shape

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


# Some of the kernels are shaped like OIHW ones, or have a bias of another length beside them.
@FORMS_TOO
@pytest.mark.filterwarnings(
    "ignore:.* is laid out along axis -1", "ignore:.* has a bias of", "ignore:Nothing is laid out"
)
@some
@hypothesis.given(tree=trees, seed=seeds)
def test_any_tree_keeps_its_structure_and_what_has_no_grid(tree, seed):
    updates = jax.tree.map(lambda leaf: jnp.asarray(draw(leaf.shape, seed)), tree)
    tx = lgnn(0.5)
    smoothed, state = tx.update(updates, tx.init(updates))
    chex.assert_trees_all_equal_structs(smoothed, updates)
    chex.assert_trees_all_equal_shapes_and_dtypes(smoothed, updates)
    assert int(state.count) == 1
    layers = {layer.path: layer for layer in ConvLayout().layers(updates)}
    after = jax.tree.leaves(smoothed)
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(updates), after, strict=True):
        layer = layers.pop(jax.tree_util.keystr(path, simple=True, separator="/"), None)
        if layer is None:
            assert new is old
        else:
            expected = apply(operator(layer.grid, 0.5, Window()), old, layer.axis % 4)
            np.testing.assert_allclose(new, expected, atol=2e-6)
    assert not layers


@FORMS_TOO
@some
@hypothesis.given(sigma=widths, decay=st.floats(0, 0.99), window=windows, wrap=st.booleans(), seed=seeds)
def test_it_commutes_with_momentum_at_constant_sigma(sigma, decay, window, wrap, seed):
    gradients = draw((4, 1, 1, 2, 12), seed)
    smoothing = lgnn(sigma, layout=ConvLayout(wrap=wrap), window=window)
    first = optax.chain(smoothing, optax.trace(decay))
    last = optax.chain(optax.trace(decay), smoothing)
    state_first, state_last = first.init(gradients[0]), last.init(gradients[0])
    for gradient in map(jnp.asarray, gradients):
        one, state_first = first.update(gradient, state_first)
        other, state_last = last.update(gradient, state_last)
        np.testing.assert_allclose(one, other, atol=5e-5)


@FORMS_TOO
@pytest.mark.parametrize(
    "window, wrap", [(Window(), False), (Window(5), False), (Window(3), True), (HeatKernel(), False)]
)
def test_a_quadratic_reaches_the_same_minimum(window, wrap):
    """A positive definite preconditioner changes the way, not where it ends."""
    curvature = jnp.asarray(1 + np.random.default_rng(0).random((1, 1, 2, 16)), jnp.float32)
    minimum = jnp.asarray(draw((1, 1, 2, 16), 1))
    tx = optax.chain(lgnn(0.5, layout=ConvLayout(wrap=wrap), window=window), optax.sgd(0.3))

    def step(_, carry):
        params, state = carry
        updates, state = tx.update(curvature * (params - minimum), state)
        return optax.apply_updates(params, updates), state

    params = jnp.zeros((1, 1, 2, 16))
    reached, _ = jax.jit(lambda p: jax.lax.fori_loop(0, 300, step, (p, tx.init(p))))(params)
    np.testing.assert_allclose(reached, minimum, atol=1e-5)


NOUGHT = [(Window(), False), (Window(7), True), (Window(normalise=False), False), (HeatKernel(), False)]


@pytest.mark.parametrize(
    "form, window, wrap",
    [
        pytest.param(
            form,
            *case,
            marks=[pytest.mark.slow] * (form != "padded" and (form != "flat" or case != NOUGHT[1])),
        )
        for form in ("padded", "flat", "shifted")
        for case in NOUGHT
    ],
    indirect=["form"],
)
def test_sigma_to_nought_is_the_identity_in_the_same_program(window, wrap):
    x = jnp.asarray(draw((3, 12), 0))
    update = jax.jit(lambda x, sigma: smooth(x, Grid((4, 3), wrap), sigma, window))
    slope = jax.jit(jax.grad(lambda sigma: (smooth(x, Grid((4, 3), wrap), sigma, window) ** 2).sum()))
    for sigma in (0.5, 0.1, 1e-2, 1e-20, 0.0):
        assert np.isfinite(slope(sigma))
        change = np.abs(np.asarray(update(x, sigma)) - x).max()
    assert change == 0 and update._cache_size() == slope._cache_size() == 1


@FORMS_TOO
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
