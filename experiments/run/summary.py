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
from experiments.run.measured import arranged, compact, in_order, measure, responses
from experiments.run.step import PlacedData
from experiments.run.weights import convolutions
from lgnn_jax import topography


def summarise(
    config: Run,
    variables: Any,
    placed: PlacedData,
    correct: np.ndarray,
    last: dict[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """A run's summary, as plain values for JSON: all that tables and figures need where its weights are not.

    Args:
      config: What decided it.
      variables: Its final parameters and running statistics, NumPy arrays.
      placed: The data set, on whose test images the layers' responses are measured.
      correct: Which test pictures it classifies correctly, bool ``(pictures,)``.
      last: The last line of its log.
      seconds: What it took, interruptions not counted.
    """
    params = variables["params"]
    layers = convolutions(config, params)
    statistics = responses(config, variables, placed)
    scores = measure(layers, statistics, placed.superclass_of)
    cosines = {name: found["metrics"]["weights: neighbour cosine"] for name, found in scores.items()}
    orders = config.method.orders(config, params)
    permuted = {name: orders[name] for name in layers if name in orders}  # In the order of the network.
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
        "neighbour_cosine": {
            name: None if "undefined" in score else score for name, score in cosines.items()
        },
        "topography": compact(scores),
        "arranged": arranged(config, variables, placed.train, statistics, placed.superclass_of),
        **({"permuted": in_order(layers, statistics, permuted, placed.superclass_of)} if permuted else {}),
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
