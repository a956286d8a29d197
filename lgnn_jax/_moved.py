"""Arguments that have moved: refused with a sentence on what to write now."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def moved(*placed: str, **sentences: str) -> Callable[[Any], Any]:
    """Decorates a function or a class that no longer has the arguments named.

    Args:
      *placed: The one of them, if any, that was also given by its place, after all that are left.
      **sentences: By name of an argument, what to write now.

    Returns:
      A decorator. What it decorates raises ``TypeError`` with the sentence for such an argument, and
      keeps its signature.

    Example:
      >>> from lgnn_jax._moved import moved
      >>> @moved(wrap="Write Grid(shape, wrap=True).")
      ... def rows(grid):
      ...     return grid
      >>> rows((2, 2), wrap=True)
      Traceback (most recent call last):
      TypeError: rows has no argument wrap any more. Write Grid(shape, wrap=True).
    """

    def decorate(function: Any) -> Any:
        if isinstance(function, type):
            function.__init__ = decorate(function.__init__)  # type: ignore[misc]
            return function
        name = function.__qualname__.removesuffix(".__init__")
        kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
        most = sum(kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for kind in kinds)

        @functools.wraps(function)
        def checked(*args, **kwargs):
            gone = [argument for argument in sentences if argument in kwargs]
            gone += placed if len(args) > most else ()
            if gone:
                raise TypeError(f"{name} has no argument {gone[0]} any more. {sentences[gone[0]]}")
            return function(*args, **kwargs)

        return checked

    return decorate
