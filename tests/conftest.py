"""Eight CPU devices, strict promotion of ranks, and warnings as errors, for every test."""

import jax
import pytest

from lgnn_jax import smoothing

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
        smoothing._smooth.clear_cache()
        yield request.param
    smoothing._smooth.clear_cache()
