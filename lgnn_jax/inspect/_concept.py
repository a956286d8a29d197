"""Which units respond to a concept: images with it beside images without it."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from lgnn_jax._random import generator
from lgnn_jax.inspect._checks import permutation, positive

_BATCH = 1000  # Shuffles at a time.
_ROUNDING = 1e-9  # Of a unit's largest deviation; two differences that are nearer are equal.


@dataclasses.dataclass(frozen=True, eq=False)
class Concept:
    """What a concept does to the units of a layer; made by :func:`concept`. All are ``(units,)``.

    Args:
      difference: Mean activation to images with the concept, less that to images without it.
      std: Standard deviation of that difference when images are with or without it at random.
      p: The share of such differences that are as far from 0, the images themselves counted.
      q: The false discovery rate at which the unit is found, by Benjamini and Hochberg.
    """

    difference: np.ndarray
    std: np.ndarray
    p: np.ndarray
    q: np.ndarray

    @property
    def z(self) -> np.ndarray:
        """The difference in its stds by chance, which can be compared between units; 0 of a constant unit."""
        return np.divide(self.difference, self.std, out=np.zeros_like(self.difference), where=self.std > 0)

    @property
    def direction(self) -> np.ndarray:
        """The concept activation vector of FastCAV: the difference at length 1; zeros where there is none."""
        length = np.linalg.norm(self.difference)
        return self.difference / length if length > 0 else self.difference

    def units(self, rate: float = 0.05) -> np.ndarray:
        """Indices of the units found, ascending; in the mean a share of ``rate`` of them or less is by chance."""
        if not 0 < rate < 1:
            raise ValueError(f"rate must be a share between 0 and 1, such as 0.05, got {rate!r}.")
        return np.flatnonzero(self.q <= rate)

    def reordered(self, order: Any) -> Concept:
        """The same of the units in another order, ``order[p]`` the unit that comes to place ``p``.

        Raises:
          ValueError: If it is no permutation of the units.
        """
        order = permutation(order, len(self.q), "the concept")
        return Concept(*(getattr(self, field.name)[order] for field in dataclasses.fields(self)))


def concept(
    present: jax.typing.ArrayLike,
    absent: jax.typing.ArrayLike,
    *,
    key: jax.Array,
    permutations: int = 10_000,
) -> Concept:
    """Which units respond to a concept, such as stripes: the difference of mean activations, beside chance.

    Chance shuffles which images have the concept. A unit is tested on both sides: it may respond more, or less.

    Args:
      present: Activations to images with the concept, ``(images, units)``, or maps ``(images, ..., units)`` whose
        mean over space counts; at least two images.
      absent: Those to images without it, likewise; as like the others as can be but for the concept.
      key: A PRNG key for the shuffles.
      permutations: Shuffles, at least 100. No p is below ``1 / (1 + permutations)``, and none below that of all
        ways to choose the images: few of either find nothing. One unit of ``n`` is found at a rate of ``r`` only
        if its p is below ``r / n``.

    Returns:
      A :class:`Concept`.

    Raises:
      ValueError: If sets are no activations of the same units with two images, hold NaN or infinities, or
        ``permutations`` is below 100.

    Example:
      >>> import jax, numpy as np
      >>> from lgnn_jax.inspect import concept
      >>> draw = np.random.default_rng(0)
      >>> striped, plain = draw.standard_normal((20, 6)), draw.standard_normal((30, 6))
      >>> striped[:, 2] += 2  # Unit 2 responds to stripes.
      >>> found = concept(striped, plain, key=jax.random.key(0))
      >>> found.units().tolist(), found.q.shape
      ([2], (6,))

    Source:
      Schmalwasser et al., "FastCAV", ICML 2025 (the difference of means); Benjamini and Hochberg, "Controlling
      the false discovery rate", Journal of the Royal Statistical Society B 57, 1995.
    """
    permutations = positive("permutations", permutations)
    if permutations < 100:
        raise ValueError(f"permutations must be at least 100, got {permutations}.")
    first, second = _activations("present", present), _activations("absent", absent)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"present and absent must be of the same units, got {first.shape[1]} and {second.shape[1]}."
        )
    count, total = len(first), len(first) + len(second)
    both = np.concatenate([first, second])
    both = both - both.mean(0)
    both[:, np.ptp(np.concatenate([first, second]), axis=0) == 0] = 0
    weights = np.repeat([1 / count, -1 / len(second)], [count, len(second)])
    difference = weights @ both
    least = np.abs(difference) - _ROUNDING * np.abs(both).max(0)
    draw, beyond, squares = generator(key), np.ones(both.shape[1]), np.zeros(both.shape[1])
    for start in range(0, permutations, _BATCH):
        size = min(_BATCH, permutations - start)
        shuffled = draw.permuted(np.broadcast_to(weights, (size, total)), axis=1) @ both
        beyond += (np.abs(shuffled) >= least).sum(0)
        squares += (shuffled**2).sum(0)
    p = beyond / (1 + permutations)
    return Concept(difference, np.sqrt(squares / permutations), p, _false_discovery_rates(p))


def _activations(name: str, given: Any) -> np.ndarray:
    """Activations in float64, ``(images, units)``, means over space."""
    values = np.asarray(given, np.float64)
    if values.ndim < 2 or len(values) < 2 or 0 in values.shape:
        raise ValueError(
            f"{name} must be (images, units) or (images, ..., units) with at least two images, got shape "
            f"{values.shape}."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds NaN or infinite activations; give finite ones.")
    return values.reshape(len(values), -1, values.shape[-1]).mean(1)


def _false_discovery_rates(p: np.ndarray) -> np.ndarray:
    """The p adjusted by Benjamini and Hochberg: the rate at which each is rejected."""
    order = np.argsort(p)
    rates = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(rates[::-1])[::-1], 1)
    return adjusted
