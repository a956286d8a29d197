"""The Gaussian neighbourhood function, and smoothing one array along its grid.

The operator is separable, edge padding included: on an ``(m, n)`` grid it is ``kron(S_m, S_n)`` with one
small matrix ``S`` per dimension. It is applied as a matrix along the last grid dimension and as a sum of
shifted slices along the others, never as a convolution over a transposed copy.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lgnn_jax.grid import Grid

# Below this the off-centre taps are under exp(-200), nothing in any dtype; clamping keeps the gradient
# with respect to sigma finite down to and at zero.
_SIGMA_FLOOR = 0.05
_BOUNDARIES = ("edge", "wrap")


@dataclasses.dataclass(frozen=True)
class Window:
    """The window of the neighbourhood function: how many taps, and what lies beyond the border.

    Args:
      size: Taps along every grid dimension, odd and at least 3 (the paper's is 3).
      boundary: ``"edge"`` repeats the border's units (the paper's replication padding), ``"wrap"``
        closes the grid to a torus.
      normalise: True for taps that sum to one, a low-pass filter. False for the form of the
        self-organising map, whose centre is one; it also amplifies the updates, 1.61 times at
        ``sigma=0.5`` on a plane.
      allow_indefinite: Whether to accept a sigma above :func:`largest_sigma`, with which part of the
        gradient is ascended.

    Raises:
      ValueError: If ``size`` is even or below 3, or ``boundary`` is unknown.

    Example:
      >>> from lgnn_jax import Window
      >>> Window(size=5, boundary="wrap").size
      5
    """

    size: int = 3
    boundary: str = "edge"
    normalise: bool = True
    allow_indefinite: bool = False

    def __post_init__(self):
        try:
            size = operator.index(self.size)
        except TypeError:
            size = 0
        if size < 3 or size % 2 == 0:
            raise ValueError(f"Window size must be an odd integer of at least 3, got {self.size!r}.")
        object.__setattr__(self, "size", size)
        if self.boundary not in _BOUNDARIES:
            raise ValueError(
                f"Window boundary must be one of {', '.join(map(repr, _BOUNDARIES))}, "
                f"got {self.boundary!r}."
            )

    @property
    def radius(self) -> int:
        """Taps on each side of the centre."""
        return self.size // 2


@functools.lru_cache(maxsize=64)
def largest_sigma(window: Window = Window()) -> float:
    """The largest sigma with which ``window`` is positive semidefinite on a grid of any size.

    Up to it, smoothed gradients are still a descent direction. On an unbounded grid, and on a torus, the
    window scales the wave of frequency ``theta`` by ``1 + 2 * sum_k exp(-k^2 / (2 sigma^2)) cos(k theta)``
    (up to normalisation); the limit is where its minimum over ``theta`` reaches zero. Small grids with
    edges tolerate more, large ones approach the limit from above. For three taps it is
    ``1 / sqrt(2 ln 2) = 0.849``.

    Args:
      window: Its size decides; boundary and normalisation do not.

    Returns:
      The limit: 0.849 for 3 taps, 1.201 for 5, 1.180 for 7.

    Example:
      >>> from lgnn_jax import Window, largest_sigma
      >>> [round(largest_sigma(Window(size)), 3) for size in (3, 5, 7)]
      [0.849, 1.201, 1.18]
    """
    offset = np.arange(1, window.radius + 1)
    waves = 2 * np.cos(np.outer(np.linspace(0, np.pi, 4096 + 1), offset))
    low, high = 0.1, float(window.size)
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        definite = 1 + (waves @ np.exp(-(offset**2) / (2 * middle**2))).min() >= 0
        low, high = (middle, high) if definite else (low, middle)
    return low


def check_sigma(sigma: Any, window: Window) -> None:
    """Raises ``ValueError`` for a wrong window, or a Python or NumPy sigma that is negative or indefinite.

    Traced values and ``jax.Array`` are never tested: their value may not exist yet.
    """
    if not isinstance(window, Window):
        raise ValueError(f"window must be a Window, such as Window(5), got {window!r}.")
    if isinstance(sigma, jax.Array):
        return
    if isinstance(sigma, bool) or not isinstance(sigma, (int, float, np.number, np.ndarray)):
        raise ValueError(f"sigma must be a number or a schedule, got {sigma!r}.")
    if np.ndim(sigma) != 0:
        raise ValueError(f"sigma must be a scalar, got an array of shape {np.shape(sigma)}.")
    value = float(sigma)
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"sigma must be finite and at least 0, in grid steps; got {value!r}.")
    if value > largest_sigma(window) and not window.allow_indefinite:
        raise ValueError(
            f"sigma {value:g} makes a window of {window.size} taps indefinite: part of the gradient "
            f"would be ascended. Use at most {largest_sigma(window):.4f}, a wider window, or "
            f"{type(window).__name__}(..., allow_indefinite=True)."
        )


def taps(sigma: jax.typing.ArrayLike, window: Window, dtype: jax.typing.DTypeLike) -> jax.Array:
    """The window along one grid dimension, ``(window.size,)``: ``exp(-k^2 / (2 sigma^2))``, maybe over its sum.

    Sigma 0 gives the unit impulse, with finite gradients. The window of a plane is the outer product of
    two of these.
    """
    sigma = jnp.asarray(sigma, dtype)
    offset = np.arange(-window.radius, window.radius + 1)
    clamped = jnp.maximum(sigma, _SIGMA_FLOOR)
    gaussian = jnp.exp(jnp.asarray(-(offset**2) / 2, dtype) / (clamped * clamped))
    weights = jnp.where((sigma > _SIGMA_FLOOR) | (offset == 0), gaussian, jnp.zeros_like(gaussian))
    return weights / weights.sum() if window.normalise else weights


def _sources(length: int, window: Window) -> np.ndarray:
    """Which unit of a dimension each tap of each unit reads, ``(length, window.size)``."""
    offset = np.arange(-window.radius, window.radius + 1)
    source = np.arange(length)[:, None] + offset
    return source % length if window.boundary == "wrap" else source.clip(0, length - 1)


def matrix(length: int, weights: jax.Array, window: Window) -> jax.Array:
    """The operator ``S`` along one grid dimension, ``(length, length)``: ``S[i, j]`` from unit j to i."""
    selection = np.zeros((window.size, length, length))
    np.add.at(
        selection,
        (np.arange(window.size), np.arange(length)[:, None], _sources(length, window)),
        1.0,
    )
    # Summed tap by tap: no precision setting can touch it, and the taps may be traced.
    return sum(weights[k] * jnp.asarray(selection[k], weights.dtype) for k in range(window.size))


def _along_last(x: jax.Array, weights: jax.Array, window: Window) -> jax.Array:
    """``S`` along the last axis, as a small matrix product at full precision."""
    operator_t = matrix(x.shape[-1], weights, window).T
    return jnp.matmul(x, operator_t, precision=lax.Precision.HIGHEST)


def _along(x: jax.Array, axis: int, weights: jax.Array, window: Window) -> jax.Array:
    """``S`` along ``axis``, as a sum of shifted slices of an array padded by concatenation."""
    length, radius = x.shape[axis], window.radius
    border = _sources(length, window)
    before, after = border[0, :radius], border[-1, radius + 1 :]
    piece = functools.partial(lax.slice_in_dim, x, axis=axis)
    padded = jnp.concatenate(
        [piece(int(i), int(i) + 1) for i in before] + [x] + [piece(int(i), int(i) + 1) for i in after],
        axis=axis,
    )
    return sum(weights[k] * lax.slice_in_dim(padded, k, k + length, axis=axis) for k in range(window.size))


@functools.partial(jax.jit, static_argnames=("grid", "window"))
def _smooth(x: jax.Array, sigma: jax.typing.ArrayLike, grid: Grid, window: Window) -> jax.Array:
    axis = grid.axis % x.ndim
    laid_out = x.reshape(x.shape[:axis] + grid.shape + x.shape[axis + 1 :])
    accurate = laid_out.astype(jnp.promote_types(x.dtype, jnp.float32))
    weights = taps(sigma, window, accurate.dtype)
    for dimension, length in enumerate(grid.shape, start=axis):
        if length == 1 and window.normalise:
            continue  # A single unit, repeated by the border: the taps sum to one.
        if dimension == accurate.ndim - 1:
            accurate = _along_last(accurate, weights, window)
        else:
            accurate = _along(accurate, dimension, weights, window)
    return accurate.reshape(x.shape).astype(x.dtype)


def smooth(
    x: jax.typing.ArrayLike,
    grid: Grid,
    sigma: jax.typing.ArrayLike,
    window: Window = Window(),
) -> jax.Array:
    """Low-pass filters one array along its grid: ``y[i] = sum_j eta[i, j] x[j]``.

    ``eta`` is the neighbourhood function, a Gaussian of width ``sigma`` cut to ``window`` and, if the
    window is normalised, divided by its sum. With edge padding and three taps it is
    ``kron(S_m, S_n)``, ``S = tridiag(a, b, a)`` with ``a`` added at both corners,
    ``e = exp(-1 / (2 sigma^2))``, ``b = 1 / (1 + 2 e)``, ``a = e b``: symmetric, with rows and columns
    that sum to one, so totals over the units are kept.

    Arithmetic is in float32 or better (matrix products at ``HIGHEST`` precision) and the result is cast
    back at the end. Compiled once per shape, differentiable in ``x`` and ``sigma`` (finite at 0), and
    ``vmap``-able.

    Args:
      x: Floating array ``(..., units, ...)`` with the units on ``grid.axis``.
      grid: Shape and axis of the grid.
      sigma: Width in grid steps, at least 0, where 0 is the identity; a Python number or a (possibly
        traced) scalar array.
      window: Size, boundary and normalisation.

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
