"""Smoothing one array along its grid: the neighbourhood function, in the form that suits the backend.

Never a convolution over a transposed copy. Four forms, equal to rounding, chosen by the backend that the program
is compiled for:

- *shifted*, on accelerators: a sum of the array shifted along the units' axis, :mod:`lgnn_jax._stencils`.
- *flat*, on a single CPU device, for units on the last axis: the same in memory, :mod:`lgnn_jax._flat_cpu`.
- *padded*, on CPUs elsewhere: the same along the units' axis, with room at both ends, :mod:`lgnn_jax._padded_cpu`.
- *dense*, for the heat kernel: per grid dimension a product with its matrix, at ``HIGHEST`` precision.

But for the second, all stay within a filter's weights, so arrays sharded on another axis need no communication.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import with_layout_constraint
from jax.sharding import PartitionSpec

from lgnn_jax._flat_cpu import flat
from lgnn_jax._grid import Grid, check_axis
from lgnn_jax._neighbourhood import HeatKernel, Window, check_sigma, heat_matrix, taps
from lgnn_jax._padded_cpu import padded
from lgnn_jax._stencils import nested, passes
from lgnn_jax._tree import unboxed

try:
    from jax.experimental.layout import DeviceLocalLayout as MemoryLayout  # type: ignore[attr-defined]
except ImportError:  # jax 0.7 and newer
    from jax.experimental.layout import Layout as MemoryLayout
try:
    from jax.sharding import reshard
except ImportError:  # jax before 0.7
    from jax.experimental.shard import reshard  # type: ignore[import-not-found, no-redef]


def smooth(
    x: jax.typing.ArrayLike,
    grid: Grid,
    sigma: jax.typing.ArrayLike,
    window: Window | HeatKernel = Window(),
    *,
    axis: int = -1,
) -> jax.Array:
    """Low-pass filters one array along its grid: ``y[i] = sum_j eta[i, j] x[j]``.

    ``eta`` is the neighbourhood function: a Gaussian of width ``sigma`` cut to the taps of a
    :class:`Window` and, if the window is normalised, divided by its sum; or a :class:`HeatKernel`. With
    three taps on a plane it is ``kron(S_m, S_n)``, ``S = tridiag(a, b, a)`` with ``a`` added at both
    corners, ``e = exp(-1 / (2 sigma^2))``, ``b = 1 / (1 + 2 e)``, ``a = e b``.

    ====================  ===========  =========  ===============  ============  =================
    ``window``            grid         symmetric  keeps constants  keeps totals  positive definite
    ====================  ===========  =========  ===============  ============  =================
    ``Window(3)``         plane        yes        yes              yes           to largest_sigma
    ``Window(5)``, 7      plane        no         yes              no            to largest_sigma
    ``Window(any)``       torus        yes        yes              yes           to largest_sigma
    ``normalise=False``   any          as above   no               no            to largest_sigma
    ``HeatKernel()``      any          yes        yes              yes           always
    ====================  ===========  =========  ===============  ============  =================

    Arithmetic is in float32 or better, and the result is rounded to the dtype of ``x`` once, at the end: for
    values around 1 its error against float64 is below 4e-15 in float64, 1e-6 in float32, 2e-3 in float16 and
    1.6e-2 in bfloat16, on any backend, whatever its default precision. Compiled once per shape,
    differentiable in ``x`` and ``sigma`` (finite at 0), and ``vmap``-able. One CPU device and several round
    differently, within those errors.

    A value that is not finite, or so large that a difference overflows, spreads to its neighbours within the
    window, to units that are as near along the axis (the next row's first) and, on a single CPU device with
    the units on the last axis, to weights that are as near in memory (the next input channel's), with 7 taps
    on a plane along whole rows of the grid; with a heat kernel to the whole grid. Where gradients may not be
    finite put the chain within ``optax.apply_if_finite``, or ``optax.zero_nans``, which leaves infinities,
    before it.

    Args:
      x: Floating array ``(..., units, ...)`` with the units on ``axis``; a box of Flax's around one is opened.
      grid: The grid; a plane repeats the units at its border, a torus (``wrap=True``) has none.
      sigma: Width in grid steps, at least 0, where 0 is the identity; a Python number or a (possibly
        traced) scalar array.
      window: The kind and size of the neighbourhood.
      axis: The axis of ``x`` that holds the ``grid.units`` units: -1 for the output channels of a Flax or
        Haiku kernel (HWIO), 0 for those of an Equinox or PyTorch kernel (OIHW).

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
    x = jnp.asarray(unboxed(x))
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"smooth needs a floating array, got {x.dtype}. Cast it, or leave it out.")
    axis = check_axis(grid, x.shape, axis)
    check_sigma(sigma, window)
    return _smooth(x, sigma, grid, window, axis)


@functools.partial(jax.jit, static_argnames=("grid", "window", "axis"))
def _smooth(
    x: jax.Array, sigma: jax.typing.ArrayLike, grid: Grid, window: Window | HeatKernel, axis: int
) -> jax.Array:
    dtype = x.dtype if jnp.finfo(x.dtype).bits >= 32 else jnp.dtype(jnp.float32)
    spec = jax.typeof(x).sharding.spec
    if spec[axis] is not None:  # Explicitly sharded units: gathered, smoothed and sharded again.
        whole = PartitionSpec(*spec[:axis], None, *spec[axis + 1 :])
        return reshard(_smooth(reshard(x, whole), sigma, grid, window, axis), spec)
    if isinstance(window, HeatKernel):
        return _dense(x, jnp.asarray(sigma, dtype), grid, axis)
    weights = taps(sigma, window, dtype)
    # Explicitly sharded axes cannot be merged; of those that a compiler shards, the first one may be sharded.
    merged = not any(entry is not None for entry in spec)
    on_cpu = functools.partial(padded, grid=grid, window=window, axis=axis, merged=merged)
    # Flattened, an array that is sharded, explicitly or by a compiler that sees several devices, would be
    # gathered on every device.
    sharded = jax.device_count() > 1 or any(entry is not None for entry in spec)
    if x.size and axis == x.ndim - 1 and not sharded:
        on_cpu = functools.partial(flat, grid=grid, window=window)
    shifted = functools.partial(_shifted, grid=grid, window=window, axis=axis)
    return lax.platform_dependent(x, weights, cpu=on_cpu, default=shifted)


def _laid_out(x: jax.Array, grid: Grid, axis: int) -> tuple[jax.Array, range]:
    """``x`` with the units' axis split into the grid's, and those axes; the other axes stay as they are."""
    split = x.reshape(x.shape[:axis] + grid.shape + x.shape[axis + 1 :])
    return split, range(axis, axis + len(grid.shape))


def _dense(x: jax.Array, sigma: jax.Array, grid: Grid, axis: int) -> jax.Array:
    """Per grid dimension, a product with the heat kernel's matrix."""
    y, axes = _laid_out(x.astype(sigma.dtype), grid, axis)
    for line, length in zip(axes, grid.shape, strict=True):
        operator = heat_matrix(length, sigma, grid.wrap, sigma.dtype)
        contracted = lax.dot_general(
            y, operator, (((line,), (1,)), ((), ())), precision=lax.Precision.HIGHEST
        )
        y = jnp.moveaxis(contracted, -1, line)
    return y.reshape(x.shape).astype(x.dtype)


@functools.cache
def _layouts_are_mapped() -> bool:
    """Whether this JAX can map a layout constraint; where it cannot, accelerators may transpose."""
    pinned = jax.vmap(lambda x: with_layout_constraint(x, MemoryLayout(())))
    try:
        jax.eval_shape(pinned, jax.ShapeDtypeStruct((1,), jnp.float32))
    except NotImplementedError:
        return False
    return True


def _shifted(x: jax.Array, weights: jax.Array, *, grid: Grid, window: Window, axis: int) -> jax.Array:
    """Sums of ``x`` shifted along the units' axis, which is never split: one fused loop a pass."""
    y = x
    if axis == x.ndim - 1 and _layouts_are_mapped():
        # In any other layout a compiler would have to transpose what arrives, or what the update then reads. Of
        # other axes it knows better: filters that come first are last in a TPU's memory.
        y = with_layout_constraint(x, MemoryLayout(tuple(range(x.ndim))))
    total = None if window.normalise else weights.sum()

    def scaled(value: jax.Array, coefficient: jax.Array) -> jax.Array:
        return lax.broadcast_in_dim(coefficient, value.shape, (axis,)) * value

    for group in passes(grid, weights, window, kept=False):

        def stepped(step: int, y: jax.Array = y) -> jax.Array:
            edges = [(0, 0, 0)] * y.ndim
            edges[axis] = (-step, step, 0)
            return lax.pad(y, jnp.zeros((), y.dtype), edges).astype(weights.dtype)

        y = nested(stepped, scaled, group, total)
    return y.astype(x.dtype)
