"""Figures of finished runs: the paper's, of each variant beside its baseline, and those of a comparison."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import shlex
from typing import Any

import numpy as np

from experiments import nets
from experiments.config import Run
from experiments.data import Dataset
from experiments.machine import files
from experiments.nets import ordering
from experiments.options import Options
from experiments.run import results
from experiments.run.measured import responses
from experiments.run.results import spread
from experiments.run.step import PlacedData
from experiments.run.weights import WEIGHTS, convolutions, load_weights
from experiments.study.paper import FIGURES
from experiments.study.study import Line, Study
from lgnn_jax import Grid
from lgnn_jax.inspect import plots

_log = logging.getLogger("experiments")


def missing(study: Study) -> dict[str, list[Line]]:
    """The rows of every figure whose runs are finished, but published without the weights that it shows."""
    lacking = {}
    for name, lines in study.figures.items():
        folders = {line: results.find(line.configs[0], study.options.out) for line in lines}
        lacking[name] = [
            line
            for line, folder in folders.items()
            if folder is not None and not (folder / WEIGHTS).exists()
        ]
    return {name: lines for name, lines in lacking.items() if lines}


def explain(study: Study, name: str, lines: list[Line]) -> str:
    """What a figure needs and how to get it."""
    runs = ", ".join(line.configs[0].name for line in lines)
    commands = [_remake(study.options, line) for line in lines]
    return (
        f"{name} shows weights, and of {runs} only the summary is here. This makes them again:\n\n"
        + "\n".join(f"    {command}" for command in commands)
    )


def _remake(options: Options, line: Line) -> str:
    """The command that makes the run of a row, also where its summary is published."""
    first = line.configs[0]
    overrides = options.overrides | line.row.overrides | {"epochs": first.recipe.epochs}
    arguments = dataclasses.replace(options, overrides=overrides).arguments
    out = shlex.quote(str(options.out))
    return f"python -m experiments.train {arguments} --variant {first.method.name} --seed {first.seed} --out {out}"


def draw(study: Study, pictures: str) -> list[str]:
    """Draws the figures whose weights are here, each variant beside its baseline.

    Args:
      study: The study, with all its runs finished.
      pictures: How the picture that excites a filter most is made: ``small``, ``lucid`` or ``none``.

    Returns:
      Lines of Markdown that show the figures or say what they need.
    """
    lacking, drawn, lines = missing(study), set(), []
    for name, rows in study.figures.items():
        lines += [f"### {FIGURES[name].title}, on {rows[0].configs[0].data.name}", ""]
        if name in lacking:
            lines += [explain(study, name, lacking[name]), ""]
            continue
        baseline, *others = rows
        for line in others:
            target = f"{line.row.net}-{line.row.label}"
            if target not in drawn:
                drawn.add(target)
                # The first layer's figure shows none.
                _inspect(
                    study, line, baseline, study.folder / target, "none" if name == "fig1" else pictures
                )
            lines += [f"![{line.row.label}, beside the baseline]({target}/{name}.png)", ""]
    return lines


def _inspect(study: Study, line: Line, baseline: Line, target: pathlib.Path, pictures: str) -> None:
    """Tables and figures of one run beside its baseline."""
    from experiments.inspect.look import look  # Takes time, and tables do not need it.

    shown = {"baseline": baseline, "run": line}
    folders = {name: study.options.out / line.configs[0].name for name, line in shown.items()}
    _log.info(f"drawing {target.name} ...")
    look(folders, target, study.options.data, study.options.data_dir, setting=pictures)


def compare(study: Study, data: Dataset) -> None:
    """Draws the first seed's networks of a comparison beside each other."""
    runs = {line.row.label: line.configs[0] for line in study.sections[0].lines}
    variables = {}
    for label, config in runs.items():
        folder = results.find(config, study.options.out)
        assert folder is not None, f"{config.name} is not finished"
        variables[label] = load_weights(folder)
    layers = {label: convolutions(config, variables[label]["params"]) for label, config in runs.items()}
    _draw(layers, next(iter(runs.values())).net.name, study.folder)
    _draw_preferences({label: (runs[label], variables[label]) for label in runs}, data, study.folder)


def _draw_preferences(networks: dict[str, tuple[Run, Any]], data: Dataset, out: pathlib.Path) -> None:
    """Which classes the units of the last two layers prefer, as trained and arranged afterwards."""
    placed, groups = PlacedData(data), data.superclass_of or None
    shown: dict[str, dict[str, np.ndarray]] = {}
    grids = {}
    for label, (config, variables) in networks.items():
        found = responses(config, variables, placed)
        orders = ordering.orders(config.net, variables, placed.train, ordering.RESPONSES)
        role = nets.NETS[config.net.name].role
        layers = convolutions(config, variables["params"])
        shown[label] = {}
        for path in [path for path in layers if path in found and role(path) != nets.SHORTCUT][-2:]:
            native = found[path].selectivity(groups, constant="nan")
            order = orders.get(path, np.arange(layers[path][0].units))
            for title, t in (("as trained", native), ("arranged", native[:, order])):
                column = f"{nets.layer_name(path)}, {title}"
                shown[label][column], grids[column] = t, layers[path][0]
    names = data.superclass_names or data.class_names
    figure, _ = plots.preferred_classes(shown, grids, [name.replace("_", " ") for name in names])
    figure.suptitle(
        "which class every unit prefers, on test images, first seed; grey: none\n"
        "arranged: by responses to training images",
        fontsize=9,
    )
    files.write_figure(out / "preferences.png", figure)


def _draw(layers: dict[str, dict[str, tuple[Grid, np.ndarray]]], net: str, out: pathlib.Path) -> None:
    """Pictures of networks of a kind, given as grids and kernels of their layers by variant."""
    grids = {name: grid for name, (grid, _) in next(iter(layers.values())).items()}
    first = next(iter(grids))
    most = max(grid.units for grid in grids.values())
    role = nets.NETS[net].role
    large = next(name for name, grid in grids.items() if grid.units == most and role(name) != nets.SHORTCUT)

    def kernels(name: str) -> dict[str, np.ndarray]:
        return {variant: found[name][1] for variant, found in layers.items()}

    figure, _ = plots.first_layer(kernels(first), grids[first])
    figure.suptitle(
        "first layer, first seed; every filter from its smallest to its largest weight", fontsize=9
    )
    files.write_figure(out / "first_layer.png", figure)
    rows, columns = grids[large].shape[0], grids[large].shape[-1]
    chosen = {(rows // 4, columns // 4), (rows // 2, columns // 2), (3 * rows // 4, 3 * columns // 4)}
    units = sorted(row * columns + column for row, column in chosen)
    figure, _ = plots.correlation_maps(kernels(large), grids[large], units)
    figure.suptitle(f"{nets.layer_name(large)}, first seed", fontsize=11)
    files.write_figure(out / "correlations.png", figure)
    short = {name: nets.layer_name(name) for name in spread(list(grids), 8)}
    figure, _ = plots.offset_maps(
        {variant: {short[name]: found[name][1] for name in short} for variant, found in layers.items()},
        {short[name]: grids[name] for name in short},
    )
    figure.suptitle("first seed; grey: no such pair of filters", fontsize=9)
    files.write_figure(out / "organisation.png", figure)
