"""Images a second of training and of inference, smoothed or not, beside PyTorch."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

import click
import numpy as np

from experiments.benchmark import noise, peer_nets, profile
from experiments.benchmark.noise import option
from experiments.benchmark.timing import Call, Others, first_calls, interleaved, machine
from experiments.config import PRECISIONS, Run
from experiments.data import Dataset
from experiments.errors import usage_errors
from experiments.markdown import quartiles, table
from experiments.nets import NETS

_log = logging.getLogger("experiments")

OURS = {"baseline": "baseline", "LGNN": "constant"}  # What the networks are called, and their variants.
PEER = "PyTorch"
Form = tuple[str, str]  # Precision and network.


class Timed(NamedTuple):
    """What was measured of a net, training or inferring."""

    batch: int
    seconds: Mapping[Form, list[float]]  # Of a batch, a value a repeat.
    compiling: Mapping[Form, float]  # Seconds that the first call took beyond another one.
    settings: Mapping[str, str]  # PyTorch's, by precision.
    others: float | None  # The share of the CPU that other programs had.


class Peer(NamedTuple):
    """PyTorch on this machine."""

    device: str
    version: str
    compiled: bool  # Whether torch.compile is tried.

    def calls(
        self, config: Run, data: Dataset, call: Callable[[peer_nets.Trainer], Call]
    ) -> dict[str, Call]:
        """What ``call`` gives in every setting that works, by the setting's name, called once."""
        calls: dict[str, Call] = {}
        bf16 = config.net.precision == "bf16"
        for setting in peer_nets.settings(compiled=self.compiled, bf16=bf16):
            tried = {str(setting): call(peer_nets.Trainer(config, data, setting, self.device))}
            try:
                first_calls(tried)
            except Exception as error:  # torch.compile needs a compiler, and fails in many ways.
                if not setting.compiled:
                    raise
                _log.info(f"torch.compile does not work here ({type(error).__name__}); it is left out")
                continue
            calls |= tried
        return calls


@click.command("train")
@option("--nets", default=",".join(NETS), help="Networks, for 100 classes.")
@option("--batch", default=128, type=click.IntRange(2), help="Pictures a training step.")
@option("--inference-batch", default=500, type=click.IntRange(1), help="Pictures inferred at once.")
@option("--width", default=1.0, help="Factor on every layer's filters.")
@option("--precisions", default=",".join(PRECISIONS), help="Precisions of the arithmetic.")
@option("--repeats", default=20, type=click.IntRange(2), help="Timings of each form, at most.")
@option(
    "--seconds",
    default=60.0,
    type=click.FloatRange(0),
    help="How long the repeats of a net may take, in training and again in inference, beside two calls of every "
    "form that are not timed, of which the first compiles, in training for half a minute on two cores. "
    "There are two in any case.",
)
@click.option("--torch-compile", is_flag=True, help="Try torch.compile too, which takes minutes.")
@click.option(
    "--profile", "profiled", is_flag=True, help="Also say where the time of a training step goes."
)
def train_command(
    nets: str,
    batch: int,
    inference_batch: int,
    width: float,
    precisions: str,
    repeats: int,
    seconds: float,
    torch_compile: bool,
    profiled: bool,
) -> None:
    """Images a second of training, as baseline and as LGNN, and of inference, beside PyTorch.

    Training: whole steps on pictures that lie on the device, with augmentation, backward pass, weight decay
    and SGD with momentum. Inference: the evaluation of a batch, down to its result on the host, with the
    weights that the baseline and LGNN have after those steps. PyTorch does the same work on the same device
    in every memory format, of which the faster is shown, with autocast for bf16; it has no LGNN.

    All forms of a net take turns, step by step, in random order. Ratios are of the same turn, so that
    whatever else the machine does meets both. It does not slow both down alike, though: rows compare only
    where other programs have next to none of the CPU. The pictures are noise.
    """
    names = noise.chosen(nets, NETS, "net")
    kinds = noise.chosen(precisions, PRECISIONS, "precision")
    peer = _peer(torch_compile)
    training, inference, shares = [], [], []
    for net in names:
        _log.info(f"{net} ...")
        data = noise.pictures(batch, inference_batch)
        runs = _runs(net, data, width, kinds)
        measure = functools.partial(_measured, runs, data, peer, repeats, seconds)
        training += _rows(net, measure(batch, lambda run: run, lambda theirs: theirs.repeat_step))
        inference += _rows(
            net, measure(inference_batch, lambda run: run.evaluate, lambda theirs: theirs.evaluate)
        )
        if profiled:
            shares += [[net, kind, *_shares(runs[kind, "LGNN"])] for kind in kinds]
    where = f"{machine()}{f', PyTorch {peer.version}' if peer else ''}"
    print(f"{where}; images/s, median (quartiles); compiling: baseline, LGNN. Width {width:g}.")
    print("", f"Training, batch {batch}:", "", *table(_HEADER, training), sep="\n")
    print("", f"Inference, batch {inference_batch}:", "", *table(_HEADER, inference), sep="\n")
    if profiled:
        title = "Where a training step's time goes (LGNN):"
        print("", title, "", *table(_SHARES, shares), sep="\n")


_HEADER = ["net", "precision", *OURS, "LGNN / baseline", PEER, "baseline / PyTorch", "compiling, s"]
_HEADER += ["PyTorch's setting", "repeats", "other programs"]
_SHARES = ["net", "precision", "ms a step", *profile.GROUPS, "in the trace"]


def _peer(compiled: bool) -> Peer | None:
    """PyTorch where it can compute what JAX does, or None, with a line that says why not."""
    if importlib.util.find_spec("torch") is None:
        _log.info("PyTorch is not installed; its columns stay empty (pip install torch)")
        return None
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # Leaves PyTorch room on a GPU.
    import torch

    device = peer_nets.device_name()
    if device is None:
        _log.info("PyTorch has no such device, or there are several; its columns stay empty")
        return None
    return Peer(device, torch.__version__.split("+")[0], compiled)


def _runs(net: str, data: Dataset, width: float, kinds: list[str]) -> dict[Form, noise.Training]:
    with usage_errors():
        return {
            (kind, name): noise.Training(data, net=net, variant=variant, width=width, precision=kind)
            for kind in kinds
            for name, variant in OURS.items()
        }


def _measured(
    runs: Mapping[Form, noise.Training],
    data: Dataset,
    peer: Peer | None,
    repeats: int,
    seconds: float,
    batch: int,
    ours: Callable[[noise.Training], Call],
    theirs: Callable[[peer_nets.Trainer], Call],
) -> Timed:
    """The calls that ``ours`` and ``theirs`` give, in turn; of PyTorch's settings the fastest is kept."""
    forms = {form: ours(run) for form, run in runs.items()}
    first = first_calls(forms)
    for (kind, name), run in runs.items():
        if peer is not None and name == "baseline":
            calls = peer.calls(run.config, data, theirs)
            forms |= {(kind, setting): call for setting, call in calls.items()}
    others = Others()
    times = interleaved(forms, repeats, seconds=seconds, warm=True)
    share = others.share()
    kept, settings = {form: times[form] for form in runs}, {}
    for kind in dict.fromkeys(kind for kind, _ in runs) if peer is not None else ():
        tried = [form for form in times if form[0] == kind and form not in runs]
        best = min(tried, key=lambda form: np.median(times[form]))
        kept[kind, PEER], settings[kind] = times[best], best[1]
    compiling = {form: first[form] - np.median(times[form]) for form in runs}
    return Timed(batch, kept, compiling, settings, share)


def _rows(net: str, timed: Timed) -> list[list[str]]:
    """A row a precision."""
    kinds = dict.fromkeys(kind for kind, _ in timed.seconds)
    return [[net, kind, *_row(timed, kind)] for kind in kinds]


def _row(timed: Timed, kind: str) -> list[str]:
    rates = {
        name: timed.batch / np.array(times)
        for (precision, name), times in timed.seconds.items()
        if precision == kind
    }
    peer = rates.get(PEER)
    return [
        *(quartiles(rates[name], 1) for name in OURS),
        quartiles(rates["LGNN"] / rates["baseline"], 3),
        "-" if peer is None else quartiles(peer, 1),
        "-" if peer is None else quartiles(rates["baseline"] / peer, 2),
        ", ".join(f"{max(0, timed.compiling[kind, name]):.1f}" for name in OURS),
        timed.settings.get(kind, "-"),
        str(len(rates["baseline"])),
        "-" if timed.others is None else f"{timed.others:.0%}",
    ]


def _shares(run: noise.Training) -> list[str]:
    found = profile.of_step(run)
    shares = (f"{share:.1%}" for share in found.shares.values())
    return [f"{found.seconds * 1e3:.1f}", *shares, f"{found.traced:.0%}"]
