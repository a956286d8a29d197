"""Fields of a run's configuration: their flat names, their options on a command line, and when they came."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def setting(
    help: str | None = None,
    default: Any = dataclasses.MISSING,
    shown: str | None = None,
    *,
    key: str | None = None,
    added: bool = False,
    **click: Any,
) -> Any:
    """A field of a configuration.

    Args:
      help: What the option of its name does; None if there is no option.
      default: Its value where nothing else is said; none if left out.
      shown: What the option's help says is its default, if that is more than ``default``.
      key: Its flat name, in ``config.json`` and on the command line, if that is another than the field's own.
      added: Whether it came after runs had been published. Its default is what those were made with, and must
        never change: there, the field is in no name and in no file.
      **click: Further arguments of ``click.option``.

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
        if (
            shown is None
            and "default" not in click
            and not isinstance(default, bool | type(dataclasses.MISSING))
        ):
            shown = str(default)
        click["help"] = help if shown is None else f"{help}  [default: {shown}]"
    return dataclasses.field(default=default, metadata={"key": key, "added": added, "click": click})


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
