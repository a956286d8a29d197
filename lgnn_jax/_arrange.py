"""From how alike units are to where they sit on a grid."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lgnn_jax._anneal import anneal
from lgnn_jax._assign import assign
from lgnn_jax._dtypes import at_least_float32
from lgnn_jax._exchange import descend, live_first, objective, spectral, standardised
from lgnn_jax._grid import Grid, check_grid
from lgnn_jax._tree import unboxed
from lgnn_jax.topography._similarity import as_similarity

_TEMPERATURES = 0.7, 0.05  # In stds of the similarities.
_FINAL = 10_000  # Exchanges at a sigma of one step, at most; they end by themselves.
_STARTS = 4


def arrange(
    similarity: jax.typing.ArrayLike,
    grid: Grid,
    *,
    start: jax.typing.ArrayLike | None = None,
    key: jax.Array | None = None,
) -> jax.Array:
    """An order of the units on a grid that puts those that are alike next to each other.

    It maximises ``sum_{i<j} s[order[i], order[j]] * exp(-d_ij^2 / 2)`` over pairs of positions, where ``d``
    are :func:`distances` on the grid. From an order by leading eigenvectors, all units are assigned to
    positions again and again, for a neighbourhood whose sigma shrinks from a quarter of the grid to one step.
    Then random exchanges are annealed, and the best ones made as long as they gain: no exchange of two units
    improves the result. The assignments are made on the host, by SciPy, also under ``jit``.

    A similarity is put in order by ``similarity[order][:, order]``, maps and responses by ``x[..., order]``.
    Whatever is measured on the similarity that an order was fitted to is an in-sample number.

    Args:
      similarity: ``(units, units)``, of ``topography.cosines`` or ``topography.correlations``, or a mean of
        several. Dead units, whose rows are 0, go to the last positions.
      grid: Where the units go, row-major; its dimensions and ``wrap`` are static under ``jit``.
      start: An order to go on from. Neighbourhoods then are one step wide from the beginning, so that the
        result stays near it.
      key: A PRNG key for four starts, of which the best result is kept: two spectral ones and two random ones.
        None for the better spectral one alone. The same key gives the same order; beside ``start`` it has no use.

    Returns:
      int32 ``(units,)``: ``order[p]`` is the unit at position ``p``.

    Raises:
      ValueError: If ``similarity`` is none or does not fit the grid, or ``start`` is no permutation of its
        units. Traced values are not tested.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import Grid, arrange, topography
      >>> angle = jnp.array([0.0, 2.0, 1.0, 3.0])  # Filters that turn, out of order.
      >>> similarity = topography.cosines(jnp.stack([jnp.cos(angle), jnp.sin(angle)]))
      >>> arrange(similarity, Grid((4,))).tolist() in ([0, 2, 1, 3], [3, 1, 2, 0])
      True

    Source:
      The quadratic assignment problem: Koopmans, Beckmann, 1957; its annealing: Burkard, Rendl, 1984; a
      neighbourhood that shrinks: Kohonen, "Self-Organizing Maps", 2001; assignments of all at once: Barthel et al.,
      "Improved Evaluation and Generation of Grid Layouts", 2023.
    """
    matrix = _checked(similarity, grid)
    first = None if start is None else _permutation(start, grid)
    if first is not None:
        return _from_start(matrix, grid, first)
    values, alive, starts, keys = _begin(matrix, grid, key)
    return _finish(values, alive, grid, _assigned(values, alive, starts, grid), keys)


def _assigned(values: jax.Array, alive: jax.Array, starts: jax.Array, grid: Grid) -> jax.Array:
    """The orders after the wide stage, which is the host's, also for an accelerator and under ``jit``."""
    wide = functools.partial(assign, grid=grid)
    if not isinstance(values, jax.core.Tracer):
        return jnp.asarray(wide(*jax.device_get((values, alive, starts))))
    shape = jax.ShapeDtypeStruct(starts.shape, jnp.int32)
    return jax.pure_callback(wide, shape, values, alive, starts, vmap_method="sequential")


def _checked(similarity: Any, grid: Grid) -> jax.Array:
    """The similarity, at least float32, tested where its values are known."""
    similarity = unboxed(similarity)
    if isinstance(similarity, jax.core.Tracer):
        if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1]:
            raise ValueError(f"similarity must be (units, units), got shape {similarity.shape}.")
    else:
        similarity, _ = as_similarity(similarity)
    check_grid(grid, len(similarity), "similarity")
    return at_least_float32(jnp.asarray(similarity))


def _permutation(start: Any, grid: Grid) -> jax.Array:
    """The order to go on from, tested where its values are known."""
    start = start if isinstance(start, jax.core.Tracer) else np.asarray(start)
    units = grid.units
    wanted = f"start must be an order of the {units} units, each of 0 to {units - 1} once, as arrange gives"
    if start.shape != (grid.units,) or not jnp.issubdtype(start.dtype, jnp.integer):
        raise ValueError(f"{wanted}; got {start.dtype} of shape {start.shape}.")
    if isinstance(start, np.ndarray):
        counts = np.bincount(start[(start >= 0) & (start < grid.units)], minlength=grid.units)
        if (counts != 1).any():
            wrong = int(np.argmax(counts != 1))
            raise ValueError(f"{wanted}; got unit {wrong} {counts[wrong]} times.")
    return jnp.asarray(start, jnp.int32)


@functools.partial(jax.jit, static_argnames="grid")
def _from_start(matrix: jax.Array, grid: Grid, start: jax.Array) -> jax.Array:
    """The nearest optimum."""
    alive = jnp.abs(matrix).max(axis=1, initial=0) > 0
    values = standardised(matrix, alive)
    return descend(
        values, grid, live_first(start, alive), alive, jnp.ones((), values.dtype), jnp.int32(_FINAL)
    )


@functools.partial(jax.jit, static_argnames="grid")
def _begin(
    matrix: jax.Array, grid: Grid, key: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Standardised similarities, which units are alive, orders to start from, and a key for each."""
    alive = jnp.abs(matrix).max(axis=1, initial=0) > 0
    values = standardised(matrix, alive)
    starts = spectral(values, grid, alive)
    if key is None:
        promise = jnp.stack([objective(values, grid, start, 2.0) for start in starts])
        return values, alive, starts[promise.argmax()][None], jax.random.split(jax.random.key(0), 1)
    keys = jax.random.split(key, _STARTS)
    others = jax.vmap(lambda key: jax.random.permutation(key, grid.units))(keys[2:]).astype(jnp.int32)
    others = jax.vmap(live_first, (0, None))(others, alive)
    return values, alive, jnp.concatenate([starts, others]), keys


@functools.partial(jax.jit, static_argnames="grid")
def _finish(
    values: jax.Array, alive: jax.Array, grid: Grid, starts: jax.Array, keys: jax.Array
) -> jax.Array:
    """The best of the orders that annealing makes of the starts."""
    one = jnp.ones((), values.dtype)
    live = alive.sum(dtype=jnp.int32)

    def search(start: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        order = anneal(values, grid, start[0], live, start[1], _TEMPERATURES, _steps(grid.units))
        order = descend(values, grid, order, alive, one, jnp.int32(_FINAL))
        return order, objective(values, grid, order)

    orders, reached = lax.map(search, (starts, keys))
    return orders[reached.argmax()]


def _steps(units: int) -> int:
    """Steps of annealing, each of half as many exchanges as there are units."""
    return min(units**3, 2**14, max(2**11, 2**19 // units))
