"""Looking inside trained networks; needs the ``inspect`` extra (matplotlib and pillow)."""

try:
    import matplotlib as _matplotlib  # noqa: F401
    import PIL as _pillow  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        f'lgnn_jax.inspect needs {error.name}, which its extra brings: pip install "lgnn_jax[inspect]"'
    ) from None

from lgnn_jax.inspect import atlas, plots
from lgnn_jax.inspect._accumulate import Responses, accumulate
from lgnn_jax.inspect._arrange import arrange
from lgnn_jax.inspect._capture import linen_ablated, linen_responses, nnx_responses
from lgnn_jax.inspect._concept import Concept, concept
from lgnn_jax.inspect._feature_vis import (
    LUCID,
    SMALL,
    Beyond,
    FeatureVisualisation,
    Setting,
    mean_activations,
    share_beyond,
    visualise,
)
from lgnn_jax.inspect._filters import (
    Magnitudes,
    cosine_by_offset,
    cosine_maps,
    gram_maps,
    magnitudes,
    tiles,
)
from lgnn_jax.inspect._measure import measure
from lgnn_jax.inspect._network._arrays import arrays
from lgnn_jax.inspect._network._equinox import equinox
from lgnn_jax.inspect._network._function import function
from lgnn_jax.inspect._network._haiku import haiku
from lgnn_jax.inspect._network._linen import linen
from lgnn_jax.inspect._network._network import Layer, Network
from lgnn_jax.inspect._network._nnx import nnx
from lgnn_jax.inspect._probe import Probe, linear_probe, pool_blocks
from lgnn_jax.inspect._region_null import RegionScores, group_region_scores, region_scores
from lgnn_jax.inspect._regions import (
    Ablation,
    Region,
    ablate,
    label_regions,
    per_class_accuracy,
    preferred,
    regions,
)
from lgnn_jax.inspect._statistics import ResponseStatistics, class_maps

__all__ = [
    "LUCID",
    "SMALL",
    "Beyond",
    "Concept",
    "FeatureVisualisation",
    "Layer",
    "Magnitudes",
    "Network",
    "Probe",
    "Region",
    "RegionScores",
    "ResponseStatistics",
    "Responses",
    "Setting",
    "Ablation",
    "accumulate",
    "arrange",
    "arrays",
    "atlas",
    "class_maps",
    "concept",
    "cosine_by_offset",
    "cosine_maps",
    "mean_activations",
    "measure",
    "equinox",
    "function",
    "gram_maps",
    "group_region_scores",
    "label_regions",
    "haiku",
    "linear_probe",
    "linen",
    "linen_responses",
    "linen_ablated",
    "magnitudes",
    "nnx",
    "nnx_responses",
    "per_class_accuracy",
    "plots",
    "pool_blocks",
    "preferred",
    "region_scores",
    "regions",
    "share_beyond",
    "ablate",
    "tiles",
    "visualise",
]
