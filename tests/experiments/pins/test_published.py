"""Names of published and of other runs, and the tables that summaries alone make."""

import json
import pathlib
import sys
import types

import numpy as np
import pytest

from experiments import cli, options, reproduce, sweep
from experiments.config import Run, configure
from experiments.data import Dataset
from experiments.run import results
from experiments.study import figures
from tests import golden

published, names_kept, jobs_kept, said, tables = (
    golden.Golden(__file__, name, exact=True, entries=True)
    for name in ("published", "names", "jobs", "said", "tables")
)
PUBLISHED = pathlib.Path(reproduce.__file__).parent / "results"
SUMMARIES = sorted(PUBLISHED.glob("*/summary.json"))


# Adapters.


def data_set(name, digest, train, test, classes=100):
    """A set whose images do not matter, and whose digest is given."""

    class Named(Dataset):
        @property
        def digest(self):
            return digest

    images = [np.broadcast_to(np.uint8(0), (count, 32, 32, 3)) for count in (train, test)]
    labels = [np.zeros(count, np.int32) for count in (train, test)]
    return Named(name, images[0], labels[0], images[1], labels[1], tuple(map(str, range(classes))))


TINY = data_set("tinyimagenet100", "d992c894980163df", 50_000, 5_000)
CIFAR = data_set("cifar100", "0123456789abcdef", 50_000, 10_000)
DIGITS = data_set("digits", "fedcba9876543210", 1433, 364, 10)


def name_of(fields):
    """The name of the run that a summary's or a folder's ``config`` describes."""
    return Run.of(fields).name


def found_by_its_configuration(fields, out):
    """The folder in which a finished run is found, and whether its summary can be read."""
    folder = results.find(Run.of(fields), out)
    return folder, results.read(folder)


def asked_for(data, given):
    """Name, configuration and notes of the run that options ask for."""
    config, notes = configure(data, **given)
    return {"name": config.name, "notes": notes, "config": config.flat()}


def say_again(command, data, arguments, out, monkeypatch, capsys):
    """Exit code, standard output and error of ``experiments.reproduce`` where nothing is trained."""
    placed = types.SimpleNamespace(
        classes=data.classes, train_examples=len(data.train_labels), test_examples=len(data.test_labels)
    )
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(options.Options, "load", lambda self: data)
    monkeypatch.setattr(sweep, "make", lambda *_, **__: None)
    monkeypatch.setattr(sweep, "PlacedData", lambda _: placed)
    monkeypatch.setattr(sweep, "_here", lambda: "this machine")
    monkeypatch.setattr(sweep, "measure", lambda config, _: (7.0, 1e12))
    # The comparison, whose runs are the published ones.
    monkeypatch.setattr(figures, "load_weights", lambda _: {"params": None})
    monkeypatch.setattr(figures, "convolutions", lambda *_: None)
    monkeypatch.setattr(figures, "_draw", lambda *_: None)
    monkeypatch.setattr(figures, "_draw_preferences", lambda *_: None)
    arguments = [*command.split(), "--data", data.name, *arguments.split(), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["reproduce", *arguments])
    code = 0
    try:
        cli.start(reproduce.main)
    except SystemExit as stopped:
        code = stopped.code
    told = capsys.readouterr()
    return code, told.out.replace(str(out), "OUT"), told.err.replace(str(out), "OUT")


def job_of(command, data, monkeypatch):
    """The runs of a command by name, in order, its folder, and titles and commands of its tables."""
    made = []
    monkeypatch.setattr(options.Options, "load", lambda self: data)
    monkeypatch.setattr(reproduce, "_carry_out", lambda job, *_: made.append(job))
    reproduce.main.main([command, "--data", data.name], standalone_mode=False)
    (job,) = made
    return {
        "runs": [config.name for config in job.runs],
        "folder": str(job.folder),
        "titles": [section.title for section in job.sections],
        "commands": [section.command for section in job.sections],
        "figures": {name: [line.configs[0].name for line in lines] for name, lines in job.figures.items()},
    }


# Pins.


def test_every_published_run_has_the_name_of_its_configuration(tmp_path):
    names = {}
    for summary in SUMMARIES:
        fields = json.loads(summary.read_text())["config"]
        names[summary.parent.name] = name_of(fields)
        folder, read = found_by_its_configuration(fields, tmp_path)
        assert folder == summary.parent and read["config"] == fields
    assert all(folder == name for folder, name in names.items()) and len(names) >= 42
    published.check("names", sorted(names))


ASKED = {
    f"{net} {variant} {data.name}": (data, {"net": net, "variant": variant})
    for net in ("vgg11", "vgg19", "wrn16-8", "wrn28-10")
    for variant in ("baseline", "constant", "decreasing")
    for data in (CIFAR, DIGITS)
}
ASKED |= {
    "seed": (CIFAR, {"seed": 4}),
    "half as wide": (CIFAR, {"width": 0.5}),
    "bf16": (CIFAR, {"precision": "bf16"}),
    "shorter": (CIFAR, {"epochs": 7}),
    "shorter, vgg19": (CIFAR, {"net": "vgg19", "epochs": 7}),
    "shorter, digits": (DIGITS, {"epochs": 3}),
    "longer": (CIFAR, {"epochs": 300}),
    "own decay": (CIFAR, {"epochs": 7, "weight_decay": 0.001}),
    "rate and batch": (CIFAR, {"lr": 0.05, "batch": 64}),
    "neighbourhood": (CIFAR, {"sigma": 0.84, "window": 5, "boundary": "wrap"}),
    "neighbourhood of a baseline": (CIFAR, {"variant": "baseline", "sigma": 0.84, "boundary": "wrap"}),
    "scope": (CIFAR, {"net": "wrn16-8", "scope": "main"}),
    "scope of blocks": (CIFAR, {"net": "wrn28-10", "scope": "resblocks", "variant": "decreasing"}),
    "grids": (CIFAR, {"grids": ((64, (16, 4)), (512, (32, 16)))}),
    "grids of a baseline": (CIFAR, {"grids": ((64, (16, 4)),), "variant": "baseline"}),
    "shared statistics": (CIFAR, {"sync_bn": True}),
    "a name with a version": (
        data_set("sets/config:1.0.0", "0123456789abcdef", 128, 1),
        {"variant": "baseline"},
    ),
}


@pytest.mark.parametrize("case", ASKED)
def test_what_is_asked_for_is_the_same_run(case):
    data, given = ASKED[case]
    found = asked_for(data, given)
    names_kept.check(case, found)
    assert name_of(golden.plain(found["config"])) == found["name"]


def test_no_name_is_left():
    names_kept.check_cases(ASKED)


JOBS = ("table1", "table2", "table3", "ablation", "fig1", "fig2", "fig3", "all")


@pytest.mark.parametrize("command", JOBS)
def test_a_command_makes_the_same_runs(command, monkeypatch):
    jobs_kept.check(command, job_of(command, CIFAR, monkeypatch))


VGG11, VGG19 = "--width 0.5 --shorten 0.08", "--width 0.25 --shorten 0.05"
TABLES = {
    "table1-vgg11": ("table1 --nets vgg11", f"{VGG11} --seeds 3"),
    "table1-vgg19": ("table1 --nets vgg19", f"{VGG19} --seeds 3"),
    "table1-unfinished": ("table1 --nets vgg11", f"{VGG11} --seeds 4 --precision bf16"),
    "table3": ("table3", f"{VGG19} --seeds 3"),
    "table3-unfinished": ("table3", f"{VGG19} --seeds 4 --boundary wrap"),
    "ablation": ("ablation", f"{VGG11} --seeds 3"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table_is_the_same_byte_for_byte(case, tmp_path, monkeypatch, capsys):
    command, arguments = TABLES[case]
    code, out, err = say_again(command, TINY, arguments, tmp_path, monkeypatch, capsys)
    *text, folder = out.splitlines(keepends=True)
    assert code == 0 and ("unfinished" in case) == ("not yet run" in out)
    golden.check_text(__file__, f"{case}.md", "".join(text))
    written = tmp_path / folder.strip().removeprefix("OUT/")
    assert (written / "table.md").read_text() + "\n" == "".join(text)
    said.check(case, {"folder": folder, "said": err})
    table = json.loads((written / "table.json").read_text())
    compare(table, tables.wanted(case, table))


# Two images of 5,000 in one of three seeds: NumPy's versions draw other resamples.
DRAWN = {"bootstrap_interval": 2 / 15_000}


def compare(found, wanted, close=1e-12):
    """Plain values, floats but for the rounding of the last digits."""
    if isinstance(found, dict):
        assert list(found) == list(wanted)
        for name in found:
            compare(found[name], wanted[name], DRAWN.get(name, close))
    elif isinstance(found, list):
        for ours, theirs in zip(found, wanted, strict=True):
            compare(ours, theirs, close)
    elif isinstance(found, float):
        assert found == pytest.approx(wanted, rel=1e-9, abs=close)
    else:
        assert found == wanted


SAID = {
    "plan of a finished table": ("table1 --nets vgg11", f"{VGG11} --seeds 3 --plan"),
    "plan of an unfinished table": ("ablation", f"{VGG11} --seeds 5 --plan"),
    "plan of everything": ("all", "--seeds 1 --plan"),
    "plan of a figure": ("fig2", f"{VGG11} --plan"),
    "figure without weights": ("fig1", VGG19),
    "comparison": ("", "--width 0.5 --epochs 8"),
    "comparison of two": ("", "--width 0.5 --epochs 8 --seeds 1 --variants baseline,constant"),
    "comparison in bfloat16": ("", "--width 0.5 --epochs 8 --precision bf16 --variants constant,baseline"),
}


@pytest.mark.parametrize("case", SAID)
def test_what_a_command_says_is_the_same(case, tmp_path, monkeypatch, capsys):
    command, arguments = SAID[case]
    code, out, err = say_again(command, TINY, arguments, tmp_path, monkeypatch, capsys)
    said.check(case, {"code": code, "out": out.splitlines(), "said": err.splitlines()})


def test_nothing_said_is_left():
    said.check_cases([*TABLES, *SAID])
    tables.check_cases(TABLES)
    jobs_kept.check_cases(JOBS)
