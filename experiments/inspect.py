"""How organised finished runs are: tables and figures, a baseline beside locality guidance throughout."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
import pathlib
from collections.abc import Callable
from typing import Any

import click
import jax
import numpy as np

from experiments import cli, models, report
from experiments import data as datasets
from experiments.augment import normalise
from experiments.config import RunConfig
from experiments.progress import Reporter
from experiments.train import CONFIG, SUMMARY, convolutions, load_weights, write_json
from lgnn_jax import Grid, topography
from lgnn_jax.inspect import plots
from lgnn_jax.inspect.capture import linen_responses
from lgnn_jax.inspect.filters import magnitudes
from lgnn_jax.inspect.regions import regions
from lgnn_jax.inspect.responses import ResponseStatistics, accumulate, class_maps

# Three related classes, by data set, for Figure 3; the first three of others.
_RELATED = {
    "cifar100": ("maple_tree", "palm_tree", "pine_tree"),
    "cifar10": ("cat", "dog", "horse"),
    "tinyimagenet100": ("tabby", "persian_cat", "egyptian_cat"),
    "digits": ("3", "5", "8"),
}
_FIGURE_2 = ((1, 1), (1, 3), (1, 5))  # The paper's filters, as rows and columns of the grid.
_MAGNITUDES = (
    "Table III of the paper: L2 norms of the first layer's filters, the smallest and largest of those that are not "
    "exactly zero, and the standard deviation of their natural logarithms. Filters that no gradient reaches are "
    "worn off by weight decay, so a small spread and few tiny filters mean that few were idle."
)
_PARTS = 1000  # Of the work on a network, for the progress bar.
_THRESHOLD = 5.0  # A unit responds to a class if its t is larger.


@dataclasses.dataclass(frozen=True)
class Network:
    """A finished run: what it was, its weights by layer, and what its layers did on the test pictures."""

    config: RunConfig
    layers: dict[str, tuple[Grid, np.ndarray]]
    responses: dict[str, ResponseStatistics]
    class_accuracy: np.ndarray  # Of the test pictures, in [0, 1], (classes,).


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
    out: pathlib.Path | None,
) -> None:
    """Shows how organised the layers of a finished RUN are, beside those of a BASELINE run of another variant.

    Writes fig1.png (first-layer filters), fig2.png (how three filters of a layer resemble all others),
    fig3.png (responses to three classes over the grid; outlined: units whose t for the class is above 5),
    top_images.png (the nine test pictures that excite each filter of RUN most), table3.md (magnitudes) and
    topography.md and .json (metrics on weights and on responses to the test pictures, with what chance
    gives), and prints where. Figures and table are numbered as in the paper.
    """
    with cli.usage_errors():
        folders = {"run": run} if baseline is None else {"baseline": baseline, "run": run}
        configs = {title: read_config(folder) for title, folder in folders.items()}
        _check_pair(configs)
        loaded = datasets.load(data or configs["run"].data, data_dir=data_dir, download=download)
        if loaded.digest != configs["run"].data_digest:
            raise ValueError(
                f"{run.name} was trained on other pictures than {loaded.name!r} now holds. Give its own with "
                "--data and --data-dir."
            )
        chosen = _chosen(classes, loaded)
    titles = {title: config.variant if baseline is not None else "run" for title, config in configs.items()}
    networks = {}
    out = out or run / "inspect"
    scores = {}
    with Reporter(2 * len(folders), 2 * len(folders) * _PARTS) as progress:
        for title, folder in folders.items():
            progress.begin(f"{titles[title]}: responses", titles[title])
            networks[titles[title]] = network(folder, configs[title], loaded, progress)
        with cli.usage_errors():
            shown = _layer(layer, networks)
        for title, found in networks.items():
            progress.begin(f"{title}: metrics", title)
            scores[title] = measure(found, loaded, progress)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "topography.json", scores)
    text = topography_table(networks, loaded, scores)
    (out / "topography.md").write_text(text)
    (out / "table3.md").write_text(magnitude_table(networks))
    _draw(networks, loaded, chosen, shown, out)
    print(text)
    print(out)


def read_config(folder: pathlib.Path) -> RunConfig:
    """The configuration of a finished run.

    Raises:
      ValueError: If the folder is none, or its run is not finished.
    """
    for name in (CONFIG, SUMMARY):
        if not (folder / name).exists():
            raise ValueError(f"{str(folder)!r} is no folder of a finished run: it has no {name}.")
    fields = json.loads((folder / CONFIG).read_text())
    fields["milestones"] = tuple(fields["milestones"])
    fields["grids"] = tuple((width, tuple(shape)) for width, shape in fields["grids"])
    return RunConfig(**fields)


def _layer(name: str | None, networks: dict[str, Network]) -> str:
    """The layer to draw, as a kernel's path."""
    layers = next(iter(networks.values())).layers
    if name is None:
        return [layer for layer in layers if "shortcut" not in layer][-1]
    path = name if name in layers else f"{name}/kernel"
    if path not in layers:
        known = ", ".join(layer.removesuffix("/kernel") for layer in layers)
        raise ValueError(f"Unknown layer {name!r}. Known: {known}.")
    return path


def _check_pair(configs: dict[str, RunConfig]) -> None:
    """Raises ``ValueError`` for two runs that cannot stand side by side."""
    if len(configs) < 2:
        return
    run, baseline = configs["run"], configs["baseline"]
    for name in ("net", "width", "data", "data_digest", "grids"):
        ours, theirs = getattr(run, name), getattr(baseline, name)
        if ours != theirs:
            raise ValueError(f"The runs differ in {name}: RUN has {ours!r}, BASELINE {theirs!r}.")
    if run.seed != baseline.seed:
        cli.say(f"the runs are no pair: RUN has seed {run.seed}, BASELINE {baseline.seed}")
    if baseline.variant == run.variant:
        raise ValueError(f"Both runs are {run.variant}; give a baseline beside another variant.")


def _chosen(classes: str | None, data: datasets.Dataset) -> dict[str, int]:
    """The indices of Figure 3's classes, by name."""
    names = tuple(classes.split(",")) if classes else _RELATED.get(data.name, data.class_names[:3])
    for name in names:
        if name not in data.class_names:
            raise ValueError(f"Unknown class {name!r}. Known: {', '.join(data.class_names)}.")
    return {name: data.class_names.index(name) for name in names}


def network(folder: pathlib.Path, config: RunConfig, data: datasets.Dataset, progress: Reporter) -> Network:
    """The network of a run, with the statistics of its layers on the test pictures."""
    variables = load_weights(folder)
    layers = convolutions(config, variables["params"])
    module = models.build(config.net, data.classes, config.width)
    raw = linen_responses(module, variables, list(layers), train=False)
    mean, deviation = data.statistics()

    def responses(images: jax.typing.ArrayLike) -> Any:
        return raw(normalise(jax.numpy.asarray(images), np.float32(mean), np.float32(deviation)))

    found = accumulate(
        responses,
        data.test_images,
        data.test_labels,
        classes=data.classes,
        progress=lambda done, total: progress.at(
            _PARTS * done // total, f"test pictures {done} of {total}"
        ),
    )
    summary = json.loads((folder / SUMMARY).read_text())
    bits = np.frombuffer(base64.b64decode(summary["test_correct"]), np.uint8)
    correct = np.unpackbits(bits, count=summary["test_examples"])
    counts = np.bincount(data.test_labels, minlength=data.classes)
    accuracy = np.bincount(data.test_labels, correct, data.classes) / counts
    return Network(config, layers, found, accuracy)


def measure(found: Network, data: datasets.Dataset, progress: Reporter) -> dict[str, Any]:
    """Every metric of every layer, with its null; a metric that is not defined for a layer says why."""
    scores: dict[str, Any] = {}
    for done, (name, (grid, kernel)) in enumerate(found.layers.items()):
        progress.at(_PARTS * done // len(found.layers), f"layer {done + 1} of {len(found.layers)}")
        statistics = found.responses[name]
        metrics = _metrics(kernel, grid, statistics, data.superclass_of)
        scores[name] = {
            "grid": grid.shape,
            "metrics": {
                metric: _defined(lambda f=compute: f()._asdict()) for metric, compute in metrics.items()
            },
            "weights: dead filters": topography.dead_share(kernel, grid)._asdict(),
            "responses: constant units": int(statistics.constant.sum()),
            "responses: effective dimension": _defined(lambda s=statistics: s.effective_dimension),
            "weights: correlation by distance": _defined(lambda k=kernel, g=grid: _curve(k, g)),
        }
    return scores


def _metrics(
    kernel: np.ndarray, grid: Grid, statistics: ResponseStatistics, superclass_of: tuple[int, ...]
) -> dict[str, Callable[[], topography.Score]]:
    """The metrics of a layer that have a null, by name."""
    key = jax.random.key(0)
    # Rows whose cosines are the units' correlations; a constant unit's is zero, which metrics leave out.
    rows = topography.rows_of_similarity(np.nan_to_num(statistics.correlation(constant="nan")))
    by_row, maps = Grid(grid.shape, 0), Grid(grid.shape)

    def selectivity(groups: tuple[int, ...] | None = None) -> np.ndarray:
        # A constant unit, which prefers no class, has a t of 0; they are counted.
        return np.nan_to_num(statistics.selectivity(groups, constant="nan"))

    metrics: dict[str, Callable[[], topography.Score]] = {
        "weights: neighbour cosine": lambda: topography.neighbour_cosine(kernel, grid, key=key),
        "weights: diagonal cosine": lambda: topography.neighbour_cosine(
            kernel, grid, pairs="diagonal", key=key
        ),
        "weights: distance correlation": lambda: topography.distance_correlation(kernel, grid, key=key),
        "weights: trustworthiness": lambda: topography.trustworthiness(kernel, grid, key=key),
        "responses: neighbour correlation": lambda: topography.neighbour_cosine(rows, by_row, key=key),
        "responses: distance correlation": lambda: topography.distance_correlation(rows, by_row, key=key),
        "responses: Moran's I of class means": lambda: topography.morans_i(
            statistics.class_means, maps, key=key
        ),
        "responses: Moran's I of selectivity": lambda: topography.morans_i(selectivity(), maps, key=key),
    }
    if superclass_of:
        metrics["responses: Moran's I of superclass selectivity"] = lambda: topography.morans_i(
            selectivity(superclass_of), maps, key=key
        )
    return metrics


def _defined(compute: Callable[[], Any]) -> Any:
    """What ``compute`` gives, or why it is not defined."""
    try:
        return compute()
    except ValueError as error:
        return {"undefined": str(error)}


def _curve(kernel: np.ndarray, grid: Grid) -> dict[str, Any]:
    """Cosines of weights by distance on the grid, and how smoothly they fall."""
    curve = topography.correlation_by_distance(kernel, grid, key=jax.random.key(0))
    fields = {name: np.asarray(value).tolist() for name, value in curve._asdict().items()}
    return fields | {"smoothness": _defined(lambda: topography.smoothness(1 - curve.mean))}


def topography_table(
    networks: dict[str, Network], data: datasets.Dataset, scores: dict[str, dict[str, Any]]
) -> str:
    """The metrics with a null as Markdown, a table a metric: a row a layer, a column a network."""
    first = next(iter(scores.values()))
    metrics = next(iter(first.values()))["metrics"]
    config = next(iter(networks.values())).config
    lines = [
        f"# {config.net} at width {config.width:g} on {config.data}, {config.epochs} epochs",
        "",
        *(f"- {title}: {found.config.name}" for title, found in networks.items()),
        "",
        "How organised the layers are; larger is more organised. In brackets what chance gives each network: 95 % "
        "of 1000 random relabellings of the same filters or units; z is the distance from their mean in their "
        f"standard deviations. Of {len(first) * len(metrics)} values a network, one in twenty leaves its brackets "
        "by chance.",
        "",
        f"Weights: cosines between filters. Responses: over the {len(data.test_labels)} test pictures, means over "
        "space. Neighbours are 4, diagonal ones 4; distance correlation: of all cosines with 1 / (1 + distance); "
        "trustworthiness: whether neighbours on the grid are nearest in weights, 0.5 by chance, at most 1; Moran's "
        "I: whether maps over the grid (mean response, or Welch's t, of every class) are alike at neighbours.",
        "",
    ]
    if data.superclass_names:
        lines += [f"Superclasses: {', '.join(data.superclass_names)}.", ""]
    for metric in metrics:
        rows = [
            [
                layer.removesuffix("/kernel"),
                *(_cell(network[layer]["metrics"][metric]) for network in scores.values()),
            ]
            for layer in first
        ]
        lines += [f"### {metric}", "", *report.table(["layer", *scores], rows), ""]
    rows = [
        [
            layer.removesuffix("/kernel"),
            *(_guard(network[layer]) for network in scores.values()),
        ]
        for layer in first
    ]
    lines += [
        "### guards",
        "",
        "Identical filters would score as perfect topography: the effective dimension of the responses (1 if all "
        "are alike), the share of filters that are (nearly) zero, and the units that never change.",
        "",
    ]
    return "\n".join([*lines, *report.table(["layer", *scores], rows)]) + "\n"


def _cell(score: dict[str, Any]) -> str:
    if "undefined" in score:
        return "not defined"
    return f"{score['value']:.2f} [{score['null_low']:.2f}, {score['null_high']:.2f}] z {score['z']:.1f}"


def _guard(layer: dict[str, Any]) -> str:
    dimension = layer["responses: effective dimension"]
    shown = "not defined" if isinstance(dimension, dict) else f"{dimension:.1f}"
    dead, constant = layer["weights: dead filters"]["value"], layer["responses: constant units"]
    return f"dimension {shown}, dead {dead:.1%}, constant {constant}"


def magnitude_table(networks: dict[str, Network]) -> str:
    """Table III: the magnitudes of the first layer's filters."""
    rows = []
    for title, found in networks.items():
        grid, kernel = next(iter(found.layers.values()))
        size = magnitudes(kernel, grid)
        rows.append(
            [
                title,
                f"{size.smallest:.4g}",
                f"{size.largest:.4g}",
                f"{size.log_deviation:.4f}",
                f"{size.small} of {grid.units}",
                str(size.zero),
            ]
        )
    header = [
        "network",
        "smallest",
        "largest",
        "deviation of log",
        "under 1e-3 of the median",
        "exactly zero",
    ]
    return "\n".join([_MAGNITUDES, "", *report.table(header, rows)]) + "\n"


def _draw(
    networks: dict[str, Network],
    data: datasets.Dataset,
    classes: dict[str, int],
    shown: str,
    out: pathlib.Path,
) -> None:
    """Figures 1 to 3, of the layer ``shown``, and its top images."""
    layers = next(iter(networks.values())).layers
    first, grid = next(iter(layers)), layers[shown][0]
    label = shown.removesuffix("/kernel")

    def kernels(name: str) -> dict[str, np.ndarray]:
        return {title: found.layers[name][1] for title, found in networks.items()}

    figure, _ = plots.first_layer(kernels(first), layers[first][0])
    figure.suptitle("first layer; every filter from its smallest to its largest weight", fontsize=9)
    figure.savefig(out / "fig1.png", dpi=150)
    rows, columns = grid.shape
    units = [row * columns + column for row, column in _FIGURE_2 if row < rows and column < columns]
    figure, _ = plots.similarity_maps(kernels(shown), grid, units)
    figure.suptitle(
        f"{label}; filters by row and column of the grid, from 0; grey: the filter itself", fontsize=9
    )
    figure.savefig(out / "fig2.png", dpi=150)
    statistics = {title: found.responses[shown] for title, found in networks.items()}
    selective = {
        title: regions(found.selectivity(constant="nan"), grid, threshold=_THRESHOLD)
        for title, found in statistics.items()
    }
    figure, _ = plots.class_maps(
        {title: class_maps(found, Grid(grid.shape)) for title, found in statistics.items()},
        classes,
        regions=selective,
        label="mean response",
    )
    panels = itertools.product(networks.values(), classes.values())
    for axes, (found, index) in zip(figure.axes, panels, strict=False):  # Colour bars come after.
        axes.set_xlabel(f"test accuracy {found.class_accuracy[index]:.0%}", fontsize=8)
    title = f"{label}; colour: mean response, outlined: t for the class above {_THRESHOLD:g}"
    figure.suptitle(title, fontsize=9)
    figure.savefig(out / "fig3.png", dpi=150)
    figure, _ = plots.top_images(data.test_images, list(statistics.values())[-1].top_images, grid)
    figure.suptitle(
        f"{list(networks)[-1]}, {label}: the nine most exciting test pictures by row and column", fontsize=8
    )
    figure.savefig(out / "top_images.png", dpi=150)


if __name__ == "__main__":
    cli.start(main)
