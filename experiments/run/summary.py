"""What is kept of a finished run: accuracy, which test pictures were right, topography, and what made it."""

from __future__ import annotations

import base64
import os
import sys
from typing import Any

import jax
import numpy as np

from experiments.config import Run
from experiments.run.checkpoint import tree_digest
from experiments.run.weights import convolutions
from lgnn_jax import Grid, topography


def summarise(
    config: Run, params: Any, correct: np.ndarray, last: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """A run's summary, as plain values for JSON.

    Args:
      config: What decided it.
      params: Its final parameters, NumPy arrays.
      correct: Which test pictures it classifies correctly, bool ``(pictures,)``.
      last: The last line of its log.
      seconds: What it took, interruptions not counted.
    """
    layers = convolutions(config, params)
    key = jax.random.key(0)  # The same relabellings for every run.
    scores = {name: _score(kernel, grid, key) for name, (grid, kernel) in layers.items()}
    _, first = next(iter(layers.values()))
    magnitudes = np.linalg.norm(np.asarray(topography.filters(first)), axis=1)
    return {
        "config": config.flat(),
        "test_accuracy": last["test_accuracy"],
        "test_loss": last["test_loss"],
        "train_loss": last["train_loss"],
        "test_correct": base64.b64encode(np.packbits(correct).tobytes()).decode(),
        "test_examples": len(correct),
        "params_digest": tree_digest(params),
        "grids": {name: grid.shape for name, (grid, _) in layers.items()},
        "neighbour_cosine": scores,
        "first_layer_magnitudes": [float(value) for value in magnitudes],
        "seconds": round(seconds, 1),
        "images_per_second": last["images_per_second"],
        "hardware": {
            "backend": jax.default_backend(),
            "devices": jax.device_count(),
            "kind": jax.local_devices()[0].device_kind,
            "cpus": os.cpu_count(),
            "hosts": jax.process_count(),
        },
        "versions": {"jax": jax.__version__, "python": sys.version.split()[0]},
    }


def _score(kernel: np.ndarray, grid: Grid, key: jax.Array) -> dict[str, float] | None:
    """The neighbour cosine and its null; None where weight decay has left no two neighbours that are not zero."""
    try:
        return topography.neighbour_cosine(topography.cosines(kernel), grid, key=key).summary()
    except ValueError:
        return None
