"""The weights of a finished run: written, read, and looked at layer by layer."""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments import nets
from experiments.config import Run
from experiments.run.checkpoint import BY_FIRST_HOST
from lgnn_jax import Grid

WEIGHTS = "weights"


def save_weights(folder: pathlib.Path, variables: Any) -> None:
    """Writes parameters and running statistics, NumPy arrays, to a run's folder; the first host alone may."""
    with ocp.StandardCheckpointer(multiprocessing_options=BY_FIRST_HOST) as checkpointer:
        checkpointer.save((folder / WEIGHTS).resolve(), variables, force=True)


def load_weights(folder: pathlib.Path) -> dict[str, Any]:
    """Parameters and running statistics of a finished run, as NumPy arrays."""
    with ocp.StandardCheckpointer(multiprocessing_options=BY_FIRST_HOST) as checkpointer:
        path = (folder / WEIGHTS).resolve()
        shapes = checkpointer.metadata(path).item_metadata.tree
        target = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        return checkpointer.restore(path, target)


def convolutions(config: Run, params: Any) -> dict[str, tuple[Grid, np.ndarray]]:
    """Grid and kernel of every convolution, by path, in the order of the network."""
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    layers = config.net.layout.layers(params)
    found = {layer.path: (layer.grid, np.asarray(leaves[layer.path])) for layer in layers}
    role = nets.NETS[config.net.name].role
    return {
        name: found[name]
        for name in sorted(found, key=lambda name: (role(name) != nets.STEM, natural(name)))
    }


def natural(name: str) -> list[Any]:
    """A sorting key by which ``conv_10`` follows ``conv_9``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.replace("/", "_").split("_")]
