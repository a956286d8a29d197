"""Brings pages from outside of docs/ and the notebooks into the site, and makes their links lead there.

Links in Markdown are those of the repository: relative to the file that has them. A link to a file that is a
page of the site leads to that page. One to any other file leads to ``repo_url`` where that is set, and is text
otherwise.
"""

from __future__ import annotations

import base64
import json
import pathlib
import posixpath
import re
from typing import Any

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[2]
# The files of the repository that are pages of the site, by the place that they have there.
OUTSIDE = {
    "index.md": "README.md",
    "experiments.md": "experiments/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
}
LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\](?:\([^)]*\))?)*\])\(([^)\s]+)\)")
CODE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Adds the pages from outside, and of every executed notebook a page and its images."""
    for place, source in OUTSIDE.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    for notebook in sorted(ROOT.glob("docs/notebooks/*.ipynb")):
        text, images = converted(notebook)
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=text))
        for name, data in images.items():
            files.append(File.generated(config, f"notebooks/{name}", content=data))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any, **_: Any) -> str:
    """Every link of a page, led to where its file is on the site."""
    place = page.file.src_uri
    repository = {f"docs/{file.src_uri}": file.src_uri for file in files if file.inclusion.is_included()}
    repository |= {source: there for there, source in OUTSIDE.items()}
    repository |= {
        f"docs/notebooks/{notebook.name}": f"notebooks/{notebook.stem}.md"
        for notebook in ROOT.glob("docs/notebooks/*.ipynb")
    }
    here = OUTSIDE.get(place, f"docs/{place}")

    def lead(match: re.Match[str]) -> str:
        text, link = LINK.sub(lead, match[1]), match[2]  # An image may be within.
        if re.match(r"[a-z]+:|#", link):
            return f"{text}({link})"
        path, _, anchor = link.partition("#")
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(here), path))
        if wanted in repository:
            relative = posixpath.relpath(repository[wanted], posixpath.dirname(place) or ".")
            return f"{text}({relative}{'#' + anchor if anchor else ''})"
        if not (ROOT / wanted).exists():
            return f"{text}({link})"  # MkDocs says that there is no such page.
        if config.repo_url:
            return f"{text}({config.repo_url.rstrip('/')}/blob/main/{wanted})"
        return text[1:-1]

    if here.endswith(".md") and (notebook := here.removesuffix(".md") + ".ipynb") in repository:
        markdown = colab(notebook, config) + markdown
    parts = CODE.split(markdown)  # Every second one is code.
    return "".join(part if i % 2 else LINK.sub(lead, part) for i, part in enumerate(parts))


def colab(notebook: str, config: Any) -> str:
    """A link that opens a notebook in Colab, where ``repo_url`` says which repository this is."""
    owned = re.match(r"https://github\.com/([^/]+/[^/]+)", config.repo_url or "")
    if owned is None:
        return ""
    return f"[Open in Colab](https://colab.research.google.com/github/{owned[1]}/blob/main/{notebook})\n\n"


def converted(notebook: pathlib.Path) -> tuple[str, dict[str, bytes]]:
    """An executed notebook as Markdown, and its images by name."""
    parts, images = [], {}
    for cell in json.loads(notebook.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{notebook.stem}_{len(images)}.png"
                images[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![{cell['metadata'].get('alt', 'Output of the code above')}]({name})")
            elif text := "".join(output.get("text", data.get("text/plain", ""))):
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n", images
