"""Files that are there whole or not at all."""

from __future__ import annotations

import io
import json
import os
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_bytes(path: pathlib.Path, content: bytes | memoryview) -> None:
    """Writes bytes; several processes may write the same file, and the last one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text, as UTF-8."""
    write_bytes(path, text.encode())


def write_arrays(path: pathlib.Path, **arrays: ArrayLike) -> None:
    """Writes an ``.npz`` of arrays by name."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getbuffer())


def write_figure(path: pathlib.Path, figure: Figure) -> None:
    """Writes a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    write_bytes(path, buffer.getbuffer())


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes JSON."""
    write_text(path, json.dumps(content, indent=1) + "\n")
