"""Folders of runs that were made before are read: weights, summaries, logs, and checkpoints to go on from.

``golden/runs`` holds a finished run and the same one stopped amid its second epoch (``make_runs.py``).
"""

import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments import data as datasets
from experiments.inspect.networks import network, read_config
from experiments.run import results
from experiments.run.checkpoint import Checkpoints, tree_digest
from experiments.run.make import run
from experiments.run.progress import Reporter
from experiments.run.step import PlacedData, Trainer
from experiments.run.weights import load_weights
from tests import golden
from tests.experiments.pins.make_runs import OPTIONS

kept, bits = (
    golden.Golden(__file__, name, exact=True, entries=True) for name in ("folders", "folders-bits")
)
RUNS = pathlib.Path(__file__).parent / "golden" / "runs"
FINISHED = RUNS / "finished"


# Adapters.


@functools.cache
def digits():
    return datasets.load("digits")


@functools.cache
def trainer():
    return Trainer(read_config(FINISHED), PlacedData(digits()))


def weights(folder):
    """Parameters and statistics of a finished run, and a digest of the former."""
    found = load_weights(folder)
    return found, tree_digest(found["params"])


def evaluated(variables):
    """Which test images are right, and the loss."""
    state, _ = trainer().start(0)
    state = state._replace(params=variables["params"], batch_stats=variables["batch_stats"])
    return trainer().evaluate(trainer().placed.replicate(state))


def checkpoint(folder):
    """The newest checkpoint of a run that is not finished: its step, its state's arrays and their digest."""
    like, _ = trainer().start(0)
    with Checkpoints(folder, read_config(FINISHED), 60, pytest.fail) as checkpoints:
        saved = checkpoints.newest(jax.device_get(like))
    return int(saved.state.step), saved.state, tree_digest(saved.state)


def made(out):
    """Makes the run, or what is left of it, in its folder under ``out``; the folder and what is said."""
    said = []

    class Told(Reporter):
        def say(self, line):
            said.append(line)

    with Told(1, 8, Console(quiet=True)) as progress:
        return run(trainer(), 0, out, progress), said


def inspected(folder):
    """Accuracy, layers with their grids, and the last layer's responses to some images."""
    found = network(folder, read_config(folder), digits())
    responses = found.seen.activations(["conv_7/kernel"])(digits().test_images[:4])
    return {
        "digest": found.digest,
        "accuracy": golden.digits(found.accuracy),
        "class accuracy": [golden.digits(value) for value in found.class_accuracy],
        "layers": {
            name: [list(grid.shape), list(kernel.shape), golden.digits(np.linalg.norm(kernel))]
            for name, (grid, kernel) in found.layers.items()
        },
    }, np.asarray(responses["conv_7/kernel"], np.float64)


# Pins.


def read(name, folder=FINISHED):
    return json.loads((folder / name).read_text())


def test_the_configuration_of_a_folder():
    config = read_config(FINISHED)
    assert golden.plain(config.flat()) == read("config.json") == read("summary.json")["config"]
    kept.check("name", config.name)
    results.check_folder(FINISHED, config)
    assert results.read(FINISHED)["commits"] == read("origin.json")["commits"]
    right = results.correct(read("summary.json"))
    assert right.mean() == pytest.approx(read("summary.json")["test_accuracy"])


def test_the_weights_are_those_of_the_summary():
    variables, digest = weights(FINISHED)
    assert digest == read("summary.json")["params_digest"]
    found = golden.leaves(variables)
    kept.check("weights", {name: list(leaf.shape) for name, leaf in found.items()})
    norms = np.linalg.norm(found["params/conv_0/kernel"].reshape(27, -1), axis=0)
    np.testing.assert_allclose(read("summary.json")["first_layer_magnitudes"], norms, rtol=1e-6)


def test_the_inspection_reads_it():
    found, responses = inspected(FINISHED)
    kept.check("inspected", found)
    assert found["accuracy"] == pytest.approx(read("summary.json")["test_accuracy"], rel=1e-5)
    values = [
        list(responses.shape),
        golden.digits(responses.std()),
        *map(golden.digits, responses.flat[:6]),
    ]
    wanted = kept.wanted("responses", values)
    assert values[0] == wanted[0]
    assert values[1:] == pytest.approx(wanted[1:], rel=1e-3, abs=1e-4 * wanted[1])


@pytest.mark.slow
def test_its_network_is_as_good_as_it_was():
    correct, loss = evaluated(weights(FINISHED)[0])
    summary = read("summary.json")
    assert loss == pytest.approx(summary["test_loss"], rel=1e-5)
    assert (correct != results.correct(summary)).sum() <= 1  # Two scores may be all but alike.


def test_a_finished_run_is_not_made_again(tmp_path):
    folder = tmp_path / read_config(FINISHED).name
    shutil.copytree(FINISHED, folder)
    made_in, said = made(tmp_path)
    assert made_in == folder
    kept.check("said of a finished run", said)
    assert (folder / "summary.json").read_bytes() == (FINISHED / "summary.json").read_bytes()


def test_a_checkpoint_is_read(tmp_path):
    shutil.copytree(RUNS / "stopped", tmp_path / "run")
    step, state, digest = checkpoint(tmp_path / "run")
    assert step == 6 and int(state.totals.examples) == 2 * 352
    kept.check(
        "checkpoint",
        {"step": step, "digest": digest, "names": sorted(golden.leaves(state))},
    )


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """Goes on in a process of its own, compiled as users have it.

    With both of the tests' flags that save compiling, jax 0.10 makes NaN of a gradient of this run.
    """
    out = tmp_path_factory.mktemp("resumed")
    folder = out / read_config(FINISHED).name
    shutil.copytree(RUNS / "stopped", folder)
    options = [f"--{name}={value}" for name, value in OPTIONS.items()]
    flags = os.environ | {"XLA_FLAGS": "", "JAX_NUM_CPU_DEVICES": "8"}
    command = [sys.executable, "-m", "experiments.train", *options, "--out", str(out)]
    root = pathlib.Path(__file__).parents[3]
    done = subprocess.run(command, capture_output=True, text=True, env=flags, cwd=root)
    assert done.returncode == 0, done.stderr
    return folder, [line for line in done.stderr.splitlines() if "goes on" in line]


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_end(resumed):
    """The two steps that are left lead to where the undisturbed run came; the first epoch's line is kept."""
    folder, said = resumed
    kept.check("said", said)
    ours, theirs = (golden.leaves(weights(place)[0]) for place in (folder, FINISHED))
    for name, leaf in theirs.items():
        np.testing.assert_allclose(ours[name], leaf, atol=5e-4 * np.abs(leaf).max(), err_msg=name)
    first, second = (folder / "metrics.jsonl").read_text().splitlines()
    stopped = (RUNS / "stopped" / "metrics.jsonl").read_text()
    assert stopped == f"{first}\n"
    wanted = json.loads((FINISHED / "metrics.jsonl").read_text().splitlines()[1])
    found = json.loads(second)
    assert list(found) == list(wanted)
    for name in set(wanted) - {"images_per_second", "test_accuracy"}:
        assert found[name] == pytest.approx(wanted[name], rel=1e-4), name


@pytest.mark.slow
def test_the_same_files_with_the_same_fields(resumed):
    """A run's folder is what it was, but for the events' name."""
    folder = resumed[0]
    names = {path.name for path in folder.iterdir() if not path.name.startswith("events.out.tfevents.")}
    kept.check("files", sorted(names - {"lock"}))
    for name in ("config.json", "summary.json"):  # What has come since stands beside it.
        assert [key for key in read(name, folder) if key in read(name)] == list(read(name)), name
    ours, theirs = read("summary.json", folder), read("summary.json")
    assert list(ours["config"]) == list(theirs["config"])
    for name in ("hardware", "versions", "neighbour_cosine", "grids"):
        assert list(ours[name]) == list(theirs[name]), name
    for name, score in theirs["neighbour_cosine"].items():
        assert ours["neighbour_cosine"][name] == pytest.approx(score, abs=1e-3), name
    assert ours["grids"] == theirs["grids"] and ours["config"] == theirs["config"]
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_bits(resumed):
    bits.check_bits("resumed", read("summary.json", resumed[0])["params_digest"])
