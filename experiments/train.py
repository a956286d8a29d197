"""One run: trains, evaluates, writes its log, its weights and its summary."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import pathlib
import sys
import time
from typing import Any

import click
import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments import cli
from experiments.config import RunConfig
from experiments.progress import Reporter
from experiments.step import PlacedData, Totals, Trainer, order
from lgnn_jax import Grid, topography
from lgnn_jax.layout import path_name, resolve

SUMMARY, METRICS, CONFIG, WEIGHTS = "summary.json", "metrics.jsonl", "config.json", "weights"
_BETWEEN_READINGS = 0.25  # Seconds between readings of loss and accuracy from the device.


def run(trainer: Trainer, seed: int, out: pathlib.Path, report: Reporter) -> pathlib.Path:
    """Makes the trainer's run with ``seed`` in a folder of its own under ``out``, and returns that folder.

    A run that is finished is left as it is.

    The folder holds ``config.json``, ``metrics.jsonl`` with a line an epoch, the final ``weights`` (Orbax)
    and, when all is done, ``summary.json``.

    Raises:
      cli.FailedRun: If the loss is not finite. What is on disk stays.
    """
    config = dataclasses.replace(trainer.config, seed=seed)
    folder, steps_per_epoch = out / config.name, trainer.steps_per_epoch
    if (folder / SUMMARY).exists():
        report.skip(config.name, config.epochs * steps_per_epoch)
        return folder
    report.begin(config.name, f"{config.variant} s{seed}")
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, dataclasses.asdict(config))
    state, keys = trainer.start(seed)
    learning_rate = config.learning_rate(steps_per_epoch)
    sigma = config.sigma_schedule(steps_per_epoch)
    correct = np.zeros(0, bool)
    with (folder / METRICS).open("w") as log:
        for epoch in range(config.epochs):
            state, totals, rate = _epoch(trainer, config, state, keys, epoch, report)
            correct, test_loss = trainer.evaluate(state)
            first = epoch * steps_per_epoch
            line = {
                "epoch": epoch + 1,
                "step": (epoch + 1) * steps_per_epoch,
                "learning_rate": float(learning_rate(first)),
                "sigma": float(sigma(first) if callable(sigma) else sigma),
                "train_loss": float(totals.loss) / int(totals.examples),
                "train_accuracy": int(totals.correct) / int(totals.examples),
                "test_loss": test_loss,
                "test_accuracy": float(correct.mean()),
                "images_per_second": round(rate, 1),
            }
            log.write(json.dumps(line) + "\n")
            log.flush()
    params = jax.device_get(state.params)
    variables = {"params": params, "batch_stats": jax.device_get(state.batch_stats)}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((folder / WEIGHTS).resolve(), variables, force=True)
    seconds = time.monotonic() - started
    write_json(folder / SUMMARY, _summary(config, params, correct, line, seconds))
    report.end(line["test_accuracy"], seconds)
    return folder


def _epoch(trainer: Trainer, config: RunConfig, state, keys, epoch: int, report: Reporter):
    """The state after an epoch, its totals and images a second; stops at a loss that is not finite."""
    state = state._replace(totals=trainer.placed.replicate(Totals.zero()))
    batches = order(config.seed, epoch, trainer.placed.train_examples, config.batch)
    started = read = time.monotonic()
    unread = untimed = 0
    for index, examples in enumerate(batches, start=1):
        state = trainer.step(state, keys, examples)
        unread += 1
        if index == 1 < len(batches) and epoch == 0:
            jax.block_until_ready(state)
            report.compiled()
            untimed, started, read = 1, time.monotonic(), time.monotonic()
        if index < len(batches) and time.monotonic() - read < _BETWEEN_READINGS:
            continue
        totals = jax.device_get(state.totals)
        read = time.monotonic()
        if totals.first_bad_step < np.iinfo(np.int32).max:
            raise cli.FailedRun(
                f"{config.name}: the loss is not finite at step {int(totals.first_bad_step)} (epoch "
                f"{epoch + 1}). Try a smaller learning rate or weight decay."
            )
        rate = (index - untimed) * config.batch / (read - started)
        seen = int(totals.examples)
        report.advance(
            unread,
            f"{epoch + 1}/{config.epochs}",
            float(totals.loss) / seen,
            int(totals.correct) / seen,
            rate,
        )
        unread = 0
    return state, totals, rate


def params_digest(params: Any) -> str:
    """SHA-256 of all parameters: names, shapes, types and bytes, by name."""
    digest = hashlib.sha256()
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for name, leaf in sorted((path_name(path), np.asarray(leaf)) for path, leaf in leaves):
        digest.update(f"{name} {leaf.shape} {leaf.dtype}\n".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def convolutions(config: RunConfig, params: Any) -> dict[str, tuple[Any, np.ndarray]]:
    """Grid and kernel of every convolution, by path, in the order of the network."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    grids = resolve(config.measured_layout, params)
    found = {
        path_name(path): (grid, np.asarray(leaf))
        for (path, leaf), grid in zip(leaves, grids, strict=True)
        if grid is not None
    }
    return {
        name: found[name] for name in sorted(found, key=lambda name: (name != "stem/kernel", natural(name)))
    }


def natural(name: str) -> list[Any]:
    """A sorting key by which ``conv_10`` follows ``conv_9``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.replace("/", "_").split("_")]


def _summary(
    config: RunConfig, params: Any, correct: np.ndarray, last: dict, seconds: float
) -> dict[str, Any]:
    layers = convolutions(config, params)
    key = jax.random.key(0)  # The same relabellings for every run.
    scores = {name: _score(kernel, grid, key) for name, (grid, kernel) in layers.items()}
    grid, first = next(iter(layers.values()))
    magnitudes = np.linalg.norm(np.asarray(topography.filters(first, grid)), axis=1)
    return {
        "config": dataclasses.asdict(config),
        "test_accuracy": last["test_accuracy"],
        "test_loss": last["test_loss"],
        "train_loss": last["train_loss"],
        "test_correct": base64.b64encode(np.packbits(correct).tobytes()).decode(),
        "test_examples": len(correct),
        "params_digest": params_digest(params),
        "grids": {name: grid.shape for name, (grid, _) in layers.items()},
        "neighbour_cosine": scores,
        "first_layer_magnitudes": [float(value) for value in magnitudes],
        "seconds": round(seconds, 1),
        "images_per_second": last["images_per_second"],
        "hardware": {
            "backend": jax.default_backend(),
            "devices": jax.local_device_count(),
            "kind": jax.local_devices()[0].device_kind,
            "cpus": os.cpu_count(),
        },
        "versions": {"jax": jax.__version__, "python": sys.version.split()[0]},
    }


def _score(kernel: np.ndarray, grid: Grid, key: jax.Array) -> dict[str, float] | None:
    """The neighbour cosine and its null; None where weight decay has left no two neighbours that are not zero."""
    try:
        return topography.neighbour_cosine(kernel, grid, key=key)._asdict()
    except ValueError:
        return None


def load_weights(folder: pathlib.Path) -> dict[str, Any]:
    """Parameters and running statistics of a finished run, as NumPy arrays."""
    with ocp.StandardCheckpointer() as checkpointer:
        path = (folder / WEIGHTS).resolve()
        shapes = checkpointer.metadata(path).item_metadata.tree
        target = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        return checkpointer.restore(path, target)


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes JSON so that the file is there whole or not at all."""
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)


@click.command()
@cli.run_options
@click.option(
    "--variant",
    default="constant",
    show_default=True,
    help="baseline (no smoothing), constant (the same neighbourhood throughout) or decreasing (eq. 4).",
)
@click.option("--seed", default=0, show_default=True, help="Initialisation, order, augmentation, dropout.")
def main(options: cli.Options, variant: str, seed: int) -> None:
    """Trains one network once and prints the folder of the run.

    The folder holds config.json, metrics.jsonl, summary.json and the weights.
    """
    data = options.load()
    config, notes = options.configure(data, variant=variant, seed=seed)
    cli.say(*notes)
    trainer = Trainer(config, PlacedData(data))
    with Reporter(1, config.epochs * trainer.steps_per_epoch) as report:
        folder = run(trainer, seed, options.out, report)
    print(folder)


if __name__ == "__main__":
    cli.start(main)
