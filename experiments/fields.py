"""Fields of a run's configuration: their flat names, their options on a command line, and when they came."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import click

T = TypeVar("T")


class GridShapes(click.ParamType):
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


class Epochs(click.ParamType):
    """Numbers of epochs, ascending: ``0,1,10``."""

    name = "EPOCH,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The numbers as a tuple."""
        if not isinstance(value, str):
            return value
        parts = [part.strip() for part in value.split(",") if part.strip()]
        if not all(part.isdecimal() for part in parts):
            self.fail(f"{value!r} is not of the form 0,1,10", param, ctx)
        return tuple(sorted({int(part) for part in parts}))


def setting(
    help: str | None = None,
    value: Any = dataclasses.MISSING,
    shown: str | None = None,
    *,
    key: str | None = None,
    added: bool = False,
    **option: Any,
) -> Any:
    """A field of a configuration.

    Args:
      help: What the option of its name does; None if there is no option.
      value: Its default; none if left out.
      shown: What the option's help says is its default, if that is more than ``value``.
      key: Its flat name, in ``config.json`` and on the command line, if that is another than the field's own.
      added: Whether it came after runs had been published. Its default is what those were made with, and must
        never change: there, the field is in no name and in no file.
      **option: Further arguments of ``click.option``.

    Example:
      >>> import dataclasses
      >>> from experiments.fields import flat, setting
      >>> @dataclasses.dataclass(frozen=True)
      ... class Part:
      ...     name: str = setting(key="part")
      ...     size: int = setting("How large.", 3)
      >>> flat(Part("a"))
      {'part': 'a', 'size': 3}
    """
    if help is not None:
        if shown is None and "default" not in option and value is not dataclasses.MISSING:
            shown = str(value)
        option["help"] = help if shown is None else f"{help}  [default: {shown}]"
    return dataclasses.field(default=value, metadata={"key": key, "added": added, "click": option})


def by_key(part: Any) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a dataclass or of one of its instances, by their flat names."""
    return {field.metadata.get("key") or field.name: field for field in dataclasses.fields(part)}


def flat(part: Any) -> dict[str, Any]:
    """The values of a dataclass by their flat names."""
    return {key: getattr(part, field.name) for key, field in by_key(part).items()}


def added(part: Any) -> dict[str, Any]:
    """The defaults of the fields that came later, by their flat names: with them, a run is what it was before."""
    return {key: field.default for key, field in by_key(part).items() if field.metadata.get("added")}


def made(kind: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass from values by their flat names, among which may be those of others."""
    return kind(**{field.name: values[key] for key, field in by_key(kind).items() if key in values})
