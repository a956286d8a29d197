"""Simulated annealing of an order: random exchanges, many at once, of which ever fewer that lose are made."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lgnn_jax._grid import Grid, distances

_FARTHEST = 9.0  # Squared grid steps; farther neighbours have a weight below 0.007 and are left out.


@functools.lru_cache(maxsize=64)
def _table(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Every position's neighbours ``(units, neighbours)`` and their weights, 0 where there are fewer."""
    square = distances(grid) ** 2
    weights = np.where((square > 0) & (square < _FARTHEST + 1), np.exp(-square / 2), 0)
    most = max(1, (weights > 0).sum(1).max())
    nearest = np.argsort(-weights, axis=1, kind="stable")[:, :most]
    return nearest.astype(np.int32), np.take_along_axis(weights, nearest, axis=1)


def anneal(
    values: jax.Array,
    grid: Grid,
    order: jax.Array,
    live: jax.Array,
    key: jax.Array,
    temperatures: tuple[float, float],
    steps: int,
) -> jax.Array:
    """Metropolis' rule at a temperature that falls geometrically, on disjoint random pairs of live positions.

    A step tries half as many exchanges as there are units; all pairs have their turn as in a round robin. What the
    exchanges of one step do to each other is ignored.

    Args:
      values: Standardised similarities ``(units, units)``, 0 on the diagonal and for dead units.
      grid: The grid.
      order: int32 ``(units,)``, the ``live`` units first.
      live: How many they are.
      key: A PRNG key.
      temperatures: The first and the last, in stds of the similarities.
      steps: How many.
    """
    nearest, weights = (jnp.asarray(x) for x in _table(grid))
    weights = weights.astype(values.dtype)
    between = jnp.asarray(np.exp(-(distances(grid) ** 2) / 2), values.dtype).reshape(-1)
    flat, units = values.reshape(-1), grid.units
    places = jnp.arange(units, dtype=jnp.int32)
    key, shuffle = jax.random.split(key)
    drawn = jax.random.uniform(shuffle, (units,), jnp.float32)
    # Live positions in random order.
    slots = jnp.where(places < live, drawn, 2).argsort().astype(jnp.int32)
    offsets = jnp.arange(1, units // 2 + 1, dtype=jnp.int32)
    ring = jnp.maximum(live, 1).astype(jnp.int32)
    used = offsets <= live // 2
    first, last = temperatures

    def at(array: jax.Array, index: jax.Array) -> jax.Array:
        return array.at[index].get(mode="promise_in_bounds")

    def step(i: jax.Array, order: jax.Array) -> jax.Array:
        p = at(slots, (i + offsets) % ring)
        q = at(slots, (i - offsets + i // ring % 2) % ring)
        u, v = at(order, p), at(order, q)
        rows = (u * units)[:, None], (v * units)[:, None]

        def pull(place: jax.Array, to: jax.Array, away: jax.Array) -> jax.Array:
            """How much more ``to`` than ``away`` is like what is near a place."""
            around = at(order, at(nearest, place))
            return (at(weights, place) * (at(flat, to + around) - at(flat, away + around))).sum(1)

        gain = pull(p, rows[1], rows[0]) + pull(q, rows[0], rows[1])
        gain += 2 * at(flat, u * units + v) * at(between, p * units + q)
        temperature = first * (last / first) ** (jnp.asarray(i, values.dtype) / steps)
        luck = jax.random.exponential(jax.random.fold_in(key, i), gain.shape, jnp.float32)
        accepted = used & (gain > -temperature * luck.astype(values.dtype))
        p, q = jnp.where(accepted, p, units), jnp.where(accepted, q, units)
        return order.at[p].set(v, mode="drop").at[q].set(u, mode="drop")

    return lax.fori_loop(jnp.int32(0), jnp.int32(steps), step, order)
