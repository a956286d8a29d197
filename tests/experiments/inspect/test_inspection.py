"""The command that inspects finished runs."""

import dataclasses
import json
import pathlib
import shutil
import sys
import types

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import cli, train
from experiments.data import Dataset
from experiments.data.arrays import write_arrays
from experiments.inspect.__main__ import main
from experiments.inspect.networks import read_config
from experiments.inspect.pictures import SETTINGS, pictures
from experiments.nets import vgg
from experiments.run import weights as weights_module
from experiments.run.weights import convolutions as layers_of
from experiments.run.weights import load_weights, save_weights
from lgnn_jax import inspect, topography
from lgnn_jax.inspect import SMALL, FeatureVisualisation, visualise
from tests.experiments.conftest import WHOLE_TOO
from tests.lgnn_jax.inspect.test_atlas import blocks


def command(arguments, monkeypatch, capsys, called=main):
    """Exit code and lines on standard output and error."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    code = 0
    try:
        cli.start(called)
    except SystemExit as stopped:
        code = stopped.code
    out, err = capsys.readouterr()
    return code, out.splitlines(), err.splitlines()


@WHOLE_TOO
def test_two_runs_side_by_side(finished, tmp_path, monkeypatch, capsys):
    _, configs, folders = finished
    (baseline,), (constant,) = folders["baseline"], folders["constant"]
    assert read_config(constant) == configs["constant"][0]
    out = tmp_path / "seen"
    options = [constant, baseline, "--pictures", "none", "--out", out]
    code, lines, _ = command(options, monkeypatch, capsys)
    assert code == 0 and lines[-1] == str(out)
    assert (out / "atlas.html").exists()
    for name in ("fig1", "fig2", "fig3", "preferences"):
        with Image.open(out / f"{name}.png") as picture:
            assert min(picture.size) > 200 and np.ptp(np.asarray(picture)) > 200
    scores = json.loads((out / "topography.json").read_text())
    assert list(scores) == ["baseline", "constant"] and len(scores["constant"]) == convolutions()
    for title, folder in (("baseline", baseline), ("constant", constant)):
        summary = json.loads((folder / "summary.json").read_text())
        for layer, score in summary["neighbour_cosine"].items():
            found = scores[title][layer]["metrics"]["weights: neighbour cosine"]
            assert found["value"] == pytest.approx(score["value"], abs=1e-5)
    text = (out / "topography.md").read_text()
    assert text.count("### ") == 11 and f"| conv_{convolutions() - 1} |" in text and "nan" not in text
    table = (out / "table3.md").read_text().splitlines()
    assert [row.split("|")[1].strip() for row in table[2:]] == ["network", "-" * 10, "baseline", "constant"]


def convolutions():
    """How many the network has; the others of its layers are five poolings."""
    return len(vgg.LAYERS["vgg11"]) - 5


def only_conv_1(responses, layer, **options):
    """Pictures of one layer, and noise for the others, which would take as long to compile."""
    if layer == "conv_1/kernel":
        return visualise(responses, layer, **options)
    units = jax.eval_shape(responses, np.zeros((1, 32, 32, 3), np.float32))[layer].shape[-1]
    noise, zeros = np.random.default_rng(0).random((units, 32, 32, 3)), np.zeros(units)
    return FeatureVisualisation(layer, np.arange(units), noise, zeros, zeros, zeros > 0)


@WHOLE_TOO
def test_one_run_alone_with_pictures_that_are_made_once(finished, tmp_path, monkeypatch, capsys):
    (constant,) = finished[2]["constant"]
    monkeypatch.setitem(SETTINGS, "small", dataclasses.replace(SMALL, steps=2))
    monkeypatch.setattr("experiments.inspect.pictures.visualise", only_conv_1)
    options = [constant, "--classes", "0,9", "--layer", "conv_1", "--out", tmp_path]
    assert command(options, monkeypatch, capsys)[0] == 0
    assert list(json.loads((tmp_path / "topography.json").read_text())) == ["run"]
    with Image.open(tmp_path / "feature_vis.png") as picture:
        assert np.ptp(np.asarray(picture)) > 100
    page = (tmp_path / "atlas.html").read_text()
    assert f"conv_{convolutions() - 1}" in page and "test accuracy" in page
    kept = sorted((constant / "pictures").iterdir())
    assert len(kept) == convolutions()
    monkeypatch.setattr("experiments.inspect.pictures.visualise", None)
    assert command(options, monkeypatch, capsys)[0] == 0
    assert sorted((constant / "pictures").iterdir()) == kept


def test_a_filter_that_noise_leaves_shut_begins_at_a_test_image(tmp_path):
    """The last one, which is the only bright one."""
    seen = inspect.function(
        lambda _, x: {"conv_0/kernel": jax.nn.relu(x.mean((1, 2))[:, :2] - np.array([[0.0, 0.9]]))}, {}
    )
    images = np.full((2500, 8, 8, 3), 20, np.uint8)
    images[-1] = 250
    setting = dataclasses.replace(SMALL, steps=4)
    found = pictures(
        types.SimpleNamespace(folder=tmp_path, digest="a", seen=seen),
        "conv_0/kernel",
        setting,
        images,
        types.SimpleNamespace(at=lambda *_: None),
    )
    assert found.dead.tolist() == [False, False] and found.images[1].mean() > 0.9


@pytest.mark.parametrize(
    "options, words",
    [
        (["{constant}", "--classes", "3,ten"], "Unknown class 'ten'. Known: 0, 1, 2"),
        (["{constant}", "{constant}"], "Both runs are constant"),
        (["{constant}", "--layer", "conv_9"], "Unknown layer 'conv_9'. Known: conv_0, conv_1"),
        (["{constant}", "--layers", "conv_0,conv_9"], "Unknown layer 'conv_9'. Known: conv_0, conv_1"),
        (
            ["{constant}", "--layers", "conv_1", "--layer", "conv_0"],
            "Unknown layer 'conv_0'. Known: conv_1.",
        ),
        (["{out}"], "no folder of a finished run: it has no config.json"),
        (["{unfinished}"], "it has no summary.json"),
        (["{constant}", "{wider}"], "The runs differ in width: RUN has 0.0625, BASELINE 0.25"),
        (["{constant}", "--data", "folder:{pictures}"], "was trained on other pictures than 'pictures'"),
        (["{out}/missing"], "does not exist"),
    ],
)
def test_wrong_input_is_one_line(options, words, finished, tmp_path, monkeypatch, capsys):
    out, _, folders = finished
    (constant,), (baseline,) = folders["constant"], folders["baseline"]
    unfinished, wider, pictures = (tmp_path / name for name in ("unfinished", "wider", "pictures"))
    for copy, source in ((unfinished, constant), (wider, baseline)):
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("weights"))
    (unfinished / "summary.json").unlink()
    config = json.loads((wider / "config.json").read_text())
    (wider / "config.json").write_text(json.dumps(config | {"width": 0.25}))
    for split in ("train", "test"):
        for name in "ab":
            (pictures / split / name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(pictures / split / name / "one.png")
    places = {
        "constant": constant,
        "out": out,
        "unfinished": unfinished,
        "wider": wider,
        "pictures": pictures,
    }
    arguments = [option.format(**places) for option in options]
    code, _, lines = command(arguments, monkeypatch, capsys)
    assert code == 2 and lines[-1].startswith("error: ") and words in lines[-1]
    assert "Traceback" not in "".join(lines)


FEW = ("--width", 0.0625, "--epochs", 1, "--batch", 8)


def noise(tested, **about):
    """A set of three classes with so many test images of each."""
    labels = np.repeat(np.arange(3, dtype=np.int32), tested)
    images = np.random.default_rng(0).integers(0, 256, (24 + len(labels), 32, 32, 3), dtype=np.uint8)
    of = np.arange(24, dtype=np.int32) % 3
    return Dataset("noise", images[:24], of, images[24:], labels, ("ant", "bee", "cat"), **about)


def test_the_smallest_set_that_trains_can_be_inspected(single, tmp_path, monkeypatch, capsys):
    """Two test images of a class, fewer in all than figures show; and superclasses of which one has no class."""
    about = {"superclass_names": ("insect", "fish", "mammal"), "superclass_of": (0, 0, 2)}
    folder = write_arrays(noise((2, 2, 2), **about), tmp_path / "noise")
    options = [*FEW, "--data", f"npy:{folder}", "--out", tmp_path]
    code, lines, errors = command(options, monkeypatch, capsys, train.main)
    assert code == 0, errors
    options = [lines[-1], "--pictures", "none", "--data", f"npy:{folder}", "--out", tmp_path / "seen"]
    code, _, errors = command(options, monkeypatch, capsys)
    assert code == 0, errors
    assert "Superclasses: insect, mammal." in (tmp_path / "seen/topography.md").read_text()
    assert (tmp_path / "seen/atlas.html").exists() and (tmp_path / "seen/top_images.png").exists()


def test_epochs_that_both_runs_keep_are_a_slider(shallow, tmp_path, monkeypatch, capsys):
    """In the order of training, not of their names."""
    folder = write_arrays(noise((2, 2, 2)), tmp_path / "noise")
    options = [
        "--width",
        0.0625,
        "--epochs",
        11,
        "--batch",
        8,
        "--data",
        f"npy:{folder}",
        "--out",
        tmp_path,
    ]
    code, lines, errors = command([*options, "--keep-epochs", "10,0,2"], monkeypatch, capsys, train.main)
    assert code == 0, errors
    run = pathlib.Path(lines[-1])
    baseline = shutil.copytree(run, tmp_path / "baseline")
    config = json.loads((run / "config.json").read_text()) | {"variant": "baseline"}
    (baseline / "config.json").write_text(json.dumps(config))
    (baseline / "epochs/0").rename(baseline / "epochs/3")
    options = [run, baseline, "--pictures", "none", "--data", f"npy:{folder}", "--layers", "conv_1"]
    code, _, errors = command([*options, "--out", tmp_path / "seen"], monkeypatch, capsys)
    assert code == 0, errors
    found = blocks(tmp_path / "seen/atlas.html")
    assert found["atlas"]["steps"] == ["epoch 2", "epoch 10", "epoch 11"]
    for step, epoch in enumerate((2, 10, None)):
        block = found["layer-1-0" + ("" if epoch is None else f"-{step}")]
        grid, kernel = layers_of(read_config(run), load_weights(run, epoch=epoch)["params"])[
            "conv_1/kernel"
        ]
        wanted = topography.neighbour_cosine(topography.cosines(kernel), grid)
        shown = block["scores"]["weights: neighbour cosine"]["value"]
        assert shown == pytest.approx(wanted.value, abs=1e-5)
        assert block["order"] == found["layer-1-0"]["order"]
    shutil.rmtree(run / "epochs/2/weights/d")
    code, _, errors = command(options, monkeypatch, capsys)
    assert code == 2 and "epochs/2' away to do without them" in errors[-1]


@pytest.mark.parametrize(
    "tested, words", [((2, 1, 3), "too few test images of bee (1);"), ((0, 2, 1), "of ant (0), cat (1);")]
)
def test_what_could_not_be_measured_is_neither_trained_nor_inspected(
    tested, words, finished, tmp_path, monkeypatch, capsys
):
    """It would else fail when training is over."""
    data = noise(tested)
    folder = write_arrays(data, tmp_path / "noise")
    monkeypatch.setattr(train, "Trainer", None)
    options = [*FEW, "--data", f"npy:{folder}", "--out", tmp_path]
    code, _, errors = command(options, monkeypatch, capsys, train.main)
    assert code == 2 and words in errors[-1] and "need 2 of every class" in errors[-1]
    run = shutil.copytree(finished[2]["constant"][0], tmp_path / "run")
    config = json.loads((run / "config.json").read_text()) | {"data": "noise", "data_digest": data.digest}
    (run / "config.json").write_text(json.dumps(config))
    code, _, errors = command([run, "--data", f"npy:{folder}"], monkeypatch, capsys)
    assert code == 2 and words in errors[-1]
    code, _, errors = command([*options, "--split", "development"], monkeypatch, capsys, train.main)
    assert code == 2 and "ant (1), bee (1), cat (1);" in errors[-1] and "15 training images" in errors[-1]


def damaged(folder, kind):
    """Does something to a run's weights."""
    weights = folder / "weights"
    if kind == "missing":
        shutil.rmtree(weights)
    elif kind == "empty":
        shutil.rmtree(weights)
        weights.mkdir()
    elif kind == "without metadata":
        (weights / "_METADATA").unlink()
    elif kind == "cut":
        largest = max(weights.rglob("*"), key=lambda file: file.stat().st_size)
        largest.write_bytes(largest.read_bytes()[:100])
    else:
        part, leaf = {"a weight": ("params", "kernel"), "a statistic": ("batch_stats", "mean")}[kind]
        variables = load_weights(folder)
        found = [
            array
            for path, array in jax.tree_util.tree_leaves_with_path(variables[part])
            if leaf in str(path[-1])
        ]
        found[-1].reshape(-1).view(np.uint32)[0] ^= 1
        digest = weights_module._restored(weights)[1]
        with pytest.MonkeyPatch.context() as patch:  # As if a bit had flipped on the disk.
            patch.setattr(weights_module, "tree_digest", lambda _: digest)
            save_weights(folder, variables)


@pytest.mark.parametrize(
    "kind, words",
    [
        ("missing", "holds no weights"),
        ("empty", "weights' cannot be read"),
        ("without metadata", "weights' cannot be read (ValueError: what describes the arrays"),
        ("cut", "weights' "),
        ("a weight", "weights' does not hold the numbers that were written"),
        ("a statistic", "weights' does not hold the numbers that were written"),
    ],
)
def test_weights_that_are_not_those_of_the_run(kind, words, finished, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(finished[2]["constant"][0], tmp_path / "run")
    damaged(folder, kind)
    code, _, errors = command([folder, "--pictures", "none"], monkeypatch, capsys)
    assert code == 2 and errors[-1].startswith("error: ") and words in errors[-1]
    assert "move" in errors[-1] and "makes it anew" in errors[-1] and "Traceback" not in "".join(errors)
