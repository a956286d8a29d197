"""The speed of feature visualisation, beside Lucid's port to PyTorch on the same network."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import click
import jax
import numpy as np

from experiments import data as datasets
from experiments import nets
from experiments.benchmark import peer
from experiments.benchmark.noise import chosen, option
from experiments.benchmark.timing import machine, turns
from experiments.config import Run
from experiments.errors import FailedRun, check_known, usage_errors
from experiments.inspect.networks import own_data, read_config
from experiments.markdown import quartiles, table
from experiments.nets import vgg
from experiments.options import FINISHED, data_of_run
from experiments.run.augment import normalise
from experiments.run.weights import load_weights
from lgnn_jax.inspect import LUCID, SMALL, Setting, linen_responses, mean_activations, visualise

_log = logging.getLogger("experiments")

SETTINGS = {"small": SMALL, "lucid": LUCID}
# What lucent makes pictures with: the same transforms, and Adam as it comes, for as many steps as that takes.
_PEERS = {"small": dataclasses.replace(SMALL, steps=128, learning_rate=0.1), "lucid": LUCID}
_FEWEST = 16  # Steps that are tried; twice as many as there are between reports of progress.
_TIMED = 64  # Steps of a repeat, at most.
_SIZE = datasets.SIZE
_ROUNDING = 1e-4  # Relative; a target missed by less is reached.


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A layer of a finished run, and the channels of it that are visualised."""

    config: Run
    weights: peer.Weights
    layer: str
    responses: Callable[[Any], dict[str, jax.Array]]  # Of pictures in [0, 1].
    width: int  # Channels of the layer.
    units: np.ndarray  # Those that are visualised.

    def activations(self, images: np.ndarray) -> np.ndarray:
        """How much every picture excites the channel that it is of, in JAX, without transforms."""
        found = mean_activations(self.responses, self.layer, np.clip(images, 0, 1))
        return found[np.arange(len(self.units)), self.units]


class Cost(NamedTuple):
    """What one form of making pictures takes, a value a repeat."""

    step: np.ndarray  # Seconds of a step of one picture.
    compiling: np.ndarray  # Seconds.


@click.command("feature_vis")
@click.argument("run", type=FINISHED)
@data_of_run
@click.option("--layer", help="Layer whose channels are visualised.  [default: the last convolution]")
@option("--channels", default=32, type=click.IntRange(1), help="How many, spread over it.")
@option("--settings", default=",".join(SETTINGS), help="Settings of the visualisation.")
@click.option(
    "--steps", type=click.IntRange(_FEWEST), help="Steps of a finished picture.  [default: the setting's]"
)
@option("--repeats", default=5, type=click.IntRange(1), help="Timings of each form.")
def feature_vis_command(
    run: pathlib.Path,
    data: str | None,
    data_dir: str | None,
    layer: str | None,
    channels: int,
    settings: str,
    steps: int | None,
    repeats: int,
) -> None:
    """Pictures a minute of feature visualisation, at equal objective.

    RUN is the folder of a finished run of a VGG. The peer is torch-lucent, Lucid's port to PyTorch, on the
    same weights, checked to respond alike, with batch normalisation folded into the convolutions, without
    the layers beyond, and in the memory format that is faster. Parameterisation, optimizer and transforms
    are its own, the transforms with the numbers of the setting, and cropped to the size that our network sees;
    its pictures take 128 steps where small asks for fewer.

    The objective of a picture is the mean response of its channel to the picture as it is, in JAX, whoever
    made it. A channel's target is what lucent's picture reaches after all steps. Both make pictures with
    16, 32, 64, ... steps, and both are rated at the fewest after which half, and nine tenths, of the
    pictures reach their targets: whoever is done early may stop early.

    Times are those of a step, every form in turn, without compiling. That of the whole layer follows from
    them: all steps, with compiling. One at a time is timed on one channel a repeat; its objectives are
    those of the batch, in which no picture depends on the others.
    """
    with usage_errors():
        wanted = _settings(settings, steps)
        subject = load(run, data, data_dir, layer, channels)
    lucent = _lucent(subject)
    costs, curves = [], []
    for name, setting in wanted.items():
        _log.info(f"{name}: {setting.steps} steps of {len(subject.units)} channels ...")
        theirs = dataclasses.replace(_PEERS[name], steps=steps or _PEERS[name].steps)
        forms, values = _forms(subject, setting, lucent, theirs)
        target = values["lucent"][theirs.steps] if lucent is not None else None
        timed = _timed(forms, repeats)
        costs += [
            [name, *_cost_row(form, timed, values[form.split()[0]], target, subject.width)]
            for form in timed
        ]
        curves += [[name, *row] for row in _curve_rows(values, target)]
    config, count = subject.config, len(subject.units)
    print(
        f"{machine()}{f', PyTorch {lucent.version}' if lucent else ''}; median (quartiles) of {repeats}. "
        f"{subject.layer} of {config.net.name}, width {config.net.width:g}, {config.recipe.epochs} epochs of "
        f"{config.data.name}, "
        f"{count} of {subject.width} channels in a batch.",
        "",
        *table(_COSTS, costs),
        "",
        "The objective, median (quartiles) of the channels, and the share that reach what lucent's finished "
        "picture does:",
        "",
        *table(["setting", "steps", "ours", "lucent", "ours reach", "lucent's reach"], curves),
        sep="\n",
    )


_COSTS = ["setting", "form", "ms a step", "lucent one at a time takes", "pictures/min, all steps"]
_MAKERS = ("ours", "lucent")
_COSTS += ["half reach", "nine tenths reach", "compiling, s", "whole layer, min"]


def _settings(names: str, steps: int | None) -> dict[str, Setting]:
    """The settings asked for, with other steps where they are given."""
    return {
        name: dataclasses.replace(SETTINGS[name], steps=steps or SETTINGS[name].steps)
        for name in chosen(names, tuple(SETTINGS), "setting")
    }


def load(
    folder: pathlib.Path, data: str | None, data_dir: str | None, layer: str | None, channels: int
) -> Subject:
    """The layer of a finished run, with channels spread over it.

    Raises:
      ValueError: If there is no such run, data set or layer, or the network is none that PyTorch gets.
    """
    config = read_config(folder)
    if config.net.name not in vgg.LAYERS:
        raise ValueError(f"The run's net must be {' or '.join(vgg.LAYERS)}, got {config.net.name}.")
    loaded = own_data(folder, config, data, data_dir)
    convolutions = [size for size in vgg.LAYERS[config.net.name] if size != "M"]
    known = [f"conv_{index}" for index in range(len(convolutions))]
    layer = known[-1] if layer is None else nets.layer_name(layer)
    check_known("layer", layer, known)
    variables = load_weights(folder)
    module = nets.build(config.net.name, loaded.classes, config.net.width)
    raw = linen_responses(module, variables, [layer], train=False)
    mean, deviation = (np.float32(statistic) for statistic in loaded.statistics())
    width = variables["params"][layer]["kernel"].shape[-1]
    units = np.unique(np.linspace(0, width - 1, channels).round().astype(int))
    return Subject(
        config,
        peer.Weights(config.net.name, variables, mean, deviation),
        layer,
        lambda images: raw(normalise(255 * jax.numpy.asarray(images), mean, deviation)),
        width,
        units,
    )


def check_alike(subject: Subject) -> None:
    """Compares the network in PyTorch with ours, on a few pictures of noise.

    Raises:
      FailedRun: If responses differ by more than 1e-4, or as much of the largest.
    """
    draw = np.random.default_rng(0).uniform(size=(4, _SIZE, _SIZE, 3))
    pictures = draw.astype(np.float32)
    ours = np.asarray(subject.responses(pictures)[subject.layer])
    theirs = peer.maps(peer.network(subject.weights, subject.layer), pictures)
    difference, largest = np.abs(ours - theirs).max(), np.abs(ours).max()
    if not difference <= 1e-4 * max(1, largest):
        raise FailedRun(
            f"The network in PyTorch is not ours: responses up to {largest:.3g} differ by {difference:.3g}."
        )


def _lucent(subject: Subject) -> peer.Lucent | None:
    """The peer on the same network, or None, with a line that says what to install."""
    try:
        lucent = peer.Lucent(subject.weights, subject.layer)
    except (ImportError, RuntimeError) as error:
        _log.info(
            f"lucent cannot be imported ({error}); its rows are left out (pip install torch torchvision "
            "torch-lucent)"
        )
        return None
    check_alike(subject)
    return lucent


Timer = Callable[
    [int], tuple[float, float]
]  # From a repeat to seconds of a step of a picture and of compiling.


def _forms(
    subject: Subject, setting: Setting, lucent: peer.Lucent | None, theirs: Setting
) -> tuple[dict[str, Timer], dict[str, dict[int, np.ndarray]]]:
    """Timers of every form, and the objectives of ours and of lucent's pictures by number of steps."""
    units, timed = subject.units, dataclasses.replace(setting, steps=min(_TIMED, setting.steps))

    def one(repeat):
        return units[[repeat % len(units)]]

    forms: dict[str, Timer] = {
        "ours": lambda repeat: time_ours(subject, timed, units),
        "ours one at a time": lambda repeat: time_ours(subject, timed, one(repeat)),
    }
    values = {"ours": {count: _ours(subject, setting, count) for count in _grid(setting.steps)}}
    if lucent is not None:

        def seconds(units, steps, channels_last):
            options = {"size": _SIZE, "channels_last": channels_last, "untimed": _FEWEST // 2}
            return lucent.render(units, theirs, [steps], **options)[1] / len(units)

        def faster(units):
            def least(channels_last):
                return min(seconds(units, _FEWEST, channels_last) for _ in range(2))

            return least(True) < least(False)

        batched, single = faster(units), faster(one(0))
        forms["lucent"] = lambda repeat: (seconds(units, timed.steps, batched), 0.0)
        forms["lucent one at a time"] = lambda repeat: (seconds(one(repeat), timed.steps, single), 0.0)
        pictures, _ = lucent.render(units, theirs, _grid(theirs.steps), size=_SIZE, channels_last=batched)
        values["lucent"] = {count: subject.activations(made) for count, made in pictures.items()}
    return forms, values


def _grid(steps: int) -> list[int]:
    """Numbers of steps that are tried: 16, 32, 64, ... and ``steps``."""
    counts = [_FEWEST]
    while counts[-1] * 2 < steps:
        counts.append(counts[-1] * 2)
    return sorted({*counts, steps})


def _ours(subject: Subject, setting: Setting, steps: int) -> np.ndarray:
    """The objectives of our pictures after so many steps."""
    made = visualise(
        subject.responses,
        subject.layer,
        subject.units,
        key=jax.random.key(0),
        setting=dataclasses.replace(setting, steps=steps),
        shape=(_SIZE, _SIZE, 3),
        batch=len(subject.units),
    )
    return subject.activations(made.images)


def time_ours(subject: Subject, setting: Setting, units: np.ndarray) -> tuple[float, float]:
    """Seconds of a step of one picture, and of what comes before the first, which is mostly compiling."""
    reports: list[tuple[int, float]] = []
    started = time.perf_counter()
    visualise(
        subject.responses,
        subject.layer,
        units,
        key=jax.random.key(0),
        setting=setting,
        shape=(_SIZE, _SIZE, 3),
        batch=len(units),
        progress=lambda done, total: reports.append((done, time.perf_counter())),
    )
    (first, begun), (last, ended) = reports[0], reports[-1]
    step = (ended - begun) / (last - first)
    return step / len(units), begun - started - first * step


def _timed(forms: dict[str, Timer], repeats: int) -> dict[str, Cost]:
    """What every form takes, in turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in forms}
    for repeat, name in turns(forms, repeats):
        found[name].append(forms[name](repeat))
    return {name: Cost(*np.transpose(pairs)) for name, pairs in found.items()}


def _cost_row(
    form: str, timed: dict[str, Cost], values: dict[int, np.ndarray], target: np.ndarray | None, width: int
) -> list[str]:
    cost, steps = timed[form], max(values)
    rate = 60 / np.median(cost.step)  # Steps of a picture a minute.

    def at(share):
        if target is None:
            return "-"
        enough = [count for count in sorted(values) if _reach(values[count], target) >= share]
        return f"{rate / enough[0]:.1f} ({enough[0]} steps)" if enough else "never"

    single = timed.get("lucent one at a time")
    compiling = np.median(cost.compiling)
    return [
        form if "one" in form else f"{form} batched",
        quartiles(1e3 * cost.step),
        "-" if single is None else quartiles(single.step / cost.step) + " times",
        f"{rate / steps:.1f}",
        at(0.5),
        at(0.9),
        f"{compiling:.1f}" if compiling else "-",
        f"{(width * steps / rate) + compiling / 60:.2f}",
    ]


def _reach(values: np.ndarray, target: np.ndarray) -> float:
    """The share of pictures that reach their target."""
    return float((values >= target - _ROUNDING * np.abs(target)).mean())


def _curve_rows(values: dict[str, dict[int, np.ndarray]], target: np.ndarray | None) -> list[list[str]]:
    def reach(reached):
        return "-" if target is None else f"{_reach(reached, target):.0%}"

    def each(steps, show):
        return [show(values[maker][steps]) if steps in values.get(maker, {}) else "-" for maker in _MAKERS]

    tried = sorted({steps for made in values.values() for steps in made})
    return [[str(steps), *each(steps, quartiles), *each(steps, reach)] for steps in tried]
