"""Pictures that excite the filters of a run most, kept beside the run."""

from __future__ import annotations

import hashlib
import pathlib

import jax
import numpy as np

from experiments.inspect.networks import PARTS, Network
from experiments.machine.files import write_arrays
from experiments.nets import layer_name
from experiments.run.progress import Reporter
from lgnn_jax.inspect import LUCID, SMALL, FeatureVisualisation, Setting, visualise

SETTINGS = {"small": SMALL, "lucid": LUCID}
_FORMAT = 2  # Raised when the same setting gives other pictures.


def pictures(
    found: Network, layer: str, setting: Setting, images: np.ndarray, progress: Reporter
) -> FeatureVisualisation:
    """What excites each filter of a layer most, in steps of 1/255; read from the run's folder if it is there.

    Args:
      found: The run.
      layer: The layer's path.
      setting: How they are made.
      images: Its test images; a filter that noise leaves shut begins at the one of them that excites it most.
      progress: Shows how far it is.
    """
    file = _file(found, layer, setting)
    if not file.exists():
        made = visualise(
            found.seen.activations([layer]),
            layer,
            key=jax.random.key(0),
            setting=setting,
            shape=images.shape[1:],
            images=images,
            progress=lambda done, total: progress.at(
                PARTS * done // total, f"{layer_name(layer)}: {done} of {total} steps"
            ),
        )
        write_arrays(
            file,
            units=made.units,
            pictures=np.round(made.images * 255).astype(np.uint8),
            values=made.values,
            start=made.start,
            dead=made.dead,
        )
    with np.load(file) as kept:
        arrays = {name: kept[name] for name in kept.files}
    arrays["images"] = arrays.pop("pictures").astype(np.float32) / 255
    return FeatureVisualisation(layer=layer, **arrays)


def _file(found: Network, layer: str, setting: Setting) -> pathlib.Path:
    """Where a layer's pictures are kept: the name tells the weights, the layer and how they are made."""
    parts = "\n".join([str(_FORMAT), found.digest, layer, repr(setting)])
    digest = hashlib.sha256(parts.encode()).hexdigest()[:8]
    return found.folder / "pictures" / f"{layer_name(layer).replace('/', '-')}-{digest}.npz"
