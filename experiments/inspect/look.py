"""All that is drawn and measured of one finished run, or of two beside each other."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from experiments import data as datasets
from experiments import nets
from experiments.errors import check_known, usage_errors
from experiments.inspect.atlas import write_atlas
from experiments.inspect.figures import Shown, draw
from experiments.inspect.networks import (
    PARTS,
    Network,
    check_pair,
    network,
    own_data,
    read_config,
    with_orders,
    with_responses,
)
from experiments.inspect.pictures import SETTINGS, pictures
from experiments.inspect.tables import magnitude_table, topography_table
from experiments.machine.files import write_json, write_text
from experiments.run.measured import measure
from experiments.run.progress import Reporter


def look(
    folders: Mapping[str, pathlib.Path],
    out: pathlib.Path,
    data: str | None,
    data_dir: str | None,
    *,
    download: bool = False,
    layers: str | None = None,
    layer: str | None = None,
    classes: str | None = None,
    setting: str = "none",
) -> str:
    """Writes tables, figures and the atlas of finished runs, and returns the table of topography.

    Args:
      folders: That of the ``run``, and for a pair that of its ``baseline`` before it.
      out: Where to.
      data: The run's data set, where its name does not tell.
      data_dir: Where tensorflow-datasets keeps its sets.
      download: Whether to prepare a set that is not there.
      layers: Names of the layers to look at, with commas between; None for all.
      layer: Layer of Figures 2 and 3; None is the last convolution.
      classes: Classes of Figure 3 by name, with commas between; None are related ones.
      setting: How the picture that excites a filter most is made, one of ``SETTINGS`` or ``none``.

    Raises:
      click.UsageError: If something of this cannot be.
    """
    with usage_errors():
        configs = {title: read_config(folder) for title, folder in folders.items()}
        check_pair(configs)
        loaded = own_data(folders["run"], configs["run"], data, data_dir, download=download)
        chosen = _chosen(classes, loaded)
        names = None if layers is None else [name.strip() for name in layers.split(",")]
        networks = {
            config.method.name if len(folders) > 1 else "run": network(
                folders[title], config, loaded, names
            )
            for title, config in configs.items()
        }
        shown = _layer(layer, networks)
    scores: dict[str, Any] = {}
    arranged: dict[str, Any] = {}
    seen: dict[str, Any] = {}
    jobs = sum(4 + (len(found.layers) if setting != "none" else 0) for found in networks.values())
    with Reporter(jobs, jobs * PARTS) as progress:
        for title, found in networks.items():
            progress.begin(f"{title}: responses", title)
            networks[title] = with_responses(found, loaded, progress)
            progress.begin(f"{title}: order", title)
            networks[title] = with_orders(networks[title], loaded, progress)
            for of, what, orders in (
                (scores, "metrics", None),
                (arranged, "metrics, arranged", networks[title].orders),
            ):
                progress.begin(f"{title}: {what}", title)
                of[title] = measure(
                    found.layers,
                    networks[title].responses,
                    loaded.superclasses[1],
                    lambda done, total: progress.at(PARTS * done // total, f"layer {done + 1} of {total}"),
                    orders=orders,
                )
            seen[title] = {}
            for path in found.layers if setting != "none" else ():
                progress.begin(f"{title}: pictures of {nets.layer_name(path)}", title)
                seen[title][path] = pictures(found, path, SETTINGS[setting], progress)
    write_json(out / "topography.json", scores)
    text = topography_table(networks, loaded, scores)
    write_text(out / "topography.md", text)
    if all(found.has_stem for found in networks.values()):
        write_text(out / "table3.md", magnitude_table(networks))
    of_layer = {title: layers[shown] for title, layers in seen.items() if layers}
    draw(Shown(shown, networks, of_layer), loaded, chosen, out)
    write_atlas(out / "atlas.html", networks, seen, scores, arranged, loaded)
    return text


def _layer(name: str | None, networks: dict[str, Network]) -> str:
    """The layer to draw, as a kernel's path."""
    first = next(iter(networks.values()))
    layers, role = first.layers, nets.NETS[first.config.net.name].role
    if name is None:
        return [layer for layer in layers if role(layer) != nets.SHORTCUT][-1]
    check_known("layer", name, [nets.layer_name(layer) for layer in layers])
    return nets.kernel_path(name)


def _chosen(classes: str | None, data: datasets.Dataset) -> dict[str, int]:
    """The indices of Figure 3's classes, by name."""
    names = tuple(classes.split(",")) if classes else data.compared
    for name in names:
        check_known("class", name, data.class_names)
    return {name: data.class_names.index(name) for name in names}
