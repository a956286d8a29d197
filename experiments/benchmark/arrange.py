"""How good the orders of ``arrange`` are, and how fast, beside other ways to lay units out on a grid."""

from __future__ import annotations

import logging
import pathlib
import time
from collections.abc import Callable, Iterator

import click
import jax
import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment, quadratic_assignment
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits
from sklearn.manifold import TSNE

from experiments.benchmark.timing import first_calls, machine
from experiments.markdown import table
from lgnn_jax import Grid, arrange, distances, grid_shape, topography

_log = logging.getLogger("experiments")

Case = tuple[str, np.ndarray, Grid]
Method = Callable[[np.ndarray, Grid], np.ndarray]
_GROUP = 9  # Positions that FLAS assigns at once.
_PLANTED = [Grid((16, 8)), Grid((16, 8), wrap=True), Grid((64,)), Grid((64,), wrap=True), Grid((8, 4, 4))]


@click.command("arrange")
@click.option(
    "--similarities",
    type=click.Path(exists=True, path_type=pathlib.Path),
    multiple=True,
    help="An .npz of similarities, square or their upper triangles; may be given several times.",
)
@click.option("--keys", help="Comma-separated names within them.  [default: all]")
@click.option("--most", default=2048, show_default=True, help="Units of the largest planted order.")
def arrange_command(similarities: tuple[pathlib.Path, ...], keys: str | None, most: int) -> None:
    """Orders of units on a grid: each method's objective in percent of the best one's, and its seconds.

    On planted orders (smooth maps whose units were shuffled), on the pixels of scikit-learn's digits and on
    similarities of one's own.
    """
    cases = [*planted(most), digits()]
    for path in similarities:
        cases += stored(path, keys.split(",") if keys else None)
    names, rows = list(METHODS), []
    for name, similarity, grid in cases:
        _log.info(f"{name} ...")
        found = {method: measured(method, similarity, grid) for method in names if suits(method, grid)}
        best = max(value for value, _ in found.values())
        cells = [f"{found[m][0] / best:.2%}, {found[m][1]:.2g} s" if m in found else "-" for m in names]
        rows.append([name, f"{grid.size}{' torus' * grid.wrap}", *cells])
        _log.info(", ".join(f"{method} {cell}" for method, cell in zip(names, cells, strict=True)))
    print(f"{machine()}; compiling left out", "", *table(["of", "grid", *names], rows), sep="\n")


def planted(most: int) -> Iterator[Case]:
    """Responses that vary smoothly over a grid, with noise, in random order."""
    grids = [*_PLANTED, *(Grid(grid_shape(units)) for units in (512, 2048) if units <= most)]
    for grid in grids:
        draw = np.random.default_rng(0)
        white = draw.standard_normal((50, *grid.shape))
        smooth = ndimage.gaussian_filter(
            white, (0, *[1.5] * len(grid.shape)), mode="wrap" if grid.wrap else "mirror"
        )
        noisy = smooth / smooth.std() + 0.5 * draw.standard_normal(smooth.shape)
        yield (
            "planted",
            np.array(topography.correlations(noisy.reshape(50, -1)[:, draw.permutation(grid.units)])),
            grid,
        )


def digits() -> Case:
    """The pixels of scikit-learn's digits, of which three never change, in random order."""
    pixels = load_digits().data[:, np.random.default_rng(0).permutation(64)]
    return "digits", np.array(topography.correlations(pixels)), Grid((8, 8))


def stored(path: pathlib.Path, keys: list[str] | None) -> Iterator[Case]:
    """The similarities in a file, each on the grid of its width."""
    with np.load(path) as arrays:
        for key in keys or [key for key in arrays if key.endswith(("cos", "corr"))]:
            values = np.nan_to_num(arrays[key].astype(np.float32))
            if values.ndim == 1:
                units = round((1 + (1 + 8 * len(values)) ** 0.5) / 2)
                square = np.zeros((units, units), np.float32)
                square[np.triu_indices(units, 1)] = values
                square += square.T
                values = square + np.diag(np.abs(square).max(1) > 0)
            yield f"{path.stem} {key}", values, Grid(grid_shape(len(values)))


def objective(similarity: np.ndarray, grid: Grid, order: np.ndarray) -> float:
    """What :func:`lgnn_jax.arrange` maximises, in float64."""
    ordered = similarity[order][:, order].astype(np.float64)
    return float(np.triu(ordered * near(grid), 1).sum())


def near(grid: Grid, sigma: float = 1.0) -> np.ndarray:
    """The neighbourhood between positions, 0 on the diagonal."""
    return np.exp(-(distances(grid) ** 2) / (2 * sigma**2)) - np.eye(grid.units)


def measured(method: str, similarity: np.ndarray, grid: Grid) -> tuple[float, float]:
    """A method's objective and seconds; compiled before."""
    call = METHODS[method]
    if method.startswith("arrange"):
        first_calls({method: lambda: call(similarity, grid)})
    started = time.perf_counter()
    order = np.asarray(call(similarity, grid))
    return objective(similarity, grid, order), time.perf_counter() - started


def vectors(similarity: np.ndarray) -> np.ndarray:
    """Vectors ``(units, d)`` whose products are the similarity, the widest coordinates first."""
    values, directions = np.linalg.eigh(similarity.astype(np.float64))
    return (directions * np.sqrt(values.clip(0)))[:, ::-1]


def assigned(cost: np.ndarray) -> np.ndarray:
    """The unit at every position, of costs ``(positions, units)``."""
    return linear_sum_assignment(cost)[1]


def faq(similarity: np.ndarray, grid: Grid) -> np.ndarray:
    """SciPy's relaxation of the quadratic assignment problem, from its barycentre."""
    return quadratic_assignment(near(grid), similarity, options={"maximize": True}).col_ind


def two_opt(similarity: np.ndarray, grid: Grid) -> np.ndarray:
    """SciPy's exchange of two at a time, from a random order."""
    options = {"maximize": True, "rng": np.random.default_rng(0)}
    return quadratic_assignment(near(grid), similarity, method="2opt", options=options).col_ind


def linear_assignment_sorting(similarity: np.ndarray, grid: Grid) -> np.ndarray:
    """Barthel et al. 2022: smooth the map, assign the vectors to it anew, with a smaller and smaller filter."""
    units, mode = vectors(similarity), "wrap" if grid.wrap else "mirror"
    order, radius = np.random.default_rng(0).permutation(grid.units), max(grid.shape) / 2
    while radius >= 1:
        size = [0 if n == 1 else min(2 * int(radius) + 1, n) for n in grid.shape]
        widths = [max(1, s) for s in size]
        target = ndimage.uniform_filter(units[order].reshape(*grid.shape, -1), (*widths, 1), mode=mode)
        order = assigned(cdist(target.reshape(grid.units, -1), units, "sqeuclidean"))
        radius *= 0.95
    return order


def fast_linear_assignment_sorting(similarity: np.ndarray, grid: Grid) -> np.ndarray:
    """The same authors' faster way: small groups of near positions are assigned anew, one group at a time."""
    draw, units, mode = np.random.default_rng(0), vectors(similarity), "wrap" if grid.wrap else "mirror"
    order, radius = draw.permutation(grid.units), max(grid.shape) / 2
    apart = distances(grid)
    while radius >= 1:
        widths = [max(1, min(2 * int(radius) + 1, n)) for n in grid.shape]
        target = ndimage.uniform_filter(units[order].reshape(*grid.shape, -1), (*widths, 1), mode=mode)
        target = target.reshape(grid.units, -1)
        for centre in draw.integers(0, grid.units, 2 * grid.units):
            group = draw.permutation(np.flatnonzero(apart[centre] <= max(radius, 1.5)))[:_GROUP]
            cost = cdist(target[group], units[order[group]], "sqeuclidean")
            order[group] = order[group[assigned(cost)]]
        radius *= 0.95
    return order


def swaps(similarity: np.ndarray, grid: Grid) -> np.ndarray:
    """TDANN's way: exchange two random units where that helps, 500 tries a unit, from a random order."""
    draw, kernel = np.random.default_rng(0), near(grid)
    order = draw.permutation(grid.units)
    values = similarity - np.diag(np.diagonal(similarity))
    for p, q in draw.integers(0, grid.units, (500 * grid.units, 2)):
        a, b = values[order[q], order] - values[order[p], order], kernel[p] - kernel[q]
        if a @ b + 2 * values[order[p], order[q]] * kernel[p, q] > 1e-9:
            order[[p, q]] = order[[q, p]]
    return order


def som(similarity: np.ndarray, grid: Grid, epochs: int = 60) -> np.ndarray:
    """A batch self-organising map of the vectors, which then are assigned to its units."""
    units = vectors(similarity)
    codebook = units[np.random.default_rng(0).permutation(grid.units)]
    for sigma in np.geomspace(max(grid.shape) / 2, 0.7, epochs):
        best = cdist(units, codebook, "sqeuclidean").argmin(1)
        pull = (near(grid, sigma) + np.eye(grid.units))[:, best]
        codebook = pull @ units / pull.sum(1, keepdims=True)
    return assigned(cdist(codebook, units, "sqeuclidean"))


def laid(points: np.ndarray, grid: Grid) -> np.ndarray:
    """Points assigned to the positions of a grid, the widest coordinate along the longest dimension."""
    place = np.indices(grid.shape).reshape(len(grid.shape), -1).T.astype(float)
    place -= place.mean(0)
    columns = np.empty(len(grid.shape), int)
    columns[np.argsort([-n for n in grid.shape], kind="stable")] = np.argsort(-points.std(0), kind="stable")
    points = (points - points.mean(0))[:, columns] / points.std(0)[columns] * place.std(0)
    return assigned(cdist(place, points, "sqeuclidean"))


def pca(similarity: np.ndarray, grid: Grid) -> np.ndarray:
    """The leading principal components, assigned to the grid."""
    units = vectors(similarity)
    left, sizes, _ = np.linalg.svd(units - units.mean(0), full_matrices=False)
    return laid((left * sizes)[:, : len(grid.shape)], grid)


def tsne(similarity: np.ndarray, grid: Grid) -> np.ndarray:
    """A t-SNE of the dissimilarities, assigned to the grid."""
    apart = (1 - similarity).clip(0) * (1 - np.eye(grid.units))
    how = {
        "metric": "precomputed",
        "init": "random",
        "random_state": 0,
        "perplexity": min(30, grid.units / 4),
    }
    return laid(TSNE(len(grid.shape), **how).fit_transform(apart), grid)


METHODS: dict[str, Method] = {
    "arrange, key": lambda similarity, grid: np.asarray(arrange(similarity, grid, key=jax.random.key(0))),
    "arrange": lambda similarity, grid: np.asarray(arrange(similarity, grid)),
    "FAQ": faq,
    "2opt": two_opt,
    "LAS": linear_assignment_sorting,
    "FLAS": fast_linear_assignment_sorting,
    "swaps": swaps,
    "SOM": som,
    "PCA": pca,
    "t-SNE": tsne,
}


def suits(method: str, grid: Grid) -> bool:
    """Whether a method is tried on so many units: SciPy's two take minutes beyond."""
    return grid.units <= {"FAQ": 256, "2opt": 64, "LAS": 512, "FLAS": 512, "swaps": 512, "t-SNE": 512}.get(
        method, 10**9
    )
