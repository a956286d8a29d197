"""Commands in processes of their own, as a user starts them: what they are, where they run, how they end."""

import os
import pathlib
import socket
import subprocess
import sys
import time

# A run that is over in seconds once it is compiled.
TINY = ["--width", "0.0625", "--batch", "32", "--weight-decay", "0.0005"]
_PATIENCE = 300


def start(*arguments, devices=1):
    """``python -m experiments...`` with shallow networks on a number of CPU devices, its output kept."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.experiments.shallow", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=pathlib.Path(__file__).parents[2],
    )


def end(process):
    """Exit code, standard output and standard error at its end."""
    out, errors = process.communicate(timeout=_PATIENCE)
    return process.returncode, out, errors


def wait_for(condition, *processes):
    """Waits until something is so, as long as the processes live."""
    started = time.monotonic()
    while not condition():
        for process in processes:
            assert process.poll() is None, process.communicate()
        assert time.monotonic() - started < _PATIENCE
        time.sleep(0.02)


def free_port():
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]
