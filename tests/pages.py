"""The Markdown pages of the repository, taken apart: their blocks of code, links and headings."""

from __future__ import annotations

import contextlib
import io
import pathlib
import re
from typing import Any, NamedTuple

import jax

ROOT = pathlib.Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "experiments/README.md"],
    key=lambda page: page.relative_to(ROOT),
)
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: its language, its text, the line of the page that it begins after, and where it ends."""

    language: str
    text: str
    line: int
    end: int


def name(page: pathlib.Path) -> str:
    """The page's path in the repository."""
    return str(page.relative_to(ROOT))


def blocks(page: pathlib.Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    text = page.read_text()
    return [Block(m[2], m[3], text[: m.start()].count("\n") + 1, m.end()) for m in FENCE.finditer(text)]


def prose(page: pathlib.Path) -> str:
    """A page without its blocks."""
    return FENCE.sub("", page.read_text())


def links(page: pathlib.Path) -> list[str]:
    """Where the links and images of a page lead."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: pathlib.Path) -> set[str]:
    """The anchors of a page's headings, as repositories make them; of an API page its names, too."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(
            " ", "-"
        )
        found[slug] = found.get(slug, -1) + 1
    numbered = {f"{slug}-{i}" for slug, last in found.items() for i in range(1, last + 1)}
    return set(found) | numbered | set(re.findall(r"^::: (\S+)$", prose(page), re.MULTILINE))


def is_file(block: Block) -> bool:
    """Whether a block is a file to be written, which its first line names."""
    return re.match(r"# \S+\.py\n", block.text) is not None


def run(page: pathlib.Path, after: Any = None) -> dict[str, Any]:
    """Runs a page's blocks one after another in one namespace, and returns it.

    What a block prints must be the block of language ``text`` right below it, if there is one.
    ``after(number, namespace)`` is called after every block.
    """
    namespace: dict[str, Any] = {"__name__": "page"}
    text, found, number = page.read_text(), blocks(page), 0
    with jax.numpy_rank_promotion("allow"):
        for block, below in zip(found, [*found[1:], None], strict=True):
            if block.language != "python" or is_file(block):
                continue
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * block.line + block.text, str(page), "exec"), namespace)
            if (
                below
                and below.language == "text"
                and not text[block.end : below.end].split("```")[0].strip()
            ):
                assert printed.getvalue() == below.text, f"{name(page)}, line {block.line}"
            if after is not None:
                after(number, namespace)
            number += 1
    return namespace
