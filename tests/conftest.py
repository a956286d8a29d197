"""Eight CPU devices, strict promotion of ranks, and warnings as errors, for every test."""

import gc
import os

import jax
import pytest

from lgnn_jax import _smoothing

shifted = _smoothing._shifted

# Most of a test's time is compiling: a third less without LLVM's optimisations, half of the rest without fusions
# written in MLIR, which newer versions have alone, and a sixth of that where a program is not split for several
# cores. They end at a flag that they do not know. Read when JAX starts its devices, and by the processes that tests
# start.
FAST = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
# On a busy machine eight devices may wait for each other for longer than the 40 seconds after which XLA aborts.
if jax.__version_info__ >= (0, 10):
    FAST.append("--xla_cpu_collective_call_terminate_timeout_seconds=600")
if jax.__version_info__ < (0, 12):
    FAST.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([*FAST, os.environ.get("XLA_FLAGS", "")])
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    """What one run compiles the next one loads, a third of its time less; ``--cache-clear`` forgets it."""
    if not hasattr(config, "cache"):  # -p no:cacheprovider
        return
    kept = {
        "jax_compilation_cache_dir": str(config.cache.mkdir("jax")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in kept.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)  # For processes that tests start.


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """Garbage is looked for seldom, and not among tests and modules: that took a sixth of the time of tracing."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


# For tests of what follows from the dense operator, which every form is compared with.
FORMS_TOO = pytest.mark.parametrize(
    "form",
    ["padded", *(pytest.param(other, marks=pytest.mark.slow) for other in ("flat", "shifted"))],
    indirect=True,
)


@pytest.fixture(params=["padded", "flat", "shifted"], scope="module")
def form(request):
    """The test in the form for several CPU devices, in the one for a single CPU device, and in accelerators'."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "flat":
            patch.setattr(jax, "device_count", lambda: 1)
        if request.param == "shifted":
            patch.setattr(
                _smoothing, "padded", lambda x, weights, *, merged, **where: shifted(x, weights, **where)
            )
        _smoothing._smooth.clear_cache()
        yield request.param
    _smoothing._smooth.clear_cache()
