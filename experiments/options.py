"""The options that every command shares: those of a run's configuration, and where and how runs are made."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import pathlib
import re
import shlex
from collections.abc import Callable
from typing import Any

import click

from experiments import config as configs
from experiments import data as datasets
from experiments import fields
from experiments.errors import usage_errors
from experiments.fields import setting
from experiments.machine import hosts
from experiments.run import start

_log = logging.getLogger("experiments")

FINISHED = click.Path(exists=True, file_okay=False, path_type=pathlib.Path)  # The folder of a finished run.


@dataclasses.dataclass(frozen=True)
class Options:
    """What the shared options say; None among the overrides where the recipe of the net decides."""

    data: str
    data_dir: str | None = setting(
        "Where tensorflow-datasets keeps its sets.",
        shown="$TFDS_DATA_DIR or ~/tensorflow_datasets",
        metavar="PATH",
    )
    download: bool = setting("Download and prepare a set that is not there.")
    out: pathlib.Path = setting(
        "Folder for results; every run gets its own inside, and finished runs there are reused.",
        default="runs",
        show_default=True,
        type=click.Path(file_okay=False, path_type=pathlib.Path),
    )
    checkpoint_every: float = setting(
        "Time between checkpoints, which a kill may cost; SIGTERM and Control-C save first and cost nothing.",
        default=60.0,
        show_default=True,
        type=click.FloatRange(0, min_open=True),
        metavar="SECONDS",
    )
    overrides: dict[str, Any]
    together: int | None = setting(
        "Runs to make at once, as one program, where they differ in seed and in the width of the neighbourhood "
        "alone; of several devices each takes some.",
        None,
        shown="1 on CPUs, 3 on accelerators",
        type=click.IntRange(1),
    )
    keep_epochs: tuple[int, ...] = setting(
        "Epochs after which a run that is made keeps its weights too, such as 0,1,10, for the atlas's slider "
        "through training; 0 is its start. They change no run and no name.",
        (),
        shown="none",
        default="",
        type=fields.Epochs(),
    )

    @property
    def arguments(self) -> str:
        """What to write on a command line to say the same again, on another machine."""
        said: dict[str, Any] = {
            "data": re.sub("^(folder|npy):.*", r"\1:DIR", self.data),
            "data_dir": "DIR" if self.data_dir else None,
            **dict(sorted(self.overrides.items())),
        }
        if grids := said.pop("grids", None):
            said["grids"] = ",".join(f"{width}={'x'.join(map(str, shape))}" for width, shape in grids)
        flags = ["--sync-bn"] if said.pop("sync_bn", None) else []
        given = {name.replace("_", "-"): value for name, value in said.items() if value is not None}
        return " ".join([*(f"--{name} {shlex.quote(str(value))}" for name, value in given.items()), *flags])

    def check(self, *, variant: str, seed: int = 0) -> None:
        """Refuses a run that cannot be, before a data set is read for it."""
        with usage_errors():
            run, _ = configs.foresee(self.data, variant=variant, seed=seed, **self.overrides)
        self.check_run(run)

    def check_run(self, run: configs.Run) -> None:
        """Refuses a run whose start is not there, or that ends before an epoch that is to be kept."""
        start.check(run, self.out)
        if self.keep_epochs and self.keep_epochs[-1] > run.recipe.epochs:
            raise click.UsageError(
                f"--keep-epochs asks for the weights after epoch {self.keep_epochs[-1]}, but the run has "
                f"{run.recipe.epochs}. Leave out what lies beyond."
            )

    def load(self) -> datasets.Dataset:
        """The data set, with a line on what was read and what was changed in it."""
        if self.data != "digits":
            _log.info(f"reading {self.data} ...")
        with usage_errors():
            loaded = datasets.load(
                self.data,
                split=self.overrides.get("split") or datasets.FULL,
                test_split=self.overrides.get("test_split") or "",
                data_dir=self.data_dir,
                download=self.download,
            )
            loaded.check_tested()
        _log.info(
            f"{loaded.name}: {len(loaded.train_labels)} training and {len(loaded.test_labels)} test pictures, "
            f"{loaded.classes} classes"
        )
        for note in loaded.notes:
            _log.info(note)
        return loaded

    def configure(
        self, data: datasets.Dataset, *, variant: str, seed: int
    ) -> tuple[configs.Run, tuple[str, ...]]:
        """One run's configuration, and what was adapted for it."""
        with usage_errors():
            return configs.configure(data, variant=variant, seed=seed, **self.overrides)


@dataclasses.dataclass(frozen=True)
class _Hosts:
    """Arguments of :func:`experiments.machine.hosts.join`."""

    coordinator: str | None = setting(
        "Make the runs on several hosts together: address of the first one, or 'auto' where the cluster (Slurm, "
        "Open MPI, Kubernetes, TPU) says it all. The same command on every host, but for --host.",
        metavar="ADDRESS:PORT",
    )
    hosts: int | None = setting("With --coordinator: how many hosts there are.", type=click.IntRange(1))
    host: int | None = setting("With --coordinator: which one this is, from 0.", type=click.IntRange(0))


def _option(key: str, field: dataclasses.Field[Any]) -> Callable[..., Any]:
    """The option of a field."""
    kinds: dict[Any, Any] = {"int": {"type": int}, "float": {"type": float}, "bool": {"is_flag": True}}
    return click.option(f"--{key.replace('_', '-')}", **kinds.get(field.type, {}) | field.metadata["click"])


def run_options(
    command: Callable[..., None] | None = None, *, without: tuple[str, ...] = (), **defaults: Any
) -> Callable[..., Any]:
    """Adds the shared options to a command, which receives them as its first argument, ``options``.

    Args:
      command: The command; None if this is called with the other arguments as a decorator.
      without: Names of options to leave out.
      **defaults: Other defaults.
    """
    if command is None:
        return functools.partial(run_options, without=without, **defaults)

    @functools.wraps(command)
    def wrapped(**given):
        if math.isnan(given["checkpoint_every"]):  # Which no comparison refuses.
            raise click.UsageError("--checkpoint-every must be a number of seconds, got nan.")
        if given["coordinator"] and (given.get("together") or 1) > 1:
            raise click.UsageError(
                "--together is for the devices of one host; leave it out with --coordinator."
            )
        hosts.join(**{key: given.pop(key) for key in fields.by_key(_Hosts)})
        own = {key: given.pop(key) for key in fields.by_key(Options) if key in given}
        overrides = {key: given.pop(key) for key in configs.known_settings().keys() & given.keys()}
        return command(Options(**own, overrides=overrides), **given)

    known = configs.known_settings() | fields.by_key(Options) | fields.by_key(_Hosts)
    known["data"] = fields.by_key(configs.Data)["data"]
    for key, field in reversed(known.items()):
        if "help" in field.metadata.get("click", ()):
            wrapped = _option(key, field)(wrapped)
    kept = [param for param in wrapped.__click_params__ if param.name not in without]
    for param in kept:
        param.default = defaults.get(param.name, param.default)
    wrapped.__click_params__ = kept
    return wrapped


def data_of_run(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options by which a command finds the data set of a finished run."""
    where = click.option("--data-dir", metavar="PATH", help="Where tensorflow-datasets keeps its sets.")
    which = click.option("--data", help="The run's data set, where its name does not tell (folder:PATH).")
    return which(where(command))
