"""The command: ``python -m lgnn_jax.inspect package.module:load --images folder:PATH --out atlas.html``."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import pathlib
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any

from lgnn_jax.inspect import LUCID, SMALL, Network, atlas
from lgnn_jax.inspect._folder import read
from lgnn_jax.inspect._progress import Line
from lgnn_jax.inspect.atlas._page import check_folder

_SETTINGS = {
    "none": None,
    "small": SMALL,
    "fixed": dataclasses.replace(SMALL, scales=(1.0,)),
    "lucid": LUCID,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the atlas of a network, or of two; returns the exit status."""
    options = _parser().parse_args(arguments)
    start = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: print(f"note: {message}", file=sys.stderr)
            _write(options)
    except (ValueError, OSError) as error:
        if options.traceback:
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    size = pathlib.Path(options.out).stat().st_size / 1e6
    print(f"{options.out}: {size:.1f} MB in {time.monotonic() - start:.0f} s")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lgnn_jax.inspect",
        description="Writes the atlas of a network: one HTML page to explore what its units respond to.",
    )
    add = parser.add_argument
    add(
        "load",
        metavar="PACKAGE.MODULE:LOAD",
        help="a function that returns the network, or two, of lgnn_jax.inspect.linen, nnx, equinox, haiku, "
        "function or arrays, with weights; class k is logit k. For a slider through training it returns a dict "
        'of such by step, the last one last: {"epoch 1": network, "epoch 10": network}',
    )
    add(
        "--images",
        required=True,
        metavar="folder:PATH|npz:FILE",
        help="images that the network was not trained on: a folder a class, in the order of the alphabet, or "
        "arrays images, labels and, maybe, class_names",
    )
    add("--out", default="atlas.html", metavar="FILE", help="the page (default: %(default)s)")
    add(
        "--fit-images",
        metavar="folder:PATH|npz:FILE",
        help="images to arrange units by, such as training images (default: half of --images)",
    )
    add(
        "--size",
        metavar="N|HxW",
        type=_size,
        help="bring images to this size: scaled, and cut in the middle",
    )
    add(
        "--channels",
        type=int,
        choices=(1, 3),
        default=3,
        help="of a folder's images: 3 for colours, 1 for grey",
    )
    add("--most", metavar="N", type=int, help="images of a class to read at most")
    add(
        "--superclasses",
        metavar="FILE",
        help='JSON that maps groups to classes: {"animals": ["cat", "dog"]}',
    )
    add(
        "--visualise",
        choices=_SETTINGS,
        default="none",
        help="make the images that excite units most, which takes long: for images of about 32 pixels, for a "
        "network that takes one size alone, or as Lucid does",
    )
    add("--no-arrange", action="store_true", help="leave units in the order of the network")
    add("--batch", metavar="N", type=int, default=256, help="images at a time (default: %(default)s)")
    add("--top", metavar="N", type=int, default=9, help="images shown of each unit (default: %(default)s)")
    add(
        "--threshold", metavar="T", type=float, default=5.0, help="t above which a unit responds to a class"
    )
    add(
        "--permutations",
        metavar="N",
        type=int,
        help="of the metrics' nulls (default: 1000, fewer for large layers)",
    )
    add(
        "--same-units",
        action="store_true",
        help="unit k is the same in both networks: show their difference",
    )
    add("--title", default="Atlas of a network", help="the page's heading")
    add("--traceback", action="store_true", help="show where an error comes from")
    return parser


def _size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(
            f"wanted pixels such as 224 or 224x160 (height x width), got {text!r}"
        )
    return int(parts[0]), int(parts[-1])


def _write(options: Any) -> None:
    check_folder(options.out)
    with Line() as line:
        line(f"loading {options.load}", 0, 1)
        *earlier, (at, networks) = _steps(_loaded(options.load))
        sized = {"size": options.size, "channels": options.channels, "most": options.most}
        given = read(options.images, **sized, progress=lambda *at: line("reading images", *at))
        fit = None
        if options.fit_images is not None and not options.no_arrange:
            fit = read(options.fit_images, **sized, progress=lambda *at: line("reading images", *at)).images
        groups, group_of = _superclasses(options.superclasses, given.class_names)
        atlas.write(
            options.out,
            networks,
            given.images,
            given.labels,
            class_names=[name.replace("_", " ") for name in given.class_names],
            superclass_names=groups,
            superclass_of=group_of,
            fit_images=fit,
            arranged=not options.no_arrange,
            visualise=_SETTINGS[options.visualise],
            permutations=options.permutations,
            batch=options.batch,
            top=options.top,
            threshold=options.threshold,
            title=options.title,
            same_units=options.same_units,
            earlier=dict(earlier),
            at=at,
            progress=line,
        )


def _loaded(name: str) -> Any:
    """What the user's function returns."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(f"Wanted PACKAGE.MODULE:LOAD such as mine.networks:load, got {name!r}.")
    sys.path.insert(0, "")  # Modules of this folder, also where the command was not started by python -m.
    try:
        found = getattr(importlib.import_module(module), attribute)
        found = found if isinstance(found, Network | list | tuple | dict) else found()
    except ModuleNotFoundError as error:
        raise ValueError(f"{name!r} cannot be imported: {error}.") from error
    except AttributeError as error:
        raise ValueError(f"{name!r} cannot be loaded: {error}.") from error
    except Exception as error:
        raise ValueError(
            f"{name!r} raised {type(error).__name__}: {error} (--traceback shows where)"
        ) from error
    return found


def _steps(found: Any) -> list[tuple[str, Any]]:
    """What is loaded by step of training, the last one last."""
    if not isinstance(found, dict):
        return [("the end", found)]
    if not found:
        raise ValueError("A dict of networks must have one step of training or more, got none.")
    return [(str(step), networks) for step, networks in found.items()]


def _superclasses(path: str | None, classes: list[str]) -> tuple[list[str], list[int]]:
    """Names of groups, and the group of every class."""
    if path is None:
        return [], []
    try:
        groups = json.loads(pathlib.Path(path).read_text("utf-8"))
        of = {str(name): at for at, members in enumerate(groups.values()) for name in members}
    except (json.JSONDecodeError, AttributeError, TypeError) as error:
        raise ValueError(
            f'{path!r} must map groups to classes, such as {{"animals": ["cat"]}}: {error}.'
        ) from None
    lacking = [name for name in classes if name not in of]
    if lacking:
        raise ValueError(f"{path!r} has no group for class {lacking[0]!r}.")
    used = sorted({of[name] for name in classes})
    names = list(groups)
    return [names[at] for at in used], [used.index(of[name]) for name in classes]


if __name__ == "__main__":
    sys.exit(main())
