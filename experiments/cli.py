"""The options that every command shares, and how commands start and fail."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import pathlib
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import click

from experiments import config as configs
from experiments import data as datasets
from experiments import models
from experiments.machine import hosts
from experiments.machine.process import keep_freed_memory


class FailedRun(RuntimeError):
    """A run that cannot go on, for a reason that one line explains."""


class Stopped(RuntimeError):
    """What runs was asked to stop by a signal, and has saved its state."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number


class _Grids(click.ParamType):
    """Grid shapes by number of filters: ``512=32x16,64=8x8``."""

    name = "WIDTH=MxN,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The shapes as pairs of a width and a tuple."""
        if not isinstance(value, str):
            return value
        try:
            pairs = [entry.split("=") for entry in value.split(",") if entry]
            return tuple(sorted((int(width), tuple(map(int, shape.split("x")))) for width, shape in pairs))
        except ValueError:
            self.fail(f"{value!r} is not of the form 512=32x16,64=8x8", param, ctx)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the shared options say; None where the recipe of the net decides."""

    data: str
    data_dir: str | None
    download: bool
    out: pathlib.Path
    checkpoint_every: float
    overrides: dict[str, Any]

    @property
    def arguments(self) -> str:
        """What to write on a command line to say the same again, on another machine."""
        said: dict[str, Any] = {
            "data": "folder:DIR" if self.data.startswith("folder:") else self.data,
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
            configs.foresee(self.data, variant=variant, seed=seed, **self.overrides)

    def load(self) -> datasets.Dataset:
        """The data set, with a line on what was read and what was changed in it."""
        if self.data != "digits":
            say(f"reading {self.data} ...")
        with usage_errors():
            loaded = datasets.load(self.data, data_dir=self.data_dir, download=self.download)
        say(
            f"{loaded.name}: {len(loaded.train_labels)} training and {len(loaded.test_labels)} test pictures, "
            f"{loaded.classes} classes",
            *loaded.notes,
        )
        return loaded

    def configure(
        self, data: datasets.Dataset, *, variant: str, seed: int
    ) -> tuple[configs.Run, tuple[str, ...]]:
        """One run's configuration, and what was adapted for it."""
        with usage_errors():
            return configs.configure(data, variant=variant, seed=seed, **self.overrides)


_OPTIONS = (
    click.option(
        "--net", default="vgg11", show_default=True, metavar="|".join(models.NETS), help="Which network."
    ),
    click.option(
        "--data",
        default="digits",
        show_default=True,
        metavar="NAME",
        help="digits (embedded), folder:PATH (a folder or zip with train/<class>/* and test/<class>/*), or "
        "an image-classification set of tensorflow-datasets such as cifar100.",
    ),
    click.option(
        "--data-dir",
        metavar="PATH",
        help="Where tensorflow-datasets keeps its sets.  [default: $TFDS_DATA_DIR or ~/tensorflow_datasets]",
    ),
    click.option("--download", is_flag=True, help="Download and prepare a set that is not there."),
    click.option("--width", type=float, help="Factor on every layer's filters.  [default: 1; digits 0.25]"),
    click.option("--epochs", type=int, help="Length of a run.  [default: the net's recipe; digits 8]"),
    click.option("--batch", type=int, help="Pictures a step.  [default: 128; digits 32]"),
    click.option("--lr", type=float, help="Initial learning rate.  [default: 0.1]"),
    click.option(
        "--weight-decay",
        type=float,
        help="Decay of all parameters.  [default: 5e-4 over the recipe's epochs, more for fewer so that the "
        "run spends the same budget, at most 0.01 (vgg19: 0.0025); digits 0.02]",
    ),
    click.option("--sigma", type=float, help="Width of the neighbourhood in grid steps.  [default: 0.5]"),
    click.option("--window", type=int, help="Taps of the neighbourhood: 3, 5 or 7.  [default: 3]"),
    click.option(
        "--boundary",
        metavar="edge|wrap",
        help="What lies beyond the grid's border: its own units, or the other side.  [default: edge]",
    ),
    click.option(
        "--grids",
        type=_Grids(),
        help="Grid shapes by number of filters, such as 512=32x16.  [default: as square as possible]",
    ),
    click.option(
        "--scope",
        metavar="main|resblocks|all",
        help="Convolutions of a WRN to smooth: the blocks' 3x3, with their shortcuts, or all.  [default: all]",
    ),
    click.option(
        "--sync-bn",
        is_flag=True,
        default=None,
        help="Batch statistics over all devices instead of each its own.",
    ),
    click.option(
        "--precision",
        metavar="float32|bf16",
        help="What networks compute in; bf16 is bfloat16, where parameters, statistics and optimizer stay "
        "in float32.  "
        "[default: float32]",
    ),
    click.option(
        "--out",
        type=click.Path(file_okay=False, path_type=pathlib.Path),
        default="runs",
        show_default=True,
        help="Folder for results; every run gets its own inside, and finished runs there are reused.",
    ),
    click.option(
        "--checkpoint-every",
        type=click.FloatRange(0, min_open=True),
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="Time between checkpoints, which a kill may cost; SIGTERM and Control-C save first and cost nothing.",
    ),
    click.option(
        "--coordinator",
        metavar="ADDRESS:PORT",
        help="Make the runs on several hosts together: address of the first one, or 'auto' where the cluster "
        "(Slurm, Open MPI, Kubernetes, TPU) says it all. The same command on every host, but for --host.",
    ),
    click.option("--hosts", type=click.IntRange(1), help="With --coordinator: how many hosts there are."),
    click.option("--host", type=click.IntRange(0), help="With --coordinator: which one this is, from 0."),
)


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
    def wrapped(*, data, data_dir, download, out, checkpoint_every, coordinator, **rest):
        if math.isnan(checkpoint_every):  # Which no comparison refuses.
            raise click.UsageError("--checkpoint-every must be a number of seconds, got nan.")
        hosts.join(coordinator, rest.pop("hosts"), rest.pop("host"))
        overrides = {name: rest.pop(name) for name in configs.known_settings().keys() & set(rest)}
        return command(Options(data, data_dir, download, out, checkpoint_every, overrides), **rest)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    kept = [param for param in wrapped.__click_params__ if param.name not in without]
    for param in kept:
        param.default = defaults.get(param.name, param.default)
    wrapped.__click_params__ = kept
    return wrapped


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Turns a ``ValueError`` about what the user asked for into a message without a traceback."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def say(*lines: str) -> None:
    """Lines for the person who waits, of the first host; results go to standard output."""
    for line in lines if hosts.first() else ():
        print(line, file=sys.stderr, flush=True)


def start(command: click.Command) -> None:
    """Runs a command and ends the process, with one line about what a user can mend or wants to know.

    Exit codes: 2 for what was asked, 1 for a run that failed, 128 and the signal's number if one stopped it.
    """
    keep_freed_memory()
    try:
        command.main(standalone_mode=False)
    except click.ClickException as error:
        complain(f"error: {' '.join(error.format_message().split())}")
        _leave(2)
    except (FailedRun, OSError) as error:  # OSError: a folder that cannot be written, a full disk.
        complain(f"error: {error}")
        _leave(1)
    except Stopped as error:
        complain(str(error))
        sys.exit(128 + error.number)
    except (click.Abort, KeyboardInterrupt):
        complain("stopped at once; the same command goes on from the last checkpoint")
        _leave(
            130, at_once=True
        )  # XLA may be compiling in a thread that a tidy end would wait for or crash.
    except Exception as error:
        if not hosts.several():
            raise
        _explain_loss(error)
        _leave(1)


def _leave(code: int, *, at_once: bool = False) -> None:
    """Ends the process; where there are other hosts at once, because a tidy end would wait for them."""
    if hosts.several() or at_once:
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _explain_loss(error: Exception) -> None:
    """Says what may be the loss of another host, and otherwise shows where it comes from."""
    text = str(error)
    signs = [sign for sign in ("Gloo", "NCCL", "UNAVAILABLE") if sign in text]
    if signs:
        reason = text[text.index(signs[0]) :].splitlines()[0][:200]
        complain(
            f"error: {hosts.name()} lost another one ({reason}). What was saved is kept; the same command on all "
            "hosts goes on from there"
        )
    else:
        traceback.print_exc()
        complain(f"error: {hosts.name()} failed and ends; so will the others")


def complain(line: str) -> None:
    """A line about what went wrong, of any host."""
    print(line, file=sys.stderr, flush=True)
