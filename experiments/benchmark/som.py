"""Self-organising maps: how good and how fast ours are beside MiniSom's and torchsom's."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import click
import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark import noise
from experiments.benchmark.timing import Others, machine
from experiments.markdown import quartiles, table
from lgnn_jax import Grid, som, topography

SIGMA, RATES = (8.0, 1.0), {"online": (0.5, 0.01), "batch": (1.0, 1.0)}
DATA = ("digits", "colours")

_log = logging.getLogger("experiments")


class Case(NamedTuple):
    """A map to train, the same for all: samples, grid, weights to start from, and for how long."""

    kind: str
    data: np.ndarray
    grid: Grid
    start: np.ndarray
    passes: int
    seed: int

    @property
    def updates(self) -> int:
        """Updates of the map: online one for every sample, of the batch map one for every pass."""
        return self.passes * (len(self.data) if self.kind == "online" else 1)


Train = Callable[[], np.ndarray]


def ours(case: Case) -> Train:
    """A call that trains our map and gives its weights; so do those of the others."""
    data, start, key = jnp.asarray(case.data), jnp.asarray(case.start), jax.random.key(case.seed)
    options: dict[str, Any] = dict(sigma=SIGMA, learning_rate=RATES[case.kind], batch=case.kind == "batch")
    return lambda: np.asarray(som.fit(data, case.grid, key=key, steps=case.updates, start=start, **options))


def minisom(case: Case) -> Train:
    """MiniSom, in float64 as it is used; it knows schedules of sigma by name, so ours is put in their place."""
    from minisom import MiniSom

    data, shape = case.data.astype(np.float64), (*case.grid.shape, case.data.shape[1])
    sigmas = np.geomspace(*SIGMA, case.updates)
    rates = np.geomspace(*RATES[case.kind], case.updates)
    theirs = MiniSom(*shape, SIGMA[0], decay_function=lambda _, t, __: rates[t], random_seed=case.seed)
    theirs._sigma_decay_function = lambda _, t, __: sigmas[t]
    theirs._weights = case.start.astype(np.float64).reshape(shape)
    train = theirs.train_random if case.kind == "online" else theirs.train_batch_offline

    def call() -> np.ndarray:
        train(data, case.updates)
        return theirs.get_weights().reshape(case.start.shape)

    return call


def torchsom(case: Case) -> Train:
    """torchsom: online as batches of one sample; it has no batch map, so there its default, batches of five.

    Its schedules go by pass, and it measures the errors of every batch while it trains.
    """
    import torch
    from torchsom import SOM

    torch.set_num_threads(1)  # Several wait for each other: on a busy machine 20 times as long.
    size, shape = 1 if case.kind == "online" else 5, (*case.grid.shape, case.data.shape[1])
    theirs = SOM(*shape, case.passes, size, SIGMA[0], device="cpu", random_seed=case.seed)
    theirs.sigma_schedule = torch.tensor(np.geomspace(*SIGMA, case.passes)).float()
    theirs.lr_schedule = torch.tensor(np.geomspace(*RATES["online"], case.passes)).float()
    theirs.weights.data = torch.tensor(case.start.reshape(shape))

    def call() -> np.ndarray:
        theirs.fit(torch.tensor(case.data), verbose=False)
        return theirs.weights.detach().numpy().reshape(case.start.shape)

    return call


MAPS: Mapping[str, Callable[[Case], Train]] = {"lgnn_jax": ours, "minisom": minisom, "torchsom": torchsom}


def samples(name: str) -> np.ndarray:
    """scikit-learn's digits as vectors of 64 pixels, or random colours, in float32."""
    if name == "colours":
        return np.random.default_rng(0).random((2000, 3), dtype=np.float32)
    from sklearn.datasets import load_digits

    return load_digits().data.astype(np.float32)


@click.command("som")
@click.option("--data", default=",".join(DATA), show_default=True, help="Data sets.")
@click.option("--passes", default=10, show_default=True, type=click.IntRange(1), help="Over the samples.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Maps of each kind.")
@click.option("--shape", default=(32, 16), show_default=True, type=(int, int), help="Of the grid.")
def som_command(data: str, passes: int, seeds: int, shape: tuple[int, int]) -> None:
    """Self-organising maps, online and batch, beside MiniSom and torchsom where those are installed.

    All start from the same random samples and see them equally often, with the same sigma and learning rate;
    torchsom has no batch map. Seconds are of training alone, without compiling, each map in its turn.
    """
    known = [name for name in MAPS if importlib.util.find_spec(name) is not None]
    for name in MAPS:
        if name not in known:
            _log.info(f"{name} is not installed; it has no rows (pip install {name})")
    rows, others, grid = [], Others(), Grid(shape)
    for name in noise.chosen(data, DATA, "data set"):
        for kind in RATES:
            _log.info(f"{name}, {kind} ...")
            for of, found in measured(samples(name), kind, grid, passes, seeds, known).items():
                medians = (f"{median:.3f}" for median in np.median(found[:, :3], 0))
                rows.append([name, kind, of, *medians, quartiles(found[:, 3], 1)])
    share = others.share()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in known)
    print(f"{machine()}, {versions}; other programs {'?' if share is None else f'{share:.0%}'}.")
    print(f"A grid of {grid.size}, {passes} passes, median (quartiles) of {seeds} seeds.", "", sep="\n")
    print(*table(_HEADER, rows), sep="\n")


_HEADER = ["data", "map", "of", "quantisation error", "topographic error", "seconds", "times ours"]


def measured(
    data: np.ndarray, kind: str, grid: Grid, passes: int, seeds: int, names: list[str]
) -> dict[str, np.ndarray]:
    """Quantisation and topographic error, seconds and their ratio to ours, ``(seeds, 4)`` by name."""
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
    for seed in range(seeds):
        start = data[np.random.default_rng(seed).integers(0, len(data), grid.units)]
        case = Case(kind, data, grid, start, passes, seed)
        if seed == 0:
            ours(case)()  # Compiles.
        for name in names:
            train = MAPS[name](case)
            begun = time.perf_counter()
            weights = train()
            seconds = time.perf_counter() - begun
            own = seconds if name == "lgnn_jax" else found["lgnn_jax"][-1][2]
            share = topography.topographic_error(weights, data, grid).value
            error = topography.quantisation_error(weights, data)
            found[name].append((error, share, seconds, seconds / own))
    return {name: np.array(values) for name, values in found.items()}
