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
from lgnn_jax.inspect._capture import linen_responses, linen_silencer, nnx_responses
from lgnn_jax.inspect._feature_vis import (
    LUCID,
    SMALL,
    Beyond,
    FeatureVisualisation,
    Setting,
    excitation,
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
from lgnn_jax.inspect._probe import Probe, linear_probe, pool_blocks
from lgnn_jax.inspect._regions import Region, SilenceEffect, per_class_accuracy, regions, silence_effect
from lgnn_jax.inspect._statistics import ResponseStatistics, class_maps

__all__ = [
    "LUCID",
    "SMALL",
    "Beyond",
    "FeatureVisualisation",
    "Magnitudes",
    "Probe",
    "Region",
    "ResponseStatistics",
    "Responses",
    "Setting",
    "SilenceEffect",
    "accumulate",
    "atlas",
    "class_maps",
    "cosine_by_offset",
    "cosine_maps",
    "excitation",
    "gram_maps",
    "linear_probe",
    "linen_responses",
    "linen_silencer",
    "magnitudes",
    "nnx_responses",
    "per_class_accuracy",
    "plots",
    "pool_blocks",
    "regions",
    "share_beyond",
    "silence_effect",
    "tiles",
    "visualise",
]
