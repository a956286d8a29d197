"""Every metric of a layer by name: what tables, the atlas and the documentation read."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax

from lgnn_jax._grid import Grid
from lgnn_jax.topography._layouts import distance_preservation_quality, trustworthiness
from lgnn_jax.topography._liveness import dead_share, participation_ratio
from lgnn_jax.topography._maps import morans_i
from lgnn_jax.topography._pairs import correlation_by_distance, distance_correlation, neighbour_cosine
from lgnn_jax.topography._similarity import dead_units


@dataclasses.dataclass(frozen=True)
class Metric:
    """An entry of :data:`METRICS`.

    Args:
      function: ``function(given, grid, *, key, permutations)``, of a scalar ``function(given)``.
      kind: ``"score"`` gives a :class:`Score` and ``"curve"`` a :class:`DistanceCurve`, both with a null;
        ``"scalar"`` a number or a tuple of numbers that relabelling does not change.
      of: ``"weights"`` or ``"responses"``.
      takes: What ``function`` is given: the ``"kernel"`` (filters on the last axis) or the ``"similarity"``
        (cosines) of weights; the ``"similarity"`` (correlations), ``"covariance"``, ``"class means"``,
        ``"selectivity"`` or ``"superclass selectivity"`` (both ``(classes, units)``) of responses.
      meaning: A sentence for people who do not read code.
    """

    function: Callable[..., Any]
    kind: Literal["score", "curve", "scalar"]
    of: Literal["weights", "responses"]
    takes: str
    meaning: str

    def __call__(
        self, given: Any, grid: Grid, *, key: jax.Array | None = None, permutations: int = 1000
    ) -> Any:
        """The metric of a layer, whatever its kind.

        Example:
          >>> import jax.numpy as jnp
          >>> from lgnn_jax import Grid, topography
          >>> metric = topography.METRICS["weights: neighbour cosine"]
          >>> metric.takes, metric(topography.cosines(jnp.eye(4)), Grid((2, 2))).value
          ('similarity', 0.0)
        """
        if self.kind == "scalar":
            return self.function(given)
        return self.function(given, grid, key=key, permutations=permutations)


METRICS: Mapping[str, Metric] = types.MappingProxyType(
    {
        "weights: neighbour cosine": Metric(
            neighbour_cosine,
            "score",
            "weights",
            "similarity",
            "How alike the weights of filters next to each other on the grid are: 1 is the same direction, 0 "
            "unrelated, −1 opposite.",
        ),
        "weights: diagonal cosine": Metric(
            functools.partial(neighbour_cosine, pairs="diagonal"),
            "score",
            "weights",
            "similarity",
            "The same for filters that touch at a corner.",
        ),
        "weights: distance correlation": Metric(
            distance_correlation,
            "score",
            "weights",
            "similarity",
            "Whether filters are the more alike in their weights, the nearer they sit on the grid: 1 is always, "
            "0 no relation.",
        ),
        "weights: trustworthiness": Metric(
            trustworthiness,
            "score",
            "weights",
            "similarity",
            "Whether the filters next to a filter on the grid are those with the most similar weights: 1 is "
            "always, 0.5 chance.",
        ),
        "weights: distance preservation quality": Metric(
            distance_preservation_quality,
            "score",
            "weights",
            "similarity",
            "How near the filters around a filter on the grid come to those with the most similar weights: 1 is "
            "as near as can be, 0 no nearer than any others.",
        ),
        "responses: neighbour correlation": Metric(
            neighbour_cosine,
            "score",
            "responses",
            "similarity",
            "How alike filters next to each other on the grid respond to the test images: 1 is in step, 0 "
            "unrelated, −1 opposite.",
        ),
        "responses: distance correlation": Metric(
            distance_correlation,
            "score",
            "responses",
            "similarity",
            "Whether filters respond the more alike, the nearer they sit on the grid: 1 is always, 0 no "
            "relation.",
        ),
        "responses: distance preservation quality": Metric(
            distance_preservation_quality,
            "score",
            "responses",
            "similarity",
            "How near the filters around a filter on the grid come to those that respond most alike: 1 is as "
            "near as can be, 0 no nearer than any others.",
        ),
        "responses: Moran's I of class means": Metric(
            morans_i,
            "score",
            "responses",
            "class means",
            "Whether the average response to a class is alike at filters next to each other: 1 is smooth, 0 "
            "scattered, −1 a chessboard.",
        ),
        "responses: Moran's I of selectivity": Metric(
            morans_i,
            "score",
            "responses",
            "selectivity",
            "Whether filters that prefer a class sit together: 1 is in one place, 0 scattered, −1 a "
            "chessboard.",
        ),
        "responses: Moran's I of superclass selectivity": Metric(
            morans_i,
            "score",
            "responses",
            "superclass selectivity",
            "Whether filters that prefer a group of classes sit together: 1 is in one place, 0 scattered, −1 a "
            "chessboard.",
        ),
        "weights: dead filters": Metric(
            dead_share,
            "scalar",
            "weights",
            "kernel",
            "The share of filters whose weights are zero, or nearly so beside the others'.",
        ),
        "responses: constant units": Metric(
            dead_units,
            "scalar",
            "responses",
            "similarity",
            "How many filters respond to all test images alike.",
        ),
        "responses: effective dimension": Metric(
            participation_ratio,
            "scalar",
            "responses",
            "covariance",
            "In how many directions the responses vary: 1 where all filters respond alike.",
        ),
        "weights: correlation by distance": Metric(
            correlation_by_distance,
            "curve",
            "weights",
            "similarity",
            "How alike the weights of filters are, by how far apart they sit on the grid.",
        ),
    }
)
