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


def grid_distance(shape, wrap, a, b):
    """The distance of two units on a grid, the short way round on a torus."""
    steps = [
        abs(i - j) for i, j in zip(np.unravel_index(a, shape), np.unravel_index(b, shape), strict=True)
    ]
    if wrap:
        steps = [min(step, length - step) for step, length in zip(steps, shape, strict=True)]
    return math.sqrt(sum(step**2 for step in steps))


def som_steps(steps, first, last):
    """From the first value to the last in equal ratios."""
    return [first * (last / first) ** (step / max(steps - 1, 1)) for step in range(steps)]


def som_eta(grid, c, sigma):
    """The neighbourhood function of a unit."""
    apart = [grid_distance(grid.shape, grid.wrap, c, j) for j in range(grid.units)]
    return [math.exp(-(d**2) / (2 * sigma**2)) for d in apart]


def som_online(data, order, weights, grid, sigma, rate):
    """The paper's eq. 1 and 2, sample by sample and unit by unit."""
    weights = np.array(weights, np.float64)
    schedule = zip(som_steps(len(order), *sigma), som_steps(len(order), *rate), strict=True)
    for x, (width, alpha) in zip(np.asarray(data, np.float64)[order], schedule, strict=True):
        c = min(range(grid.units), key=lambda j: np.sum((x - weights[j]) ** 2))
        for j, eta in enumerate(som_eta(grid, c, width)):
            weights[j] += alpha * eta * (x - weights[j])
    return weights


def som_batch(data, steps, weights, grid, sigma, rate):
    """Every unit moves towards the mean of all samples, each weighted by its winner's neighbourhood."""
    data, weights = np.asarray(data, np.float64), np.array(weights, np.float64)
    for width, alpha in zip(som_steps(steps, *sigma), som_steps(steps, *rate), strict=True):
        etas = [
            som_eta(grid, min(range(grid.units), key=lambda j: np.sum((x - weights[j]) ** 2)), width)
            for x in data
        ]
        for j in range(grid.units):
            heard = [eta[j] for eta in etas]
            if sum(heard) > 0:
                weights[j] += alpha * (np.average(data, 0, heard) - weights[j])
    return weights


def _cosine(a, b):
    """Of two vectors, 0 if one of them is zero."""
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return a @ b / norms if norms else 0.0


def _read(values, place, wrap):
    """A value between two of a line, linearly; beyond the ends the last one, or on a circle the first again."""
    place = place if wrap else min(max(place, 0), len(values) - 1)
    left = math.floor(place)
    pair = [
        values[at % len(values)] if wrap else values[min(at, len(values) - 1)] for at in (left, left + 1)
    ]
    return pair[0] + (place - left) * (pair[1] - pair[0])


def down_and_up(line, factor, wrap=False):
    """A line of vectors, sampled down by a factor and up again."""
    n, factor = len(line), min(factor, len(line))
    m = math.floor(n / factor)
    apart = n / m if wrap else factor
    coarse = [_read(line, (j + 0.5) * apart - 0.5, wrap) for j in range(m)]
    return np.array([_read(coarse, (i + 0.5) * m / n - 0.5, wrap) for i in range(n)])


def topoloss(filters, grid, factors):
    """TopoLoss of filters ``(units, weights)``, line by line of their sheet."""
    blurred = filters.reshape(*grid.shape, -1)
    for dimension, factor in enumerate(factors):
        moved = np.moveaxis(blurred, dimension, 0)
        blurred = np.moveaxis(down_and_up(moved, factor, grid.wrap), 0, dimension)
    blurred = blurred.reshape(filters.shape)
    return 1 - np.mean([_cosine(a, b) for a, b in zip(filters, blurred, strict=True)])


def weight_similarity_loss(filters, grid):
    """One minus the mean cosine of the pairs one step apart."""
    units = range(grid.units)
    near = [
        _cosine(filters[i], filters[j])
        for i, j in itertools.combinations(units, 2)
        if grid_distance(grid.shape, grid.wrap, i, j) == 1
    ]
    return 1 - np.mean(near)


def response_loss(samples, grid):
    """Of ``(samples, units)``, pair by pair, without constant units."""
    units = [unit for unit in range(grid.units) if np.ptp(samples[:, unit]) > 0]
    pairs = list(itertools.combinations(units, 2))
    alike = [np.corrcoef(samples[:, i], samples[:, j])[0, 1] for i, j in pairs]
    near = [1 / (1 + grid_distance(grid.shape, grid.wrap, i, j)) for i, j in pairs]
    return (1 - np.corrcoef(alike, near)[0, 1]) / 2
