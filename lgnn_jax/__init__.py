"""Topographic training in JAX: gradients smoothed over a grid of filters, as an Optax transformation."""

from lgnn_jax import losses, som, topography
from lgnn_jax._arrange import arrange
from lgnn_jax._fitted import fitted_score
from lgnn_jax._grid import Grid, distances, grid_shape, neighbours
from lgnn_jax._layout import ConvLayout, Layer
from lgnn_jax._neighbourhood import HeatKernel, Window, largest_sigma
from lgnn_jax._reorder import reorder
from lgnn_jax._smoothing import smooth
from lgnn_jax._tied import Ties
from lgnn_jax._ties import ties
from lgnn_jax._transform import LGNNState, decreasing_sigma, lgnn

__all__ = [
    "ConvLayout",
    "Grid",
    "HeatKernel",
    "LGNNState",
    "Layer",
    "Ties",
    "Window",
    "arrange",
    "decreasing_sigma",
    "distances",
    "fitted_score",
    "grid_shape",
    "largest_sigma",
    "lgnn",
    "losses",
    "neighbours",
    "reorder",
    "smooth",
    "som",
    "ties",
    "topography",
]
__version__ = "0.1.0"
