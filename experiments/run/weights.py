"""The weights of a finished run: written, read, and looked at layer by layer."""

from __future__ import annotations

import pathlib
from typing import Any

import click
import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments import nets
from experiments.config import Run
from experiments.run import results
from experiments.run.checkpoint import BY_FIRST_HOST, reason, tree_digest
from lgnn_jax import Grid

WEIGHTS, EPOCHS = "weights", "epochs"
_DIGEST = "digest"  # Of parameters and running statistics, among what Orbax keeps beside them.


def save_weights(folder: pathlib.Path, variables: Any, *, epoch: int | None = None) -> None:
    """Writes parameters and running statistics, NumPy arrays, to a run's folder; the first host alone may.

    Args:
      folder: The run's.
      variables: Parameters and running statistics.
      epoch: How many epochs they had; None for all.
    """
    about = {_DIGEST: tree_digest(variables)}
    with ocp.StandardCheckpointer(multiprocessing_options=BY_FIRST_HOST) as checkpointer:
        checkpointer.save(
            (_place(folder, epoch) / WEIGHTS).resolve(), variables, force=True, custom_metadata=about
        )


def kept_epochs(folder: pathlib.Path) -> list[int]:
    """After how many epochs a run's weights are kept beside those of its end, ascending."""
    found = (folder / EPOCHS).glob(f"*/{WEIGHTS}")
    return sorted(int(path.parent.name) for path in found if path.parent.name.isdecimal())


def load_weights(folder: pathlib.Path, *, epoch: int | None = None) -> dict[str, Any]:
    """Parameters and running statistics of a finished run, as NumPy arrays.

    They are compared with the digest in its summary, and with that of both where it was kept with them.

    Args:
      folder: The run's.
      epoch: Of :func:`kept_epochs`; None for the run's end.

    Raises:
      click.UsageError: If they are missing, cannot be read, or are not those that were written.
    """
    place = _place(folder, epoch)
    path = (place / WEIGHTS).resolve()
    anew = (
        "and give the run's command again, which makes it anew" if epoch is None else "to do without them"
    )
    mend = f"Put them back, or move {str(place)!r} away {anew}."
    if not path.is_dir():
        raise click.UsageError(f"{str(place)!r} holds no {WEIGHTS}. {mend}")
    try:
        variables, digest = _restored(path)
    except Exception as error:  # Orbax and TensorStore raise whatever their parts do.
        raise click.UsageError(f"{str(path)!r} cannot be read ({reason(error)}). {mend}") from None
    params, whole = tree_digest(variables.get("params")), tree_digest(variables)
    written = params if epoch is not None else results.read(folder)["params_digest"]
    if (params, whole) != (written, digest or whole):
        raise click.UsageError(f"{str(path)!r} does not hold the numbers that were written. {mend}")
    return variables


def _place(folder: pathlib.Path, epoch: int | None) -> pathlib.Path:
    """The folder of the run's weights."""
    return folder if epoch is None else folder / EPOCHS / str(epoch)


def _restored(path: pathlib.Path) -> tuple[dict[str, Any], str | None]:
    """What a folder of weights holds, and the digest that was kept with it."""
    with ocp.StandardCheckpointer(multiprocessing_options=BY_FIRST_HOST) as checkpointer:
        about = checkpointer.metadata(path)
        if about.item_metadata is None:
            raise ValueError("what describes the arrays is missing or damaged")
        shapes = about.item_metadata.tree
        target = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        return checkpointer.restore(path, target), (about.custom_metadata or {}).get(_DIGEST)


def convolutions(config: Run, params: Any) -> dict[str, tuple[Grid, np.ndarray]]:
    """Grid and kernel of every convolution, by path, in the order of the network."""
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    layers = config.net.layout.layers(params)
    found = {layer.path: (layer.grid, np.asarray(leaves[layer.path])) for layer in layers}
    return {path: found[path] for path in nets.NETS[config.net.name].by_depth(found)}
