"""Eight CPU devices, strict promotion of ranks, and warnings as errors, for every test."""

import os
import shutil

import jax
import pytest

from lgnn_jax import _smoothing

# Most of a test's time is compiling: a third less without LLVM's optimisations, and half of the rest without
# fusions written in MLIR, which newer versions have alone; they end at a flag that they do not know. Read when JAX
# starts its devices, and by the processes that tests start.
FAST = ["--xla_backend_optimization_level=0"]
if jax.__version_info__ < (0, 12):
    FAST.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([*FAST, os.environ.get("XLA_FLAGS", "")])
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Decoded pictures are cached in a folder of the test run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LGNN_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(params=["shifted", "flat"], scope="module")
def form(request):
    """The test in the form for sharded arrays and accelerators, and in the one for a single CPU device."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "flat":
            patch.setattr(jax, "device_count", lambda: 1)
        _smoothing._smooth.clear_cache()
        yield request.param
    _smoothing._smooth.clear_cache()


# Runs that are over in seconds: what they find out is for other tests.
SMALL = {"width": 0.0625, "epochs": 3, "batch": 32, "weight_decay": 0.05}


@pytest.fixture(scope="session")
def finished(tmp_path_factory, worker_id):
    """The folder of short runs of the digits, baseline and constant, with their configurations and folders.

    The first of pytest's workers that wants them makes them, the others wait and copy.
    """
    from filelock import FileLock

    from experiments import data as datasets
    from experiments.config import configure

    data = datasets.load("digits")
    configs = {
        variant: [configure(data, variant=variant, **SMALL)[0]] for variant in ("baseline", "constant")
    }
    own = tmp_path_factory.getbasetemp()
    shared = (own if worker_id == "master" else own.parent) / "finished"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            _make_runs([config for (config,) in configs.values()], data, own / "made")
            (own / "made").rename(shared)
    out = tmp_path_factory.mktemp("runs") / "runs"
    shutil.copytree(shared, out)
    return out, configs, {variant: [out / config.name] for variant, (config,) in configs.items()}


def _make_runs(configs, data, out):
    from rich.console import Console

    from experiments.run.progress import Reporter
    from experiments.run.step import PlacedData, Trainer
    from experiments.train import run

    placed = PlacedData(data)
    with Reporter(len(configs), 1, Console(quiet=True)) as progress:
        for config in configs:
            run(Trainer(config, placed), 0, out, progress)


@pytest.fixture
def shallow():
    """Networks have few layers, which compile in a moment."""
    from tests import shallow

    with shallow.networks():
        yield


@pytest.fixture(params=["shallow", pytest.param("whole", marks=pytest.mark.slow)])
def depth(request):
    """The networks with a layer of every kind, and as they are."""
    if request.param == "shallow":
        request.getfixturevalue("shallow")
    return request.param
