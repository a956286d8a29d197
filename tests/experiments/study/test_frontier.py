"""The command that makes the runs of a plan, its tables and its figure."""

import dataclasses
import json
import pathlib
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from experiments import cli, errors, frontier, options, sweep
from experiments.run import results
from experiments.run.log import METRICS
from experiments.run.results import SUMMARY
from experiments.study import claims, plan, scatter
from experiments.study import frontier as study
from experiments.study.claims import ARRANGED, NATIVE
from tests.experiments.conftest import SMALL

CLAIMED = {
    "images": 364,
    "accuracy": 0.5,
    "weight_noise": {"0.05": 0.4},
    "corruptions": {"blur": 0.25, "JPEG": 0.35},
    "pruning": {"0.1": {"scattered": 0.11, NATIVE: 0.12, ARRANGED: 0.13}},
    "preferences": {
        f"conv_{layer}/kernel": {
            order: {
                what: {"value": value + layer, "null_low": 3.0, "null_high": 5.0}
                for what, value in (("count", 6.0), ("largest", 9.0))
            }
            for order in (NATIVE, ARRANGED)
        }
        for layer in (0, 1)
    },
    "ablation": {
        NATIVE: {"units": 2.5, "own": -0.2, "others": 0.01, "random": -0.1, "regions": 4},
        ARRANGED: {"units": None, "own": None, "others": None, "random": None, "regions": 0},
    },
    "probe": {"units": 4, "all": 0.9, NATIVE: 0.7, ARRANGED: 0.8, "random": 0.6},
}
ROWS = """
[[rows]]
name = "wide"
variant = "constant"
sigma = 0.84
[[rows]]
name = "LGNN"
variant = "constant"
[[rows]]
name = "without"
variant = "baseline"
"""


@pytest.fixture
def file(tmp_path):
    """A plan of the fixture's runs and others."""
    path = tmp_path / "tiny.toml"
    common = "".join(f"{key} = {value}\n" for key, value in SMALL.items())
    path.write_text(f'title = "Tiny"\n{common}seeds = [0, 1]\n{ROWS}')
    return path


@pytest.fixture
def made(out, monkeypatch):
    """The runs that are made; a fake finishes one in no time, a little better than another, at half its rate."""
    calls, measured = [], []
    (source,) = out.glob("*-constant-*")

    class Trainer:
        def __init__(self, config, placed):
            self.config = config

    def run(trainer, seed, folder, progress, **given):
        config = dataclasses.replace(trainer.config, seed=seed)
        calls.append((config.method.name, getattr(config.method, "sigma", 0), seed))
        (folder / config.name).mkdir(exist_ok=True)
        summary = json.loads((source / SUMMARY).read_text())
        summary |= {"config": config.flat(), "test_accuracy": summary["test_accuracy"] + 0.01}
        (folder / config.name / SUMMARY).write_text(json.dumps(summary))
        (folder / config.name / METRICS).write_text('{"images_per_second": 50.0}\n')
        shutil.copytree(source / "weights", folder / config.name / "weights")

    for finished in out.iterdir():
        (finished / METRICS).write_text('{"images_per_second": 100.0}\n{"images_per_second": null}\n')
    monkeypatch.setattr(sweep, "Trainer", Trainer)
    monkeypatch.setattr(sweep, "run", run)
    monkeypatch.setattr(sweep, "measure", lambda config, placed: (7.0, 1e9))
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(claims, "subject", lambda config, *_: config.name)
    monkeypatch.setattr(claims, "measure", lambda name: measured.append(name) or CLAIMED)
    return calls, measured


def start(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["frontier", *map(str, arguments)])
    cli.start(frontier.main)


def tables(text):
    """The rows of every table by their first cell."""
    found, last = [], ""
    for line in text.splitlines():
        if line.startswith("|"):
            if not last.startswith("|"):
                found.append({})
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            found[-1].setdefault(cells[0], cells[1:])
        last = line
    return found


def test_runs_are_made_seed_by_seed_and_the_table_grows(out, file, made, monkeypatch, capsys):
    calls, measured = made
    seen, write = [], study.write
    monkeypatch.setattr(study, "write", lambda *given: seen.append(write(*given)) or seen[-1])
    start(monkeypatch, file, "--out", out)
    assert calls == [
        ("constant", 0.84, 0),
        ("baseline", 0.5, 1),
        ("constant", 0.84, 1),
        ("constant", 0.5, 1),
    ]
    assert len(measured) == len(set(measured)) == 6
    said, told = capsys.readouterr()
    assert "4 of 6 runs left" in told and "2 of 6 runs are finished" in told
    folder = pathlib.Path(said.splitlines()[-1])
    assert folder.name.startswith("tiny-digits-vgg11-w0.0625-") and folder.parent == out
    assert said.startswith((folder / "table.md").read_text().strip())

    first, differences, robust, pruned, regions = tables(seen[-1])
    assert tables(seen[0])[0]["wide"][:2] == ["not yet run", "-"]
    assert tables(seen[0])[0]["without"][0].endswith("(1 of 2)")
    baseline, other = (results.read(*out.glob(f"*-baseline-s{seed}-*/")) for seed in (0, 1))
    columns = dict(zip(first["row"], first["without"], strict=True))
    cosine = baseline["topography"]["metrics"]["weights: neighbour cosine"]["value"][1:]
    moved = baseline["arranged"]["weights"]["metrics"]["weights: neighbour cosine"]["value"][1:]
    both = [np.mean(cosine), other["topography"]["metrics"]["weights: neighbour cosine"]["value"][1]]
    assert columns["neighbour cosine of weights*"].split(", ")[0] == f"{np.mean(both):.2f}"
    assert len(moved) == 1 and columns["images/s"] == "1" and columns["to baseline"] == "-"
    accuracy = [baseline["test_accuracy"], other["test_accuracy"]]
    assert columns["accuracy"] == f"{100 * np.mean(accuracy):.2f}"
    # Of the layers after the first alone.
    assert columns["regions (chance)"] == "7.0, 7.0 (3 to 5)"
    assert columns["largest (chance)"] == "10.0, 10.0 (3 to 5)"
    wide = dict(zip(first["row"], first["wide"], strict=True))
    assert wide["images/s"] == "0.75"  # Half of the first seed's, and all of the second's.
    assert differences["wide"][0] == "2" and " to " in differences["wide"][1]
    assert robust["wide"] == ["50.0", "40.0", "25.0", "35.0", "30.0"]
    assert pruned["wide"] == ["50.0", "11.0", "12.0", "13.0"]
    assert regions["wide"] == [
        "as trained", "4", "2.5", "-20.0", "-10.0", "+1.0", "70.0", "60.0", "90.0"
    ]  # fmt: skip
    assert regions[""] == ["arranged", "0", "-", "-", "-", "-", "80.0", "", ""]
    rows = json.loads((folder / "table.json").read_text())["rows"]
    assert [row["row"] for row in rows] == ["wide", "LGNN", "without"]
    assert rows[0]["differences"]["accuracy"]["seeds"] == [0, 1]
    with Image.open(folder / "frontier.png") as figure:
        assert min(figure.size) > 400
    assert not list(folder.glob("*partial*")) and not list(folder.glob("*.tmp"))

    calls.clear(), measured.clear()
    start(monkeypatch, file, "--out", out, "--publish")
    assert not calls and not measured
    assert len(list(results.PUBLISHED.glob(f"*/{claims.CLAIMS}"))) == 6


def test_a_dry_run_makes_nothing(out, file, made, monkeypatch, capsys):
    start(monkeypatch, file, "--out", out, "--plan", "--seeds", 1)
    text = capsys.readouterr().out
    assert made == ([], []) and not list(out.glob("tiny*"))
    (table,) = tables(text)
    assert text.startswith("### Tiny on digits at 0.0625 of the width: plan") and "1 of 3 runs left" in text
    assert table["vgg11"][:2] == ["wide", "0 of 1"]


def test_a_run_that_fails_leaves_the_table_of_the_others(out, file, made, monkeypatch, capsys):
    fake = sweep.run

    def run(trainer, *given, **more):
        if trainer.config.method.name == "baseline":
            raise errors.FailedRun("the loss is not finite")
        fake(trainer, *given, **more)

    monkeypatch.setattr(sweep, "run", run)
    monkeypatch.setattr(scatter, "draw", lambda *_: None)  # Which takes longest.
    with pytest.raises(SystemExit) as stop:
        start(monkeypatch, file, "--out", out)
    assert stop.value.code == 1 and "1 of 4 runs failed" in capsys.readouterr().err
    (folder,) = out.glob("tiny-*")
    first, *_ = tables((folder / "table.md").read_text())
    assert first["without"][0].endswith("(1 of 2)") and "of" not in first["wide"][0]


def test_summaries_without_weights_or_orders_have_their_row(out, file, made, monkeypatch, capsys):
    """As those that were published earlier."""
    for folder in out.iterdir():
        shutil.rmtree(folder / "weights", ignore_errors=True)
        (folder / METRICS).unlink()
        summary = json.loads((folder / SUMMARY).read_text())
        del summary["arranged"]
        (folder / SUMMARY).write_text(json.dumps(summary))
    file.write_text(
        file.read_text().replace('name = "wide"\nvariant = "constant"\nsigma = 0.84\n[[rows]]', "")
    )
    start(monkeypatch, file, "--out", out, "--seeds", 1)
    first, *more = tables(capsys.readouterr().out)
    assert made == ([], []) and not more
    columns = dict(zip(first["row"], first["LGNN"], strict=True))
    assert columns["neighbour cosine of weights*"].endswith(", -") and columns["images/s"] == "-"
    assert columns["regions (chance)"] == "-"


@pytest.mark.parametrize(
    "arguments, change, words",
    [
        ([], ("constant", "both"), "row 'wide': Unknown variant 'both'"),
        ([], ("sigma", "tau"), "unknown setting 'tau' of variant 'constant'"),
        ([], ("0.84", "1.5"), "row 'wide': sigma 1.5 makes a window of 3 taps indefinite"),
        ([], ("sigma = 0.84", ""), "rows 'wide' and 'LGNN' are the same run (seed 0)"),
        ([], ("[[rows]]", "[[rows"), "is no TOML"),
        (["--batch", "2000"], ("", ""), "1433 training pictures, fewer than a batch of 2000"),
        (["--shorten", "0.5", "--epochs", "3"], ("", ""), "--epochs and --shorten both set the length"),
        (["--plan", "--publish"], ("", ""), "nothing to --publish"),
        (["--sigma", "0.5"], ("", ""), "No such option '--sigma'"),
    ],
)
def test_wrong_input_is_one_line_before_any_training(
    arguments, change, words, file, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(sweep, "Trainer", None)
    if "2000" not in arguments:
        monkeypatch.setattr(options.Options, "load", lambda self: pytest.fail("read"))
    file.write_text(file.read_text().replace(*change, 1) if change[0] else file.read_text())
    with pytest.raises(SystemExit) as stop:
        start(monkeypatch, file, *arguments, "--out", tmp_path / "runs")
    out, told = capsys.readouterr()
    assert stop.value.code == 2 and out == "" and not (tmp_path / "runs").exists()
    last = told.splitlines()[-1]
    assert last.startswith("error: ") and words in last and told.count("error") == 1


def test_a_plan_that_is_not_there_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: None)
    with pytest.raises(SystemExit) as stop:
        start(monkeypatch, tmp_path / "missing.toml")
    assert stop.value.code == 2
    assert "missing.toml' does not exist" in capsys.readouterr().err


def test_every_committed_plan_can_be_read():
    for path in (pathlib.Path(plan.__file__).parents[1] / "plans").iterdir():
        assert plan.read(path).rows


def test_the_figure_shows_what_is_known(tmp_path, monkeypatch):
    def entry(row, accuracy, *order):
        values = dict(zip((NATIVE, ARRANGED), order, strict=True))
        return {
            "row": row,
            "variant": row[0],
            "accuracy": accuracy,
            "test_accuracy": [accuracy or 0, 0.5],
            "order": dict.fromkeys(study.AXES, values),
        }

    entries = [entry("a", 0.5, 0.1, 0.4), entry("a2", 0.4, 0.3, None), entry("b", None, None, None)]
    many = [entry(f"{variant}{row}", 0.5, 0.1, 0.4) for variant in "abcdefghijklmno" for row in "12"]
    assert len(set(scatter._styles(many))) == len(many) and len(set(scatter._styles(entries))) == 3
    drawn = {}
    with monkeypatch.context() as patch:
        patch.setattr(scatter.files, "write_figure", drawn.__setitem__)
        scatter.draw(entries, "title", tmp_path / "new" / "frontier.png")
    figure = drawn[tmp_path / "new" / "frontier.png"]
    for panel in figure.axes:
        points = {
            (float(line.get_xdata()[0]), float(line.get_ydata()[0]), line.get_markerfacecolor() == "white")
            for line in panel.lines
            if line.get_marker() not in ("None", None, "")
        }
        assert points == {(0.1, 50.0, True), (0.4, 50.0, False), (0.3, 40.0, True)}
