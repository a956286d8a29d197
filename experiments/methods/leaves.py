"""Changing the kernels of a tree that lie on a grid, and none of its other leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from lgnn_jax import Layer


def on_grids(change: Callable[..., jax.Array], layers: Sequence[Layer], tree: Any, *others: Any) -> Any:
    """The tree with ``change(layer, leaf, *those of others)`` in place of every layer's leaf.

    Example:
      >>> import jax.numpy as jnp
      >>> from experiments.methods.leaves import on_grids
      >>> from lgnn_jax import Grid, Layer
      >>> tree = {"bias": jnp.ones(4), "kernel": jnp.ones((1, 1, 1, 4))}
      >>> found = on_grids(lambda layer, leaf: leaf * layer.grid.units, [Layer("kernel", Grid((2, 2)), -1)], tree)
      >>> float(found["bias"][0]), float(found["kernel"][0, 0, 0, 0])
      (1.0, 4.0)
    """
    by_path = {layer.path: layer for layer in layers}

    def changed(path: Any, leaf: Any, *beside: Any) -> Any:
        layer = by_path.get(jax.tree_util.keystr(path, simple=True, separator="/"))
        return leaf if layer is None else change(layer, leaf, *beside)

    return jax.tree_util.tree_map_with_path(changed, tree, *others)
