"""Dtypes kept, arithmetic in at least float32, and programs for backends that are not here."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lgnn_jax import ConvLayout, Grid, HeatKernel, Layer, LGNNState, Window, lgnn, smooth
from tests.conftest import FORMS_TOO
from tests.lgnn_jax.reference import apply, operator

pytestmark = pytest.mark.usefixtures("form")

# The largest error against float64 for values around 1: half a unit in the last place of the result's
# dtype for up to 4, and for float32 and float64 what a few additions make of it.
ERRORS = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 1e-6, "float64": 4e-15}
PLANE, TORUS = Grid((8, 8)), Grid((8, 8), wrap=True)
FORMS = [(Window(), PLANE), (Window(5), TORUS), (HeatKernel(), PLANE)]


@contextlib.contextmanager
def wide(enabled):
    """Whether arrays of 64 bits are allowed."""
    jax.config.update("jax_enable_x64", enabled)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.mark.parametrize("window, grid", FORMS)
@pytest.mark.parametrize(
    "dtype", ["bfloat16", "float64", *(pytest.param(f"float{n}", marks=pytest.mark.slow) for n in (16, 32))]
)
def test_the_error_against_float64_is_that_of_the_dtype(dtype, window, grid):
    with wide(dtype == "float64"):
        x = jnp.asarray(np.random.default_rng(0).standard_normal((16, 64)), dtype)
        smoothed = smooth(x, grid, 0.5, window)
        tx = lgnn(0.5, layout=(Layer("", grid, -1),), window=window)
        updates, _ = tx.update(x, LGNNState(jnp.int32(0)))
        assert smoothed.dtype == updates.dtype == x.dtype
        expected = apply(operator(grid, 0.5, window), np.asarray(x, np.float64), 1)
        error = np.abs(np.asarray(smoothed, np.float64) - expected).max()
    assert error < ERRORS[dtype]
    assert dtype in ("float32", "float64") or error > ERRORS[dtype] / 100  # Rounded once, to that dtype.


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_float32(dtype):
    """A sum in the narrow dtype would round a small neighbour away; it must leave its share."""
    x = jnp.ones((1, 64), dtype).at[0, 9].set(1.0 + float(jnp.finfo(dtype).eps))
    exact = apply(operator(PLANE, 0.5, Window()), np.asarray(x, np.float64), 1)
    rounded = jnp.asarray(exact, jnp.float32).astype(dtype)
    np.testing.assert_array_equal(
        np.asarray(smooth(x, Grid((8, 8)), 0.5), np.float32), np.asarray(rounded, np.float32)
    )


@FORMS_TOO
@pytest.mark.parametrize("window, grid", FORMS)
@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "bfloat16", "float16", "float32"])
def test_strict_promotion_of_dtypes_is_respected(dtype, window, grid):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 64)), dtype)
    with jax.numpy_dtype_promotion("strict"):
        smoothed = smooth(x, grid, 0.5, window)
    assert smoothed.dtype == x.dtype and np.isfinite(np.asarray(smoothed, np.float32)).all()


def products(jaxpr):
    """The precision of every matrix product in a program, those of inner programs included."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.params["precision"]
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from products(inner)


@pytest.mark.parametrize("window, grid", FORMS)
def test_no_product_is_left_to_the_backends_default_precision(window, grid, form):
    program = jax.make_jaxpr(lambda x, sigma: smooth(x, grid, sigma, window))
    found = list(products(program(jnp.zeros((16, 64)), 0.5).jaxpr))
    highest = jax.lax.Precision.HIGHEST
    assert all(precision in (highest, (highest, highest)) for precision in found), found
    assert bool(found) == (form != "shifted" or isinstance(window, HeatKernel))


@FORMS_TOO
@pytest.mark.parametrize("window, grid", FORMS)
@pytest.mark.parametrize("platform", ["cpu", "cuda", "rocm", "tpu"])
def test_it_lowers_for_every_platform(platform, window, grid):
    tx = lgnn(0.5, layout=ConvLayout(wrap=grid.wrap), window=window)

    @jax.jit
    def update(g, state):
        return tx.update(g, state)

    shapes = (
        jax.ShapeDtypeStruct((3, 3, 16, 64), jnp.bfloat16),
        LGNNState(jax.ShapeDtypeStruct((), jnp.int32)),
    )
    text = update.trace(*shapes).lower(lowering_platforms=(platform,)).as_text()
    assert "convolution" not in text
    assert text.count("custom_call") == text.count("custom_call @LayoutConstraint")
    if isinstance(window, HeatKernel):
        assert text.count("HIGHEST, HIGHEST") == text.count("stablehlo.dot_general") > 0
    if platform != "cpu" and window == Window():
        assert "dot_general" not in text  # The form of a CPU stays there.
