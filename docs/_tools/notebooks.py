"""Executes the notebooks whose sources changed: python docs/_tools/notebooks.py [--all] [NAME ...].

A notebook is ``docs/notebooks/NAME.py``, in jupytext's percent format. What it gives is kept beside it as
``NAME.ipynb``, with the hash of its source, so that it runs again only when the source changes. It needs the extra
``notebooks``. A cell's ``alt="..."`` is the alternative text of its figure.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import os
import pathlib
import time
from typing import Any

FOLDER = pathlib.Path(__file__).parents[1] / "notebooks"
LARGEST = 200_000  # Bytes of a file.


def digest(source: pathlib.Path) -> str:
    """The hash of a source."""
    return hashlib.sha256(source.read_bytes()).hexdigest()


def stored(source: pathlib.Path) -> dict[str, Any]:
    """The executed notebook of a source; empty if there is none."""
    file = source.with_suffix(".ipynb")
    return json.loads(file.read_text()) if file.exists() else {}


def is_current(source: pathlib.Path) -> bool:
    """Whether what is stored is of this very source."""
    return stored(source).get("metadata", {}).get("source_sha256") == digest(source)


def execute(source: pathlib.Path) -> None:
    """Runs a notebook from its start and writes it."""
    import jupytext
    import nbclient
    import nbformat

    notebook = jupytext.read(source)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        cell.metadata.pop("execution", None)
        if "outputs" in cell:
            cell.outputs = joined(cell.outputs)
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                raise RuntimeError(f"{source.name}, cell {number} wrote to stderr: {output.text}")
            if (
                output.get("data", {}).get("text/plain", "").startswith("<Figure")
                and "image/png" not in output.data
            ):
                raise RuntimeError(f"{source.name}, cell {number}: a figure without an image.")
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = small(output.data["image/png"])
                output.data.pop("text/plain", None)
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "source_sha256": digest(source),
    }
    text = nbformat.writes(notebook) + "\n"
    if len(text) > LARGEST:
        raise RuntimeError(f"{source.stem} takes {len(text)} bytes, and at most {LARGEST} are kept.")
    source.with_suffix(".ipynb").write_text(text)


def joined(outputs: list[Any]) -> list[Any]:
    """Outputs in which text that was printed in several pieces is one."""
    found: list[Any] = []
    for output in outputs:
        if (
            found
            and output["output_type"] == "stream" == found[-1]["output_type"]
            and output["name"] == found[-1]["name"]
        ):
            found[-1]["text"] += output["text"]
        else:
            found.append(output)
    return found


def small(png: str) -> str:
    """A figure in 256 colours."""
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="notebooks; all that changed, if none is named")
    parser.add_argument("--all", action="store_true", help="also those that did not change")
    options = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    for source in sorted(FOLDER.glob("*.py")):
        if options.names and source.stem not in options.names:
            continue
        if not options.all and is_current(source):
            print(f"{source.stem}: current")
            continue
        start = time.perf_counter()
        execute(source)
        print(f"{source.stem}: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
