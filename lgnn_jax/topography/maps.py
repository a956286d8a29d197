"""Metrics on maps over the grid, and on curves against distance."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lgnn_jax.grid import Grid, neighbours
from lgnn_jax.topography.null import Score, check_permutations, orders, pair_sums, score
from lgnn_jax.topography.rows import centred, filters


def morans_i(
    values: jax.typing.ArrayLike,
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
      values: Maps, with the units on ``grid.axis``: ``(..., units)`` for the last one, such as class-mean
        responses ``(classes, units)``. Constant maps are left out and counted.
      grid: The layer's grid.
      transformation: ``"r"`` for weights that sum to 1 over each unit's neighbours (row-standardised, the
        default as in ``esda``), ``"b"`` for weights of 1 (binary).
      key: A PRNG key for the null; None for no null.
      permutations: Relabellings of the null, at least 2.

    Returns:
      A :class:`Score`; noise has ``-1 / (units - 1)`` on average, a smooth map nearly 1.

    Raises:
      ValueError: If the values do not fit the grid, hold NaN or infinities, or have no map that is not
        constant; if the null has no spread; if ``permutations`` is below 2.

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
    values = jnp.asarray(values)
    grid.check(values.shape, "values")
    if grid.units < 2:
        raise ValueError(f"Moran's I needs a grid of at least two units, got {grid.units}.")
    products, finite, live, maps = jax.device_get(_map_products(filters(values, grid)))
    if not finite:
        raise ValueError("values hold NaN or infinities; their topography is not defined.")
    if not live:
        raise ValueError(
            f"All {maps} maps in values are constant over the grid, or there are none: wanted at least one "
            "map that varies."
        )
    pairs = np.concatenate([neighbours(grid), neighbours(grid, diagonal=True)])
    first, second = pairs.T
    degree = np.bincount(pairs.ravel(), minlength=grid.units).astype(np.float64)
    weights = 1 / degree[first] + 1 / degree[second] if transformation == "r" else np.full(first.size, 2.0)
    weights = (grid.units / weights.sum() * weights).astype(np.float32)
    order = orders(key, permutations, np.full(grid.units, True))
    return score(jax.device_get(pair_sums(products, first, second, weights, order)), int(maps - live))


@jax.jit
def _map_products(rows: jax.Array):
    """Mean over maps of ``x_i x_j / sum x**2``, whether all is finite, and how many maps vary of how many."""
    finite = jnp.isfinite(rows).all()
    maps = centred(rows.T)
    largest = jnp.abs(maps).max(axis=1, keepdims=True, initial=0)
    maps = maps / jnp.where(largest > 0, largest, 1)
    size = (maps * maps).sum(axis=1, keepdims=True)
    unit = maps / jnp.sqrt(jnp.where(size > 0, size, 1))
    live = (size > 0).sum()
    products = jnp.matmul(unit.T, unit, precision=lax.Precision.HIGHEST) / jnp.maximum(live, 1)
    return products, finite, live, maps.shape[0]


def smoothness(curve: np.typing.ArrayLike) -> float:
    """Smoothness of a curve of differences against distance: ``(max(curve) - curve[0]) / max(curve)``.

    1 where the nearest units do not differ at all, 0 where they differ more than any others.

    Args:
      curve: Differences ``(bins,)``, none negative, nearest bin first, at least two: for example
        ``1 - correlation_by_distance(kernel, grid).mean``.

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
