import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lgnn_jax import Grid, HeatKernel, Window, largest_sigma, smooth
from lgnn_jax._neighbourhood import heat_matrix
from tests.lgnn_jax.reference import dense, heat

# Of large ones the reference alone takes a second.
SOME_SHAPES = [*((m, n) for m in range(1, 5) for n in range(1, m + 1)), (8, 8), (128,), (3, 3, 3)]
EVERY_SHAPE = [*((m, n) for m in range(1, 9) for n in range(1, m + 1)), (23, 17), (6, 6, 6)]


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("size, limit", [(3, 0.849), (5, 1.2011), (7, 1.1799)])
@pytest.mark.parametrize(
    "shapes", [SOME_SHAPES, pytest.param(EVERY_SHAPE, marks=pytest.mark.slow)], ids=["some", "every"]
)
def test_the_largest_sigma_separates_definite_from_indefinite(size, limit, wrap, shapes):
    window = Window(size)
    largest = largest_sigma(window)
    assert largest == pytest.approx(limit, abs=4e-4)
    for shape in shapes:
        operator = dense(shape, largest, size, wrap)
        assert np.linalg.eigvalsh((operator + operator.T) / 2)[0] > -1e-12, shape
    beyond = dense((200,), largest * 1.01, size, wrap)
    assert np.linalg.eigvalsh((beyond + beyond.T) / 2)[0] < 0


@pytest.mark.parametrize("size", [2, 4, 1, 0, -3, 9, 2.5, "3"])
def test_windows_have_an_odd_number_of_taps(size):
    with pytest.raises(ValueError, match="3, 5 or 7, got .* HeatKernel"):
        Window(size)


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 32])
def test_the_heat_kernel_is_the_exponential_of_the_laplacian(length, wrap):
    for sigma in (0.1, 0.5, 2.0, 30.0):
        found = heat_matrix(length, sigma, wrap, jnp.float32)
        np.testing.assert_allclose(found, heat((length,), sigma, wrap), atol=2e-6)
    np.testing.assert_array_equal(heat_matrix(length, 0.0, wrap, jnp.float32), np.eye(length))


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
def test_the_heat_kernels_width_is_its_standard_deviation(sigma):
    impulse = jnp.zeros(101).at[50].set(1.0)
    spread = smooth(impulse, Grid((101,)), sigma, HeatKernel())
    assert float((spread * (jnp.arange(101) - 50) ** 2).sum()) == pytest.approx(sigma**2, rel=1e-3)


def test_the_heat_kernel_takes_any_width():
    assert largest_sigma(HeatKernel()) == math.inf
    x = np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)
    flat = smooth(x, Grid((8, 4)), 1e3, HeatKernel())
    np.testing.assert_allclose(flat, np.broadcast_to(x.mean(1, keepdims=True), x.shape), atol=1e-6)
    np.testing.assert_allclose(smooth(x, Grid((8, 4)), 1e20, HeatKernel()), flat, atol=1e-6)
    slope = jax.grad(lambda sigma: (smooth(x, Grid((8, 4)), sigma, HeatKernel()) ** 2).sum())
    assert float(slope(0.0)) == 0 and np.isfinite(slope(1.0))
