"""The command: ``python -m experiments.inspect RUN [BASELINE]``."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from experiments import cli
from experiments.inspect.look import look
from experiments.inspect.pictures import SETTINGS
from experiments.options import FINISHED, data_of_run


@click.command()
@click.argument("run", type=FINISHED)
@click.argument("baseline", required=False, type=FINISHED)
@data_of_run
@click.option("--download", is_flag=True, help="Download and prepare a set that is not there.")
@click.option("--layers", help="Layers to look at, with commas between.  [default: all]")
@click.option(
    "--layer", help="Layer of Figures 2 and 3 and of the top images.  [default: the last convolution]"
)
@click.option(
    "--classes", help="Classes of Figure 3 by name, such as cat,dog,horse.  [default: related ones]"
)
@click.option(
    "--pictures",
    "setting",
    type=click.Choice([*SETTINGS, "none"]),
    default="small",
    show_default=True,
    help="How the picture that excites a filter most is made: for 32x32 images, as Lucid does (several times the "
    "work), or not at all. It is what takes the time; pictures are kept with their run.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=pathlib.Path),
    help="Folder for tables and figures.  [default: inspect in the run's folder]",
)
def main(
    run: pathlib.Path,
    baseline: pathlib.Path | None,
    data: str | None,
    data_dir: str | None,
    download: bool,
    layers: str | None,
    layer: str | None,
    classes: str | None,
    setting: str,
    out: pathlib.Path | None,
) -> None:
    """Shows how organised the layers of a finished RUN are, beside those of a BASELINE run of another variant.

    Writes atlas.html, a page to explore every layer, to be opened in a browser; preferences.png (which class
    every unit of a layer prefers, as trained and arranged); fig1.png (first-layer filters), fig2.png (how
    three filters of a layer resemble all others, and what excites those around them most), fig3.png
    (responses to three classes over the grid, outlined the units whose t for the class is above 5, and two
    such regions enlarged), feature_vis.png (what excites each filter of the layer most), top_images.png (the
    nine test pictures that excite each filter of RUN most), table3.md (magnitudes) and topography.md and
    .json (metrics on weights and on responses to the test pictures, as trained,
    with what chance gives), and prints where. Figures and table are numbered as in the paper. The page has a
    slider through training where the runs kept weights of the same epochs, as --keep-epochs of the command
    that made them says.
    """
    out = out or run / "inspect"
    folders = {"run": run} if baseline is None else {"baseline": baseline, "run": run}
    chosen: dict[str, Any] = {"layers": layers, "layer": layer, "classes": classes}
    print(look(folders, out, data, data_dir, download=download, setting=setting, **chosen))
    print(out)


if __name__ == "__main__":
    cli.start(main)
