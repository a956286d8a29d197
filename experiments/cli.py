"""How commands start, speak and fail."""

from __future__ import annotations

import logging
import os
import sys
import traceback

import click

from experiments.errors import FailedRun, Stopped
from experiments.machine import hosts
from experiments.machine.process import keep_freed_memory

_log = logging.getLogger("experiments")


class _Lines(logging.Handler):
    """Lines on standard error, of the first host but for errors; results go to standard output."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a line."""
        if hosts.first() or record.levelno >= logging.ERROR:
            print(record.getMessage(), file=sys.stderr, flush=True)


def start(command: click.Command) -> None:
    """Runs a command and ends the process, with one line about what a user can mend or wants to know.

    Exit codes: 2 for what was asked, 1 for a run that failed, 128 and the signal's number if one stopped it.
    """
    if not _log.handlers:
        _log.addHandler(_Lines())
        _log.setLevel(logging.INFO)
        _log.propagate = False  # Libraries may have put handlers of their own on the root.
    keep_freed_memory()
    try:
        command.main(standalone_mode=False)
    except click.ClickException as error:
        _log.error(f"error: {' '.join(error.format_message().split())}")
        _leave(2)
    except (FailedRun, OSError) as error:  # OSError: a folder that cannot be written, a full disk.
        _log.error(f"error: {error}")
        _leave(1)
    except Stopped as error:
        _log.error(str(error))
        sys.exit(128 + error.number)
    except (click.Abort, KeyboardInterrupt):
        _log.error("stopped at once; the same command goes on from the last checkpoint")
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
        _log.error(
            f"error: {hosts.name()} lost another one ({reason}). What was saved is kept; the same command on all "
            "hosts goes on from there"
        )
    else:
        traceback.print_exc()
        _log.error(f"error: {hosts.name()} failed and ends; so will the others")
