import pathlib
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.machine import files

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
for _ in range(20):  # Under load the heap takes a few to settle.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    f(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone is asked")
def test_a_step_touches_no_new_pages():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000  # Otherwise one for every 4 kB of its temporaries.


LARGE = """
import ctypes
from experiments.machine.process import keep_freed_memory
keep_freed_memory()
c = ctypes.CDLL(None)
c.malloc.restype = c.sbrk.restype = ctypes.c_void_p
c.free.argtypes = [ctypes.c_void_p]
place = c.malloc(ctypes.c_size_t(3 << 30))  # Not touched: no memory is used.
end = c.sbrk(0)
if place:
    c.free(place)
    print(c.sbrk(0) == end)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone is asked")
def test_what_a_large_step_frees_is_kept_too():
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    if not done.stdout:
        pytest.skip("the system grants no 3 GB")
    assert done.stdout == "True\n"


STOPPED = """
import signal
from experiments.machine.process import StopSignals
with StopSignals(signal.SIGTERM) as signals:
    signal.raise_signal(signal.SIGTERM)
    assert signals.received == signal.SIGTERM
"""


def test_a_signals_arrival_is_told():
    done = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True, check=True)
    assert "SIGTERM: stops after the step in hand and saves" in done.stderr


def test_a_file_is_there_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file"
    files.write_text(path, "ä before")

    def fail(partial, content):
        partial.open("wb").close()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(pathlib.Path, "write_bytes", fail)
        files.write_text(path, "after")
    assert path.read_text(encoding="utf-8") == "ä before" and list(path.parent.iterdir()) == [path]


def test_several_processes_write_one_figure(tmp_path, monkeypatch):
    """Two that share a plan drew into one file beside it, which the first of them took away."""
    path, figure, replace = tmp_path / "new" / "figure.png", Figure(figsize=(1, 1)), pathlib.Path.replace

    def another_one_first(partial, target):
        monkeypatch.undo()
        monkeypatch.setattr(files.os, "getpid", lambda: -1)
        files.write_figure(path, figure)
        path.unlink()
        return replace(partial, target)

    monkeypatch.setattr(pathlib.Path, "replace", another_one_first)
    files.write_figure(path, figure)
    assert path.read_bytes().startswith(b"\x89PNG") and list(path.parent.iterdir()) == [path]


def test_arrays_come_back(tmp_path):
    path = tmp_path / "new" / "file.npz"
    files.write_arrays(path, a=np.arange(3), b=[[True]])
    with np.load(path) as kept:
        assert kept["a"].tolist() == [0, 1, 2] and kept["b"].tolist() == [[True]]
    assert list(path.parent.iterdir()) == [path]
