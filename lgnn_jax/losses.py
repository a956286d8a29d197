"""Topography through the loss: terms that others add to it, as pure functions of one layer.

Where :func:`lgnn_jax.lgnn` changes gradients, these are added to what is minimised, each times a strength. All
are differentiable, work under ``jit``, and take any number of units on any grid, a plane or a torus.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lgnn_jax._dtypes import at_least_float32
from lgnn_jax._grid import Grid, check_axis, check_grid, distances
from lgnn_jax._tree import unboxed

__all__ = ["response_loss", "topoloss", "weight_similarity_loss"]

_matmul = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
_SPREAD = 1e-6  # A std of correlations below which their differences are rounding.


def topoloss(
    kernel: Any, grid: Grid, *, factor: float | Sequence[float] = 3.0, axis: int = -1
) -> jax.Array:
    """TopoLoss of TopoNets: ``1 - mean_i cos(w_i, (P W)_i)``, how far filters are from their blurred sheet.

    ``W`` has the filters as rows, laid out on the grid; ``P`` samples the sheet linearly (on a grid of two
    dimensions bilinearly) down by ``factor`` and up again. Along a dimension of ``n`` units, the coarse sheet
    has ``m = floor(n / factor)``, and the value of its cell ``j`` is taken at ``factor * (j + 1/2) - 1/2``, without
    smoothing first. Upwards, unit ``i`` reads at ``(i + 1/2) * m / n - 1/2``. Beyond the border lies the
    outermost unit. A dimension shorter than the factor is sampled down to its middle, so that prime widths,
    which lie in a column, work.

    On a torus ``P`` reads across the border, and coarse cells are ``n / m`` units apart, so that it closes.

    On a plane of two dimensions this is ``topoloss`` 0.0.2 of PyPI in value and gradient. That package lays
    ``units`` filters out with the short side first, 512 as ``Grid((16, 32))``; there, a factor longer than a
    side is an error, prime widths with it, and a filter of zeros has gradients of 1e8 / units.

    Args:
      kernel: Weights of any rank from 2, in a box of Flax's or not. Computed in float32, or in float64 if that
        is what they are.
      grid: Where the filters lie.
      factor: How many times coarser the sheet becomes, from 1, which leaves it as it is, to the grid's longest
        side; one number, or one for every dimension of the grid. Not traced.
      axis: The axis that counts the filters: -1 for HWIO, 0 for OIHW.

    Returns:
      A scalar in [0, 2]. A filter of zeros counts as a cosine of 0; only its part in the blurred sheet of
      others gives it a gradient.

    Raises:
      ValueError: If the kernel has fewer than two dimensions, the grid does not hold its filters, or the
        factor is out of range.
      TypeError: If ``grid`` is not a ``Grid``.

    Example:
      >>> import jax
      >>> from lgnn_jax import Grid, losses
      >>> kernel = jax.random.normal(jax.random.key(0), (3, 3, 16, 64))
      >>> value, gradient = jax.value_and_grad(losses.topoloss)(kernel, Grid((8, 8)))
      >>> 0.8 < float(value) < 1.1, gradient.shape
      (True, (3, 3, 16, 64))

    Source:
      Deb, Deb, Murty, "TopoNets: High performing vision and language models with brain-like topography",
      ICLR 2025; ``laplacian_pyramid_loss`` of the package ``topoloss``.
    """
    kernel, axis = _checked(kernel, grid, axis)
    return _topoloss(kernel, grid, _factors(factor, grid), axis)


def weight_similarity_loss(kernel: Any, grid: Grid, *, axis: int = -1) -> jax.Array:
    """One minus the mean cosine of filters that are neighbours: ``1 - mean_ij cos(w_i, w_j)``.

    The pairs are those of :func:`lgnn_jax.neighbours`: the four nearest in a plane.

    Args:
      kernel: Weights of any rank from 2, in a box of Flax's or not. Computed in float32, or in float64 if that
        is what they are.
      grid: Where the filters lie; on a torus units at opposite borders are neighbours.
      axis: The axis that counts the filters: -1 for HWIO, 0 for OIHW.

    Returns:
      A scalar in [0, 2]. A filter of zeros counts as a cosine of 0 and has no gradient.

    Raises:
      ValueError: If the kernel has fewer than two dimensions, or the grid does not hold its filters or is of
        a single unit.
      TypeError: If ``grid`` is not a ``Grid``.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import Grid, losses
      >>> kernel = jnp.array([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]])  # Three filters of two weights.
      >>> float(losses.weight_similarity_loss(kernel, Grid((3,))))
      0.5

    Source:
      The weight similarity that Truong and Hasson compare, "Beyond topography: Topographic regularization
      improves robustness and reshapes representations in convolutional neural networks", arXiv 2508.00043.
    """
    kernel, axis = _checked(kernel, grid, axis)
    if grid.units == 1:
        raise ValueError(f"A grid of {grid.size} has no neighbours. Give one of at least 2 units.")
    return _weight_similarity_loss(kernel, grid, axis)


def response_loss(
    activations: Any, grid: Grid, *, key: jax.Array | None = None, most: int | None = 500
) -> jax.Array:
    """A loss like TDANN's: ``(1 - pearson(corr(a_i, a_j), 1 / (1 + d_ij))) / 2`` over pairs of units.

    ``corr`` is Pearson's correlation of two units' responses, ``d`` their distance on the grid. Positions
    count as samples: a unit has as many responses as there are images times positions. In TDANN a filter at
    every position is a unit of its own, at a place of its own on the sheet, and a batch compares those of one
    neighbourhood of at most 500; here a unit is a filter, and a batch compares all, or ``most`` drawn at random.

    Args:
      activations: ``(images, units)``, or with positions between, such as ``(images, height, width, units)``.
        Computed in float32, or in float64 if that is what they are.
      grid: Where the units lie, a plane or a torus, on which distances go the short way round.
      key: A PRNG key to draw units with, another one for every batch; not needed for up to ``most``.
      most: How many units to compare, at least 2; None for all.

    Returns:
      A scalar in [0, 1], 0.5 where responses know nothing of the grid. A unit whose responses differ by no
      more than rounding has no correlations: it is left out and has no gradient. Where fewer than two pairs are
      left, or all correlations or all distances are the same, the loss is 0.5 and has no gradient.

    Raises:
      ValueError: If the activations have fewer than two dimensions or are a single sample, the grid does not
        hold their units, ``most`` is out of range, or units are to be drawn without a key.
      TypeError: If ``grid`` is not a ``Grid``.

    Example:
      >>> import jax
      >>> from lgnn_jax import Grid, losses
      >>> responses = jax.random.normal(jax.random.key(0), (200, 4, 4, 64))
      >>> 0.45 < float(losses.response_loss(responses, Grid((8, 8)))) < 0.55
      True

    Source:
      Margalit et al., "A unifying framework for functional organization in early and higher ventral visual
      cortex", Neuron 2024; ``spatial_correlation_loss`` of its code.
    """
    x = at_least_float32(jnp.asarray(unboxed(activations)))
    if x.ndim < 2:
        raise ValueError(
            f"activations must be (images, units) or (images, height, width, units), got shape {x.shape}."
        )
    check_grid(grid, x.shape[-1], "activations")
    most = _most(most, grid)
    x = x.reshape(x.size // grid.units, grid.units)
    if len(x) < 2:
        raise ValueError(
            f"activations must be at least 2 samples, got shape {jnp.shape(activations)}. Give more images."
        )
    if most == grid.units:
        return _response_loss(x, None, grid, most)
    if key is None:
        raise ValueError(
            f"{most} of {grid.units} units are drawn, which needs a key, got None. Give for example "
            "key=jax.random.key(0), another one for every batch, or most=None."
        )
    return _response_loss(x, key, grid, most)


@functools.partial(jax.jit, static_argnames=("grid", "factors", "axis"))
def _topoloss(kernel: jax.Array, grid: Grid, factors: tuple[float, ...], axis: int) -> jax.Array:
    sheet = _sheet(kernel, grid, axis)
    blurred = sheet
    for dimension, (size, factor) in enumerate(zip(grid.shape, factors, strict=True)):
        sample = jnp.asarray(_down_and_up(size, factor, grid.wrap), sheet.dtype)
        along = jnp.tensordot(sample, blurred, (1, dimension), precision=lax.Precision.HIGHEST)
        blurred = jnp.moveaxis(along, 0, dimension)
    return 1 - (_directions(sheet) * _directions(blurred)).sum(-1).mean()


@functools.partial(jax.jit, static_argnames=("grid", "axis"))
def _weight_similarity_loss(kernel: jax.Array, grid: Grid, axis: int) -> jax.Array:
    directions = _directions(_sheet(kernel, grid, axis))
    total, pairs = jnp.zeros((), directions.dtype), 0
    for dimension, size in enumerate(grid.shape):
        if grid.wrap and size > 2:  # Of two, the neighbours on either side are the same.
            first, second = directions, jnp.roll(directions, -1, dimension)
        else:
            first = lax.slice_in_dim(directions, 0, size - 1, axis=dimension)
            second = lax.slice_in_dim(directions, 1, size, axis=dimension)
        total += (first * second).sum()
        pairs += math.prod(first.shape[:-1])
    return 1 - total / pairs


@functools.partial(jax.jit, static_argnames=("grid", "most"))
def _response_loss(x: jax.Array, key: jax.Array | None, grid: Grid, most: int) -> jax.Array:
    """Of ``(samples, units)``, of which ``most`` are drawn if there is a key."""
    near = jnp.asarray(1 / (1 + distances(grid)), x.dtype)
    if key is not None:
        drawn = jax.random.choice(key, grid.units, (most,), replace=False)
        x, near = x[:, drawn], near[drawn][:, drawn]
    shifted = x - x[:1]  # A constant unit becomes exactly zero, whatever the rounding.
    centred = shifted - shifted.mean(0, keepdims=True)
    rounding = 8 * float(jnp.finfo(x.dtype).eps) * jnp.abs(x).max(0)
    alive = ~(jnp.abs(lax.stop_gradient(centred)).max(0) <= lax.stop_gradient(rounding))  # NaN stays NaN.
    directions = _directions(jnp.where(alive[None], centred, 0), 0)
    counted = jnp.triu(alive[:, None] & alive[None], 1)
    return (1 - _pearson(_matmul(directions.T, directions), near, counted)) / 2


def _checked(kernel: Any, grid: Grid, axis: int) -> tuple[jax.Array, int]:
    """A kernel without its box, and its axis counted from the first."""
    kernel = jnp.asarray(unboxed(kernel))
    axis = check_axis(grid, kernel.shape, axis, "kernel")
    if kernel.ndim < 2:
        raise ValueError(
            f"kernel must have filters of weights, such as (height, width, in, filters), got shape "
            f"{kernel.shape}. A bias has none."
        )
    return kernel, axis


def _sheet(kernel: jax.Array, grid: Grid, axis: int) -> jax.Array:
    """The filters of a kernel on their grid, ``(*grid.shape, weights of a filter)``, at least float32."""
    filters = jnp.moveaxis(kernel, axis, 0)
    return at_least_float32(filters).reshape(*grid.shape, kernel.size // grid.units)


def _directions(x: jax.Array, axis: int = -1) -> jax.Array:
    """Vectors along an axis as they are at length 1; those of zeros stay, and nothing flows back through them."""
    largest = lax.stop_gradient(jnp.abs(x).max(axis, keepdims=True, initial=0))
    alive = ~(largest <= float(jnp.finfo(x.dtype).tiny))  # Of NaN comes NaN.
    scaled = x / jnp.where(alive, largest, 1)  # Tiny ones would square to zero.
    length = jnp.sqrt(jnp.where(alive, jnp.square(scaled).sum(axis, keepdims=True), 1))
    return jnp.where(alive, scaled / length, 0)


def _factors(factor: Any, grid: Grid) -> tuple[float, ...]:
    """A factor for every dimension of the grid."""
    longest, dimensions = max(grid.shape), len(grid.shape)
    try:
        found = [
            float(each) for each in (factor if isinstance(factor, Sequence) else [factor] * dimensions)
        ]
    except (TypeError, ValueError):
        found = []
    if len(found) != dimensions or not all(1 <= each <= longest for each in found):
        raise ValueError(
            f"factor must be a number from 1 to {longest}, the longest side of a grid of {grid.size}, or "
            f"{dimensions} of them, got {factor!r}. Write for example factor={min(3, longest)}."
        )
    return tuple(min(each, size) for each, size in zip(found, grid.shape, strict=True))


@functools.lru_cache(maxsize=256)
def _down_and_up(size: int, factor: float, wrap: bool) -> np.ndarray:
    """Linear sampling of ``size`` units down by ``factor`` and up again, a float64 matrix ``(size, size)``."""
    coarse = max(1, int(size * (1 / factor)))  # As PyTorch rounds.
    down = _samples(size, coarse, size / coarse if wrap else factor, wrap)
    return _samples(coarse, size, coarse / size, wrap) @ down


def _samples(size: int, count: int, step: float, wrap: bool) -> np.ndarray:
    """Linear interpolation of ``size`` values at ``count`` places ``step`` apart, ``(count, size)``.

    Example:
      >>> from lgnn_jax.losses import _samples
      >>> _samples(4, 2, 2.0, wrap=False).tolist()
      [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]
    """
    places = step * (np.arange(count) + 0.5) - 0.5
    if not wrap:
        places = places.clip(0, size - 1)
    before = np.floor(places).astype(int)
    share, matrix = places - before, np.zeros((count, size))
    for offset, weight in ((0, 1 - share), (1, share)):
        of = (before + offset) % size if wrap else np.minimum(before + offset, size - 1)
        np.add.at(matrix, (np.arange(count), of), weight)
    return matrix


def _most(most: Any, grid: Grid) -> int:
    """How many units to compare."""
    if most is None:
        return grid.units
    if isinstance(most, bool) or not hasattr(most, "__index__") or operator.index(most) < 2:
        raise ValueError(f"most must be an integer of at least 2 units, got {most!r}. None is all.")
    return min(operator.index(most), grid.units)


def _pearson(x: jax.Array, y: jax.Array, counted: jax.Array) -> jax.Array:
    """Pearson's correlation of two matrices over the entries that count; 0 where there is none."""
    count = jnp.maximum(counted.sum(), 1).astype(x.dtype)

    def centred(values):
        mean = jnp.where(counted, values, 0).sum() / count
        return jnp.where(counted, values - mean, 0)

    x, y = centred(x), centred(y)
    variances = [jnp.square(each).sum() / count for each in (x, y)]
    varied = ~((variances[0] <= _SPREAD**2) | (variances[1] <= _SPREAD**2))
    product = jnp.where(varied, variances[0] * variances[1], 1)
    return jnp.where(varied, (x * y).sum() / count / jnp.sqrt(product), 0)
