"""How images stand among a data set's."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from lgnn_jax.inspect._accumulate import Responses
from lgnn_jax.inspect._checks import filled, layer_of, positive, unit_range
from lgnn_jax.inspect._feature_vis._optimisation import FeatureVisualisation


def mean_activations(responses: Responses, layer: str, images: Any, *, batch: int = 256) -> np.ndarray:
    """How much every image activates every channel: the means over space of a layer's maps.

    The last batch is filled up with the first image, so that ``responses`` sees one shape.

    Args:
      responses: As for :func:`visualise`; it need not be differentiable.
      layer: A name that ``responses`` returns.
      images: In [0, 1], floats ``(images, height, width, channels)``, or uint8, which is divided by 255.
      batch: Images at a time, positive.

    Returns:
      float32 ``(images, units)``.

    Raises:
      ValueError: If an image is not in [0, 1], there is none, or a response is NaN or infinite.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax.inspect import mean_activations
      >>> images = np.linspace(0, 1, 4, dtype=np.float32).reshape(2, 2, 1, 1)
      >>> mean_activations(lambda x: {"input": 3 * x}, "input", images).tolist()
      [[0.5], [2.5]]
    """
    count = len(images)
    if not count:
        raise ValueError("images must hold at least one image, got none.")
    batch = min(positive("batch", batch), count)
    found = []
    for start in range(0, count, batch):
        stop = min(start + batch, count)
        maps = layer_of(responses(unit_range(filled(images, start, stop, batch))), layer)
        means = np.asarray(maps, np.float32).reshape(batch, -1, maps.shape[-1]).mean(1)[: stop - start]
        if not np.isfinite(means).all():
            image, unit = np.argwhere(~np.isfinite(means))[0]
            raise ValueError(
                f"Responses of {layer!r} are NaN or infinite, first unit {unit} to image {start + image}."
            )
        found.append(means)
    return np.concatenate(found)


class Beyond(NamedTuple):
    """How channels' images stand among a data set's; made by :func:`share_beyond`."""

    units: np.ndarray  # The channels, integers (count,).
    percentile: (
        np.ndarray
    )  # Images in % that activate the channel less than its image; NaN if dead, (count,).
    beyond: (
        np.ndarray
    )  # Whether the image activates its channel beyond the quantile; False if dead, (count,).
    share: float  # Of channels that are not dead, those beyond, in [0, 1]; NaN if all are dead.


def share_beyond(
    visualisation: FeatureVisualisation,
    responses: Responses,
    images: Any,
    quantile: float = 0.99,
    *,
    batch: int = 256,
) -> Beyond:
    """Which channels' images activate them more than nearly all images of a data set do.

    Activation is the mean over space, of images without transforms.

    Args:
      visualisation: A layer's.
      responses: As :func:`visualise` had it.
      images: As for :func:`mean_activations`; test images.
      quantile: Of the images' activations, in [0, 1].
      batch: Images at a time, positive.

    Returns:
      See :class:`Beyond`.

    Raises:
      ValueError: If the quantile is out of range, or as :func:`mean_activations`.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax.inspect import FeatureVisualisation, share_beyond
      >>> images, one = np.full((1, 2, 2, 1), 0.8, np.float32), np.ones(1)
      >>> made = FeatureVisualisation("input", np.array([0]), images, one, one, one < 0)
      >>> images = np.linspace(0, 1, 8, dtype=np.float32).reshape(8, 1, 1, 1) * np.ones((1, 2, 2, 1), np.float32)
      >>> share_beyond(made, lambda x: {"input": x}, images, quantile=0.5).percentile.tolist()
      [75.0]
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile must be from 0 to 1, got {quantile!r}.")
    layer, units, dead = visualisation.layer, visualisation.units, visualisation.dead
    seen = mean_activations(responses, layer, images, batch=batch)
    made = mean_activations(responses, layer, visualisation.images, batch=batch)
    if units.max() >= seen.shape[1]:
        raise ValueError(
            f"The visualisation is of unit {units.max()}, but {layer!r} has {seen.shape[1]} units. Give the "
            "responses that it was made with."
        )
    seen, made = seen[:, units], made[np.arange(len(units)), units]
    beyond = (made > np.quantile(seen, quantile, axis=0)) & ~dead
    percentile = np.where(dead, np.nan, 100 * (seen < made[None]).mean(0))
    share = float(beyond.sum() / (~dead).sum()) if not dead.all() else math.nan
    return Beyond(units, percentile, beyond, share)
