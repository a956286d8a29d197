"""Second implementations: the operator as a dense float64 matrix, and Algorithm 1 as the paper prints it."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import lax

from lgnn_jax import HeatKernel


def gaussian(sigma, size, normalise=True):
    """A window along one dimension, float64."""
    radius = size // 2
    if sigma == 0:
        weights = np.array([float(k == 0) for k in range(-radius, radius + 1)])
    else:
        weights = np.array([math.exp(-(k**2) / (2 * sigma**2)) for k in range(-radius, radius + 1)])
    return weights / weights.sum() if normalise else weights


def dense(shape, sigma, size=3, wrap=False, normalise=True):
    """The operator on a grid of ``shape`` as a float64 matrix, unit by unit and tap by tap."""
    weights, radius = gaussian(sigma, size, normalise), size // 2
    units = math.prod(shape)
    operator = np.zeros((units, units))
    for position in itertools.product(*map(range, shape)):
        for step in itertools.product(range(-radius, radius + 1), repeat=len(shape)):
            source = []
            for at, by, length in zip(position, step, shape, strict=True):
                moved = at + by
                source.append(moved % length if wrap else min(max(moved, 0), length - 1))
            weight = math.prod(weights[by + radius] for by in step)
            operator[np.ravel_multi_index(position, shape), np.ravel_multi_index(source, shape)] += weight
    return operator


def laplacian(length, wrap=False):
    """The graph Laplacian of a path or a cycle of ``length`` units, edge by edge."""
    operator = np.zeros((length, length))
    for i in range(length if wrap else length - 1):
        j = (i + 1) % length
        for a, b in ((i, j), (j, i)):
            operator[a, a] += 1
            operator[a, b] -= 1
    return operator


def heat(shape, sigma, wrap=False):
    """The heat kernel of a whole grid, by SciPy's matrix exponential of its Laplacian."""
    total = np.zeros((math.prod(shape),) * 2)
    for dimension, length in enumerate(shape):
        before, after = math.prod(shape[:dimension]), math.prod(shape[dimension + 1 :])
        total += np.kron(np.kron(np.eye(before), laplacian(length, wrap)), np.eye(after))
    return scipy.linalg.expm(-(sigma**2) / 2 * total)


def operator(grid, sigma, window):
    """The dense operator of any kind of window on a grid."""
    if isinstance(window, HeatKernel):
        return heat(grid.shape, sigma, grid.wrap)
    return dense(grid.shape, sigma, window.size, grid.wrap, window.normalise)


def apply(operator, x, axis):
    """A dense operator along one axis of an array, in float64."""
    return np.moveaxis(np.tensordot(operator, np.asarray(x, np.float64), (1, axis)), 0, axis)


def algorithm_1(gradient, m, n, sigma):
    """The paper's Algorithm 1 on an OIHW gradient: reshape, replication padding, depthwise convolution."""
    c_out, c_in, s, _ = gradient.shape
    maps = gradient.transpose(1, 2, 3, 0).reshape(1, c_in * s * s, m, n)
    padded = jnp.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    window = np.outer(gaussian(sigma, 3), gaussian(sigma, 3)).astype(np.float32)
    kernel = jnp.broadcast_to(window, (c_in * s * s, 1, 3, 3))
    smoothed = lax.conv_general_dilated(
        padded, kernel, (1, 1), "VALID", feature_group_count=c_in * s * s, precision="highest"
    )
    return smoothed.reshape(c_in, s, s, m * n).transpose(3, 0, 1, 2)
