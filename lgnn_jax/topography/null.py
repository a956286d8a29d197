"""The permutation null that all metrics share: sums over pairs of units, relabelled at random.

Every metric with a null is a weighted sum over pairs of units of some matrix between their contents, so
relabelling leaves the weights where they are and moves the matrix's rows and columns.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class Score(NamedTuple):
    """A metric and its permutation null, the same metric after relabelling the units at random.

    The null's fields are None where no key was given. ``null_low`` to ``null_high`` is its central 95 %,
    and ``z`` the value's distance from ``null_mean`` in standard deviations of the null. ``left_out``
    counts what the metric could not use: filters or units without a direction, maps without a spread.
    """

    value: float
    null_mean: float | None = None
    null_low: float | None = None
    null_high: float | None = None
    z: float | None = None
    left_out: int = 0


def check_permutations(permutations: int) -> None:
    """Raises ``ValueError`` for fewer than two relabellings, which have no spread."""
    if permutations < 2:
        raise ValueError(f"permutations must be at least 2, got {permutations!r}.")


def orders(key: jax.Array | None, permutations: int, alive: np.ndarray) -> np.ndarray:
    """The order as it is, then random ones: ``(1 + permutations, units)``, 1 row where there is no key.

    Only the units that are ``alive`` change places, so that every order has the same pairs of live units.
    """
    check_permutations(permutations)
    original = np.arange(alive.size, dtype=np.int32)[None]
    if key is None:
        return original
    live = np.flatnonzero(alive).astype(np.int32)
    relabelled = np.repeat(original, permutations, axis=0)
    relabelled[:, live] = live[_relabellings(key, permutations, live.size)]
    return np.concatenate([original, relabelled])


def _relabellings(key: jax.Array, permutations: int, units: int) -> np.ndarray:
    """Random orders of the units, ``(permutations, units)``, decided by ``key``.

    Shuffled by NumPy: XLA takes seconds to compile a sort, once for every width.
    """
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    words = np.asarray(jax.random.key_data(key) if typed else key).ravel()
    generator = np.random.default_rng([int(word) for word in words])
    return generator.permuted(np.tile(np.arange(units, dtype=np.int32), (permutations, 1)), axis=1)


@jax.jit
def pair_sums(
    matrix: jax.Array, first: jax.Array, second: jax.Array, weights: jax.Array, orders: jax.Array
) -> jax.Array:
    """``sum_p weights[..., p] * matrix[order[first[..., p]], order[second[..., p]]]`` for every order.

    Args:
      matrix: ``(units, units)``, between the contents of the units.
      first: Integers ``(..., pairs)``, the units of each pair.
      second: As ``first``.
      weights: ``(..., pairs)``; 0 leaves a pair out.
      orders: ``(count, units)``, which content sits at which unit.

    Returns:
      ``(count, ...)``.
    """

    def one(order):
        return (matrix[order[first], order[second]] * weights).sum(-1)

    batch = max(1, min(50, 2**24 // max(1, first.size)))  # At most 64 MiB of gathered floats.
    return lax.map(one, orders, batch_size=batch)


def score(values: np.ndarray, left_out: int = 0) -> Score:
    """The first value, with the mean, central 95 % and z of the others if there are any.

    Raises:
      ValueError: If the null has no spread.
    """
    values = np.asarray(values, np.float64)
    value, null = float(values[0]), values[1:]
    if not null.size:
        return Score(value, left_out=left_out)
    mean, deviation = float(null.mean()), float(null.std())
    if not deviation > 1e-6:
        raise ValueError(
            f"Every relabelling of the units gives the same value ({mean:.6g}), so nothing can exceed "
            "chance. Give a layer whose filters differ and a grid on which not all units are neighbours "
            "alike, or no key for the value alone."
        )
    low, high = (float(bound) for bound in np.quantile(null, (0.025, 0.975)))
    return Score(value, mean, low, high, (value - mean) / deviation, left_out)
