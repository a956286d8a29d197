"""What tests of the experiments share: short runs, and networks of few layers."""

import contextlib
import dataclasses
import functools
import shutil

import pytest
from filelock import FileLock
from rich.console import Console

from experiments import data as datasets
from experiments.config import configure
from experiments.run.make import run
from experiments.run.progress import Reporter
from experiments.run.step import PlacedData, Trainer
from tests.experiments import shallow as few_layers


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Decoded pictures are cached in a folder of the test run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LGNN_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="package")
def short_annealing():
    with few_layers.short_annealing():
        yield


# Runs that are over in seconds: what they find out is for other tests.
SMALL = {"width": 0.0625, "epochs": 3, "batch": 32, "weight_decay": 0.05}


# For tests of finished runs that are worth making of networks as they are, too.
WHOLE_TOO = pytest.mark.parametrize(
    "finished", ["shallow", pytest.param("whole", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture
def finished(request, made_runs):
    """The folder of short runs of the digits, baseline and constant, with their configurations and folders.

    Their networks are shallow, within the test too, but for ``WHOLE_TOO``.
    """
    depth = getattr(request, "param", "shallow")
    with few_layers.networks(few_layers.SMALL_IMAGES) if depth == "shallow" else contextlib.nullcontext():
        yield made_runs(depth)


@pytest.fixture(scope="session")
def made_runs(tmp_path_factory, worker_id):
    """Gives the finished runs of a depth, within which it is called.

    The first of pytest's workers that wants them makes them, the others wait and copy.
    """

    @functools.cache
    def runs(depth):
        data = datasets.load("digits")
        configs = {
            variant: [configure(data, variant=variant, **SMALL)[0]] for variant in ("baseline", "constant")
        }
        own = tmp_path_factory.getbasetemp()
        shared = (own if worker_id == "master" else own.parent) / f"finished-{depth}"
        with FileLock(f"{shared}.lock"):
            if not shared.exists():
                made = own / f"made-{depth}"
                _make_runs([config for (config,) in configs.values()], data, made)
                made.rename(shared)
        out = tmp_path_factory.mktemp("runs") / "runs"
        shutil.copytree(shared, out)
        return out, configs, {variant: [out / config.name] for variant, (config,) in configs.items()}

    return runs


def _make_runs(configs, data, out):
    placed = PlacedData(data)
    with Reporter(len(configs), 1, Console(quiet=True)) as progress:
        for config in configs:
            run(Trainer(config, placed), 0, out, progress)


@functools.cache
def few_digits(train, test=60):
    """The first of the digits, where it is steps that count and not what is learnt."""
    digits = datasets.load("digits")
    return dataclasses.replace(
        digits,
        train_images=digits.train_images[:train],
        train_labels=digits.train_labels[:train],
        test_images=digits.test_images[:test],
        test_labels=digits.test_labels[:test],
    )


@pytest.fixture
def shallow():
    """Networks have few layers, which compile in a moment."""
    with few_layers.networks():
        yield


@pytest.fixture
def single():
    """VGG-11 has a single convolution, which compiles in half a moment."""
    with few_layers.networks((64, "M", "M", "M", "M", "M")):
        yield


@pytest.fixture(params=["shallow", pytest.param("whole", marks=pytest.mark.slow)])
def depth(request):
    """The networks with a layer of every kind, and as they are."""
    if request.param == "shallow":
        request.getfixturevalue("shallow")
    return request.param
