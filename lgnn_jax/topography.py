"""How organised a layer is: metrics on its weights, each with what chance would give."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lgnn_jax.grid import Grid, neighbours


class Score(NamedTuple):
    """A metric and its permutation null, the same metric after relabelling the units at random.

    The null's fields are None where no key was given. ``null_low`` to ``null_high`` is its central 95 %,
    and ``z`` the value's distance from ``null_mean`` in standard deviations of the null.
    """

    value: float
    null_mean: float | None = None
    null_low: float | None = None
    null_high: float | None = None
    z: float | None = None


def filters(kernel: jax.typing.ArrayLike, grid: Grid) -> jax.Array:
    """The filters of a kernel as rows: ``(units, weights per filter)``, at least float32.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import Grid, topography
      >>> topography.filters(jnp.zeros((3, 3, 16, 64)), Grid((8, 8))).shape
      (64, 144)
    """
    kernel = jnp.asarray(kernel)
    grid.check(kernel.shape, "kernel")
    rows = jnp.moveaxis(kernel, grid.axis, 0).reshape(grid.units, -1)
    return rows.astype(jnp.promote_types(rows.dtype, jnp.float32))


def neighbour_cosine(
    kernel: jax.typing.ArrayLike,
    grid: Grid,
    *,
    key: jax.Array | None = None,
    permutations: int = 1000,
) -> Score:
    """Mean cosine between the filters of neighbouring units: ``mean cos(w_i, w_j)``.

    The mean runs over pairs one step apart along one grid dimension (4 neighbours in a plane). Filters
    that are exactly zero have no direction, so pairs with one are left out, here and in the null.

    Args:
      kernel: Weights, with the filters on ``grid.axis``, at least two of them.
      grid: The layer's grid.
      key: A PRNG key for the null; None for no null.
      permutations: Relabellings of the null, at least 2.

    Returns:
      A :class:`Score` with a value between -1 and 1.

    Raises:
      ValueError: If the kernel does not fit the grid, holds NaN or infinities, or has no two neighbours
        that are not zero; if ``permutations`` is below 2.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lgnn_jax import Grid, topography
      >>> angle = jnp.linspace(0, jnp.pi, 16)  # Filters that turn slowly along a line.
      >>> kernel = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
      >>> score = topography.neighbour_cosine(kernel, Grid((16,)), key=jax.random.key(0))
      >>> round(score.value, 3), score.z > 3
      (0.978, True)

    Source:
      ``neighbour cosine`` after Lee et al., "Topographic deep artificial neural networks", 2020, who
      compare neighbouring units' tuning; Mantel, 1967, for the permutation null.
    """
    kernel = jnp.asarray(kernel)
    grid.check(kernel.shape, "kernel")
    if permutations < 2:
        raise ValueError(f"permutations must be at least 2, got {permutations!r}.")
    orders = np.arange(grid.units, dtype=np.int32)[None]
    if key is not None:
        orders = np.concatenate([orders, _relabellings(key, permutations, grid.units)])
    finite, alive, means = jax.device_get(_neighbour_cosines(kernel, orders, grid))
    if not finite:
        raise ValueError("kernel holds NaN or infinite weights; its topography is not defined.")
    value, null = float(means[0]), means[1:].astype(np.float64)
    if np.isnan(value):
        raise ValueError(
            f"kernel has no two neighbouring filters that are not exactly zero ({alive} of "
            f"{grid.units} filters are not), so there is no cosine to average."
        )
    return Score(value) if key is None else _score(value, null)


def _score(value: float, null: np.ndarray) -> Score:
    """The value with the mean, central 95 % and z of its null."""
    mean, deviation = float(np.nanmean(null)), float(np.nanstd(null))
    low, high = (float(bound) for bound in np.nanquantile(null, (0.025, 0.975)))
    distance = value - mean
    # A null without spread (two units, identical filters) can tell nothing apart from chance.
    z = distance / deviation if deviation > 1e-6 else 0.0
    return Score(value, mean, low, high, z)


@functools.partial(jax.jit, static_argnums=2)
def _neighbour_cosines(kernel: jax.Array, orders: jax.Array, grid: Grid):
    """Whether all weights are finite, how many filters are not zero, and the mean over neighbours per order.

    ``orders``, ``(count, units)``, say which filter sits at which unit.
    """
    rows = filters(kernel, grid)
    largest = jnp.abs(rows).max(axis=1, keepdims=True)
    alive = largest[:, 0] > 0
    scaled = rows / jnp.where(largest > 0, largest, 1)  # Tiny filters would square to zero.
    norm = jnp.sqrt((scaled * scaled).sum(axis=1, keepdims=True))
    unit = scaled / jnp.where(norm > 0, norm, 1)
    cosine = jnp.matmul(unit, unit.T, precision=lax.Precision.HIGHEST)
    pairs = neighbours(grid)

    def mean(order):
        i, j = order[pairs[:, 0]], order[pairs[:, 1]]
        counts = alive[i] & alive[j]
        return jnp.where(counts, cosine[i, j], 0).sum() / counts.sum()

    means = lax.map(mean, orders, batch_size=50)
    return jnp.isfinite(rows).all(), alive.sum(), means


def _relabellings(key: jax.Array, permutations: int, units: int) -> np.ndarray:
    """Random orders of the units, ``(permutations, units)``, decided by ``key``.

    Shuffled by NumPy: XLA takes seconds to compile a sort, once for every width.
    """
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    words = np.asarray(jax.random.key_data(key) if typed else key).ravel()
    generator = np.random.default_rng([int(word) for word in words])
    return generator.permuted(np.tile(np.arange(units, dtype=np.int32), (permutations, 1)), axis=1)
