"""Figures; every function returns the figure and the arrays it shows, and shows nothing itself."""

from lgnn_jax.inspect.plots._classes import class_maps
from lgnn_jax.inspect.plots._concepts import concept_maps
from lgnn_jax.inspect.plots._images import filter_images, top_images
from lgnn_jax.inspect.plots._preferences import preferred_classes
from lgnn_jax.inspect.plots._weights import correlation_maps, first_layer, offset_maps, similarity_maps

__all__ = [
    "class_maps",
    "concept_maps",
    "correlation_maps",
    "filter_images",
    "first_layer",
    "offset_maps",
    "preferred_classes",
    "similarity_maps",
    "top_images",
]
