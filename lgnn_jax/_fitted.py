"""What a metric of a fitted order is worth: the null fits one to shuffled observations likewise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from lgnn_jax._arrange import arrange
from lgnn_jax._grid import Grid
from lgnn_jax._random import generator
from lgnn_jax._tree import unboxed
from lgnn_jax.topography._null import Score, check_permutations, score
from lgnn_jax.topography._pairs import neighbour_cosine
from lgnn_jax.topography._similarity import check_finite, correlations


def fitted_score(
    observations: jax.typing.ArrayLike,
    grid: Grid,
    metric: Callable[..., Score] = neighbour_cosine,
    *,
    key: jax.Array,
    similarity: Callable[[Any], jax.Array] = correlations,
    permutations: int = 100,
) -> Score:
    """A metric of the order that :func:`arrange` fits to observations, against orders fitted to shuffled ones.

    An order fitted to a similarity makes neighbours alike in pure noise too, and the relabelling null of the
    metrics does not see that. Here every sample of the null shuffles the observations of each unit on their own,
    which keeps each unit's distribution and leaves no relation between units, and arranges them anew. The value
    and the samples are in-sample numbers. How the order does elsewhere tells the metric itself, of held-out
    observations: ``metric(similarity(held_out)[order][:, order], grid, key=key)``.

    Args:
      observations: ``(observations, units)``: responses to images, or weights with a row a weight of the filter.
      grid: Where the units go.
      metric: ``metric(similarity, grid)``, one of ``topography`` that gives a :class:`Score`.
      key: A PRNG key for the shuffles.
      similarity: From observations to ``(units, units)``: ``topography.correlations`` of responses,
        ``topography.cosines`` of weights.
      permutations: Shuffles of the null, each arranged anew, at least 2.

    Returns:
      A :class:`Score` whose ``samples`` are of fitted orders, ``(permutations,)``.

    Raises:
      ValueError: If the observations are not ``(observations, units)``, hold NaN or infinities or do not fit
        the grid; if ``permutations`` is below 2; whatever ``metric`` refuses.

    Example:
      >>> import jax, numpy as np
      >>> from lgnn_jax import Grid, fitted_score, topography
      >>> grid, noise = Grid((4, 3)), np.random.default_rng(0).standard_normal((20, 12))
      >>> found = fitted_score(noise, grid, key=jax.random.key(0), permutations=20)
      >>> found.low < found.value < found.high, found.mean > 0.1
      (True, True)
    """
    check_permutations(permutations)
    values = np.array(unboxed(observations))
    if values.ndim != 2:
        raise ValueError(
            f"observations must be (observations, units), got shape {values.shape}. Average responses over space; "
            "of a kernel give topography.filters(kernel).T."
        )
    check_finite(values, "observations hold")
    draw = generator(key)

    def fitted(observed: np.ndarray) -> Score:
        matrix = np.asarray(similarity(observed))
        order = np.asarray(arrange(matrix, grid))
        return metric(matrix[order][:, order], grid)

    first = fitted(values)
    samples = [fitted(draw.permuted(values, axis=0)).value for _ in range(permutations)]
    return score(np.array([first.value, *samples]), first.left_out, first.side)
