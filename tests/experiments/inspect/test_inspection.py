"""The command that inspects finished runs."""

import dataclasses
import json
import shutil
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import cli
from experiments.inspect.__main__ import main
from experiments.inspect.networks import read_config
from experiments.inspect.pictures import SETTINGS
from experiments.nets import vgg
from lgnn_jax.inspect import SMALL, FeatureVisualisation, visualise
from tests.experiments.conftest import WHOLE_TOO


def command(arguments, monkeypatch, capsys):
    """Exit code and lines on standard output and error."""
    monkeypatch.setattr(sys, "argv", ["inspect", *map(str, arguments)])
    code = 0
    try:
        cli.start(main)
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
    for name in ("fig1", "fig2", "fig3"):
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


@pytest.mark.parametrize(
    "options, words",
    [
        (["{constant}", "--classes", "3,ten"], "Unknown class 'ten'. Known: 0, 1, 2"),
        (["{constant}", "{constant}"], "Both runs are constant"),
        (["{constant}", "--layer", "conv_9"], "Unknown layer 'conv_9'. Known: conv_0, conv_1"),
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
