"""The neighbourhood function: a Gaussian cut to a few taps, or the heat kernel of the grid.

Both are separable, borders included: on an ``(m, n)`` grid the operator is ``kron(S_m, S_n)`` with one small
matrix ``S`` per dimension.
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

from lgnn_jax._moved import moved

# Below this the off-centre taps are under exp(-200), nothing in any dtype; clamping keeps the gradient
# with respect to sigma finite down to and at zero.
_SIGMA_FLOOR = 0.05
_SIZES = (3, 5, 7)
_BOUNDARY = "What lies beyond the border is the grid's: Grid(shape, wrap=True) or ConvLayout(wrap=True)."


@moved(boundary=_BOUNDARY)
@dataclasses.dataclass(frozen=True)
class Window:
    """The window of the neighbourhood function: how many taps, and whether they sum to one.

    Beyond the border of a plane its units are repeated (the paper's replication padding); on a torus
    (``Grid(shape, wrap=True)``) there is none.

    Args:
      size: Taps along every grid dimension: 3 (the paper's), 5 or 7. For wider neighbourhoods there is
        :class:`HeatKernel`.
      normalise: True for taps that sum to one, a low-pass filter. False for the form of the
        self-organising map, whose centre is one; it also amplifies the updates, 1.61 times at
        ``sigma=0.5`` on a plane.
      allow_indefinite: Whether to accept a sigma above :func:`largest_sigma`, with which part of the
        gradient is ascended.

    Raises:
      ValueError: If ``size`` is not 3, 5 or 7, or an option is neither True nor False.

    Example:
      >>> from lgnn_jax import Window
      >>> Window(size=5).radius
      2
    """

    size: int = 3
    normalise: bool = True
    allow_indefinite: bool = False

    def __post_init__(self):
        try:
            size = operator.index(self.size)
        except TypeError:
            size = 0
        if size not in _SIZES:
            raise ValueError(
                f"Window size must be 3, 5 or 7, got {self.size!r}. For wider neighbourhoods use HeatKernel()."
            )
        object.__setattr__(self, "size", size)
        for name in ("normalise", "allow_indefinite"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}. {_BOUNDARY}")

    @property
    def radius(self) -> int:
        """Taps on each side of the centre."""
        return self.size // 2


@moved("boundary", boundary=_BOUNDARY)
@dataclasses.dataclass(frozen=True)
class HeatKernel:
    """The heat kernel of the grid: a neighbourhood function that is positive definite at any width.

    ``S = exp(-sigma^2 / 2 * L)`` with the Laplacian ``L`` of the path (on a plane) or the cycle
    (on a torus) along each grid dimension, what is left of a unit impulse after diffusing for a time
    ``sigma^2 / 2`` with nothing lost at the border. Far from borders it is a discrete Gaussian of standard
    deviation ``sigma``, and unlike :class:`Window` it is not cut: every unit hears of every other. Exact,
    through the cosine basis in which ``L`` is diagonal. For wide neighbourhoods without ascent, as in a
    self-organising map that starts wide and narrows; passed as ``window=HeatKernel()``.

    It is symmetric, has eigenvalues between 0 and 1, and keeps constants and totals, on every plane and
    torus and at every sigma of at least 0. At the border of a plane it reflects.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import Grid, HeatKernel, smooth
      >>> spread = smooth(jnp.array([1.0, 0.0, 0.0, 0.0]), Grid((4,)), 2.0, HeatKernel())
      >>> [round(float(value), 2) for value in spread]
      [0.39, 0.3, 0.19, 0.12]

    Source:
      Kondor and Lafferty, "Diffusion kernels on graphs and other discrete input spaces", ICML 2002.
    """


@functools.lru_cache(maxsize=64)
def largest_sigma(window: Window | HeatKernel = Window()) -> float:
    """The largest sigma with which ``window`` is positive semidefinite on a grid of any size.

    Up to it, smoothed gradients are still a descent direction. On an unbounded grid, and on a torus, the
    window scales the wave of frequency ``theta`` by ``1 + 2 * sum_k exp(-k^2 / (2 sigma^2)) cos(k theta)``
    (up to normalisation); the limit is where its minimum over ``theta`` reaches zero. For three taps it is
    ``1 / sqrt(2 ln 2) = 0.849``. With edges and more taps the operator is not symmetric; that its symmetric
    part is definite up to the same limit was found by computing it, for lines to 200 units, planes to 23x17
    and blocks to 6x6x6.

    Args:
      window: Its size decides; normalisation and the grid do not.

    Returns:
      The limit: 0.849 for 3 taps, 1.201 for 5, 1.180 for 7, infinity for a :class:`HeatKernel`.

    Example:
      >>> from lgnn_jax import Window, largest_sigma
      >>> [round(largest_sigma(Window(size)), 3) for size in (3, 5, 7)]
      [0.849, 1.201, 1.18]
    """
    if isinstance(window, HeatKernel):
        return math.inf
    offset = np.arange(1, window.radius + 1)
    waves = 2 * np.cos(np.outer(np.linspace(0, np.pi, 4096 + 1), offset))
    low, high = 0.1, float(window.size)
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        definite = 1 + (waves @ np.exp(-(offset**2) / (2 * middle**2))).min() >= 0
        low, high = (middle, high) if definite else (low, middle)
    return low


def check_sigma(sigma: Any, window: Window | HeatKernel) -> None:
    """Raises ``ValueError`` for a wrong window, or a Python or NumPy sigma that is negative or indefinite.

    Of traced values and ``jax.Array`` only the shape and dtype are tested: the value may not exist yet.
    """
    if not isinstance(window, (Window, HeatKernel)):
        raise ValueError(f"window must be a Window, such as Window(5), or a HeatKernel, got {window!r}.")
    if isinstance(sigma, jax.Array):
        if sigma.ndim != 0 or jnp.issubdtype(sigma.dtype, jnp.complexfloating):
            raise ValueError(f"sigma must be a real scalar, got {sigma.dtype} of shape {sigma.shape}.")
        return
    real = isinstance(sigma, (int, float, np.integer, np.floating, np.ndarray))
    if isinstance(sigma, bool) or not real:
        raise ValueError(f"sigma must be a number or a schedule, got {sigma!r}.")
    if np.ndim(sigma) != 0:
        raise ValueError(f"sigma must be a scalar, got an array of shape {np.shape(sigma)}.")
    value = float(sigma)
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"sigma must be finite and at least 0, in grid steps; got {value!r}.")
    if isinstance(window, HeatKernel) or window.allow_indefinite or value <= largest_sigma(window):
        return
    most = ", ".join(f"{largest_sigma(Window(size)):.4f} with {size}" for size in _SIZES)
    raise ValueError(
        f"sigma {value:g} makes a window of {window.size} taps indefinite: part of the gradient would be "
        f"ascended. Use at most {most} taps, window=HeatKernel() for any width, or "
        "Window(..., allow_indefinite=True)."
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


def sources(length: int, window: Window, wrap: bool) -> np.ndarray:
    """Which unit of a dimension each tap of each unit reads, ``(length, window.size)``."""
    offset = np.arange(-window.radius, window.radius + 1)
    source = np.arange(length)[:, None] + offset
    return source % length if wrap else source.clip(0, length - 1)


def window_matrix(length: int, weights: jax.Array, window: Window, wrap: bool) -> jax.Array:
    """The window along one grid dimension, ``(length, length)``, from its :func:`taps`."""
    reads = np.eye(length)[sources(length, window, wrap)]  # (length, size, length)
    return jnp.einsum(
        "uts,t->us", jnp.asarray(reads, weights.dtype), weights, precision=lax.Precision.HIGHEST
    )


def heat_matrix(
    length: int, sigma: jax.typing.ArrayLike, wrap: bool, dtype: jax.typing.DTypeLike
) -> jax.Array:
    """The heat kernel along one grid dimension, ``(length, length)``, at sigma 0 exactly the identity."""
    waves, energies = _waves(length, wrap)
    # The square of sigma must be finite; the kernel is flat long before.
    width = jnp.minimum(jnp.asarray(sigma, dtype), 1e9)
    change = jnp.expm1(-jnp.square(width) / 2 * jnp.asarray(energies, dtype))
    basis = jnp.asarray(waves, dtype)
    changes = jnp.matmul(basis * change[None, :], basis.T, precision=lax.Precision.HIGHEST)
    return jnp.eye(length, dtype=dtype) + changes


@functools.lru_cache(maxsize=64)
def _waves(length: int, wrap: bool) -> tuple[np.ndarray, np.ndarray]:
    """The orthonormal eigenvectors of a dimension's Laplacian, as columns, and their eigenvalues."""
    at, wave = np.arange(length), np.arange(length)
    if wrap:  # A cycle: cosines, and sines from the middle on.
        frequency = 2 * np.pi * wave / length
        vectors = np.where(
            wave <= length // 2, np.cos(np.outer(at, frequency)), np.sin(np.outer(at, frequency))
        )
    else:  # A path: the cosines of the DCT-II.
        frequency = np.pi * wave / length
        vectors = np.cos(np.outer(at + 0.5, frequency))
    return vectors / np.linalg.norm(vectors, axis=0), 2 - 2 * np.cos(frequency)
