"""Every flag of every command, and what wrong input is answered, byte for byte."""

import functools
import inspect as python_inspect
import os
import pathlib
import sys

import click
import pytest

from experiments import cli, errors, frontier, options, reproduce, sweep, train
from experiments.benchmark import __main__ as benchmark
from experiments.inspect import __main__ as inspect
from tests import golden

flags, wrong, ends = (
    golden.Golden(__file__, name, exact=True, entries=True) for name in ("flags", "wrong", "ends")
)

# Adapters.

COMMANDS = {
    "train": train.main,
    "reproduce": reproduce.main,
    "frontier": frontier.main,
    "inspect": inspect.main,
    "benchmark": benchmark.main,
}


def refused(command, arguments, monkeypatch, capsys):
    """Exit code, standard output and lines on standard error of a command that trains nothing."""
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: None)
    for module in (train, sweep):
        monkeypatch.setattr(module, "Trainer", None)
    monkeypatch.setattr(os, "_exit", sys.exit)
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.start(COMMANDS[command])
    out, err = capsys.readouterr()
    return stop.value.code, out, err.splitlines()


# Pins.


def commands():
    """Every command and subcommand by its words."""
    found = {}

    def add(words, command):
        found[words] = command
        for name, inner in getattr(command, "commands", {}).items():
            add(f"{words} {name}", inner)

    for name, command in COMMANDS.items():
        add(name, command)
    return found


def described(param, context):
    """A parameter as plain values."""
    default = param.get_default(context)
    # Newer versions of click have a value of their own for what is not given.
    default = default if isinstance(default, str | int | float | bool | tuple) else None
    kind = {name: value for name, value in param.type.to_info_dict().items() if value is not None}
    kind.pop("param_type")  # The name of a class.
    about = {
        "flags": [*param.opts, *param.secondary_opts],
        "kind": kind | {"name": param.type.name},
        "required": param.required,
        "multiple": param.multiple,
        "nargs": param.nargs,
        "default": default,
    }
    if isinstance(param, click.Option):
        about["flag"], about["hidden"] = param.is_flag, param.hidden
        about["default shown"] = bool(param.show_default)
        about["metavar"], about["help"] = param.metavar, param.help
    return about


@pytest.mark.parametrize("words", commands())
def test_flags_are_the_same(words):
    command = commands()[words]
    context = click.Context(command, info_name=words)
    found = {"(help)": python_inspect.cleandoc(command.help), "(hidden)": command.hidden}
    found["(subcommands)"] = sorted(getattr(command, "commands", ()))
    for param in command.params:
        name = param.opts[0] if isinstance(param, click.Option) else param.make_metavar(context)
        found[name] = described(param, context)
    flags.check(words, found)


# One for every kind of error; {} is an empty folder with an empty file and a plan, FINISHED the folder of a run.
SHARED = [
    "--net vgg12",
    "--net",
    "--grids 16",
    "--grids 16=4xfour",
    "--grids 16=8x4",
    "--grids 512=32x16",
    "--grids 16=-4x-4",
    "--sigma -0.5",
    "--sigma 1",
    "--sigma wide",
    "--window 4",
    "--boundary reflect",
    "--scope main",
    "--scope some",
    "--precision fp8",
    "--batch 2000",
    "--batch 12",
    "--batch 0",
    "--width 0",
    "--width 0.01",
    "--lr nan",
    "--weight-decay -1",
    "--epochs 0",
    "--epochs ten",
    "--checkpoint-every nan",
    "--checkpoint-every 0",
    "--data no_such_set --data-dir {}",
    "--data digit --data-dir {}",
    "--data folder:{}/missing",
    "--data folder:{}",
    "--data folder:{}/file",
    "--data {}",
    "--out {}/file",
    "--momentum 0.9",
    "--hosts 2",
    "--coordinator localhost:1234",
    "--coordinator localhost --hosts 2 --host 0",
    "--coordinator localhost:1234 --hosts 2 --host 2",
    "--coordinator auto --hosts 2",
    "--hosts 0",
]
WRONG = [f"{command} {arguments}" for command in ("train", "reproduce") for arguments in SHARED]
WRONG += [
    "train --variant both",
    "train --seed -1",
    "train --seed one",
    "train digits",
    "reproduce --variants baseline,both",
    "reproduce --variants ",
    "reproduce --seeds 0",
    "reproduce digits",
    "reproduce --width 0.25 table1",
    "reproduce table1 --data-dir {}",
    "reproduce table1 --shorten 0",
    "reproduce table1 --shorten 0.5 --epochs 3",
    "reproduce table1 --plan --publish",
    "reproduce table1 --nets wrn16-8",
    "reproduce table1 --data digits --batch 2000",
    "reproduce table1 --lr -1",
    "reproduce table1 --grids 100=10x10",
    "reproduce table2 --sigma 1",
    "reproduce table3 --nets vgg19",
    "reproduce ablation --width 0.01",
    "reproduce fig1 --seeds 2",
    "reproduce fig2 --pictures many",
    "frontier",
    "frontier {}/missing",
    "frontier {}",
    "frontier {}/file",
    "frontier {}/plan --sigma 1",
    "frontier {}/plan --seeds 0",
    "frontier {}/plan --plan --publish",
    "frontier {}/plan --shorten 0.5 --epochs 3",
    "frontier {}/plan --width 0",
    "inspect",
    "inspect {}/missing",
    "inspect {}",
    "inspect {}/file",
    "inspect {FINISHED} {}",
    "inspect {FINISHED} {FINISHED}",
    "inspect {FINISHED} --layer conv_9",
    "inspect {FINISHED} --classes 1,cat",
    "inspect {FINISHED} --data folder:{}",
    "inspect {FINISHED} --pictures many",
    "benchmark train --nets vgg12",
    "benchmark train --precisions fp8",
    "benchmark train --repeats 1",
    "benchmark filter --nets vgg12",
    "benchmark filter --batches few",
    "benchmark filter --repeats 2",
    "benchmark feature_vis",
    "benchmark feature_vis {}",
    "benchmark feature_vis {FINISHED} --settings large",
    "benchmark feature_vis {FINISHED} --steps 1",
    "benchmark feature_vis {FINISHED} --layer conv_9",
    "benchmark nothing",
]


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_answered_the_same(case, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "plan").write_text('[[rows]]\nname = "a"\nvariant = "constant"\nsigma = 0.84\n')
    command, *arguments = case.split(" ")
    places = {"FINISHED": str(pathlib.Path(__file__).parent / "golden" / "runs" / "finished")}
    arguments = [argument.format(tmp_path, **places) for argument in arguments]
    code, out, err = refused(command, arguments, monkeypatch, capsys)
    lines = [
        line.replace(str(tmp_path), "{}").replace(places["FINISHED"], "{FINISHED}") for line in err if line
    ]
    assert out == "" and code in (1, 2)
    wrong.check(case, {"code": code, "lines": lines})


ENDS = {
    "failed": functools.partial(errors.FailedRun, "the loss is not finite"),
    "full disk": functools.partial(OSError, 28, "No space left on device", "runs/a"),
    "SIGTERM": functools.partial(errors.Stopped, "stopped by SIGTERM", 15),
    "Control-C": functools.partial(errors.Stopped, "stopped by SIGINT", 2),
    "second Control-C": KeyboardInterrupt,
    "aborted": click.Abort,
    "several lines": functools.partial(click.UsageError, "two\n  lines"),
}


@pytest.mark.parametrize("case", ENDS)
def test_an_end_has_the_same_code_and_line(case, monkeypatch, capsys):
    def ending(*_):
        raise ENDS[case]()

    monkeypatch.setattr(options.Options, "load", ending)
    code, out, lines = refused("train", [], monkeypatch, capsys)
    assert out == ""
    ends.check(case, {"code": code, "lines": lines})


def test_no_command_is_left():
    flags.check_cases(commands())
    wrong.check_cases(WRONG)
    ends.check_cases(ENDS)
