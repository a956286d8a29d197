"""Every form of the operator, window, border, number of dimensions, place of the units and dtype, against a matrix.

``test_smoothing.py`` and ``test_properties.py`` one folder up have the same comparison for chosen and for drawn
cases; this is the full product, and low precision to half a unit in the last place.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lgnn_jax import Grid, HeatKernel, Window, smooth
from tests.lgnn_jax.reference import apply, operator

SIGMAS = (0.0, 0.5, 0.8)
WINDOWS = [(Window(x, z), y) for x, y, z in itertools.product((3, 5, 7), (False, True), (True, False))]
WINDOWS += [(HeatKernel(), False), (HeatKernel(), True)]  # And whether on a torus.
# With the other axes that the units are put on; two lengths are below the largest window's radius.
SHAPES = {(7,): (0, 1), (5, 3): (-2, 0), (2, 3, 4): (1, -3)}
HALF_A_UNIT = {"float32": 0, "bfloat16": 2.0**-8, "float16": 2.0**-11}


def smoothed(x, shape, axis, sigma, window):
    """The call into the library."""
    return smooth(x, Grid(shape, window[1]), sigma, window[0], axis=axis)


# Without axes, the grid's other ones.
WAYS = [("flat", (-1,)), ("padded", ()), ("padded", (-1,)), ("shifted", ()), ("shifted", (-1,))]


def cases():
    """Form, shape, axes, window, dtype: every window two to four times, and all else for the slow run."""
    for index, window in enumerate(WINDOWS):
        for number, (shape, others) in enumerate(SHAPES.items()):
            for way, (form, axes) in enumerate(WAYS):
                for dtype in HALF_A_UNIT:
                    chosen = way in (index % 2, 3 + index % 2) and number == index % 3
                    low = ("bfloat16", "float16")[index // 4 % 2]
                    quick = chosen and (
                        dtype == "float32" or (dtype == low and number == 1 and index % 4 < 2)
                    )
                    yield pytest.param(
                        *(form, shape, axes or others, window, dtype),
                        id=f"{form} {shape} {axes or others} {window} {dtype}",
                        marks=() if quick else pytest.mark.slow,
                    )


@pytest.mark.parametrize("form, shape, axes, window, dtype", list(cases()), indirect=["form"])
def test_it_is_the_dense_operator(form, shape, axes, window, dtype):
    draw, arrays = np.random.default_rng(0), []
    for axis in axes:
        full = [3, 2, 4]
        full[axis] = math.prod(shape)
        arrays.append(jnp.asarray(draw.standard_normal(full), dtype))

    @jax.jit
    def run(arrays, sigma):
        return [smoothed(x, shape, axis, sigma, window) for x, axis in zip(arrays, axes, strict=True)]

    for sigma in SIGMAS:
        matrix = operator(Grid(shape, window[1]), sigma, window[0])
        for x, axis, found in zip(arrays, axes, run(arrays, sigma), strict=True):
            assert found.dtype == x.dtype and found.shape == x.shape
            exact = apply(matrix, np.asarray(x, np.float64), axis)
            off = np.abs(np.asarray(found, np.float64) - exact)
            allowed = HALF_A_UNIT[dtype] * np.abs(exact) + 1e-6 * max(1, np.abs(exact).max())
            assert (off <= allowed).all(), (axis, sigma, off.max())
            if sigma == 0:
                np.testing.assert_array_equal(np.asarray(found), np.asarray(x))
