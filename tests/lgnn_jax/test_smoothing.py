import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from lgnn_jax import Grid, HeatKernel, Window, grid_shape, smooth
from tests.conftest import FORMS_TOO
from tests.lgnn_jax.reference import algorithm_1, apply, dense, operator

# Of every of them another program is compiled.
EVERY_WIDTH = (*range(1, 65), 128, 160, 256, 320, 512, 640)
SOME_WIDTHS = (1, 2, 5, 6, 9, 64, 640)


pytestmark = pytest.mark.usefixtures("form")


def random(shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("sigma", [0.3, 0.5, 0.84])
@pytest.mark.parametrize(
    "widths", [SOME_WIDTHS, pytest.param(EVERY_WIDTH, marks=pytest.mark.slow)], ids=["some", "every"]
)
def test_smooth_is_scipys_gaussian_filter_on_widths(widths, sigma):
    smoothed, expected = [], []
    for width in widths:
        x, (m, n) = random((3, width), seed=width), grid_shape(width)
        smoothed.append(np.asarray(smooth(x, Grid((m, n)), sigma)))
        planes = x.reshape(3, m, n).astype(np.float64)
        filtered = [gaussian_filter(plane, sigma, mode="nearest", radius=1) for plane in planes]
        expected.append(np.reshape(filtered, x.shape))
    for width, got, want in zip(widths, smoothed, expected, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-6, rtol=0, err_msg=f"width {width}")


@FORMS_TOO
@pytest.mark.parametrize("m, n", [pytest.param(8, 8, marks=pytest.mark.slow), (16, 8), (7, 1)])
def test_the_separable_form_is_algorithm_1_as_printed(m, n):
    oihw = random((m * n, 5, 3, 3))
    printed = algorithm_1(jnp.asarray(oihw), m, n, 0.5)
    np.testing.assert_allclose(smooth(oihw, Grid((m, n)), 0.5, axis=0), printed, atol=1e-6)
    hwio = smooth(oihw.transpose(2, 3, 1, 0), Grid((m, n)), 0.5)
    np.testing.assert_allclose(hwio, printed.transpose(2, 3, 1, 0), atol=1e-6)


CASES = [  # Grid, axis, sigma, window.
    (Grid((4, 4)), -1, 0.5, Window()),
    (Grid((8, 2)), 0, 0.84, Window()),
    (Grid((5, 3), wrap=True), 1, 0.5, Window()),
    (Grid((7, 1)), -1, 0.7, Window(5)),
    (Grid((1, 1)), -1, 0.5, Window(5, normalise=False)),
    (Grid((3, 2), wrap=True), -1, 1.1, Window(7)),
    (Grid((6,)), 0, 0.5, Window()),
    (Grid((2, 3, 4)), -2, 0.6, Window(normalise=False)),
    (Grid((4, 4)), -1, 3.0, Window(allow_indefinite=True)),
    (Grid((4, 4)), -1, 0.0, Window(5)),
    (Grid((2, 3, 4)), -1, 0.5, Window()),
    (Grid((2, 3, 4), wrap=True), -1, 0.5, Window(5)),
    (Grid((3, 2, 2, 2)), -1, 0.4, Window(7)),
    (Grid((7, 1)), -1, 1.0, Window(7)),
    (Grid((2, 1), wrap=True), -1, 1.0, Window(7)),
    (Grid((8, 8)), -1, 1.1, Window(7)),
    (Grid((4, 4)), -1, 5.0, HeatKernel()),
    (Grid((4, 3, 2), wrap=True), 0, 0.7, HeatKernel()),
    (Grid((5, 3)), 1, 0.0, HeatKernel()),
]


# In every form by default; of the others pins/test_smoothing.py has windows and dimensions in every form.
EDGES = [CASES[at] for at in (0, 2, 4, 5, 7, 12, 14, 15)]


@pytest.mark.parametrize(
    "form, grid, axis, sigma, window",
    [
        pytest.param(form, *case, marks=[pytest.mark.slow] * (form != "padded" and case not in EDGES))
        for form in ("padded", "flat", "shifted")
        for case in CASES
    ],
    indirect=["form"],
)
def test_every_window_and_grid_is_the_dense_operator(grid, axis, sigma, window):
    full = [3, 2, 4]
    full[axis] = grid.units
    x = random(tuple(full))
    expected = apply(operator(grid, sigma, window), x, axis)
    got = smooth(x, grid, sigma, window, axis=axis)
    chex.assert_shape(got, x.shape)
    chex.assert_type(got, x.dtype)
    np.testing.assert_allclose(got, expected, atol=2e-6)


@pytest.mark.parametrize("grid, axis, sigma, window", [CASES[2], CASES[7], CASES[16]])
def test_under_jit(grid, axis, sigma, window):
    full = [3, 2, 4]
    full[axis] = grid.units
    x = random(tuple(full))
    compiled = jax.jit(smooth, static_argnums=(1, 3), static_argnames="axis")
    got = compiled(x, grid, sigma, window, axis=axis)
    np.testing.assert_allclose(got, apply(operator(grid, sigma, window), x, axis), atol=2e-6)


@pytest.mark.parametrize(
    "compiled", [pytest.param(lambda f: f, marks=pytest.mark.slow), jax.jit], ids=["no jit", "jit"]
)
def test_under_vmap(compiled):
    x, grid = random((6, 2, 12)), Grid((4, 3))
    got = compiled(jax.vmap(lambda x: smooth(x, grid, 0.5)))(x)
    np.testing.assert_allclose(got, apply(dense((4, 3), 0.5), x, 2), atol=1e-6)
    widths = jnp.array([0.0, 0.3, 0.8])
    got = compiled(jax.vmap(lambda sigma: smooth(x, grid, sigma)))(widths)
    for result, sigma in zip(got, widths, strict=True):
        np.testing.assert_allclose(result, apply(dense((4, 3), float(sigma)), x, 2), atol=1e-6)


@pytest.mark.parametrize("dtype, tolerance", [("float16", 2e-3), ("bfloat16", 2e-2), ("float32", 1e-6)])
def test_the_dtype_is_kept(dtype, tolerance):
    x = jnp.asarray(random((3, 64)), dtype)
    smoothed = smooth(x, Grid((8, 8)), 0.5)
    assert smoothed.dtype == x.dtype
    expected = apply(dense((8, 8), 0.5), np.asarray(x, np.float64), 1)
    np.testing.assert_allclose(np.asarray(smoothed, np.float64), expected, atol=tolerance)


TABLE = [  # As in smooth's docstring: a torus, symmetric, keeps constants, keeps totals.
    (Window(3), False, True, True, True),
    (Window(5), False, False, True, False),
    (Window(7), False, False, True, False),
    (Window(3), True, True, True, True),
    (Window(5), True, True, True, True),
    (Window(7), True, True, True, True),
    (Window(3, normalise=False), False, True, False, False),
    (Window(5, normalise=False), False, False, False, False),
    (Window(5, normalise=False), True, True, False, False),
    (HeatKernel(), False, True, True, True),
    (HeatKernel(), True, True, True, True),
]


@FORMS_TOO
@pytest.mark.parametrize("window, wrap, symmetric, constants, totals", TABLE)
def test_the_properties_are_those_of_the_docstrings_table(window, wrap, symmetric, constants, totals):
    for shape in [(8, 8), (3, 4, 5)]:
        found = np.asarray(smooth(np.eye(np.prod(shape), dtype=np.float32), Grid(shape, wrap), 0.8, window))
        matrix = found.T  # Row i of the result is what unit i's impulse became.
        assert np.allclose(matrix, matrix.T, atol=1e-6) == symmetric
        assert np.allclose(matrix.sum(1), 1, atol=1e-6) == constants
        assert np.allclose(matrix.sum(0), 1, atol=1e-6) == totals
        assert np.linalg.eigvalsh(matrix + matrix.T)[0] > 0


@FORMS_TOO
def test_the_kernel_and_the_spectrum_are_the_papers():
    operator = np.asarray(smooth(np.eye(64, dtype=np.float32), Grid((8, 8)), 0.5), np.float64)
    centre = operator[27].reshape(8, 8)[2:5, 2:5]
    np.testing.assert_allclose(centre[1], [0.0838195, 0.619347, 0.0838195], atol=1e-6)
    np.testing.assert_allclose(centre[0], [0.0113437, 0.0838195, 0.0113437], atol=1e-6)
    one = 0.786986 + 2 * 0.106507 * np.cos(np.pi * np.arange(8) / 8)
    expected = np.sort(np.outer(one, one).ravel())
    np.testing.assert_allclose(np.sort(np.linalg.eigvalsh(operator)), expected, atol=3e-6)
    assert expected.min() > 0.329


@FORMS_TOO
def test_smooth_is_linear():
    x, y, grid = random((5, 64)), random((5, 64), seed=1), Grid((8, 8))
    together = smooth(2 * x - 3 * y, grid, 0.5)
    np.testing.assert_allclose(together, 2 * smooth(x, grid, 0.5) - 3 * smooth(y, grid, 0.5), atol=5e-6)


@pytest.mark.parametrize("sigma", [0, 0.0, np.float32(0), 1e-30])
def test_sigma_zero_is_the_identity(sigma):
    x = random((5, 64))
    np.testing.assert_array_equal(smooth(x, Grid((8, 8)), sigma), x)
    np.testing.assert_array_equal(smooth(x, Grid((8, 8)), jnp.float32(sigma)), x)


@pytest.mark.parametrize("sigma", [0.0, 1e-30, 1e-3, 0.05, 0.06, 0.5])
def test_gradients_with_respect_to_sigma_are_finite_and_right(sigma):
    x, grid = jnp.asarray(random((5, 64))), Grid((8, 8))

    def energy(sigma):
        return (smooth(x, grid, sigma) ** 2).sum()

    slope = float(jax.grad(energy)(jnp.float32(sigma)))
    assert np.isfinite(slope)
    if sigma == 0.5:
        step = 1e-2
        difference = (energy(jnp.float32(sigma + step)) - energy(jnp.float32(sigma - step))) / (2 * step)
        np.testing.assert_allclose(slope, difference, rtol=1e-2)


def test_the_gradient_with_respect_to_x_is_the_transposed_operator():
    grid, window = Grid((5, 3)), Window(5)
    x, cotangent = random((4, 15)), random((4, 15), seed=1)
    _, pull = jax.vjp(lambda x: smooth(x, grid, 0.9, window), jnp.asarray(x))
    expected = apply(dense((5, 3), 0.9, 5).T, cotangent, 1)
    np.testing.assert_allclose(pull(jnp.asarray(cotangent))[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    "sigma, words",
    [(-0.1, "at least 0"), (float("nan"), "finite"), (float("inf"), "finite"), (1.0, "indefinite")]
    + [("0.5", "number"), (np.ones(2), "scalar"), (True, "number"), (np.complex64(1), "number")]
    + [(jnp.ones(3), r"real scalar, got float32 of shape \(3,\)"), (jnp.complex64(1), "real scalar")],
)
def test_smooth_refuses_a_wrong_sigma(sigma, words):
    with pytest.raises(ValueError, match=words):
        smooth(np.ones((3, 64), np.float32), Grid((8, 8)), sigma)


def test_the_refusal_names_the_limit_and_can_be_lifted():
    x = np.ones((3, 64), np.float32)
    with pytest.raises(ValueError, match=r"at most 0\.8493.*allow_indefinite=True"):
        smooth(x, Grid((8, 8)), 0.85)
    smooth(x, Grid((8, 8)), 0.849)
    smooth(x, Grid((8, 8)), 0.85, Window(allow_indefinite=True))


def test_a_value_that_is_not_finite_stays_near(form):
    """Padded and shifted: in the window, or as near along the units' axis. Flat: as near in memory."""
    x = jnp.zeros((4, 2, 64)).at[1, 1, 9].set(jnp.nan)

    def hit(window):
        return np.argwhere(~np.isfinite(np.asarray(smooth(x, Grid((8, 8)), 0.5, window))).reshape(-1))[:, 0]

    centre = 1 * 128 + 64 + 9
    near = {centre + 8 * row + column for row in (-1, 0, 1) for column in (-1, 0, 1)}
    assert set(hit(Window())) == near  # All of them on the grid, so that the forms agree.
    assert set(hit(HeatKernel())) == set(range(192, 256))
    x = jnp.zeros((4, 2, 64)).at[1, 1, 0].set(jnp.nan)
    assert set(hit(Window())) <= {192 + step for step in range(-9, 10)}
    if form != "flat":
        assert set(hit(Window())) == {192 + step for step in (0, 1, 7, 8, 9)}


def test_smooth_refuses_integers_and_other_shapes():
    with pytest.raises(TypeError, match="floating array, got int32"):
        smooth(np.ones((3, 64), np.int32), Grid((8, 8)), 0.5)
    with pytest.raises(ValueError, match="has 63 units on axis -1"):
        smooth(np.ones((3, 63), np.float32), Grid((8, 8)), 0.5)


def test_arrays_without_elements_pass():
    assert smooth(jnp.zeros((3, 0, 64)), Grid((8, 8)), 0.5).shape == (3, 0, 64)
