"""The page of networks and images in one call."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from lgnn_jax.inspect._accumulate import accumulate
from lgnn_jax.inspect._arrange import orders_of
from lgnn_jax.inspect._checks import check_labels, positive
from lgnn_jax.inspect._feature_vis import FeatureVisualisation, Setting
from lgnn_jax.inspect._feature_vis import visualise as visualised
from lgnn_jax.inspect._feature_vis._network import Network as check_canvas
from lgnn_jax.inspect._measure import measure_both
from lgnn_jax.inspect._network._network import Layer, Network, Reader, as_shown
from lgnn_jax.inspect._regions import per_class_accuracy
from lgnn_jax.inspect._split import halves
from lgnn_jax.inspect._statistics import ResponseStatistics
from lgnn_jax.inspect.atlas import _model as atlas
from lgnn_jax.inspect.atlas._checks import check_superclasses
from lgnn_jax.inspect.atlas._model import Shown
from lgnn_jax.inspect.atlas._page import check_folder, write_page
from lgnn_jax.topography._null import check_permutations

Progress = Callable[[str, int, int], object]


def write(
    path: str | os.PathLike[str],
    networks: Network | Sequence[Network],
    images: Any,
    labels: jax.typing.ArrayLike,
    *,
    class_names: Sequence[str],
    superclass_names: Sequence[str] = (),
    superclass_of: Sequence[int] = (),
    fit_images: Any = None,
    arranged: bool = True,
    visualise: Setting | None = None,
    permutations: int | None = None,
    batch: int = 256,
    top: int = 9,
    threshold: float = 5.0,
    title: str = "Atlas of a network",
    same_units: bool = False,
    earlier: Mapping[str, Network | Sequence[Network]] | None = None,
    at: str = "the end",
    key: jax.Array | None = None,
    progress: Progress | None = None,
) -> None:
    """Looks into one network, or two side by side, and writes the page.

    It gathers the activations of all layers on the images, puts the units of every layer in order, measures both
    orders with their nulls, and says which classes are recognised where the network gives logits. An order is
    fitted on other images than those that are shown and measured on: on ``fit_images``, or on half of every
    class's images, at most 2,000 in all.

    Args:
      path: The file, in a folder that exists; it is replaced in one step.
      networks: One or two of :func:`lgnn_jax.inspect.linen` and its kind, the baseline first. Two must have the
        same layers on the same grids. Equal titles are numbered.
      images: Images as they are shown, bytes or floats in [0, 1], ``(images, height, width, 1 or 3)``, that the
        networks were not trained on.
      labels: Their classes, integers ``(images,)`` from 0; every class has two images or, where they are split
        in halves, better four.
      class_names: A name a class, in the order of the network's logits if its accuracy is to be known.
      superclass_names: A name a group of classes; none where there are no groups.
      superclass_of: The group of every class, integers from 0 without a gap.
      fit_images: Images to fit orders on, such as training images; None to take of ``images``.
      arranged: Whether to put units in order at all.
      visualise: How to make the image that activates a unit most, such as :data:`lgnn_jax.inspect.SMALL`; most of
        the time goes into it. None to show the image of ``images`` that activates the unit most.
      permutations: Relabellings of the nulls of metrics; None for 1,000, and fewer for a layer of more than 128
        units, down to 100 for 1,280.
      batch: Images at a time, positive.
      top: Most activating images to show of each unit, positive.
      threshold: A unit responds to a class if its t is larger; regions are connected units that do.
      title: The page's heading.
      same_units: Whether unit k is the same in both networks, as in two that were trained from one start; the page
        shows their difference then too.
      earlier: The same networks before, from checkpoints of the run: by name, such as ``epoch 10``, the earliest
        first. A slider goes through them; all are shown in the order that is fitted to the last.
      at: What the networks themselves are called beside those.
      key: A PRNG key for nulls and visualisation; None for ``jax.random.key(0)``.
      progress: Called as ``progress(what, done, total)`` with a few words on what is done now and parts of the
        whole work.

    Raises:
      ValueError: If something does not fit; nothing is written then. What cannot be captured is left out with a
        warning, and there is one where logits seem to be in another order than classes.

    Example:
      >>> import flax.linen as nn, jax, numpy as np, pathlib, tempfile
      >>> from lgnn_jax import inspect
      >>> images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
      >>> labels = np.arange(40) % 2
      >>> module = nn.Sequential([nn.Conv(6, (3, 3)), nn.relu, lambda x: x.mean((1, 2)), nn.Dense(2)])
      >>> variables = module.init(jax.random.key(0), images[:1] / 255)
      >>> network = inspect.linen(module, variables, preprocess=lambda x: (x - 0.5) / 0.25, title="mine")
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "atlas.html"
      >>> inspect.atlas.write(path, network, images, labels, class_names=["day", "night"], arranged=False)
      >>> path.read_text("utf-8").startswith("<!doctype html>")
      True
    """
    check_folder(path)
    given = _networks(networks)
    names = [str(name) for name in class_names]
    labels = check_labels(labels, len(names))
    images = images if hasattr(images, "shape") else np.asarray(images)
    as_shown(images[:1])
    if len(images) != len(labels):
        raise ValueError(f"There are {len(images)} images and {len(labels)} labels.")
    if permutations is not None:
        check_permutations(permutations)
    check_superclasses(names, superclass_names, superclass_of)
    fit, scored = _split(labels, fit_images, arranged)
    _check_counts(labels[scored], names)
    work = _Work(
        images=images,
        labels=labels[scored],
        scored=scored,
        fit=(images, fit) if fit_images is None else (fit_images, np.arange(len(fit_images))),
        classes=len(names),
        superclass_of=superclass_of,
        arranged=arranged,
        visualise=visualise,
        permutations=permutations,
        batch=positive("batch", batch),
        top=min(positive("top", top), len(scored)),
        key=jax.random.key(0) if key is None else key,
    )
    looks = [
        _Look(network, network.layers(images), title)
        for network, title in zip(given, _titles(given), strict=True)
    ]
    before = [_before(look, n, earlier or {}, len(looks), images) for n, look in enumerate(looks)]
    if visualise is not None:
        for look in looks:  # Before minutes of work: that it runs, and takes the canvases.
            check_canvas(look.network.activations(), look.layers[0].path, _shape(images), visualise)
    report = _Report(progress, sum(work.steps(*pair) for pair in zip(looks, before, strict=True)))
    for look in looks:
        look.network.warn(look.network.left_out(images), 3)
    write_page(
        path,
        [work.shown(*pair, at, report) for pair in zip(looks, before, strict=True)],
        images=images[scored],
        class_names=names,
        superclass_names=superclass_names,
        superclass_of=superclass_of,
        threshold=threshold,
        title=title,
        same_units=same_units,
    )
    report.part("the page", 1)(1, 1)
    for note in report.notes:
        warnings.warn(note, stacklevel=2)


_VISUALISED = (
    20  # Parts of the work that the visualisation of a layer counts as, beside one a pass or a layer.
)


class _Look(NamedTuple):
    """A network, its layers, and its title on the page."""

    network: Network
    layers: tuple[Layer, ...]
    title: str


class _Report:
    """Progress of the whole work, from that of its parts."""

    def __init__(self, progress: Progress | None, steps: int):
        self._progress, self._steps, self._done = progress, steps + 1, 0
        self.notes = list[str]()  # To warn of in the end.

    def part(self, what: str, steps: int) -> Callable[[int, int], object]:
        """``progress(done, total)`` of the next part, which counts as so many steps, of a thousand each."""
        first, self._done = 1000 * self._done, self._done + steps

        def progress(done: int, total: int) -> None:
            if self._progress is not None:
                self._progress(what, first + 1000 * steps * done // max(total, 1), 1000 * self._steps)

        progress(0, 1)
        return progress


@dataclasses.dataclass(frozen=True, eq=False)
class _Work:
    """What is done with every network."""

    images: Any
    labels: np.ndarray  # Of the images that are shown.
    scored: np.ndarray  # The indices of these.
    fit: tuple[Any, np.ndarray]  # Images and the indices of those to fit on.
    classes: int
    superclass_of: Sequence[int]
    arranged: bool
    visualise: Setting | None
    permutations: int | None
    batch: int
    top: int
    key: jax.Array

    def steps(self, look: _Look, before: Mapping[str, _Look]) -> int:
        """Parts of the work on a network, also at earlier steps of its training, which need no orders."""
        ordering = self.arranged * (1 + len(look.layers))
        return self._steps(look) + sum(self.plain._steps(each) - ordering for each in before.values())

    @property
    def plain(self) -> _Work:
        """The work without visualisation."""
        return dataclasses.replace(self, visualise=None)

    def _steps(self, look: _Look) -> int:
        """Parts of the work on a network."""
        each = 1 + self.arranged + (self.visualise is not None) * _VISUALISED
        return 1 + self.arranged + each * len(look.layers)

    def shown(self, look: _Look, before: Mapping[str, _Look], at: str, report: _Report) -> Shown:
        """A network as the page shows it."""
        orders = self._orders(look, report) if self.arranged else {}
        earlier = {step: self.plain._looked(each, orders, report)[0] for step, each in before.items()}
        layers, reader = self._looked(look, orders, report)
        predicted = reader.predicted(len(self.labels)) if reader.outputs == self.classes else None
        right = None if predicted is None else per_class_accuracy(predicted, self.labels, self.classes)
        if predicted is not None:
            report.notes += _on_order(look.title, predicted, self.labels, self.classes)
        return Shown(look.title, layers, right, self._facts(look, predicted, reader.outputs), earlier, at)

    def _looked(
        self, look: _Look, orders: Mapping[str, np.ndarray], report: _Report
    ) -> tuple[list[atlas.Layer], Reader]:
        """The layers of a network, and what has read them."""
        reader = look.network.reader(self.images)
        statistics = accumulate(
            reader,
            self.scored,
            self.labels,
            classes=self.classes,
            batch=self.batch,
            top=self.top,
            progress=report.part(f"{look.title}: images", 1),
        )
        layers = [self._layer(x, look, statistics[x.path], orders.get(x.path), report) for x in look.layers]
        return layers, reader

    def _orders(self, look: _Look, report: _Report) -> dict[str, np.ndarray]:
        """An order for every layer."""
        images, chosen = self.fit
        seen = accumulate(
            look.network.reader(images),
            chosen,
            np.zeros(len(chosen), np.int64),
            classes=1,
            batch=self.batch,
            top=1,
            progress=report.part(f"{look.title}: images to arrange by", 1),
        )
        grids = {x.path: x.grid for x in look.layers}
        return orders_of(grids, seen, None, report.part(f"{look.title}: arranging", len(grids)))

    def _layer(
        self,
        x: Layer,
        look: _Look,
        statistics: ResponseStatistics,
        order: np.ndarray | None,
        report: _Report,
    ) -> atlas.Layer:
        """A layer as the page shows it."""
        report.part(f"{look.title}: metrics of {x.path}", 1)
        scores, arranged_scores = measure_both(
            x.grid,
            x.kernel,
            statistics,
            order,
            axis=x.axis,
            superclass_of=self.superclass_of,
            key=self.key,
            permutations=self.permutations,
        )
        return atlas.layer(
            x.path or look.title,
            x.kernel,
            x.grid,
            statistics,
            axis=x.axis,
            visualisation=self._visualised(x, look, report),
            scores=scores,
            order=order,
            arranged_scores=arranged_scores,
        )

    def _visualised(self, x: Layer, look: _Look, report: _Report) -> FeatureVisualisation | None:
        """What activates the layer's units most, where that was asked for."""
        if self.visualise is None:
            return None
        return visualised(
            look.network.activations([x.path]),
            x.path,
            key=self.key,
            setting=self.visualise,
            shape=_shape(self.images),
            images=self.images[self.scored],
            progress=report.part(f"{look.title}: visualisation of {x.path}", _VISUALISED),
        )

    def _facts(self, look: _Look, predicted: np.ndarray | None, outputs: int) -> dict[str, str]:
        """What a reader should know of a network, which gives so many logits."""
        facts = {"images": str(len(self.labels))}
        if self.arranged:
            facts["images"] += f", and {len(self.fit[1])} others to arrange by"
        if predicted is not None:
            facts["accuracy"] = f"{np.mean(predicted == self.labels):.1%} of these images"
        else:
            logits = f"{outputs} logits for {self.classes} classes" if outputs else "no logits"
            facts["accuracy"] = f"not known: the network gives {logits}"
        left_out = look.network.left_out(self.images)
        if left_out:
            facts["layers left out"] = ", ".join(f"{name} ({why})" for name, why in left_out.items())
        return facts


def _on_order(title: str, predicted: np.ndarray, labels: np.ndarray, classes: int) -> list[str]:
    """What to say of logits that seem to be in another order than the classes, if they do.

    With ten images a class, matching logits to classes by chance does not gain half of the images.
    """
    from scipy.optimize import linear_sum_assignment  # Half as long to import as jax.

    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    _, columns = linear_sum_assignment(counts, maximize=True)
    found, matched = counts.trace() / len(labels), counts[range(classes), columns].sum() / len(labels)
    if len(labels) < 10 * classes or matched - found <= 0.5:
        return []
    order = ", ".join(map(str, columns[:10])) + (", ..." if classes > 10 else "")
    return [
        f"Class k must be logit k, but {title!r} has an accuracy of {found:.1%}, and of {matched:.1%} in another "
        "order of its logits. Classes of a folder are in the order of the alphabet. Give logits in that order, "
        f"such as by output=lambda x: x[:, [{order}]] where the network is made."
    ]


def _before(
    look: _Look, number: int, earlier: Mapping[str, Any], count: int, images: Any
) -> dict[str, _Look]:
    """One of the networks at earlier steps of its training."""
    found = {}
    for step, given in earlier.items():
        networks = _networks(given)
        if len(networks) != count:
            raise ValueError(
                f"earlier must have {count} networks at {step!r}, as networks has, got {len(networks)}."
            )
        layers = networks[number].layers(images)
        if [(x.path, x.grid) for x in layers] != [(x.path, x.grid) for x in look.layers]:
            raise ValueError(f"{look.title!r} must have the same layers on the same grids at {step!r}.")
        found[step] = _Look(networks[number], layers, f"{look.title}, {step}")
    return found


def _networks(given: Any) -> list[Network]:
    """One network or two, with a message for anything else."""
    networks = (
        [given] if isinstance(given, Network) else list(given) if isinstance(given, list | tuple) else given
    )
    for network in networks if isinstance(networks, list) else [networks]:
        if not isinstance(network, Network):
            raise ValueError(
                "networks must be one or two of inspect.linen, nnx, equinox, haiku, function or arrays, got "
                f"{type(network).__name__}."
            )
    if len(networks) not in (1, 2):
        raise ValueError(f"The page shows one network or two side by side, got {len(networks)}.")
    return networks


def _shape(images: Any) -> tuple[int, int, int]:
    """Height, width and channels."""
    height, width, channels = np.shape(images[:1])[1:]
    return height, width, channels


def _titles(networks: list[Network]) -> list[str]:
    """Their titles, numbered where they are equal."""
    titles = [network.title for network in networks]
    return [f"{x} {n}" for n, x in enumerate(titles, 1)] if len(set(titles)) < len(titles) else titles


def _check_counts(labels: np.ndarray, names: list[str]) -> None:
    """Raises ``ValueError`` where a class has too few images to be compared with the others."""
    for name, count in zip(names, np.bincount(labels, minlength=len(names)).tolist(), strict=True):
        if count < 2:
            raise ValueError(
                f"Two images of a class or more are needed to say what it excites, but {name!r} has {count} of the "
                "images shown. Give more of it, or leave it out."
            )


def _split(labels: np.ndarray, fit_images: Any, arranged: bool) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the images to fit on, of ``images``, and of those to show."""
    every = np.arange(len(labels))
    if fit_images is not None or not arranged:
        return every[:0], every
    fit, scored = halves(labels)
    if len(fit) < 2:
        raise ValueError(
            "An order is fitted on other images than it is measured on, which takes four images of a class or "
            "more. Give fit_images=, or arranged=False."
        )
    return fit, scored
