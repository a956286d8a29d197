"""Topographic training in JAX: gradients smoothed over a grid of filters, as an Optax transformation."""

from lgnn_jax import topography
from lgnn_jax.grid import Grid, grid_shape
from lgnn_jax.layout import ConvLayout
from lgnn_jax.neighbourhood import HeatKernel, Window, largest_sigma
from lgnn_jax.smoothing import smooth
from lgnn_jax.transform import LGNNState, decreasing_sigma, lgnn

__all__ = [
    "ConvLayout",
    "Grid",
    "HeatKernel",
    "LGNNState",
    "Window",
    "decreasing_sigma",
    "grid_shape",
    "largest_sigma",
    "lgnn",
    "smooth",
    "topography",
]
__version__ = "0.1.0"
