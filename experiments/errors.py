"""What ends a command, apart from its own end, and what a user asked for that cannot be."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import click


class FailedRun(RuntimeError):
    """A run that cannot go on, for a reason that one line explains."""


class Stopped(RuntimeError):
    """What runs was asked to stop by a signal, and has saved its state."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number


class Taken(RuntimeError):
    """Another process makes this run."""


def check_known(what: str, name: str, known: Iterable[str]) -> None:
    """Raises ``ValueError`` if a name is none of those that there are.

    Example:
      >>> check_known("net", "vgg12", ("vgg11", "vgg16"))
      Traceback (most recent call last):
      ValueError: Unknown net 'vgg12'. Known: vgg11, vgg16.
    """
    if name not in known:
        raise ValueError(f"Unknown {what} {name!r}. Known: {', '.join(known)}.")


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Turns a ``ValueError`` about what the user asked for into a message without a traceback."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from None
