"""Docstrings as the site shows them: roles become links, examples and sources sections like others.

Sources write :func:`lgnn`, which editors follow, and ``Example:`` with a doctest, which pytest runs.
"""

from __future__ import annotations

import ast
import pathlib
import re
from typing import Any

import griffe

ROOT = pathlib.Path(__file__).parents[2]
MODULES = ("", ".topography", ".inspect", ".inspect.plots", ".inspect.atlas", ".losses", ".som")
ROLE = re.compile(r":(?:func|class|meth|data|mod|attr):`([^`]+)`")
SOURCE = re.compile(r"^Source:\n((?: +.*\n|[ \t]*\n)+)", re.MULTILINE)


def public_names(module: str) -> list[str]:
    """``__all__`` of a module, read from its source."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return []


NAMES: dict[str, list[str]] = {}
for _module in (f"lgnn_jax{suffix}" for suffix in MODULES):
    for _name in public_names(_module):
        NAMES.setdefault(_name, []).append(f"{_module}.{_name}")


def target(name: str, path: str) -> str | None:
    """The public name that a role within the object ``path`` means, or None."""
    if name.startswith("lgnn_jax"):
        return None if "._" in name else name
    found = sorted(NAMES.get(name, []), key=lambda full: -_shared(full, path))
    return found[0] if found else None


def _shared(one: str, other: str) -> int:
    """How many parts two dotted paths have in common at their start."""
    pairs = zip(one.split("."), other.split("."), strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), 99)


def rewritten(text: str, path: str) -> str:
    """A docstring's text in Markdown."""

    def link(match: re.Match[str]) -> str:
        full = target(match[1], path)
        return f"[`{match[1]}`][{full}]" if full else f"`{match[1]}`"

    text = re.sub(r"^( *)Example:$", r"\1Examples:", ROLE.sub(link, text), flags=re.MULTILINE)
    return SOURCE.sub(lambda match: f"\n**Source:** {' '.join(match[1].split())}\n\n", text + "\n")


class Docstrings(griffe.Extension):
    """Rewrites every docstring as it is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """An object was read."""
        if obj.docstring:
            obj.docstring.value = rewritten(obj.docstring.value, obj.path)
