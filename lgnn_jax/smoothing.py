"""Smoothing one array along its grid: the neighbourhood function, in the form that suits the backend.

Never a convolution over a transposed copy. Three forms, equal to rounding:

- *flat*, on a single CPU device, for units on the last axis: the array as one line of memory, in which a
  neighbour on the grid is a constant step away. One pass that XLA vectorises and fuses with the update that
  follows; steps that would leave the grid are multiplied by zero.
- *shifted*, everywhere else: per grid dimension a sum of slices of an array padded by concatenation. It
  stays within a filter's weights, so arrays sharded on another axis need no communication.
- *dense*, for the heat kernel: per grid dimension a product with its matrix, at ``HIGHEST`` precision.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from lgnn_jax.grid import Grid
from lgnn_jax.neighbourhood import HeatKernel, Window, check_sigma, heat_matrix, sources, taps

try:
    from jax.sharding import reshard
except ImportError:  # jax before 0.7
    from jax.experimental.shard import reshard  # type: ignore[import-not-found, no-redef]

# Above this many taps in all (7x7, say) the flat form makes a pass per grid dimension.
_MOST_TAPS_AT_ONCE = 27

# By flat offset, the coefficient of every unit.
_Stencil = dict[int, jax.Array]


def smooth(
    x: jax.typing.ArrayLike,
    grid: Grid,
    sigma: jax.typing.ArrayLike,
    window: Window | HeatKernel = Window(),
) -> jax.Array:
    """Low-pass filters one array along its grid: ``y[i] = sum_j eta[i, j] x[j]``.

    ``eta`` is the neighbourhood function: a Gaussian of width ``sigma`` cut to the taps of a
    :class:`Window` and, if the window is normalised, divided by its sum; or a :class:`HeatKernel`. With
    edge padding and three taps it is ``kron(S_m, S_n)``, ``S = tridiag(a, b, a)`` with ``a`` added at both
    corners, ``e = exp(-1 / (2 sigma^2))``, ``b = 1 / (1 + 2 e)``, ``a = e b``.

    ==========================  =========  ===============  ============  =================
    ``window``                  symmetric  keeps constants  keeps totals  positive definite
    ==========================  =========  ===============  ============  =================
    ``Window(3, "edge")``       yes        yes              yes           to largest_sigma
    ``Window(5, "edge")``, 7    no         yes              no            to largest_sigma
    ``Window(any, "wrap")``     yes        yes              yes           to largest_sigma
    ``normalise=False``         as above   no               no            to largest_sigma
    ``HeatKernel(any)``         yes        yes              yes           always
    ==========================  =========  ===============  ============  =================

    Arithmetic is in float32 or better, and the result is rounded to the dtype of ``x`` once, at the end: for
    values around 1 its error against float64 is below 4e-15 in float64, 1e-6 in float32, 2e-3 in float16 and
    1.6e-2 in bfloat16, on any backend, whatever its default precision. Compiled once per shape,
    differentiable in ``x`` and ``sigma`` (finite at 0), and ``vmap``-able. One CPU device and several round
    differently, within those errors.

    A value that is not finite, or so large that a difference overflows, spreads to its neighbours within the
    window; on a single CPU device also to weights that are as near in memory (the next input channel's), and
    with a heat kernel to the whole grid. Where gradients may not be finite put the chain within
    ``optax.apply_if_finite``, or ``optax.zero_nans``, which leaves infinities, before it.

    Args:
      x: Floating array ``(..., units, ...)`` with the units on ``grid.axis``.
      grid: Shape and axis of the grid.
      sigma: Width in grid steps, at least 0, where 0 is the identity; a Python number or a (possibly
        traced) scalar array.
      window: The kind, size and boundary of the neighbourhood.

    Returns:
      An array like ``x``, of its shape and dtype.

    Raises:
      TypeError: If ``x`` is not floating.
      ValueError: If ``x`` does not have the grid's units on its axis, or a Python or NumPy ``sigma`` is
        negative, not finite or too large for the window (:func:`largest_sigma`).

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import Grid, smooth
      >>> impulse = jnp.zeros(9).at[4].set(1.0)
      >>> smooth(impulse, Grid((3, 3)), 0.5).reshape(3, 3).round(4)
      Array([[0.0113, 0.0838, 0.0113],
             [0.0838, 0.6193, 0.0838],
             [0.0113, 0.0838, 0.0113]], dtype=float32)

    Source:
      Tan, Khan, Guan, "Locality Guided Neural Networks for Explainable Artificial Intelligence",
      IJCNN 2020, Algorithm 1.
    """
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"smooth needs a floating array, got {x.dtype}. Cast it, or leave it out.")
    grid.check(x.shape)
    check_sigma(sigma, window)
    return _smooth(x, sigma, grid, window)


@functools.partial(jax.jit, static_argnames=("grid", "window"))
def _smooth(
    x: jax.Array, sigma: jax.typing.ArrayLike, grid: Grid, window: Window | HeatKernel
) -> jax.Array:
    dtype = x.dtype if jnp.finfo(x.dtype).bits >= 32 else jnp.dtype(jnp.float32)
    axis = grid.axis % x.ndim
    spec = jax.typeof(x).sharding.spec
    if spec[axis] is not None:  # Explicitly sharded units: gathered, smoothed and sharded again.
        whole = PartitionSpec(*spec[:axis], None, *spec[axis + 1 :])
        return reshard(_smooth(reshard(x, whole), sigma, grid, window), spec)
    if isinstance(window, HeatKernel):
        return _dense(x, jnp.asarray(sigma, dtype), grid, window)
    shifted = functools.partial(_shifted, grid=grid, window=window)
    weights = taps(sigma, window, dtype)
    # Flattened, an array that is sharded, explicitly or by a compiler that sees several devices, would be
    # gathered on every device.
    sharded = jax.device_count() > 1 or any(entry is not None for entry in spec)
    if x.size == 0 or axis != x.ndim - 1 or sharded:
        return shifted(x, weights)
    flat = functools.partial(_flat, grid=grid, window=window)
    return lax.platform_dependent(x, weights, cpu=flat, default=shifted)


def _laid_out(x: jax.Array, grid: Grid) -> tuple[jax.Array, range]:
    """``x`` with the units' axis split into the grid's, and those axes; the other axes stay as they are."""
    axis = grid.axis % x.ndim
    split = x.reshape(x.shape[:axis] + grid.shape + x.shape[axis + 1 :])
    return split, range(axis, axis + len(grid.shape))


def _total(parts: Sequence[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, parts)


def _dense(x: jax.Array, sigma: jax.Array, grid: Grid, kernel: HeatKernel) -> jax.Array:
    """Per grid dimension, a product with the heat kernel's matrix."""
    y, axes = _laid_out(x.astype(sigma.dtype), grid)
    for axis, length in zip(axes, grid.shape, strict=True):
        operator = heat_matrix(length, sigma, kernel, sigma.dtype)
        contracted = lax.dot_general(
            y, operator, (((axis,), (1,)), ((), ())), precision=lax.Precision.HIGHEST
        )
        y = jnp.moveaxis(contracted, -1, axis)
    return y.reshape(x.shape).astype(x.dtype)


def _shifted(x: jax.Array, weights: jax.Array, *, grid: Grid, window: Window) -> jax.Array:
    """Per grid dimension, a sum of shifted slices of an array padded by concatenation."""
    y, axes = _laid_out(x.astype(weights.dtype), grid)
    for axis, length in zip(axes, grid.shape, strict=True):
        if length == 1 and window.normalise:
            continue  # A single unit, repeated by the border: the taps sum to one.
        border, radius = sources(length, window), window.radius
        unit = functools.partial(lax.slice_in_dim, y, axis=axis)
        before = [unit(int(i), int(i) + 1) for i in border[0, :radius]]
        after = [unit(int(i), int(i) + 1) for i in border[-1, radius + 1 :]]
        padded = jnp.concatenate([*before, y, *after], axis=axis)
        y = _total(
            [weights[k] * lax.slice_in_dim(padded, k, k + length, axis=axis) for k in range(window.size)]
        )
    return y.reshape(x.shape).astype(x.dtype)


def _flat(x: jax.Array, weights: jax.Array, *, grid: Grid, window: Window) -> jax.Array:
    """All grid dimensions at once, as sums over constant steps in memory; the units are on the last axis."""
    stencils = [
        _stencil(grid, dimension, weights, window)
        for dimension, length in enumerate(grid.shape)
        if length > 1 or not window.normalise
    ]
    total = None if window.normalise else weights.sum()
    at_once = math.prod(len(stencil) + 1 for stencil in stencils) <= _MOST_TAPS_AT_ONCE
    y = x
    for group in [stencils] if at_once else [[stencil] for stencil in stencils]:
        y = _pass(y, group, total, weights.dtype)
    return y.astype(x.dtype)


def _stencil(grid: Grid, dimension: int, weights: jax.Array, window: Window) -> _Stencil:
    """What every unit reads of others along one grid dimension; nought where that would leave the grid."""
    length, stride = grid.shape[dimension], math.prod(grid.shape[dimension + 1 :])
    stencil = {}
    for step, selection in _reads(length, window).items():
        each = np.repeat(selection, stride, axis=0)
        everywhere = np.tile(each, (grid.units // len(each), 1))
        # As a product, whose result XLA keeps in memory; a sum it would work out anew for every weight.
        stencil[step * stride] = jnp.matmul(
            jnp.asarray(everywhere, weights.dtype), weights, precision=lax.Precision.HIGHEST
        )
    return stencil


@functools.lru_cache(maxsize=256)
def _reads(length: int, window: Window) -> dict[int, np.ndarray]:
    """By steps along a dimension, which taps of each unit read the unit that far away, ``(length, size)``."""
    source = sources(length, window)
    steps = source - np.arange(length)[:, None]
    return {int(step): steps == step for step in np.unique(steps) if step}


def _pass(
    x: jax.Array, stencils: Sequence[_Stencil], total: jax.Array | None, dtype: jax.typing.DTypeLike
) -> jax.Array:
    """``x`` (..., units) with the stencils applied one within the other, in a single loop over memory."""
    if not stencils:
        return x
    line, units = x.reshape(-1), x.shape[-1]
    reach = sum(max(map(abs, stencil), default=0) for stencil in stencils)
    outside = jnp.zeros(reach, x.dtype)

    def box(source: jax.Array, start: int, shape: tuple[int, ...]) -> jax.Array:
        """The result for the weights from ``start`` of a line on, all of whose steps stay on the line."""
        size = math.prod(shape)

        def stepped(offset: int) -> jax.Array:
            first = start + offset
            return lax.slice(source, (first,), (first + size,)).reshape(shape).astype(dtype)

        return _nested(stepped, stencils, total)

    if line.size == units:
        return box(jnp.concatenate([outside, line, outside]), reach, x.shape)
    first_row = box(jnp.concatenate([outside, line[: units + reach]]), reach, (units,))
    last_row = box(jnp.concatenate([line[line.size - units - reach :], outside]), reach, (units,))

    def pieces(start: int, shape: tuple[int, ...], at_start: bool, at_end: bool) -> jax.Array:
        """The same for part of ``x`` that may hold its first or its last row, whose steps leave the line.

        Cut along whole axes, never across: XLA then takes the choice of the piece out of the inner loop.
        """
        if not (at_start or at_end):
            return box(line, start, shape)
        if len(shape) == 1:
            return first_row if at_start else last_row
        count, inner = shape[0], shape[1:]
        size = math.prod(inner)
        if count == 1:
            return pieces(start, inner, at_start, at_end)[None]
        parts = []
        if at_start:
            parts.append(pieces(start, inner, True, False)[None])
        if count > at_start + at_end:
            middle = (count - at_start - at_end, *inner)
            parts.append(box(line, start + at_start * size, middle))
        if at_end:
            parts.append(pieces(start + (count - 1) * size, inner, False, True)[None])
        return jnp.concatenate(parts)

    return pieces(0, x.shape, True, True)


def _nested(
    stepped: Callable[[int], jax.Array],
    stencils: Sequence[_Stencil],
    total: jax.Array | None,
    offset: int = 0,
) -> jax.Array:
    """The stencils one within the other at an offset: ``total * y + sum_s c_s (y_s - y)`` for each.

    As differences, because a unit's coefficients add up to ``total`` (None for one): that saves loading one
    of them, and leaves constants exactly as they are.
    """
    if not stencils:
        return stepped(offset)
    outer, *inner = stencils
    centre = _nested(stepped, inner, total, offset)

    def difference(step: int, coefficient: jax.Array) -> jax.Array:
        there = _nested(stepped, inner, total, offset + step)
        return lax.broadcast_in_dim(coefficient, there.shape, (there.ndim - 1,)) * (there - centre)

    differences = [difference(step, coefficient) for step, coefficient in outer.items()]
    return _total([centre if total is None else total * centre, *differences])
