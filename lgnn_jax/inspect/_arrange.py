"""An order for every layer of a network, from what its units respond to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from lgnn_jax._arrange import arrange as arranged
from lgnn_jax._grid import Grid
from lgnn_jax.inspect._accumulate import accumulate
from lgnn_jax.inspect._network._network import Network
from lgnn_jax.inspect._statistics import ResponseStatistics


def arrange(
    network: Network,
    images: Any,
    *,
    batch: int = 256,
    key: jax.Array | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, np.ndarray]:
    """An order for every layer that puts units next to each other that respond alike to images.

    An order is fitted to the correlations of responses. What is measured of it on the same images is an in-sample
    number: take other images for that.

    Args:
      network: The network.
      images: Images to fit on, at least two, as they are shown.
      batch: Images at a time, positive.
      key: A PRNG key for four starts, as of :func:`lgnn_jax.arrange`; folded with the layer's position.
      progress: Called as ``progress(done, total)`` with numbers of images and, after them, of layers.

    Returns:
      By layer an order ``(units,)``: ``order[p]`` is the unit at position ``p`` of the layer's grid.

    Raises:
      ValueError: As :meth:`Network.layers` and :func:`lgnn_jax.inspect.accumulate` do.

    Example:
      >>> import jax.numpy as jnp, numpy as np
      >>> from lgnn_jax import inspect
      >>> turn = jnp.array([0.0, 2.0, 1.0, 3.0]) / 2  # Units that turn from red to green, out of order.
      >>> network = inspect.function(
      ...     lambda w, x: {"colours": x @ w}, jnp.stack([jnp.cos(turn), jnp.sin(turn)]), grids={"colours": (4,)}
      ... )
      >>> images = np.random.default_rng(0).random((50, 1, 1, 2))
      >>> inspect.arrange(network, images)["colours"].tolist() in ([0, 2, 1, 3], [3, 1, 2, 0])
      True
    """
    layers, total = network.layers(images), len(images)
    whole = total + len(layers)
    seen = accumulate(
        network.reader(images),
        np.arange(total),
        np.zeros(total, np.int64),
        classes=1,
        batch=batch,
        top=1,
        progress=None if progress is None else lambda done, _: progress(done, whole),
    )
    grids = {layer.path: layer.grid for layer in layers}
    return orders_of(
        grids, seen, key, None if progress is None else lambda done, _: progress(total + done, whole)
    )


def orders_of(
    grids: Mapping[str, Grid],
    statistics: Mapping[str, ResponseStatistics],
    key: jax.Array | None,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, np.ndarray]:
    """The order of every layer by the correlations of its responses."""
    found = {}
    for at, (name, grid) in enumerate(grids.items()):
        of_layer = None if key is None else jax.random.fold_in(key, at)
        found[name] = np.asarray(arranged(statistics[name].similarity, grid, key=of_layer))
        if progress is not None:
            progress(at + 1, len(grids))
    return found
