import builtins
import dataclasses
import sys

import numpy as np
import pytest

from experiments import cli, errors
from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import feature_vis, peer


@pytest.fixture
def folder(finished):
    _, _, folders = finished
    return folders["constant"][0]


@pytest.fixture
def without_lucent(monkeypatch):
    imported = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] in ("lucent", "torch"):
            raise ImportError(f"No module named {name!r}")
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.slow
def test_without_lucent_ours_alone_is_measured(folder, without_lucent, monkeypatch, capsys):
    options = ["--channels", "3", "--settings", "small", "--steps", "16", "--repeats", "1"]
    monkeypatch.setattr(
        sys, "argv", ["benchmark", "feature_vis", str(folder), "--layer", "conv_1", *options]
    )
    cli.start(benchmark.main)
    out, err = capsys.readouterr()
    assert "No module named 'torch'" in err and "pip install torch torchvision torch-lucent" in err
    assert "conv_1 of vgg11, width 0.0625, 3 epochs of digits, 3 of 32 channels" in out
    rows = [line.split("|")[1:-1] for line in out.splitlines() if line.startswith("| small")]
    assert [row[1].strip() for row in rows] == ["ours batched", "ours one at a time", "16"]
    assert float(rows[0][4]) > 0 and rows[0][5].strip() == "-"


def test_the_network_in_pytorch_responds_as_ours(folder):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    subject = feature_vis.load(folder, None, None, "conv_1", 2)
    feature_vis.check_alike(subject)
    wrong = dataclasses.replace(
        subject, weights=subject.weights._replace(mean=subject.weights.mean + np.float32(0.1))
    )
    with pytest.raises(errors.FailedRun, match="The network in PyTorch is not ours"):
        feature_vis.check_alike(wrong)
    assert not any(p.requires_grad for p in peer.network(subject.weights, "conv_1").parameters())
    assert torch.is_grad_enabled()


def test_who_is_done_early_is_rated_early():
    target = np.array([1.0, 2.0, -3.0, 4.0])
    values = {16: target - 1, 32: target - [0, 0, 1, 1], 64: target - 1e-5, 128: target}
    cost = feature_vis.Cost(np.full(3, 0.01), np.zeros(3))
    row = feature_vis._cost_row("lucent", {"lucent": cost}, values, target, 8)
    assert row[3:6] == ["46.9", "187.5 (32 steps)", "93.8 (64 steps)"]
    never = feature_vis._cost_row("lucent", {"lucent": cost}, values, target + 1, 8)
    assert never[4:6] == ["never", "never"]


def test_numbers_of_steps_end_with_the_last():
    assert feature_vis._grid(16) == [16]
    assert feature_vis._grid(40) == [16, 32, 40]
    assert feature_vis._grid(128) == [16, 32, 64, 128]


@pytest.mark.parametrize(
    "options, words",
    [
        (["--settings", "large"], "Unknown setting 'large'. Known: small, lucid"),
        (["--layer", "conv_9"], "Unknown layer 'conv_9'. Known: conv_0, conv_1"),
        (["--steps", "8"], "--steps"),
    ],
)
def test_wrong_options_are_one_line(options, words, folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", "feature_vis", str(folder), *options])
    with pytest.raises(SystemExit) as stopped:
        cli.start(benchmark.main)
    assert stopped.value.code == 2 and words in capsys.readouterr().err
