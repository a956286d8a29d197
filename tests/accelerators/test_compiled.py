"""What programs are when compiled for accelerators: no relayouts, no more passes and collectives than needed.

Nothing runs, so no accelerator need be there, but the compiler: the CUDA plugin of JAX, or libtpu.
"""

import functools
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.accelerators.compiled import SMOOTHED

COMPILERS = {"cuda": "jax_plugins.xla_cuda13", "tpu": "libtpu"}
# Of a machine without TPUs: its compiler else asks the network which ones there are.
TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def there(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture(scope="module", params=COMPILERS)
def found(request):
    """By the kind of a program and its name what it is, compiled by a process of its own, as users' do."""
    target = request.param
    if not there(COMPILERS[target]):
        pytest.skip(f"{COMPILERS[target]} is not installed")
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"} | TPU

    @functools.cache
    def compiled(kind):
        done = subprocess.run(
            [sys.executable, "-m", "tests.accelerators.compiled", target, kind],
            capture_output=True,
            text=True,
            cwd=pathlib.Path(__file__).parents[2],
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return lambda kind, name: compiled(kind)[name]


@pytest.mark.parametrize("kernel", SMOOTHED)
def test_smooth_reads_a_kernel_once_and_writes_it_once(found, kernel):
    program = found("smooth", kernel)
    assert not program["relayouts"] and not program["collectives"]
    assert program["passes"] == pytest.approx(1, rel=0.02)


def test_in_a_chain_smoothing_is_part_of_the_update(found):
    ours, plain = (found("chain", name) for name in ("lgnn", "plain"))
    assert len(ours["relayouts"]) <= len(plain["relayouts"])
    assert ours["collectives"] == plain["collectives"] == []
    assert ours["bytes"] < 1.01 * plain["bytes"]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_replicas_exchange_gradients_once_with_smoothing_and_without(found, precision):
    ours, plain = (found("step", f"{method} {precision}") for method in ("lgnn", "plain"))
    assert plain["gradients"] == ["all-reduce"]
    assert ours["gradients"] == plain["gradients"]
    assert ours["collectives"] == plain["collectives"]


def test_a_step_does_not_copy_the_training_set(found):
    assert not found("step", "lgnn float32")["sets"]


def test_a_step_crops_images_by_selects_and_not_one_after_the_other(found):
    program = found("step", "lgnn float32")
    assert not program["loops"]
    assert program["selects"] >= 16  # Of eight more rows, and eight more columns.
