"""Runs in processes of their own, as a user starts, kills and shares them."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import types

import numpy as np
import pytest
from rich.console import Console

from experiments import cli, train
from experiments.errors import Taken
from experiments.run.claim import claim
from experiments.run.make import run
from experiments.run.progress import Reporter
from experiments.run.weights import load_weights
from tests.experiments import killed, processes

TINY = processes.TINY


@pytest.fixture(autouse=True, scope="module")
def compiled_once(tmp_path_factory):
    """Processes find what others have compiled; with LLVM's optimisations a step takes an eighth of the time."""
    flags = os.environ["XLA_FLAGS"].replace("--xla_backend_optimization_level=0", "").strip()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", flags)  # Flags of spaces alone would be read as the name of a file.
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        patch.setenv("JAX_PERSISTENT_COMPILATION_CACHE_MIN_COMPILE_TIME_SECS", "0")
        yield


def summary(out):
    (path,) = out.glob("*/summary.json")
    return json.loads(path.read_text())


@pytest.fixture
def shallow_killed(monkeypatch):
    """The processes that are killed have networks of few layers."""
    popen = subprocess.Popen

    def start(command, **options):
        assert command[1] == "-m"
        return popen([command[0], "-m", "tests.experiments.shallow", *command[2:]], **options)

    monkeypatch.setattr(killed.subprocess, "Popen", start)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_a_run_that_is_killed_ends_bit_for_bit_as_one_that_is_not(shallow_killed, tmp_path, number):
    """By SIGKILL at any time, and then inside a save; the log has every epoch once."""
    command = [*TINY, "--width", "0.125", "--lr", "0.01", "--epochs", "8"]
    kills, same = killed.killed(command, tmp_path, kills=number, interval=0.25)
    assert same and len(kills) == number
    assert all(kill.inside_a_save for kill in kills[1:])
    assert all(kill.kept <= kill.reached for kill in kills)
    assert max(kill.kept for kill in kills) > 0
    lines = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted(tmp_path.glob("*/*/metrics.jsonl"))
    ]
    for line in sum(lines, []):
        del line["images_per_second"]
    assert lines[0][-1]["train_loss"] < 0.95 * lines[0][0]["train_loss"]
    assert lines[0] == lines[1] and [line["epoch"] for line in lines[0]] == list(range(1, 9))
    assert not list(tmp_path.glob("*/*/checkpoints"))
    text = killed.report(kills, same)
    met = any(kill.inside_a_save for kill in kills)  # The first one may have met a save as well.
    assert ("| SIGKILL inside a save | " in text) == met and "bit for bit" in text


@pytest.mark.slow
def test_after_twenty_kills_the_run_ends_as_one_that_is_not_killed(tmp_path):
    """Prints what they cost, with ``-m slow -s -n 0 -k twenty``."""
    kills, same = killed.killed(["--width", "0.125", "--epochs", "30"], tmp_path, kills=20, interval=2.0)
    text = killed.report(kills, same)
    print(text)
    assert same and len(kills) == 20, text
    assert {kill.number for kill in kills} == {signal.SIGKILL, signal.SIGTERM}
    assert all(kill.kept == kill.reached for kill in kills if kill.number == signal.SIGTERM), text
    # Every process keeps what those before it had saved, and adds to it.
    kept = [kill.kept for kill in kills]
    assert kept == sorted(kept) and kept[-1] > 0, text
    assert all(kill.kept <= kill.reached for kill in kills), text


@pytest.mark.slow
def test_sigterm_saves_the_step_in_hand(tmp_path):
    arguments = ["experiments.train", *TINY, "--epochs", 200, "--out", tmp_path]
    process = processes.start(*arguments, "--checkpoint-every", 600)
    processes.wait_for(lambda: list(tmp_path.glob("*/metrics.jsonl")), process)
    (log,) = tmp_path.glob("*/metrics.jsonl")
    processes.wait_for(lambda: log.read_text(), process)
    process.send_signal(signal.SIGTERM)
    code, _, errors = processes.end(process)
    assert code == 128 + signal.SIGTERM and "stopped by SIGTERM, the state of step" in errors
    step = int(errors.split("the state of step ")[1].split()[0])
    assert step > 44
    again = processes.start(*arguments)
    processes.wait_for(lambda: len(log.read_text().splitlines()) > step // 44 + 1, again)
    again.send_signal(signal.SIGINT)  # Control-C.
    code, _, errors = processes.end(again)
    assert code == 128 + signal.SIGINT and f"goes on from step {step} of" in errors
    epochs = [json.loads(line)["epoch"] for line in log.read_text().splitlines()]
    assert epochs == list(range(1, len(epochs) + 1))


def test_a_run_that_another_process_ends_meanwhile_is_not_made_again(finished, tmp_path):
    """The other one holds the folder when this one comes, and frees it when the run is finished."""
    _, configs, folders = finished
    (config,), (source,) = configs["constant"], folders["constant"]
    said, other = [], contextlib.ExitStack()

    class Told(Reporter):
        def say(self, text):
            said.append(text)
            if "waiting for it" in text:
                shutil.copytree(source, tmp_path / config.name, dirs_exist_ok=True)
                other.close()

    trainer = types.SimpleNamespace(config=config, steps_per_epoch=44)  # Which makes no step.
    with other, Told(1, 1, Console(quiet=True)) as report:
        other.enter_context(claim(tmp_path / config.name, wait=False, say=pytest.fail))
        assert run(trainer, config.seed, tmp_path, report) == tmp_path / config.name
    name = config.name
    assert said == [
        f"{name}: another process makes this run; waiting for it",
        f"[1/1] {name}: finished before",
    ]


@pytest.mark.slow
def test_a_second_process_waits_for_the_run_that_the_first_one_makes(tmp_path):
    command = ["experiments.train", *TINY, "--epochs", 2, "--out", tmp_path]
    ends = [processes.end(process) for process in [processes.start(*command) for _ in range(2)]]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert ends[0][1] == ends[1][1]
    first, second = sorted((errors for _, _, errors in ends), key=lambda errors: "waiting for it" in errors)
    assert "test accuracy" in first and "waiting" not in first
    assert "finished before" in second and "test accuracy" not in second


@pytest.mark.slow
def test_two_processes_share_the_runs_of_a_table(tmp_path):
    """Neither waits before there is nothing else to do, and both write the table."""
    table = ["experiments.reproduce", "table1", "--data", "digits", "--nets", "vgg11", "--seeds", 1, *TINY]
    both = [processes.start(*table, "--epochs", 2, "--out", tmp_path) for _ in range(2)]
    ends = [processes.end(process) for process in both]
    assert [code for code, _, _ in ends] == [0, 0], ends
    made = [line for _, _, errors in ends for line in errors.splitlines() if "test accuracy" in line]
    assert len(made) == 3 and len({line.split()[1] for line in made}) == 3
    assert ends[0][1] == ends[1][1] and "not yet run" not in ends[0][1]
    for log in tmp_path.glob("*/metrics.jsonl"):
        assert len(log.read_text().splitlines()) == 2


def test_a_run_is_held_by_one_and_freed_at_its_end(tmp_path):
    said = []
    with claim(tmp_path / "run", wait=False, say=said.append):
        with pytest.raises(Taken, match="another process makes run"):
            with claim(tmp_path / "run", wait=False, say=said.append):
                pass
        with claim(tmp_path / "other", wait=False, say=said.append):
            pass
    with claim(tmp_path / "run", wait=True, say=said.append):
        assert not said


def hosts(*arguments, count=2):
    """The same command on several hosts, which are processes of this machine."""
    coordinator = f"localhost:{processes.free_port()}"
    meeting = ["--coordinator", coordinator, "--hosts", count]
    return [processes.start(*arguments, *meeting, "--host", host) for host in range(count)]


@pytest.mark.slow
def test_two_hosts_make_the_run_of_one_and_the_first_one_alone_writes(shallow, tmp_path):
    """A few small steps, before rounding errors grow; dropout would differ if it came from the replica."""
    settings = [*TINY, "--lr", 0.001, "--batch", 256, "--sync-bn", "--epochs", 1]
    both = hosts("experiments.train", *settings, "--out", tmp_path / "both")
    # The one is this process, with eight devices.
    train.main.main([*map(str, settings), "--out", str(tmp_path / "alone")], standalone_mode=False)
    ends = [processes.end(process) for process in both]
    assert [code for code, _, _ in ends] == [0, 0], ends
    (one,), (two,) = ((tmp_path / name).glob("*-constant-*") for name in ("alone", "both"))
    a, b = (load_weights(folder) for folder in (one, two))
    for name, layer in a["params"].items():
        for leaf, values in layer.items():
            np.testing.assert_allclose(values, b["params"][name][leaf], atol=2e-5, err_msg=name)
    first, second = summary(tmp_path / "alone"), summary(tmp_path / "both")
    assert second["hardware"]["hosts"] == second["hardware"]["devices"] == 2
    assert first["test_examples"] == second["test_examples"]
    assert first["test_loss"] == pytest.approx(second["test_loss"], abs=1e-4)
    assert str(two) in ends[0][1] and str(two) not in ends[1][1] and "test accuracy" not in ends[1][2]
    assert (
        len(list(two.glob("events*"))) == 1 and len((two / "metrics.jsonl").read_text().splitlines()) == 1
    )


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_the_loss_of_a_host_ends_the_other_with_a_message(tmp_path, lost):
    command = ["experiments.train", *TINY, "--epochs", 200, "--out", tmp_path, "--checkpoint-every", 0.5]
    both = hosts(*command)
    processes.wait_for(lambda: list(tmp_path.glob("*/checkpoints/[0-9]*")), *both)
    both[lost].kill()
    code, _, errors = processes.end(both[1 - lost])
    assert code not in (0, None)
    # Who meets the first host sees JAX's own message or ours, whichever is earlier.
    assert f"host {1 - lost} of 2 (from 0) lost another one" in errors or "another task died" in errors
    processes.end(both[lost])


@pytest.mark.slow
def test_hosts_stop_together_and_go_on_together(tmp_path):
    command = ["experiments.train", *TINY, "--epochs", 200, "--out", tmp_path]
    both = hosts(*command)
    processes.wait_for(lambda: [p for p in tmp_path.glob("*/metrics.jsonl") if p.read_text()], *both)
    both[1].send_signal(signal.SIGTERM)  # The first host is not asked, and learns of it.
    ends = [processes.end(process) for process in both]
    assert [code for code, _, _ in ends] == [143, 143], ends
    steps = {errors.split("the state of step ")[1].split()[0] for _, _, errors in ends}
    (step,) = steps
    again = hosts(*command)
    (log,) = tmp_path.glob("*/metrics.jsonl")
    epochs = len(log.read_text().splitlines())
    processes.wait_for(lambda: len(log.read_text().splitlines()) > epochs, *again)
    again[0].send_signal(signal.SIGTERM)
    ends = [processes.end(process) for process in again]
    assert [code for code, _, _ in ends] == [143, 143] and f"goes on from step {step} of" in ends[0][2]


@pytest.mark.slow
def test_what_the_first_host_refuses_ends_all(tmp_path):
    command = ["experiments.train", *TINY, "--epochs", 1, "--out", tmp_path]
    assert processes.end(processes.start(*command))[0] == 0
    (config,) = tmp_path.glob("*/config.json")
    config.write_text(config.read_text().replace('"epochs": 1', '"epochs": 2'))
    ends = [processes.end(process) for process in hosts(*command)]
    assert [code == 0 for code, _, _ in ends] == [False, False]
    assert ends[0][0] == 2 and "epochs is 2 there and 1 here" in ends[0][2]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--hosts", "2"], "need --coordinator"),
        (["--coordinator", "here:1"], "needs --hosts and --host"),
        (["--coordinator", "here:1", "--hosts", "2", "--host", "2"], "got 2 of 2"),
        (
            ["--coordinator", "here", "--hosts", "2", "--host", "1"],
            "ADDRESS:PORT of the first host, got 'here'",
        ),
        (["--coordinator", "auto", "--hosts", "2"], "leave them out"),
        (["--checkpoint-every", "nan"], "got nan"),
    ],
)
def test_wrong_options_are_one_line(options, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train", *options])
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: None)
    with pytest.raises(SystemExit) as ended:
        cli.start(train.main)
    assert ended.value.code == 2 and message in capsys.readouterr().err
