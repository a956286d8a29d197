"""Any function that returns a mapping of activations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from lgnn_jax._tree import unboxed
from lgnn_jax.inspect._modules import Calls
from lgnn_jax.inspect._network._network import Grids, Network, Prepare, logits_by


def function(
    apply: Callable[[Any, Any], Mapping[str, Any]],
    params: Any,
    *,
    kernels: Mapping[str, Any] | None = None,
    axis: int = -1,
    layers: Iterable[str] | None = None,
    grids: Grids | None = None,
    preprocess: Prepare | None = None,
    output: Callable[[Any], Any] | None = None,
    channels_first: bool = False,
    title: str | None = None,
) -> Network:
    """A network as a function that returns its activations.

    Args:
      apply: ``apply(params, images)`` gives by name activations ``(batch, ..., units)``, in evaluation mode; JAX
        must be able to trace it.
      params: Its arrays, in any tree.
      kernels: Weights by layer, of those that have some.
      axis: The axis of the weights that counts the units: -1 for HWIO, 0 for OIHW.
      layers: Names to look at; None for all that ``apply`` returns.
      grids: As of :func:`lgnn_jax.inspect.linen`.
      preprocess: As of :func:`lgnn_jax.inspect.linen`.
      output: From what ``apply`` returns to logits ``(batch, classes)``, such as ``lambda x: x["logits"]``.
      channels_first: Whether ``apply`` takes ``(batch, channels, height, width)`` and returns such.
      title: Its name on a page.

    Returns:
      A :class:`Network`.

    Raises:
      ValueError: When it is run, if what ``apply`` returns is no mapping of arrays, or lacks a layer.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import inspect
      >>> def apply(params, images):
      ...     return {"colours": images @ params["w"]}
      >>> params, images = {"w": jnp.eye(3)}, jnp.ones((2, 5, 5, 3))
      >>> network = inspect.function(apply, params, kernels={"colours": params["w"]})
      >>> [(layer.path, layer.grid.shape, layer.kernel.shape) for layer in network.layers(images)]
      [('colours', (3, 1), (3, 3))]
    """
    source = _Function(
        apply,
        params,
        dict(kernels or {}),
        axis,
        (lambda found: None) if output is None else logits_by(output),
    )
    return Network(source, title or "network", layers, grids, preprocess, True, channels_first)


class _Function:
    """A :class:`Source` of a plain function."""

    absent = "apply returned no such name"

    def __init__(self, apply: Any, params: Any, kernels: dict[str, Any], axis: int, output: Any):
        self.state, self._apply, self._kernels, self._axis, self._output = (
            params,
            apply,
            kernels,
            axis,
            output,
        )

    def chosen(self, layers: Iterable[str] | None) -> dict[str, str] | None:
        """The names asked for; None for all."""
        if isinstance(layers, str):
            raise ValueError(f"layers must be a list of names, got the text {layers!r}.")
        return None if layers is None else {name: name for name in layers}

    def beside(self, calls: Calls) -> dict[str, str]:
        """What gave no array of units."""
        return calls.reasons

    def kernel(self, path: str, units: int) -> tuple[Any, int] | None:
        """The weights that were given."""
        if path not in self._kernels:
            return None
        kernel = unboxed(self._kernels[path])
        shape = np.shape(kernel)
        if len(shape) < 2 or not -len(shape) <= self._axis < len(shape) or shape[self._axis] != units:
            raise ValueError(
                f"The kernel of {path!r} must have its {units} units on axis {self._axis}, got shape {shape}. Say "
                "by axis= where they are."
            )
        return kernel, self._axis

    def see(self, state: Any, images: Any) -> Calls:
        """What one run gives."""
        found = self._apply(state, images)
        if not isinstance(found, Mapping):
            raise ValueError(
                f"apply must return a mapping of activations by name, such as {{'conv': x}}, got "
                f"{type(found).__name__}."
            )
        self.absent = f"apply returned {', '.join(map(repr, found)) or 'nothing'} alone"
        own, reasons = dict[str, jax.Array](), dict[str, str]()
        for name, x in found.items():
            if np.ndim(x) >= 2:
                own[name] = x
            else:
                reasons[name] = f"it has shape {np.shape(x)}, not (batch, ..., units)"
        return Calls(own, {}, reasons, self._output(found))
