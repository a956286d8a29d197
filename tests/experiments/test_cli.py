import ast
import json
import logging
import os
import pathlib
import subprocess
import sys

import click
import numpy as np
import pytest
from PIL import Image

from experiments import cli, errors, methods, options, reproduce, sweep, train
from experiments.machine import hosts

ROOT = pathlib.Path(__file__).parents[2]
SHARED = ("net", "data", "split", "test-split", "data-dir", "download", "width", "epochs", "batch", "lr")
SHARED += ("weight-decay", "optimizer", "start", "boundary", "grids", "sync-bn", "precision", "out", "help")
SHARED += ("checkpoint-every", "keep-epochs", "coordinator", "hosts", "host")
SHARED += tuple(key.replace("_", "-") for key in methods.options())
OWN = {train: ("variant", "seed"), reproduce: ("variants", "seeds", "together")}
# A network that is compiled in seconds, on a set that is read in no time.
SMALL = ("--net", "vgg11", "--width", "0.0625", "--epochs", "1", "--batch", "8")


def refused(command, arguments, monkeypatch, capsys):
    """Exit code and lines on standard error of a command that is given wrong arguments."""
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: None)
    # Nothing of this may get as far as training.
    monkeypatch.setattr(train if command is train else sweep, "Trainer", None)
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.start(command.main)
    out, err = capsys.readouterr()
    assert out == ""
    return stop.value.code, [line for line in err.splitlines() if line]


WRONG = [
    (["--net", "vgg12"], "Unknown net 'vgg12'. Known: vgg11, vgg19, wrn16-8, wrn28-10"),
    (["--grids", "16"], "'16' is not of the form 512=32x16,64=8x8"),
    (["--grids", "16=4xfour"], "'16=4xfour' is not of the form"),
    (["--grids", "16=8x4"], "16 units out as 8x4, which holds 32"),
    (["--grids", "512=32x16"], "grids lays out 512 filters, but vgg11 at width 0.25 has layers of 16, 32"),
    (["--grids", "16=-4x-4"], "positive integers"),
    (["--sigma", "-0.5"], "sigma must be finite and at least 0"),
    (["--sigma", "1"], "sigma 1 makes a window of 3 taps indefinite"),
    (["--sigma", "wide"], "'--sigma': 'wide' is not a valid float"),
    (["--window", "4"], "3, 5 or 7, got 4"),
    (["--boundary", "reflect"], "'edge', 'wrap', got 'reflect'"),
    (["--scope", "main"], "scope 'main' is for wide residual networks"),
    (["--batch", "2000"], "1433 training pictures, fewer than a batch of 2000"),
    (["--batch", "12"], "does not divide over 8 devices"),
    (["--width", "0"], "width must be positive"),
    (["--lr", "nan"], "lr must be positive"),
    (["--weight-decay", "-1"], "weight_decay must be at least 0"),
    (["--keep-epochs", "1,end"], "'1,end' is not of the form 0,1,10"),
    (["--keep-epochs", "0,9"], "the weights after epoch 9, but the run has 8"),
    (["--start", "elsewhere"], "start must name a finished run in"),
    (["--epochs", "0"], "epochs must be at least 1, got 0"),
    (["--epochs", "ten"], "'--epochs': 'ten' is not a valid integer"),
    (["--data", "no_such_set", "--data-dir", "{}"], "'no_such_set' is not prepared in '{}'"),
    (["--data", "folder:{}/missing"], "no folder or zip '{}/missing'"),
    (["--data", "folder:{}"], "'{}' has no pictures in train/<class>/"),
    (["--data", "{}"], "Unknown data set '{}'. Give digits, folder:PATH"),
    (["--out", "{}/file"], "'{}/file' is a file"),
    (["--momentum", "0.9"], "No such option '--momentum'"),
    (["--net"], "'--net' requires an argument"),
]


@pytest.mark.parametrize(
    "command, arguments, words",
    [(command, *wrong) for command in (train, reproduce) for wrong in WRONG]
    + [
        (train, ["--variant", "both"], "Unknown variant 'both'. Known: baseline, constant, decreasing"),
        (train, ["--seed", "-1"], "seed must be at least 0"),
        (train, ["digits"], "unexpected extra argument (digits)"),
        (reproduce, ["--variants", "baseline,both"], "Unknown variant 'both'"),
        (reproduce, ["--variants", ""], "Unknown variant ''"),
        (reproduce, ["--seeds", "0"], "0 is not in the range x>=1"),
        (reproduce, ["digits"], "No such command 'digits'"),
        (reproduce, ["--width", "0.25", "table1"], "--width stands before table1"),
        (reproduce, ["table1", "--data-dir", "{}"], "'cifar100' is not prepared in '{}'"),
        (reproduce, ["table1", "--shorten", "0"], "0.0 is not in the range 0<x<=1"),
        (reproduce, ["table1", "--shorten", "0.5", "--epochs", "3"], "--epochs and --shorten both"),
        (reproduce, ["table1", "--plan", "--publish"], "nothing to --publish"),
        (reproduce, ["table1", "--nets", "wrn16-8"], "no net 'wrn16-8'; it has vgg11, vgg19"),
        (reproduce, ["table1", "--data", "digits", "--batch", "2000"], "1433 training pictures"),
        (reproduce, ["table2", "--sigma", "1"], "No such option '--sigma'"),
        (reproduce, ["table3", "--nets", "vgg19"], "No such option '--nets'"),
        (reproduce, ["fig1", "--seeds", "2"], "No such option '--seeds'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(command, arguments, words, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    arguments = [argument.format(tmp_path) for argument in arguments]
    code, lines = refused(command, arguments, monkeypatch, capsys)
    assert code == 2
    assert lines[-1].startswith("error: ") and words.format(tmp_path) in lines[-1]
    assert sum("error" in line.lower() for line in lines) == 1 and "Traceback" not in "".join(lines)


@pytest.mark.parametrize(
    "command, arguments",
    [
        (train, wrong)
        for wrong, _ in WRONG
        if wrong[0] in ("--net", "--grids", "--sigma", "--width") and wrong[1:]
    ]
    + [(train, ["--seed", "-1"]), (train, ["--variant", "both"]), (train, ["--batch", "12"])]
    + [(reproduce, ["--variants", "baseline,both"]), (reproduce, ["table1", "--lr", "-1"])]
    + [(reproduce, ["table1", "--grids", "100=10x10"]), (reproduce, ["ablation", "--width", "0.01"])],
)
def test_wrong_values_are_refused_before_the_data_set_is_read(command, arguments, monkeypatch, capsys):
    monkeypatch.setattr(options.Options, "load", lambda self: pytest.fail("read"))
    code, lines = refused(command, arguments, monkeypatch, capsys)
    assert code == 2 and lines[-1].startswith("error: ")


@pytest.mark.parametrize(
    "raised, code, line",
    [
        (errors.FailedRun("the loss is not finite"), 1, "error: the loss is not finite"),
        (
            KeyboardInterrupt(),
            130,
            "stopped at once; the same command goes on from the last checkpoint",
        ),
        (
            PermissionError(13, "Permission denied", "runs/a"),
            1,
            "error: [Errno 13] Permission denied: 'runs/a'",
        ),
    ],
)
def test_a_run_that_cannot_go_on_is_one_line(raised, code, line, monkeypatch, capsys):
    monkeypatch.setattr(os, "_exit", sys.exit)

    def raising(*_):
        raise raised

    monkeypatch.setattr(options.Options, "load", raising)
    assert refused(train, [], monkeypatch, capsys) == (code, [line])


def test_lines_are_of_the_first_host_and_errors_of_every_one(monkeypatch, capsys):
    @click.command()
    def command():
        logging.getLogger("experiments").info("50 % are read")
        raise errors.FailedRun("the disk is full")

    monkeypatch.setattr(cli, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(sys, "argv", ["command"])
    for first, lines in (
        (True, "50 % are read\nerror: the disk is full\n"),
        (False, "error: the disk is full\n"),
    ):
        monkeypatch.setattr(hosts, "first", lambda first=first: first)
        with pytest.raises(SystemExit):
            cli.start(command)
        assert capsys.readouterr() == ("", lines)


def test_what_commands_are_made_of_imports_no_command():
    above = {"cli", "frontier", "reproduce", "train"}
    package = ROOT / "experiments"
    files = [
        file
        for part in ("run", "study", "methods", "machine", "nets", "data", "inspect", "benchmark")
        for file in (package / part).rglob("*.py")
        if file.name != "__main__.py" and file != package / "data/arrays.py"  # Commands themselves.
    ]
    files += [
        package / f"{name}.py"
        for name in ("sweep", "markdown", "config", "recipes", "fields", "options", "errors")
    ]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = {alias.name for alias in getattr(node, "names", ()) if isinstance(node, ast.ImportFrom)}
            if isinstance(node, ast.ImportFrom) and node.module == "experiments":
                assert not names & above, file
            elif isinstance(node, ast.ImportFrom):
                assert node.module not in {f"experiments.{name}" for name in above}, file


def test_what_is_given_reaches_the_configuration(tmp_path, monkeypatch, capsys):
    seen = {}

    class Stop(Exception):
        pass

    def trainer(config, _):
        seen.update(config.flat())
        raise Stop

    given = dict(net="wrn16-8", width=0.125, epochs=2, batch=16, lr=0.05, weight_decay=1e-3, sigma=0.7)
    given |= dict(window=5, boundary="wrap", scope="main", variant="decreasing", seed=3)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(train, "Trainer", trainer)
    monkeypatch.setattr(sys, "argv", ["train", *options, "--grids", "16=8x2,32=4x8", "--sync-bn"])
    with pytest.raises(Stop):
        cli.start(train.main)
    given |= dict(grids=((16, (8, 2)), (32, (4, 8))), sync_bn=True, data="digits", flip=False)
    assert given.items() <= seen.items()
    assert "digits: 1433 training and 364 test pictures, 10 classes" in capsys.readouterr().err


def launch(command, *arguments, cache):
    """A command in a process of its own, on one device, compiled as tests are."""
    name = [f"experiments.{command.__name__.split('.')[-1]}"]
    environment = os.environ | {"LGNN_JAX_CACHE": str(cache), "COLUMNS": "100"}
    environment.pop("PYTHONWARNINGS", None)
    return subprocess.run(
        [sys.executable, "-m", "tests.experiments.shallow", *name, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("command", [train, reproduce])
def test_help_lists_every_option(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    assert command.main.main(["--help"], standalone_mode=False) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {word for line in lines for word in line.split()[:1] if word[:2] == "--"}
    assert listed == {f"--{name}" for name in SHARED + OWN[command]}


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Two classes that their colour tells apart: 40 pictures to train on and 10 to test."""
    folder, rng = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 5)):
        for channel, name in ((0, "red"), (2, "blue")):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                picture = rng.integers(0, 100, (32, 32, 3), dtype=np.uint8)
                picture[..., channel] += 150
                Image.fromarray(picture).save(folder / split / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def trained(colours, tmp_path_factory):
    """A run from the command line: its folder of runs, its arguments and how it ended."""
    out = tmp_path_factory.mktemp("trained")
    arguments = (*SMALL, "--data", f"folder:{colours}", "--out", out / "runs")
    done = launch(train, *arguments, "--variant", "constant", cache=out)
    assert done.returncode == 0, done.stderr
    return out, arguments, done


def test_a_training_from_the_command_line(trained, shallow, capsys):
    out, arguments, done = trained
    folder = pathlib.Path(done.stdout.splitlines()[-1])
    assert done.stdout == f"{folder}\n" and folder.parent == out / "runs"
    assert "40 training and 10 test pictures, 2 classes" in done.stderr
    config, summary = (json.loads((folder / f"{name}.json").read_text()) for name in ("config", "summary"))
    assert config == summary["config"] and (config["net"], config["batch"]) == ("vgg11", 8)
    (line,) = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    assert (line["epoch"], line["step"]) == (1, 5)
    assert 0 <= summary["test_accuracy"] == line["test_accuracy"] <= 1 and summary["test_examples"] == 10
    assert len(summary["params_digest"]) == 64 and set(summary["params_digest"]) <= set("0123456789abcdef")

    written = (folder / "summary.json").read_bytes()
    train.main.main([*map(str, arguments), "--variant", "constant"], standalone_mode=False)
    printed, said = capsys.readouterr()
    assert printed == done.stdout and "finished before" in said
    assert (folder / "summary.json").read_bytes() == written


@pytest.mark.slow
def test_a_comparison_from_the_command_line(trained):
    """Of the run that is there and one that it makes; ``.ci/run`` makes one too."""
    out, arguments, _ = trained
    done = launch(reproduce, *arguments, "--variants", "baseline,constant", "--seeds", 1, cache=out)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("finished before") == 1 and done.stderr.count("test accuracy") == 1
    *table, last = done.stdout.splitlines()
    folder = pathlib.Path(last)
    assert "\n".join(table).strip() == (folder / "table.md").read_text().strip()
    assert any(line.startswith("| baseline") for line in table) and "| constant" in "\n".join(table)
    rows = json.loads((folder / "table.json").read_text())["accuracy"]
    assert [row["variant"] for row in rows] == ["baseline", "constant"]
    for name in ("first_layer", "correlations", "organisation"):
        with Image.open(folder / f"{name}.png") as picture:
            assert min(picture.size) > 100
    assert len(list((out / "runs").glob("*/summary.json"))) == 2


@pytest.mark.slow
def test_a_training_that_diverges(colours, tmp_path):
    arguments = (*SMALL, "--data", f"folder:{colours}", "--lr", "1e30", "--out", tmp_path / "runs")
    done = launch(train, *arguments, cache=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr and done.stderr.count("not finite at step") == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ") and "not finite at step" in last
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "config.json").exists() and not (folder / "summary.json").exists()
