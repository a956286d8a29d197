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
      >>> round(score.value, 3), score.z > 5
      (0.978, True)

    Source:
      ``neighbour cosine`` after Lee et al., "Topographic deep artificial neural networks", 2020, who
      compare neighbouring units' tuning; Mantel, 1967, for the permutation null.
    """
    pairs = jnp.asarray(neighbours(grid))
    rows = filters(kernel, grid)
    if not bool(jnp.isfinite(rows).all()):
        raise ValueError("kernel holds NaN or infinite weights; its topography is not defined.")
    cosine, alive = _cosines(rows)
    value = float(_pair_mean(cosine, alive, pairs, jnp.arange(grid.units)))
    if np.isnan(value):
        raise ValueError(
            f"kernel has no two neighbouring filters that are not exactly zero ({int(alive.sum())} of "
            f"{grid.units} filters are not), so there is no cosine to average."
        )
    if key is None:
        return Score(value)
    if permutations < 2:
        raise ValueError(f"permutations must be at least 2, got {permutations!r}.")
    null = np.asarray(_null(cosine, alive, pairs, key, permutations), np.float64)
    return _score(value, null)


def _score(value: float, null: np.ndarray) -> Score:
    """The value with the mean, central 95 % and z of its null."""
    mean, deviation = float(np.nanmean(null)), float(np.nanstd(null))
    low, high = (float(bound) for bound in np.nanquantile(null, (0.025, 0.975)))
    distance = value - mean
    # A null without spread (two units, identical filters) can tell nothing apart from chance.
    z = distance / deviation if deviation > 1e-6 else 0.0
    return Score(value, mean, low, high, z)


@jax.jit
def _cosines(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosines between all rows, and which rows are not exactly zero."""
    largest = jnp.abs(rows).max(axis=1, keepdims=True)
    alive = largest[:, 0] > 0
    scaled = rows / jnp.where(largest > 0, largest, 1)  # Tiny filters would square to zero.
    norm = jnp.sqrt((scaled * scaled).sum(axis=1, keepdims=True))
    unit = scaled / jnp.where(norm > 0, norm, 1)
    return jnp.matmul(unit, unit.T, precision=lax.Precision.HIGHEST), alive


def _pair_mean(cosine, alive, pairs, order):
    """Mean cosine over the pairs of units, with filter ``order[i]`` at unit i."""
    i, j = order[pairs[:, 0]], order[pairs[:, 1]]
    counts = alive[i] & alive[j]
    return jnp.where(counts, cosine[i, j], 0).sum() / counts.sum()


@functools.partial(jax.jit, static_argnums=4)
def _null(cosine, alive, pairs, key, permutations):
    def relabelled(key):
        return _pair_mean(cosine, alive, pairs, jax.random.permutation(key, len(cosine)))

    return lax.map(relabelled, jax.random.split(key, permutations), batch_size=100)
