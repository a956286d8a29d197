"""Eight CPU devices, strict promotion of ranks, and warnings as errors, for every test."""

import os

import jax
import pytest

from lgnn_jax import _smoothing

# Most of a test's time is compiling: a third less without LLVM's optimisations. Read when JAX starts its devices.
os.environ["XLA_FLAGS"] = f"--xla_backend_optimization_level=0 {os.environ.get('XLA_FLAGS', '')}"
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Decoded pictures are cached in a folder of the test run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LGNN_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(params=["sliced", "flat", "shifted"], scope="module")
def form(request):
    """The test in the form for several CPU devices, in the one for a single CPU device, and in accelerators'."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "flat":
            patch.setattr(jax, "device_count", lambda: 1)
        if request.param == "shifted":
            patch.setattr(_smoothing, "_sliced", _smoothing._shifted)
        _smoothing._smooth.clear_cache()
        yield request.param
    _smoothing._smooth.clear_cache()


# Runs that are over in seconds: what they find out is for other tests.
SMALL = {"width": 0.0625, "epochs": 3, "batch": 32, "weight_decay": 0.05}


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of short runs of the digits, baseline and constant, with their configurations and folders."""
    from rich.console import Console

    from experiments import data as datasets
    from experiments.config import configure
    from experiments.run.progress import Reporter
    from experiments.run.step import PlacedData, Trainer
    from experiments.train import run

    out, data = tmp_path_factory.mktemp("runs"), datasets.load("digits")
    placed, configs, folders = PlacedData(data), {}, {}
    with Reporter(2, 1, Console(quiet=True)) as progress:
        for variant in ("baseline", "constant"):
            config, _ = configure(data, variant=variant, **SMALL)
            configs[variant] = [config]
            folders[variant] = [run(Trainer(config, placed), 0, out, progress)]
    return out, configs, folders
