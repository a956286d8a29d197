"""The command: ``python -m experiments.inspect RUN [BASELINE]``."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from experiments import cli, nets
from experiments import data as datasets
from experiments.errors import usage_errors
from experiments.inspect.atlas import write_atlas
from experiments.inspect.figures import Shown, draw
from experiments.inspect.networks import PARTS, Network, check_pair, network, read_config, with_responses
from experiments.inspect.pictures import SETTINGS, pictures
from experiments.inspect.tables import magnitude_table, measure, topography_table
from experiments.machine.files import write_json
from experiments.run.progress import Reporter


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=pathlib.Path))
@click.argument(
    "baseline", required=False, type=click.Path(exists=True, file_okay=False, path_type=pathlib.Path)
)
@click.option("--data", help="The run's data set, where its name does not tell (folder:PATH).")
@click.option("--data-dir", metavar="PATH", help="Where tensorflow-datasets keeps its sets.")
@click.option("--download", is_flag=True, help="Download and prepare a set that is not there.")
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
    layer: str | None,
    classes: str | None,
    setting: str,
    out: pathlib.Path | None,
) -> None:
    """Shows how organised the layers of a finished RUN are, beside those of a BASELINE run of another variant.

    Writes atlas.html, a page to explore every layer, to be opened in a browser; fig1.png (first-layer
    filters), fig2.png (how three filters of a layer resemble all others, and what excites those around
    them most), fig3.png (responses to three classes over the grid, outlined the units whose t for the
    class is above 5, and two such regions enlarged), feature_vis.png (what excites each filter of the
    layer most), top_images.png (the nine test pictures that excite each filter of RUN most), table3.md
    (magnitudes) and topography.md and .json (metrics on weights and on responses to the test pictures,
    with what chance gives), and prints where. Figures and table are numbered as in the paper.
    """
    with usage_errors():
        folders = {"run": run} if baseline is None else {"baseline": baseline, "run": run}
        configs = {title: read_config(folder) for title, folder in folders.items()}
        check_pair(configs)
        wanted = configs["run"].data
        loaded = datasets.load(
            data or wanted.name, split=wanted.split, data_dir=data_dir, download=download
        )
        if loaded.digest != wanted.digest:
            raise ValueError(
                f"{run.name} was trained on other pictures than {loaded.name!r} now holds. Give its own with "
                "--data and --data-dir."
            )
        chosen = _chosen(classes, loaded)
        networks = {
            config.method.name if baseline is not None else "run": network(folders[title], config, loaded)
            for title, config in configs.items()
        }
        shown = _layer(layer, networks)
    out = out or run / "inspect"
    scores: dict[str, Any] = {}
    seen: dict[str, Any] = {}
    jobs = sum(2 + (len(found.layers) if setting != "none" else 0) for found in networks.values())
    with Reporter(jobs, jobs * PARTS) as progress:
        for title, found in networks.items():
            progress.begin(f"{title}: responses", title)
            networks[title] = with_responses(found, loaded, progress)
            progress.begin(f"{title}: metrics", title)
            scores[title] = measure(networks[title], loaded, progress)
            seen[title] = {}
            for path in found.layers if setting != "none" else ():
                progress.begin(f"{title}: pictures of {nets.layer_name(path)}", title)
                seen[title][path] = pictures(found, path, SETTINGS[setting], progress)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "topography.json", scores)
    text = topography_table(networks, loaded, scores)
    (out / "topography.md").write_text(text)
    (out / "table3.md").write_text(magnitude_table(networks))
    of_layer = {title: layers[shown] for title, layers in seen.items() if layers}
    draw(Shown(shown, networks, of_layer), loaded, chosen, out)
    write_atlas(out / "atlas.html", networks, seen, scores, loaded)
    print(text)
    print(out)


def _layer(name: str | None, networks: dict[str, Network]) -> str:
    """The layer to draw, as a kernel's path."""
    first = next(iter(networks.values()))
    layers, role = first.layers, nets.NETS[first.config.net.name].role
    if name is None:
        return [layer for layer in layers if role(layer) != nets.SHORTCUT][-1]
    path = nets.kernel_path(name)
    if path not in layers:
        known = ", ".join(map(nets.layer_name, layers))
        raise ValueError(f"Unknown layer {name!r}. Known: {known}.")
    return path


def _chosen(classes: str | None, data: datasets.Dataset) -> dict[str, int]:
    """The indices of Figure 3's classes, by name."""
    names = tuple(classes.split(",")) if classes else data.compared
    for name in names:
        if name not in data.class_names:
            raise ValueError(f"Unknown class {name!r}. Known: {', '.join(data.class_names)}.")
    return {name: data.class_names.index(name) for name in names}


if __name__ == "__main__":
    cli.start(main)
