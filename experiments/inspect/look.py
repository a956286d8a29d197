"""All that is drawn and measured of one finished run, or of two beside each other."""

from __future__ import annotations

import dataclasses
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
    at_epoch,
    check_pair,
    common_epochs,
    network,
    own_data,
    read_config,
    with_orders,
    with_responses,
    with_scores,
)
from experiments.inspect.pictures import SETTINGS, pictures
from experiments.inspect.tables import magnitude_table, topography_table
from experiments.machine.files import write_json, write_text
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
        epochs = common_epochs(networks.values())
        earlier = {
            title: {epoch: at_epoch(found, epoch, loaded) for epoch in epochs}
            for title, found in networks.items()
        }
    seen: dict[str, Any] = {}
    jobs = sum(
        4 + 3 * len(epochs) + (len(found.layers) if setting != "none" else 0) for found in networks.values()
    )
    with Reporter(jobs, jobs * PARTS) as progress:
        for title, found in networks.items():
            networks[title] = _looked(found, title, loaded, progress)
            for epoch, then in earlier[title].items():
                then = dataclasses.replace(then, orders=networks[title].orders)
                earlier[title][epoch] = _looked(then, f"{title}, epoch {epoch}", loaded, progress)
            seen[title] = {}
            for path in found.layers if setting != "none" else ():
                progress.begin(f"{title}: pictures of {nets.layer_name(path)}", title)
                seen[title][path] = pictures(found, path, SETTINGS[setting], loaded.test_images, progress)
    scores = {title: found.scores for title, found in networks.items()}
    write_json(out / "topography.json", scores)
    text = topography_table(networks, loaded, scores)
    write_text(out / "topography.md", text)
    if all(found.has_stem for found in networks.values()):
        write_text(out / "table3.md", magnitude_table(networks))
    of_layer = {title: layers[shown] for title, layers in seen.items() if layers}
    draw(Shown(shown, networks, of_layer), loaded, chosen, out)
    write_atlas(out / "atlas.html", networks, earlier, seen, loaded)
    return text


def _looked(found: Network, title: str, data: datasets.Dataset, progress: Reporter) -> Network:
    """The network with its responses, with orders where it has none yet, and with metrics in both orders."""
    progress.begin(f"{title}: responses", title)
    found = with_responses(found, data, progress)
    if not found.orders:
        progress.begin(f"{title}: order", title)
        found = with_orders(found, data, progress)
    for what, arranged in (("metrics", False), ("metrics, arranged", True)):
        progress.begin(f"{title}: {what}", title)
        found = with_scores(found, data, progress, arranged=arranged)
    return found


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
