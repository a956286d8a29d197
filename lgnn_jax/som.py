"""The classic self-organising map: units of a grid that unfold in the space of the samples.

For a sample ``x`` the best-matching unit is ``c = argmin_j |x - w_j|^2``, and every unit moves towards it by
``w_j += learning_rate * eta_cj * (x - w_j)`` with ``eta_cj = exp(-d_cj^2 / (2 sigma^2))`` and the distance
``d_cj`` of the two on the grid. ``sigma`` goes from wide, which unfolds the map, to narrow, which fits it.

How good a map is, :func:`lgnn_jax.topography.quantisation_error` and
:func:`lgnn_jax.topography.topographic_error` measure: both take the weights that :func:`fit` returns.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lgnn_jax._dtypes import at_least_float32
from lgnn_jax._grid import Grid, as_grid, check_grid, coordinates, neighbours, separations

__all__ = ["assign", "fit", "u_matrix"]

_SCORES = 2**22  # Distances of a chunk of samples from all units that are in memory at once.
_NARROWEST = 1e-6  # Of no other unit is anything left; the ratio of a distance and it is finite.
_matmul = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def fit(
    data: jax.typing.ArrayLike,
    grid: Grid,
    *,
    key: jax.Array | None = None,
    batch: bool = True,
    steps: int | None = None,
    sigma: tuple[float, float] | None = None,
    learning_rate: tuple[float, float] | None = None,
    start: Literal["pca", "samples"] | jax.typing.ArrayLike = "pca",
) -> jax.Array:
    """The weights of a self-organising map of ``data``.

    A step of the batch map moves every unit towards the mean of all samples, each weighted by the
    neighbourhood of its best-matching unit: ``w_j += learning_rate * (sum_x eta_cj x / sum_x eta_cj - w_j)``.
    A step of the online map is that of one sample; the order is a new permutation for every pass over them.

    Sigma and the learning rate go from their first value to their last in equal ratios. A unit too far from
    every best-matching unit to hear of it, in float32 beyond 11 sigma, keeps its weights. The batch map
    compares chunks of samples, so that memory stays bounded. Under ``jit`` and ``vmap``, values of traced
    samples are not tested.

    Args:
      data: Samples ``(samples, features)``. Computed in float32, or in float64 if that is what they are.
      grid: The map's grid, of any number of dimensions, a plane or a torus.
      key: A PRNG key, for the order of the samples and for ``start="samples"``; without them not needed.
      batch: True for the batch map, False for the online map.
      steps: Updates of the map, at least 1; a step of the batch map sees every sample, one of the online map
        a single one. None for 50 steps of the batch map, 20 for every sample of the online map.
      sigma: The neighbourhood's std in grid steps, numbers ``(wide, narrow)`` with ``wide >= narrow > 0``.
        None for half the grid's longest side (on a torus, a quarter) and 1.
      learning_rate: Numbers ``(first, last)`` with ``1 >= first >= last > 0``. None for ``(1, 1)`` of the
        batch map, ``(0.5, 0.01)`` of the online map.
      start: ``"pca"`` for a plane of the grid's shape along the principal components of the samples, two
        standard deviations to each side, the first along the longest side; ``"samples"`` for random samples;
        or weights ``(units, features)``.

    Returns:
      Weights ``(units, features)``, unit ``k`` of the grid in row ``k``.

    Raises:
      ValueError: If ``data`` is not ``(samples, features)`` or holds NaN or infinities; if an option is out
        of its range; if ``start`` has another shape; if a key is needed and there is none.
      TypeError: If ``grid`` is not a ``Grid``.

    Example:
      >>> import jax
      >>> from lgnn_jax import Grid, som, topography
      >>> colours = jax.random.uniform(jax.random.key(0), (500, 3))
      >>> weights = som.fit(colours, Grid((8, 6)))
      >>> weights.shape, topography.quantisation_error(weights, colours) < 0.2
      ((48, 3), True)

    Source:
      Kohonen, "Self-Organizing Maps", 2001; "Essentials of the self-organizing map", Neural Networks 2013.
      Tan, Khan, Guan, "Locality Guided Neural Networks for Explainable Artificial Intelligence", IJCNN 2020,
      eq. 1 and 2.
    """
    samples, longest = _matrix(data, "data", "samples"), max(as_grid(grid).shape)
    if not isinstance(batch, bool):
        raise ValueError(f"batch must be True (the batch map) or False (the online map), got {batch!r}.")
    updates = _steps(steps, 50 if batch else 20 * len(samples))
    if sigma is None:
        sigma = (max(1.0, longest / (4 if grid.wrap else 2)), 1.0)
    if learning_rate is None:
        learning_rate = (1.0, 1.0) if batch else (0.5, 0.01)
    sigmas = np.maximum(_geometric("sigma", sigma, updates, math.inf, "(8, 1)"), _NARROWEST)
    rates = _geometric("learning_rate", learning_rate, updates, 1, "(0.5, 0.01)")
    if isinstance(start, str) and start not in ("pca", "samples"):
        raise ValueError(f'start must be "pca", "samples" or weights (units, features), got {start!r}.')
    drawn = isinstance(start, str) and start == "samples"
    if key is None and (drawn or not batch):
        what = 'start="samples"' if drawn else "The online map"
        raise ValueError(f"{what} needs a key, got None. Give for example key=jax.random.key(0).")
    first, order = (None, None) if key is None else jax.random.split(key)
    if isinstance(start, str):
        weights = samples[_order(first, len(samples), grid.units)] if drawn else _plane(samples, grid)
    else:
        weights, wanted = _matrix(start, "start", "units"), (grid.units, samples.shape[1])
        if weights.shape != wanted:
            raise ValueError(
                f"start must be (units, features) = {wanted}, got shape {weights.shape}. Give the weights of "
                f'a map of these samples on a grid of {grid.size}, "pca" or "samples".'
            )
        weights = weights.astype(samples.dtype)
    schedule = jnp.asarray(np.stack([rates, sigmas], 1), samples.dtype)
    if batch:
        return _batch(samples, weights, schedule, grid)
    return _online(samples, weights, schedule, order, grid)


def assign(data: jax.typing.ArrayLike, weights: jax.typing.ArrayLike) -> jax.Array:
    """The best-matching unit of every sample, ``argmin_j |x - w_j|``, the first of several.

    Args:
      data: Samples ``(samples, features)``, of which a chunk at a time is compared.
      weights: The map's weights ``(units, features)``.

    Returns:
      Units, int32 ``(samples,)``.

    Raises:
      ValueError: If either is not two-dimensional or holds NaN or infinities; if they do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import som
      >>> som.assign(jnp.array([[0.1], [1.8]]), jnp.array([[0.0], [1.0], [2.0]])).tolist()
      [0, 2]
    """
    units = _matrix(weights, "weights", "units")
    samples = _matrix(data, "data", "samples").astype(units.dtype)
    if samples.shape[1] != units.shape[1]:
        raise ValueError(
            f"data must be (samples, {units.shape[1]}), as long as the weights, got shape {samples.shape}."
        )
    return _assign(samples, units)


def u_matrix(weights: jax.typing.ArrayLike, grid: Grid) -> jax.Array:
    """The mean distance of every unit's weights from those of its nearest neighbours on the grid.

    Ridges of large distances part the clusters of the samples.

    Args:
      weights: The map's weights ``(units, features)``.
      grid: Its grid.

    Returns:
      Distances ``(units,)``; 0 where a unit has no neighbour. ``reshape(grid.shape)`` shows them as a map.

    Raises:
      ValueError: If the weights are not two-dimensional, hold NaN or infinities, or do not fit the grid.
      TypeError: If ``grid`` is not a ``Grid``.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import Grid, som
      >>> som.u_matrix(jnp.array([[0.0], [1.0], [4.0]]), Grid((3,))).tolist()
      [1.0, 2.0, 3.0]

    Source:
      Ultsch and Siemon, "Kohonen's self organizing feature maps for exploratory data analysis", 1990.
    """
    vectors = _matrix(weights, "weights", "units")
    check_grid(grid, len(vectors), "weights")
    return _u_matrix(vectors, grid)


def _matrix(x: Any, name: str, rows: str) -> jax.Array:
    """``x`` as floats ``(rows, features)``, checked."""
    matrix = jnp.asarray(x)
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"{name} must be ({rows}, features), got shape {matrix.shape}. Reshape it.")
    if not isinstance(matrix, jax.core.Tracer) and not np.isfinite(np.asarray(matrix)).all():
        raise ValueError(f"{name} must be finite, got NaN or infinite values. Leave their rows out.")
    return at_least_float32(matrix)


def _steps(steps: Any, default: int) -> int:
    if steps is None:
        return default
    if isinstance(steps, bool) or not hasattr(steps, "__index__") or operator.index(steps) < 1:
        raise ValueError(f"steps must be an integer of at least 1, got {steps!r}. None is {default} here.")
    return operator.index(steps)


def _geometric(name: str, ends: Sequence[float], steps: int, largest: float, example: str) -> np.ndarray:
    """A value for every step, from the first of ``ends`` to the last in equal ratios."""
    try:
        first, last = map(float, ends)
    except (TypeError, ValueError):
        first = last = math.nan
    if not (math.isfinite(first) and largest >= first >= last > 0):
        most = "" if math.isinf(largest) else f" and at most {largest:g}"
        raise ValueError(
            f"{name} must be two numbers, the first no smaller than the last, both above 0{most}, got "
            f"{ends!r}. Write for example {name}={example}."
        )
    return np.geomspace(first, last, steps)


@functools.partial(jax.jit, static_argnames="grid")
def _plane(data: jax.Array, grid: Grid) -> jax.Array:
    """A plane along the principal components, two standard deviations to each side."""
    samples, features = data.shape
    middle = data.mean(0, keepdims=True)
    if features <= samples:

        def product(x, fresh):
            centred = jnp.where(fresh, x - middle, 0)
            return _matmul(centred.T, centred)

        variances, vectors = jnp.linalg.eigh(_sum(data, features, product) / samples)
        stds, components = jnp.sqrt(jnp.maximum(variances[::-1], 0)), vectors[:, ::-1].T
    else:
        _, values, components = jnp.linalg.svd(data - middle, full_matrices=False)
        stds = values / math.sqrt(samples)
    places, sizes = coordinates(grid), np.array(grid.shape)
    places = (2 * places / np.maximum(sizes - 1, 1) - (sizes > 1))[:, np.argsort(-sizes, kind="stable")]
    count = min(len(sizes), len(components))
    along = 2 * stds[:count, None] * components[:count]
    return middle + _matmul(jnp.asarray(places[:, :count], data.dtype), along)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _order(key: jax.Array, samples: int, steps: int) -> jax.Array:
    """A sample for every step, in passes over all of them."""
    keys = jax.random.split(key, -(-steps // samples))
    return jax.vmap(lambda key: jax.random.permutation(key, samples))(keys).reshape(-1)[:steps]


def _eta(steps: np.ndarray | jax.Array, sigma: jax.Array) -> jax.Array:
    """The neighbourhood function at a distance of so many steps along one grid dimension."""
    return jnp.exp(-jnp.square(jnp.asarray(steps, sigma.dtype) / sigma) / 2)


@functools.partial(jax.jit, static_argnames="grid")
def _online(
    data: jax.Array, start: jax.Array, schedule: jax.Array, key: jax.Array, grid: Grid
) -> jax.Array:
    """The online map; ``schedule`` has a learning rate and a sigma for every step."""
    order = _order(key, len(data), len(schedule))
    ones, apart = jnp.ones(data.shape[1], data.dtype), [jnp.asarray(x) for x in separations(grid)]

    def step(weights, now):
        index, (rate, sigma) = now
        towards = data[index][None] - weights
        # The squares' sum as a product, which a CPU takes a third of the time for.
        best = jnp.unravel_index(_matmul(jnp.square(towards), ones).argmin(), grid.shape)
        etas = [_eta(x[place], sigma) for x, place in zip(apart, best, strict=True)]
        eta = functools.reduce(lambda x, y: (x[:, None] * y[None]).reshape(-1), etas)
        return weights + (rate * eta)[:, None] * towards, None

    return lax.scan(step, start, (order, schedule))[0]


@functools.partial(jax.jit, static_argnames="grid")
def _batch(data: jax.Array, start: jax.Array, schedule: jax.Array, grid: Grid) -> jax.Array:
    """The batch map; ``schedule`` has a learning rate and a sigma for every step."""
    units, apart = np.arange(grid.units, dtype=np.int32), separations(grid)
    middle = data.mean(0, keepdims=True)
    silent = float(jnp.finfo(data.dtype).tiny) * 2**30  # Less may have been rounded to zero on the way.

    def step(weights, now):
        rate, sigma = now

        def totals(x, fresh):
            mine = (_best(x, weights, middle)[:, None] == units[None]) & fresh
            ones = jnp.ones_like(x[:, :1])
            return _matmul(mine.astype(x.dtype).T, jnp.concatenate([x - middle, ones], 1))

        heard = _sum(data, grid.units, totals).reshape(*grid.shape, -1)
        for axis, steps in enumerate(apart):
            spread = jnp.tensordot(_eta(steps, sigma), heard, (1, axis), precision=lax.Precision.HIGHEST)
            heard = jnp.moveaxis(spread, 0, axis)
        sums, counts = jnp.split(heard.reshape(grid.units, -1), [data.shape[1]], axis=1)
        means = middle + sums / jnp.maximum(counts, silent)
        return jnp.where(counts > silent, (1 - rate) * weights + rate * means, weights), None

    return lax.scan(step, start, schedule)[0]


def _best(data: jax.Array, weights: jax.Array, middle: jax.Array) -> jax.Array:
    """Every sample's best-matching unit; ``middle`` is taken away for the rounding's sake."""
    w, x = weights - middle, data - middle
    return ((w * w).sum(1)[None] - 2 * _matmul(x, w.T)).argmin(1).astype(jnp.int32)


def _chunk(data: jax.Array, width: int) -> int:
    """How many samples to take at once, with ``width`` numbers for each."""
    return min(len(data), max(1, _SCORES // max(width, data.shape[1])))


def _sum(data: jax.Array, width: int, f: Callable[[jax.Array, jax.Array], jax.Array]) -> jax.Array:
    """The sum of ``f(samples, fresh)`` over chunks; the last one overlaps, and ``fresh`` says who is new."""
    rows = _chunk(data, width)

    def chunk(number):
        first = jnp.minimum(number * rows, len(data) - rows)
        fresh = first + jnp.arange(rows, dtype=first.dtype) >= number * rows
        return f(lax.dynamic_slice_in_dim(data, first, rows), fresh[:, None])

    total, chunks = chunk(jnp.int32(0)), -(-len(data) // rows)
    if chunks == 1:
        return total
    return lax.fori_loop(1, chunks, lambda number, total: total + chunk(jnp.int32(number)), total)


@jax.jit
def _assign(data: jax.Array, weights: jax.Array) -> jax.Array:
    rows, middle = _chunk(data, len(weights)), weights.mean(0, keepdims=True)
    return lax.map(lambda x: _best(x[None], weights, middle)[0], data, batch_size=rows)


@functools.partial(jax.jit, static_argnames="grid")
def _u_matrix(weights: jax.Array, grid: Grid) -> jax.Array:
    first, second = neighbours(grid).T
    ends, counts = np.concatenate([first, second]), np.zeros(grid.units)
    np.add.at(counts, ends, 1)
    steps = jnp.sqrt(jnp.square(weights[first] - weights[second]).sum(1))
    total = jnp.zeros(grid.units, weights.dtype).at[ends].add(jnp.concatenate([steps, steps]))
    return total / jnp.asarray(np.maximum(counts, 1), weights.dtype)
