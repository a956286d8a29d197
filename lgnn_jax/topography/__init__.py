"""How organised a layer is: metrics on its weights or responses, each with what chance would give.

Metrics take a similarity ``(units, units)``, computed once: ``cosines(kernel)`` of weights,
``correlations(responses)`` of responses to held-out images ``(images, units)``. Moran's I takes maps
``(..., units)``. :data:`METRICS` has by name those that tables and pages show.
"""

from lgnn_jax.topography._layouts import distance_preservation_quality, trustworthiness
from lgnn_jax.topography._liveness import (
    DeadShare,
    dead_share,
    effective_dimension,
    participation_ratio,
)
from lgnn_jax.topography._maps import morans_i, smoothness
from lgnn_jax.topography._null import Score
from lgnn_jax.topography._pairs import (
    DistanceCurve,
    correlation_by_distance,
    distance_correlation,
    neighbour_cosine,
)
from lgnn_jax.topography._registry import METRICS, Metric
from lgnn_jax.topography._similarity import correlations, cosines, dead_units, filters
from lgnn_jax.topography._som import quantisation_error, topographic_error

__all__ = [
    "METRICS",
    "DeadShare",
    "DistanceCurve",
    "Metric",
    "Score",
    "correlation_by_distance",
    "correlations",
    "cosines",
    "dead_share",
    "dead_units",
    "distance_correlation",
    "distance_preservation_quality",
    "effective_dimension",
    "filters",
    "morans_i",
    "neighbour_cosine",
    "participation_ratio",
    "quantisation_error",
    "smoothness",
    "topographic_error",
    "trustworthiness",
]
