"""Every metric of a layer, of its weights and of its responses."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import numpy as np

from lgnn_jax import topography
from lgnn_jax._grid import Grid, check_axis, check_grid
from lgnn_jax._tree import unboxed
from lgnn_jax.inspect._statistics import ResponseStatistics


def measure(
    grid: Grid,
    kernel: Any = None,
    statistics: ResponseStatistics | None = None,
    *,
    axis: int = -1,
    superclass_of: Sequence[int] = (),
    order: Any = None,
    kinds: Collection[str] = ("score", "curve", "scalar"),
    key: jax.Array | None = None,
    permutations: int = 1000,
) -> dict[str, Any]:
    """Every metric of ``topography.METRICS`` that a layer has something for, as plain values for JSON.

    Args:
      grid: The layer's grid.
      kernel: Its weights; None to measure responses alone.
      statistics: Of its responses; None to measure weights alone. A constant unit prefers no class: its t is 0.
      axis: The axis of the weights that counts the units.
      superclass_of: The group of every class, for metrics of groups; none where there are no groups.
      order: The units in another order, ``order[p]`` at position ``p``; None as they are.
      kinds: Which kinds of metrics.
      key: A PRNG key for the nulls, the same for each; None for ``jax.random.key(0)``.
      permutations: Relabellings of the nulls.

    Returns:
      By name the fields of a score with its null, of a curve these with its smoothness, or a number or a mapping
      of numbers; ``{"undefined": reason}`` where a metric is not defined for the layer.

    Raises:
      ValueError: If the grid does not hold the units.

    Example:
      >>> import jax
      >>> from lgnn_jax import Grid
      >>> from lgnn_jax.inspect import measure
      >>> kernel = jax.random.normal(jax.random.key(0), (3, 3, 3, 16))
      >>> found = measure(Grid((4, 4)), kernel, permutations=100)
      >>> sorted(found["weights: neighbour cosine"])
      ['left_out', 'null_high', 'null_low', 'null_mean', 'p', 'value', 'z']
      >>> found["weights: dead filters"]["value"]
      0.0
    """
    given = _given(grid, kernel, statistics, axis, superclass_of, order)
    key = jax.random.key(0) if key is None else key

    def value(metric: topography.Metric) -> Any:
        return _defined(lambda: _plain(metric, given[metric.of, metric.takes](), grid, key, permutations))

    return {
        name: value(metric)
        for name, metric in topography.METRICS.items()
        if metric.kind in kinds and (metric.of, metric.takes) in given
    }


def measure_both(
    grid: Grid,
    kernel: Any,
    statistics: ResponseStatistics,
    order: Any,
    *,
    axis: int,
    superclass_of: Sequence[int],
    key: jax.Array,
    permutations: int | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The scores of a layer as it is and, likewise, in another order, if there is one.

    Both have the same null where all units take part in it: its relabellings know nothing of the order before.

    Args:
      grid: The layer's grid.
      kernel: As for :func:`measure`.
      statistics: Of its responses.
      order: The other order, or None.
      axis: As for :func:`measure`.
      superclass_of: As for :func:`measure`.
      key: A PRNG key.
      permutations: Relabellings; None for 1,000, and fewer of more than 128 units, down to 100 of 1,280.
    """
    if permutations is None:
        permutations = max(100, min(1000, _RELABELLED // grid.units))
    native = _given(grid, kernel, statistics, axis, superclass_of, None)
    other = None if order is None else _given(grid, kernel, statistics, axis, superclass_of, order)
    found: tuple[dict[str, Any], dict[str, Any]] = {}, {}
    for name, metric in topography.METRICS.items():
        of = metric.of, metric.takes
        if metric.kind != "score" or of not in native:
            continue

        def score(inputs: Any, key: Any, metric: topography.Metric = metric, of: Any = of) -> Any:
            return _defined(lambda: metric(inputs[of](), grid, key=key, permutations=permutations))

        first = score(native, key)
        scores = [first]
        if other is not None:
            shared = isinstance(first, topography.Score) and not first.left_out
            second = score(other, None if shared else key)
            if shared and isinstance(second, topography.Score):
                second = dataclasses.replace(first, value=second.value)
            scores.append(second)
        for kept, each in zip(found, scores, strict=False):
            kept[name] = each.summary() if isinstance(each, topography.Score) else each
    return found


_RELABELLED = 128_000  # Units times relabellings by default; some metrics take a moment for every one.


def _given(
    grid: Grid, kernel: Any, statistics: Any, axis: int, superclass_of: Sequence[int], order: Any
) -> dict[tuple[str, str], Callable[[], Any]]:
    """What metrics are of and take, in an order."""
    if kernel is not None:
        check_axis(grid, np.shape(unboxed(kernel)), axis, "the kernel")
        kernel = unboxed(kernel) if axis == -1 else np.moveaxis(np.asarray(unboxed(kernel)), axis, -1)
        kernel = kernel if order is None else np.asarray(kernel)[..., np.asarray(order)]
    if statistics is not None:
        check_grid(grid, statistics.units, f"layer {statistics.layer!r}")
        statistics = statistics if order is None else statistics.reordered(order)
    return _inputs(kernel, statistics, tuple(superclass_of))


def _inputs(
    kernel: Any, statistics: ResponseStatistics | None, superclass_of: tuple[int, ...]
) -> dict[tuple[str, str], Callable[[], Any]]:
    """What metrics are of and take, each computed once and when it is asked for."""
    inputs: dict[tuple[str, str], Callable[[], Any]] = {}
    if kernel is not None:
        inputs["weights", "kernel"] = lambda: kernel
        inputs["weights", "similarity"] = lambda: topography.cosines(kernel)
    if statistics is not None:
        inputs |= _of_responses(statistics, superclass_of)
    return {name: functools.cache(compute) for name, compute in inputs.items()}


def _of_responses(
    statistics: ResponseStatistics, superclass_of: tuple[int, ...]
) -> dict[tuple[str, str], Callable[[], Any]]:
    def selectivity(groups: tuple[int, ...] | None = None) -> np.ndarray:
        # A constant unit, which prefers no class, has a t of 0; they are counted.
        return np.where(statistics.constant, 0, statistics.selectivity(groups, constant="nan"))

    inputs: dict[tuple[str, str], Callable[[], Any]] = {
        ("responses", "similarity"): lambda: statistics.similarity,
        ("responses", "covariance"): lambda: statistics.live_covariance,
        ("responses", "class means"): lambda: statistics.class_means,
        ("responses", "selectivity"): selectivity,
    }
    if superclass_of:
        inputs["responses", "superclass selectivity"] = lambda: selectivity(superclass_of)
    return inputs


def _plain(metric: topography.Metric, given: Any, grid: Grid, key: jax.Array, permutations: int) -> Any:
    """What a metric gives, as plain values for JSON."""
    found = metric(given, grid, key=key, permutations=permutations)
    if metric.kind == "score":
        return found.summary()
    if metric.kind == "curve":
        return found.summary() | {"smoothness": _defined(lambda: topography.smoothness(1 - found.mean))}
    return found._asdict() if hasattr(found, "_asdict") else found


def _defined(compute: Callable[[], Any]) -> Any:
    """What ``compute`` gives, or why it is not defined."""
    try:
        return compute()
    except ValueError as error:
        return {"undefined": str(error)}
