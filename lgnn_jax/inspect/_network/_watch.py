"""Calls of modules of a class, watched by way of a subclass: NNX and Equinox have no interceptor."""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Iterator

from lgnn_jax.inspect._marks import Marks

_MARKS: contextvars.ContextVar[Marks | None] = contextvars.ContextVar("marks", default=None)


@contextlib.contextmanager
def marking(marks: Marks) -> Iterator[None]:
    """Within it watched modules mark their calls."""
    token = _MARKS.set(marks)
    try:
        yield
    finally:
        _MARKS.reset(token)


@functools.cache
def watched(kind: type, path: str) -> type:
    """A subclass of a module's class whose calls are marked by its path.

    Transforms make modules anew and keep the class, so the path is within it.
    """

    def call(self, *args, **kwargs):
        marks, plain = _MARKS.get(), functools.partial(kind.__call__, self)
        return plain(*args, **kwargs) if marks is None else marks.call(path, self, plain, args, kwargs)

    return type(kind)(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})
