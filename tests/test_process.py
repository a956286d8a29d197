import subprocess
import sys

import pytest

PROGRAM = """
import resource
from experiments.machine.process import keep_freed_memory
keep_freed_memory()
import jax, jax.numpy as jnp

@jax.jit
def f(x):  # 100 MB of temporaries.
    return sum((x + i) @ x[:64] for i in range(8))

x = jnp.ones((50_000, 64))
faults = []
for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    f(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone is asked")
def test_a_step_touches_no_new_pages():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000  # Otherwise one for every 4 kB of its temporaries.
