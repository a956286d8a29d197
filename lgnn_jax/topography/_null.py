"""The permutation null that all metrics share: the same metric after relabelling the units at random.

Relabelling leaves the grid where it is and moves a matrix's rows and columns. Most metrics are a weighted sum
over pairs of units, which :func:`pair_sums` computes for all relabellings at once.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lgnn_jax._random import generator

_NO_SPREAD = 1e-6  # A null's std that is rounding alone; also by how much two equal values may differ.


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Score:
    """A metric and its permutation null, the same metric after relabelling the units at random.

    Args:
      value: The metric.
      samples: Its values after random relabellings, float64 ``(permutations,)``; None where no key was given.
      left_out: What the metric could not use: dead units, constant maps.
      side: On which side of the null organised layouts lie: ``"greater"`` or ``"less"``.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import topography
      >>> score = topography.Score(3.0, samples=np.array([-1.0, 1.0, -1.0, 1.0]))
      >>> score.mean, score.z, score.p
      (0.0, 3.0, 0.2)
      >>> print(score)
      Score(value=3, mean=0, low=-1, high=1, z=3, p=0.2, left_out=0)
    """

    value: float
    samples: np.ndarray | None = None
    left_out: int = 0
    side: Literal["greater", "less"] = "greater"

    @property
    def mean(self) -> float | None:
        """The null's mean."""
        return None if self.samples is None else float(self.samples.mean())

    @property
    def low(self) -> float | None:
        """Where the null's central 95 % begin."""
        return None if self.samples is None else float(np.quantile(self.samples, 0.025))

    @property
    def high(self) -> float | None:
        """Where they end."""
        return None if self.samples is None else float(np.quantile(self.samples, 0.975))

    @property
    def z(self) -> float | None:
        """The value's distance from the null's mean in its stds; 0 where no relabelling changes the value."""
        if self.samples is None:
            return None
        std = float(self.samples.std())
        return (self.value - float(self.samples.mean())) / std if std > _NO_SPREAD else 0.0

    @property
    def p(self) -> float | None:
        """``(1 + samples as extreme) / (1 + samples)``, on the side of organised layouts."""
        if self.samples is None:
            return None
        excess = self.samples - self.value if self.side == "greater" else self.value - self.samples
        return (1 + int((excess >= -_NO_SPREAD).sum())) / (1 + len(self.samples))

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON, without the samples.

        Example:
          >>> from lgnn_jax import topography
          >>> list(topography.Score(0.5).summary())
          ['value', 'null_mean', 'null_low', 'null_high', 'z', 'left_out', 'p']
        """
        return {
            "value": self.value,
            "null_mean": self.mean,
            "null_low": self.low,
            "null_high": self.high,
            "z": self.z,
            "left_out": self.left_out,
            "p": self.p,
        }

    def __repr__(self) -> str:
        null = "" if self.samples is None else "mean low high z p"
        fields = " ".join(["value", null, "left_out"]).split()
        return f"Score({', '.join(f'{name}={getattr(self, name):.6g}' for name in fields)})"


def check_permutations(permutations: int) -> None:
    """Raises ``ValueError`` for anything but two relabellings or more; fewer have no spread."""
    if not hasattr(permutations, "__index__") or permutations < 2:
        raise ValueError(f"permutations must be at least 2, got {permutations!r}.")


def orders(key: jax.Array | None, permutations: int, alive: np.ndarray) -> np.ndarray:
    """The order as it is, then random ones: ``(1 + permutations, units)``, 1 row where there is no key.

    Only the units that are ``alive`` change places, so that every order has the same pairs of live units.
    They are shuffled by NumPy: XLA takes seconds to compile a sort, once for every width.
    """
    check_permutations(permutations)
    original = np.arange(alive.size, dtype=np.int32)[None]
    if key is None:
        return original
    live = np.flatnonzero(alive).astype(np.int32)
    numbers = np.tile(np.arange(live.size, dtype=np.int32), (permutations, 1))
    relabelled = np.repeat(original, permutations, axis=0)
    relabelled[:, live] = live[generator(key).permuted(numbers, axis=1)]
    return np.concatenate([original, relabelled])


def pair_sums(
    matrix: np.ndarray, first: np.ndarray, second: np.ndarray, weights: np.ndarray, orders: np.ndarray
) -> np.ndarray:
    """``sum_p weights[..., p] * matrix[order[first[..., p]], order[second[..., p]]]`` for every order.

    Args:
      matrix: ``(units, units)``, between the contents of the units.
      first: Integers ``(..., pairs)``, the units of each pair.
      second: As ``first``.
      weights: ``(..., pairs)``; 0 leaves a pair out.
      orders: ``(count, units)``, which content sits at which unit.

    Returns:
      Float64 ``(count, ...)``, summed in float32.
    """
    arrays = (jnp.asarray(values, jnp.float32) for values in (matrix, weights))
    indices = (jnp.asarray(units, jnp.int32) for units in (first, second, orders))
    return np.asarray(_pair_sums(*arrays, *indices), np.float64)


@jax.jit
def _pair_sums(
    matrix: jax.Array, weights: jax.Array, first: jax.Array, second: jax.Array, orders: jax.Array
) -> jax.Array:
    def one(order):
        return (matrix[order[first], order[second]] * weights).sum(-1)

    batch = max(1, min(50, 2**24 // max(1, first.size)))  # At most 64 MiB of gathered floats.
    return lax.map(one, orders, batch_size=batch)


def score(values: np.ndarray, left_out: int = 0, side: Literal["greater", "less"] = "greater") -> Score:
    """The first value, with the others, if there are any, as its null.

    Raises:
      ValueError: If the null has no spread.
    """
    value, samples = float(values[0]), np.asarray(values[1:], np.float64)
    if not samples.size:
        return Score(value, left_out=left_out, side=side)
    check_spread(samples)
    return Score(value, samples, left_out, side)


def check_spread(samples: np.ndarray) -> None:
    """Raises ``ValueError`` where no relabelling changes anything; samples are ``(permutations, ...)``."""
    if not samples.std(axis=0).max() > _NO_SPREAD:
        raise ValueError(
            f"Every relabelling of the units gives the same value ({samples.mean(axis=0).flat[0]:.6g}), so "
            "nothing can exceed chance. Give a layer whose filters differ and a grid on which not all units "
            "are neighbours alike, or no key for the value alone."
        )
