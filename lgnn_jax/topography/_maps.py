"""Metrics on maps over the grid, and on curves against distance."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lgnn_jax._dtypes import at_least_float32
from lgnn_jax._grid import Grid, check_grid, neighbours
from lgnn_jax._tree import unboxed
from lgnn_jax.topography._null import Score, check_permutations, orders, pair_sums, score
from lgnn_jax.topography._similarity import centred, check_finite


def morans_i(
    maps: jax.typing.ArrayLike,
    grid: Grid,
    *,
    transformation: Literal["r", "b"] = "r",
    key: jax.Array | None = None,
    permutations: int = 1000,
) -> Score:
    """Moran's I of maps on the grid: ``units / sum_ij w_ij * sum_ij w_ij x_i x_j / sum_i x_i**2``.

    ``x`` is a map less its mean, and ``w_ij`` is not 0 for units that touch at an edge or a corner (queen
    contiguity, 8 neighbours in a plane). The mean of I over the maps is returned; a relabelling is the same
    for all of them. Never smooth or threshold a map first: noise blurred once already scores about .5.

    Args:
      maps: ``(..., units)``, such as class-mean responses ``(classes, units)``. Constant maps are left out
        and counted.
      grid: The layer's grid.
      transformation: ``"r"`` for weights that sum to 1 over each unit's neighbours (row-standardised, the
        default as in ``esda``), ``"b"`` for weights of 1 (binary).
      key: A PRNG key for the null; None for no null.
      permutations: Relabellings of the null, at least 2.

    Returns:
      A :class:`Score`; noise has ``-1 / (units - 1)`` on average, a smooth map nearly 1.

    Raises:
      ValueError: If the maps do not fit the grid, hold NaN or infinities, or none of them varies; if the
        null has no spread; if ``permutations`` is below 2.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lgnn_jax import Grid, topography
      >>> slope = jnp.add.outer(jnp.arange(8.0), jnp.arange(8.0)).ravel()
      >>> score = topography.morans_i(slope, Grid((8, 8)), key=jax.random.key(0))
      >>> round(score.value, 2), score.z > 3
      (0.9, True)

    Source:
      Moran, "Notes on continuous stochastic phenomena", Biometrika 1950; weights as in PySAL's ``esda``.
    """
    if transformation not in ("r", "b"):
        raise ValueError(f'transformation must be "r" or "b", got {transformation!r}.')
    check_permutations(permutations)
    values: Any = np.asarray(unboxed(maps))
    if not values.ndim:
        raise ValueError("maps must be (..., units), got a single number.")
    check_grid(grid, values.shape[-1], f"The last axis of maps of shape {values.shape}")
    if grid.units < 2:
        raise ValueError(f"Moran's I needs a grid of at least two units, got {grid.units}.")
    check_finite(values, "maps hold")
    rows = at_least_float32(jnp.asarray(values)).reshape(-1, grid.units)
    check_finite(rows, "maps in float32 hold")
    products, live = jax.device_get(_map_products(rows))
    if not live:
        raise ValueError(
            f"All {len(rows)} maps are constant over the grid, or there are none: wanted at least one map "
            "that varies."
        )
    pairs = np.concatenate([neighbours(grid), neighbours(grid, diagonal=True)])
    first, second = pairs.T
    degree = np.bincount(pairs.ravel(), minlength=grid.units).astype(np.float64)
    weights = 1 / degree[first] + 1 / degree[second] if transformation == "r" else np.full(first.size, 2.0)
    weights = grid.units / weights.sum() * weights
    order = orders(key, permutations, np.full(grid.units, True))
    return score(pair_sums(products, first, second, weights, order), int(len(rows) - live))


@jax.jit
def _map_products(rows: jax.Array):
    """Mean over maps ``(maps, units)`` of ``x_i x_j / sum x**2``, and how many maps vary."""
    maps = centred(rows)
    largest = jnp.abs(maps).max(axis=1, keepdims=True, initial=0)
    maps = maps / jnp.where(largest > 0, largest, 1)
    size = (maps * maps).sum(axis=1, keepdims=True)
    unit = maps / jnp.sqrt(jnp.where(size > 0, size, 1))
    live = (size > 0).sum()
    products = jnp.matmul(unit.T, unit, precision=lax.Precision.HIGHEST)
    return products / jnp.maximum(live, 1).astype(products.dtype), live


def smoothness(curve: np.typing.ArrayLike) -> float:
    """Smoothness of a curve of differences against distance: ``(max(curve) - curve[0]) / max(curve)``.

    1 where the nearest units do not differ at all, 0 where they differ more than any others.

    Args:
      curve: Differences ``(bins,)``, none negative, nearest bin first, at least two: for example
        ``1 - correlation_by_distance(similarity, grid).mean``.

    Returns:
      A number between 0 and 1. It has no null of its own: compare it with that of relabelled units.

    Raises:
      ValueError: If the curve is not one-dimensional with two or more finite numbers, has negative ones
        or only zeros.

    Example:
      >>> from lgnn_jax import topography
      >>> topography.smoothness([0.25, 0.75, 1.0])
      0.75

    Source:
      Margalit et al., "A unifying framework for functional organization in early and higher ventral
      visual cortex", Neuron 2024.
    """
    curve = np.asarray(curve, np.float64)
    if curve.ndim != 1 or curve.size < 2:
        raise ValueError(f"curve must be (bins,), at least two of them, got shape {curve.shape}.")
    if not np.isfinite(curve).all():
        raise ValueError("curve holds NaN or infinities. Leave out bins without pairs.")
    if curve.min() < 0 or curve.max() == 0:
        raise ValueError(
            f"curve must hold differences, none negative and not all 0, got {curve.min():.3g} to "
            f"{curve.max():.3g}. Of correlations give 1 - correlation."
        )
    return float((curve.max() - curve[0]) / curve.max())
