"""Weights and activations that were computed elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from lgnn_jax.inspect._modules import Calls
from lgnn_jax.inspect._network._network import Grids, Network, Reader


def arrays(
    layers: Mapping[str, Any],
    *,
    kernels: Mapping[str, Any] | None = None,
    axis: int = -1,
    logits: Any = None,
    grids: Grids | None = None,
    channels_first: bool = False,
    title: str | None = None,
) -> Network:
    """A network of which activations were computed elsewhere, such as by PyTorch.

    Args:
      layers: By name the activations on all images that are shown, in their order: ``(images, ..., units)``, or
        with ``channels_first`` ``(images, units, ...)``. Averages over space serve as well as maps; of those
        the image that excites a unit most is chosen by its average.
      kernels: Weights by layer, of those that have some.
      axis: The axis of the weights that counts the units: -1 for HWIO, 0 for PyTorch's OIHW.
      logits: What the network says of the images, ``(images, classes)``; None where that is not known.
      grids: As of :func:`lgnn_jax.inspect.linen`.
      channels_first: Whether units are on axis 1, as PyTorch has them.
      title: Its name on a page.

    Returns:
      A :class:`Network`. It runs on nothing else, so that it cannot be visualised.

    Raises:
      ValueError: If layers are no mapping of arrays ``(images, ..., units)`` of one number of images, a
        kernel or a grid does not fit or is of no layer, or there are not as many logits.

    Example:
      >>> import numpy as np
      >>> from lgnn_jax import inspect
      >>> found = {"conv": np.zeros((10, 8, 4, 4)), "pooled": np.zeros((10, 6))}  # Ten images.
      >>> network = inspect.arrays(found, kernels={"conv": np.zeros((8, 3, 3, 3))}, axis=0, channels_first=True)
      >>> [(layer.path, layer.grid.shape) for layer in network.layers(np.zeros((10, 9, 9, 3)))]
      [('conv', (4, 2)), ('pooled', (3, 2))]
    """
    return _Arrays(_Given(layers, kernels, axis, logits, channels_first), title or "network", grids)


class _Given:
    """A :class:`Source` of arrays."""

    state: Any = None
    absent = ""  # Unknown names are refused before.

    def __init__(self, layers: Any, kernels: Any, axis: int, logits: Any, channels_first: bool):
        if not isinstance(layers, Mapping) or not layers:
            raise ValueError(
                f"layers must map names to activations (images, ..., units), at least one, got "
                f"{type(layers).__name__}."
            )
        first = channels_first
        self.maps = {
            name: np.moveaxis(np.asarray(x), 1, -1) if first else np.asarray(x)
            for name, x in layers.items()
            if np.ndim(x) >= 2
        }
        for name, x in layers.items():
            if np.ndim(x) < 2 or 0 in np.shape(x) or not np.issubdtype(np.asarray(x).dtype, np.number):
                raise ValueError(
                    f"Activations of {name!r} must be numbers (images, ..., units), got shape {np.shape(x)} of "
                    f"{np.asarray(x).dtype}."
                )
        counts = {name: len(x) for name, x in self.maps.items()}
        self.count = next(iter(counts.values()))
        if logits is not None:
            counts["logits"] = len(logits)
        if len(set(counts.values())) > 1:
            raise ValueError(f"Activations must be of the same images, got {counts} of them.")
        self.logits = None if logits is None else np.asarray(logits)
        if self.logits is not None and self.logits.ndim != 2:
            raise ValueError(f"logits must be (images, classes), got shape {self.logits.shape}.")
        self._kernels, self._axis = dict(kernels or {}), axis
        for name, kernel in self._kernels.items():
            if name not in self.maps:
                raise ValueError(
                    f"kernels name {name!r}, which is no layer. Layers: {', '.join(self.maps)}."
                )
            shape, units = np.shape(kernel), self.maps[name].shape[-1]
            if not -len(shape) <= axis < len(shape) or shape[axis] != units:
                raise ValueError(
                    f"The kernel of {name!r} must have its {units} units on axis {axis}, got shape {shape}. Say by "
                    "axis= where they are, and by channels_first= where those of activations are."
                )

    def chosen(self, layers: Iterable[str] | None) -> dict[str, str]:
        """The names asked for; None for all."""
        names = list(self.maps) if layers is None else list(layers)
        for name in names:
            if name not in self.maps:
                raise ValueError(f"Unknown layer {name!r}. Known: {', '.join(self.maps)}.")
        return {name: name for name in names}

    def beside(self, calls: Calls) -> dict[str, str]:
        """Nothing."""
        return {}

    def kernel(self, path: str, units: int) -> tuple[Any, int] | None:
        """The weights that were given."""
        return (self._kernels[path], self._axis) if path in self._kernels else None

    def see(self, state: Any, images: Any) -> Calls:
        """Nothing is run."""
        raise ValueError(
            "This network has activations that were computed elsewhere, so it runs on no image."
        )


class _Arrays(Network):
    """Activations by index instead of by image."""

    _source: _Given

    def __init__(self, source: _Given, title: str, grids: Grids | None):
        super().__init__(source, title, None, grids, None, True, False)

    def _traced(self, images: Any) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
        if len(images) != self._source.count:
            raise ValueError(
                f"{self.title!r} has activations on {self._source.count} images, but there are {len(images)}. Give "
                "those of all images, in their order."
            )
        return {name: x.shape for name, x in self._source.maps.items()}, {}

    def reader(self, images: Any) -> Reader:
        """Activations by the indices of images."""
        self._traced(images)
        maps, logits = self._source.maps, self._source.logits

        def read(indices: np.ndarray) -> tuple[dict[str, Any], Any]:
            return {name: x[indices] for name, x in maps.items()}, None if logits is None else logits[
                indices
            ]

        return Reader(read)

    def activations(self, layers: Iterable[str] | None = None) -> Callable[[Any], Any]:
        """Refused: nothing can be run."""
        return self._source.see(None, None)  # type: ignore[return-value]
