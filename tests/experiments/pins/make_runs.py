"""Makes the folders of runs in ``golden/runs``: one finished, the same one stopped amid its second epoch.

    python -m tests.experiments.pins.make_runs

They stand for what users have on their disks, so they are not made anew when the code changes.
"""

import pathlib
import shutil
import signal
import sys
import tempfile

import jax
from rich.console import Console

from experiments import data as datasets
from experiments import errors
from experiments.config import configure
from experiments.run.make import run
from experiments.run.progress import Reporter
from experiments.run.step import PlacedData, Trainer

# Four steps an epoch, over eight devices as in tests.
OPTIONS = {"width": 1 / 32, "epochs": 2, "batch": 352, "precision": "float32", "variant": "constant"}
STOPPED_AFTER = 6


class Stopping(Trainer):
    """Is asked to stop after some steps."""

    def step(self, state, keys, examples):
        state = super().step(state, keys, examples)
        if int(state.step) == STOPPED_AFTER:
            signal.raise_signal(signal.SIGTERM)
        return state


def make(trainer, out, target):
    with Reporter(1, 8, Console(quiet=True)) as progress:
        try:
            folder = run(trainer, 0, out, progress)
        except errors.Stopped as stopped:
            print(stopped, file=sys.stderr)
            (folder,) = out.iterdir()
    for file in (*folder.glob("events.out.*"), *folder.glob("lock")):  # Their names have those of hosts.
        file.unlink()
    for older in sorted((folder / "checkpoints").glob("*"))[:-1]:
        shutil.rmtree(older)
    for file in folder.rglob("commit_success.txt"):
        file.write_text(file.read_text().replace(str(out), "runs"))
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)


def main():
    jax.config.update("jax_num_cpu_devices", 8)
    data = datasets.load("digits")
    config, _ = configure(data, **OPTIONS)
    runs = pathlib.Path(__file__).parent / "golden" / "runs"
    for name, kind in (("finished", Trainer), ("stopped", Stopping)):
        with tempfile.TemporaryDirectory() as out:
            make(kind(config, PlacedData(data)), pathlib.Path(out), runs / name)


if __name__ == "__main__":
    main()
