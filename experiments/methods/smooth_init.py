"""A control: filters that are smooth over the grid at the start, and are trained as ever."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax

from experiments.methods.leaves import on_grids
from experiments.methods.smoothing import Shaped
from lgnn_jax import Layer, smooth

if TYPE_CHECKING:
    from experiments.config import Run


@dataclasses.dataclass(frozen=True)
class SmoothInit(Shaped):
    """Filters ``W`` start as ``S W``, each of them scaled to the norm that it was drawn with; gradients stay."""

    name = "smooth_init"
    about = "filters start smooth, no smoothing after"

    def start(self, run: Run, params: Any) -> Any:
        """The parameters with smooth filters."""

        def changed(layer: Layer, drawn: jax.Array) -> jax.Array:
            smoothed = smooth(drawn, layer.grid, self.sigma, self.neighbourhood, axis=layer.axis)
            within = tuple(axis for axis in range(drawn.ndim) if axis != layer.axis % drawn.ndim)
            wanted, norms = (
                jnp.sqrt(jnp.square(kernel).sum(within, keepdims=True)) for kernel in (drawn, smoothed)
            )
            return smoothed * (wanted / jnp.where(norms > 0, norms, 1))

        return on_grids(changed, self.layout(run).layers(params), params)

    def chain(self, run: Run, steps_per_epoch: int) -> optax.GradientTransformation:
        """Gradients stay as they are."""
        return optax.identity()

    def logged(self, run: Run, step: int, steps_per_epoch: int) -> dict[str, float]:
        """There is no neighbourhood during training."""
        return {}

    def identity(self, settings: dict[str, Any]) -> dict[str, Any]:
        """All but where gradients would be smoothed."""
        return {key: value for key, value in settings.items() if key != "smooth"}
