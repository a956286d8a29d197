import dataclasses
import io
import json
import shutil
import sys

import click
import jax
import numpy as np
import pytest
from rich.console import Console

from experiments import data as datasets
from experiments.config import configure
from experiments.errors import FailedRun
from experiments.nets import vgg
from experiments.nets.architecture import natural
from experiments.options import Options
from experiments.run import progress as progress_module
from experiments.run import results
from experiments.run.checkpoint import tree_digest as params_digest
from experiments.run.make import run, run_together
from experiments.run.progress import Reporter
from experiments.run.step import PlacedData, Trainer
from experiments.run.together import Together
from experiments.run.weights import convolutions, load_weights
from experiments.study import figures, tables
from experiments.study.study import comparison
from tests.experiments.conftest import SMALL, WHOLE_TOO


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


@WHOLE_TOO
def test_the_loss_falls_and_the_digits_are_learnt(finished):
    _, _, folders = finished
    for (folder,) in folders.values():
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines] == [1, 2, 3]
        assert lines[-1]["train_loss"] < 0.8 * lines[0]["train_loss"]
        assert summary(folder)["test_accuracy"] == lines[-1]["test_accuracy"] > 0.5


@WHOLE_TOO
def test_smoothing_leaves_the_null_and_the_baseline_does_not(finished):
    _, _, folders = finished
    z = {
        variant: [score["z"] for score in summary(folder)["neighbour_cosine"].values()]
        for variant, (folder,) in folders.items()
    }
    assert np.median(z["constant"]) > 4 and np.median(np.abs(z["baseline"])) < 2.5


@WHOLE_TOO
def test_a_summary_agrees_with_the_weights_beside_it(finished):
    _, configs, folders = finished
    (folder,), (config,) = folders["constant"], configs["constant"]
    params, written = load_weights(folder)["params"], summary(folder)
    assert written["params_digest"] == params_digest(params)
    layers = convolutions(config, params)
    count = len(vgg.LAYERS["vgg11"]) - 5  # But for poolings.
    names = [f"conv_{index}/kernel" for index in range(count)]
    assert list(layers) == names == list(written["neighbour_cosine"])
    norms = np.linalg.norm(layers["conv_0/kernel"][1].reshape(27, -1), axis=0)
    np.testing.assert_allclose(written["first_layer_magnitudes"], norms, rtol=1e-5)
    assert json.loads((folder / "config.json").read_text())["variant"] == "constant"


def test_which_test_pictures_were_right_adds_up(finished):
    import base64

    _, _, folders = finished
    written = summary(folders["baseline"][0])
    bits = np.unpackbits(np.frombuffer(base64.b64decode(written["test_correct"]), np.uint8))
    count = written["test_examples"]
    assert bits[:count].mean() == pytest.approx(written["test_accuracy"]) and not bits[count:].any()


def test_a_finished_run_is_left_as_it_is(finished):
    out, configs, folders = finished
    before = (folders["constant"][0] / "summary.json").read_text()
    trainer = Trainer(configs["constant"][0], PlacedData(datasets.load("digits")))
    with Reporter(1, 1, Console(quiet=True)) as progress:
        assert run(trainer, 0, out, progress) == folders["constant"][0]
    assert (folders["constant"][0] / "summary.json").read_text() == before


def test_a_comparison_says_what_the_summaries_say(finished, tmp_path):
    out, configs, folders = finished
    options = Options("digits", None, False, tmp_path, 60.0, {"net": "vgg11"} | SMALL)
    made = comparison(configs, options, datasets.load("digits"), seeds=1)
    assert made.runs == [config for runs in configs.values() for config in runs]
    for config in made.runs:
        shutil.copytree(out / config.name, tmp_path / config.name)
    made = dataclasses.replace(
        made, sections=tuple(dataclasses.replace(section, notes=("a note",)) for section in made.sections)
    )
    table = tables.write(made)
    figures.compare(made, datasets.load("digits"))
    tmp_path = made.folder
    assert table == (tmp_path / "table.md").read_text()
    content = json.loads((tmp_path / "table.json").read_text())
    base, smooth = (summary(folders[variant][0])["test_accuracy"] for variant in ("baseline", "constant"))
    assert content["accuracy"][1]["paired_differences"] == [smooth - base]
    assert f"{smooth:.2%}"[:-1] in table and "a note." in table
    assert len(content["neighbour_cosine"]) == 2
    assert set(content["order"]["baseline"]) == {"as trained", "weights", "responses"}
    assert "arranged by responses" in table and "neighbour correlation of responses" in table
    for picture in ("first_layer.png", "correlations.png", "organisation.png", "preferences.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_the_digest_sees_names_shapes_and_every_bit():
    first = {"a": np.zeros((2, 3), np.float32), "b": np.ones(2, np.float32)}
    assert params_digest(first) == params_digest(dict(reversed(first.items())))
    flipped = first["a"].copy()
    flipped[1, 2] = np.float32(1e-45)
    others = [{**first, "a": flipped}, {**first, "a": first["a"].T}, {"a": first["a"], "c": first["b"]}]
    assert len({params_digest(tree) for tree in (first, *others)}) == 4


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_what_is_there(shallow, tmp_path):
    data = datasets.load("digits")
    config, _ = configure(data, variant="constant", **SMALL | {"lr": 1e30})
    trainer = Trainer(config, PlacedData(data))
    with (
        Reporter(1, 1, Console(quiet=True)) as progress,
        pytest.raises(FailedRun, match="not finite at step [1-9]"),
    ):
        run(trainer, 0, tmp_path, progress)
    folder = tmp_path / config.name
    assert (folder / "config.json").exists() and not (folder / "summary.json").exists()


def test_a_set_of_which_no_summary_can_be_is_refused_before_the_first_step(shallow, tmp_path):
    digits = datasets.load("digits")
    kept = np.flatnonzero(digits.test_labels != 7)
    data = dataclasses.replace(
        digits, test_images=digits.test_images[kept], test_labels=digits.test_labels[kept]
    )
    config, _ = configure(data, variant="constant", **SMALL)
    placed = PlacedData(data, jax.local_devices()[:1])
    with Reporter(1, 1, Console(quiet=True)) as progress:
        for make in (
            lambda: run(Trainer(config, PlacedData(data)), 0, tmp_path, progress),
            lambda: run_together(Together([config], placed), tmp_path, progress),
        ):
            with pytest.raises(ValueError, match="too few test images of 7 .0.; .* need 2 of every class"):
                make()
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("left", ["config.json", "summary.json"])
def test_a_folder_of_another_run_is_refused_with_the_difference(finished, tmp_path, left):
    """As if somebody had renamed it; a summary alone is what a published run has."""
    out, configs, folders = finished
    (config,), (source,) = configs["constant"], folders["constant"]
    folder = tmp_path / config.name
    folder.mkdir()
    content = json.loads((source / left).read_text())
    changed = content if left == "config.json" else content["config"]
    changed |= {"epochs": 99, "sigma": 0.25}
    (folder / left).write_text(json.dumps(content))
    trainer = Trainer(config, PlacedData(datasets.load("digits")))
    with Reporter(1, 1, Console(quiet=True)) as progress:
        with pytest.raises(click.UsageError) as refused:
            run(trainer, 0, tmp_path, progress)
    assert "epochs is 99 there and 3 here; sigma is 0.25 there and 0.5 here" in refused.value.message
    assert [path.name for path in folder.iterdir()] == [left]


def test_a_damaged_configuration_is_named(finished, tmp_path):
    (config,) = finished[1]["constant"]
    for content in ('{"net":', "[1]"):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(click.UsageError, match="config.json' is damaged .* move"):
            results.check_folder(tmp_path, config)


def test_a_baseline_is_the_same_run_whatever_the_neighbourhood(finished):
    out, configs, folders = finished
    (config,) = configs["baseline"]
    results.check_folder(folders["baseline"][0], config.having(sigma=0.3, window=5))


def test_layers_are_in_the_order_of_the_network():
    names = ["conv_10/kernel", "conv_9/kernel", "group_0_block_10/conv_0", "group_0_block_2/conv_0"]
    assert sorted(names, key=natural) == [names[1], names[0], names[3], names[2]]


@pytest.mark.slow
def test_the_main_jobs_preset_shows_topography_in_every_layer(tmp_path):
    """The README's command, one seed of it: the paper's organisation at the accuracy of the baseline."""
    data = datasets.load("digits")
    placed, found = PlacedData(data), {}
    with Reporter(2, 1, Console(quiet=True)) as progress:
        for variant in ("baseline", "constant"):
            # Over all eight devices, so that they together make the batch statistics of the command's one.
            config, _ = configure(data, variant=variant, sync_bn=True)
            found[variant] = summary(run(Trainer(config, placed), 0, tmp_path, progress))
    assert min(result["test_accuracy"] for result in found.values()) > 0.96
    for layer, score in found["constant"]["neighbour_cosine"].items():
        assert score["value"] > found["baseline"]["neighbour_cosine"][layer]["value"] + 0.05, layer


def test_plain_lines_where_there_is_no_terminal(capsys):
    with Reporter(2, 10, Console(stderr=True, force_terminal=False, soft_wrap=True)) as progress:
        progress.begin("first", "one")
        progress.compiled()
        progress.advance(5, "1/1", 0.5, 0.25, 100)
        progress.end(0.5, 61)
        progress.skip("second", 5)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "\x1b" not in "".join(lines)
    assert lines[0].startswith("[1/2] first: test accuracy 50.00% after 1 min 01 s")
    assert lines[1] == "[2/2] second: finished before"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def lines_of(stream, monkeypatch, **environment):
    """What is reported into a file or terminal under some variables of the environment."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm"} | environment).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress_module, "_BETWEEN_LINES", -1.0)
    with Reporter(1, 10) as progress:
        progress.begin("first", "one")
        progress.advance(5, "1/2", 0.5, 0.25, 100)
        progress.at(7, "layer 2 of 3")
        progress.end(0.5, 61)
    return stream.getvalue()


@pytest.mark.parametrize(
    "stream, environment",
    [
        (io.StringIO, {}),
        (io.StringIO, {"FORCE_COLOR": "1"}),
        (io.StringIO, {"TTY_COMPATIBLE": "1"}),
        (Terminal, {"TERM": "dumb"}),
        (Terminal, {"TERM": "unknown", "FORCE_COLOR": "1"}),
    ],
)
def test_lines_and_no_frames_where_none_can_be_drawn(stream, environment, monkeypatch):
    text = lines_of(stream(), monkeypatch, **environment)
    lines = text.splitlines()
    assert (
        "\x1b" not in text and len(lines) == 3 and all(line.startswith("[1/1] first: ") for line in lines)
    )
    assert "epoch 1/2, loss 0.500" in lines[0] and "layer 2 of 3" in lines[1] and "50.00%" in lines[2]


def test_a_bar_on_a_terminal(monkeypatch):
    text = lines_of(Terminal(), monkeypatch)
    assert "\x1b" in text and "[1/1] one" in text and text.count("first: ") == 1
