"""How organised a layer is: metrics on its weights or responses, each with what chance would give.

A kernel has its filters on ``grid.axis``. Responses to held-out images are ``(images, units)`` and take the
kernel's place, with ``centre=True`` to make every cosine a Pearson correlation. A matrix of similarities
becomes a kernel by :func:`rows_of_similarity`.
"""

from lgnn_jax.topography.layouts import quantisation_error, topographic_error, trustworthiness
from lgnn_jax.topography.liveness import DeadShare, dead_share, effective_dimension
from lgnn_jax.topography.maps import morans_i, smoothness
from lgnn_jax.topography.null import Score
from lgnn_jax.topography.pairs import (
    DistanceCurve,
    correlation_by_distance,
    distance_correlation,
    neighbour_cosine,
)
from lgnn_jax.topography.rows import filters, rows_of_similarity

__all__ = [
    "DeadShare",
    "DistanceCurve",
    "Score",
    "correlation_by_distance",
    "dead_share",
    "distance_correlation",
    "effective_dimension",
    "filters",
    "morans_i",
    "neighbour_cosine",
    "quantisation_error",
    "rows_of_similarity",
    "smoothness",
    "topographic_error",
    "trustworthiness",
]
