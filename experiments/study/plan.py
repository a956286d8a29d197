"""A plan: a file of runs that are to stand beside each other, a method and its settings a row."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import tomllib
from collections.abc import Mapping
from typing import Any

import click

from experiments import config as configs
from experiments import fields, methods
from experiments.config import Run
from experiments.data import Dataset
from experiments.errors import usage_errors
from experiments.options import Options
from experiments.recipes import Recipe, recipe

_KINDS = {"int": "an integer", "float": "a number", "str": "a text", "bool": "true or false"}


@dataclasses.dataclass(frozen=True)
class Row:
    """A method with its settings, by flat names, and the seeds that it is run with; None for the plan's."""

    name: str
    variant: str
    settings: Mapping[str, Any]
    seeds: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a plan's file says.

    Args:
      name: Of the file, without its ending.
      title: Of the tables.
      rows: At least one, no two of a name.
      settings: Common to all rows, by flat names.
      data: The data set; None for the digits.
      shorten: Factor on the epochs of the net's recipe; None for none.
      seeds: Of the rows that say nothing else.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    settings: Mapping[str, Any]
    data: str | None = None
    shorten: float | None = None
    seeds: tuple[int, ...] = (0,)

    def given(self, options: Options, shorten: float | None, seeds: int | None) -> tuple[Plan, Options]:
        """The plan, and the options of its runs, where what stands on the command line comes first."""
        said = {key: value for key, value in options.overrides.items() if value is not None}
        kept = {key: value for key, value in self.settings.items() if key != "epochs" or shorten is None}
        factor = None if "epochs" in said else shorten or self.shorten
        plan = dataclasses.replace(
            self, seeds=self.seeds if seeds is None else tuple(range(seeds)), shorten=factor
        )
        data = options.data or self.data or "digits"
        return plan, dataclasses.replace(options, data=data, overrides={"net": "vgg11"} | kept | said)

    def check(self, options: Options) -> None:
        """Refuses what cannot be run, before a data set is read for it.

        Raises:
          click.UsageError: If a row cannot be, or two are the same run.
        """
        seen: dict[str, str] = {}
        for row in self.rows:
            for seed in self.seeds_of(row):
                with _of_row(self.name, row.name), usage_errors():
                    overrides = self._overrides(row, options)
                    run, _ = configs.foresee(options.data, variant=row.variant, seed=seed, **overrides)
                    options.check_run(run)
                if run.name in seen:
                    raise click.UsageError(
                        f"Plan {self.name}: rows {seen[run.name]!r} and {row.name!r} are the same run (seed "
                        f"{seed}). Leave one out."
                    )
                seen[run.name] = row.name

    def seeds_of(self, row: Row) -> tuple[int, ...]:
        """The seeds of a row."""
        return self.seeds if row.seeds is None else row.seeds

    def runs(self, row: Row, options: Options, data: Dataset) -> tuple[tuple[Run, ...], tuple[str, ...]]:
        """The runs of a row, a seed each, and sentences on what was adapted for them."""
        own = dataclasses.replace(options, overrides=self._overrides(row, options))
        with _of_row(self.name, row.name):
            made = [own.configure(data, variant=row.variant, seed=seed) for seed in self.seeds_of(row)]
        return tuple(run for run, _ in made), made[0][1]

    def _overrides(self, row: Row, options: Options) -> dict[str, Any]:
        found = dict(options.overrides) | dict(row.settings)
        if self.shorten is not None:
            whole = recipe(found["net"], options.data).epochs
            found["epochs"] = max(1, round(self.shorten * whole))
        return found


class _of_row:
    """Says of which row a ``click.UsageError`` is."""

    def __init__(self, plan: str, row: str):
        self._where = f"Plan {plan}, row {row!r}: "

    def __enter__(self) -> None:
        """Nothing yet."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """The same error with the row's name."""
        if isinstance(error, click.UsageError):
            raise click.UsageError(self._where + error.format_message()) from None


def read(path: pathlib.Path) -> Plan:
    """The plan of a file.

    Raises:
      click.UsageError: If it cannot be read, or says what no plan can say.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"Plan {str(path)!r} cannot be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"Plan {str(path)!r} is no TOML: {error}.") from None
    try:
        return _plan(path.stem, content)
    except ValueError as error:
        raise click.UsageError(f"Plan {path.stem}: {error}") from None


def _plan(name: str, content: dict[str, Any]) -> Plan:
    common = _options(configs.Net) | _options(configs.Data) | _options(Recipe)
    rows = content.pop("rows", None)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it has no rows; give one or more, each under [[rows]].")
    title = _text("title", content.pop("title", name))
    data = content.pop("data", None)
    shorten = content.pop("shorten", None)
    seeds = _seeds(content.pop("seeds", [0]))
    settings = _settings(content, common, "all rows")
    if shorten is not None:
        if type(shorten) not in (int, float) or not 0 < shorten <= 1:
            raise ValueError(f"shorten must be a factor above 0 and at most 1, got {shorten!r}.")
        if "epochs" in settings:
            raise ValueError("epochs and shorten both set the length of a run; give one of them.")
    made = tuple(_row(index, row) for index, row in enumerate(rows, 1))
    names = [row.name for row in made]
    for twice in sorted({one for one in names if names.count(one) > 1}):
        raise ValueError(f"two rows are called {twice!r}; give each a name of its own.")
    return Plan(name, title, made, settings, None if data is None else _text("data", data), shorten, seeds)


def _row(index: int, content: dict[str, Any]) -> Row:
    content = dict(content)
    for key in ("name", "variant"):
        if key not in content:
            raise ValueError(f"row {index} has no {key}; every row has a name and a variant.")
    name, variant = (_text(f"{key} of row {index}", content.pop(key)) for key in ("name", "variant"))
    seeds = content.pop("seeds", None)
    where = f"row {name!r}"
    try:
        settings = _settings(content, _options(methods.named(variant)), f"variant {variant!r}")
        return Row(name, variant, settings, None if seeds is None else _seeds(seeds))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _options(kind: Any) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a part of a run that are options of commands too, by their flat names."""
    known = fields.by_key(kind).items()
    return {key: field for key, field in known if "help" in field.metadata.get("click", ())}


def _settings(given: dict[str, Any], known: Mapping[str, Any], of: str) -> dict[str, Any]:
    """Settings by their flat names, as the command line would give them: hashes tell 1 and 1.0 apart."""
    found = {}
    for key, value in given.items():
        if key not in known:
            raise ValueError(
                f"unknown setting {key!r} of {of}. Known: {', '.join(sorted(known)) or 'none'}."
            )
        found[key] = _value(key, known[key], value)
    return found


def _value(key: str, field: dataclasses.Field[Any], given: Any) -> Any:
    kind = field.metadata["click"].get("type")
    if isinstance(kind, fields.GridShapes) and isinstance(given, str):
        try:
            return kind.convert(given, None, None)
        except click.UsageError as error:
            raise ValueError(f"{key}: {error.message}.") from None
    wanted = field.type if field.type in _KINDS else "str"
    if wanted == "float" and type(given) is int:
        return float(given)
    if type(given).__name__ != wanted:
        raise ValueError(f"{key} must be {_KINDS[wanted]}, got {given!r}.")
    if isinstance(given, float) and math.isnan(given):
        raise ValueError(f"{key} must be a number, got nan.")
    return given


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key} must be a text, got {value!r}.")
    return value


def _seeds(value: Any) -> tuple[int, ...]:
    legal = isinstance(value, list) and value and all(type(seed) is int and seed >= 0 for seed in value)
    if not legal or len(set(value)) < len(value):
        raise ValueError(f"seeds must be different integers from 0, such as [0, 1, 2], got {value!r}.")
    return tuple(value)
