import dataclasses
import json
import pathlib
import shutil
import sys
import time

import click
import numpy as np
import pytest

from experiments import cli, errors, reproduce, sweep, train
from experiments import data as datasets
from experiments.config import configure
from experiments.inspect import look as looking
from experiments.machine import origin
from experiments.options import Options
from experiments.run import results
from experiments.run.log import METRICS
from experiments.run.results import SUMMARY
from experiments.study import figures, frame, paper, study, tables
from tests.experiments.conftest import SMALL

# The runs of the fixture, as a table wants them.
SMALL_OPTIONS = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
TABLE = ["table1", "--data", "digits", "--nets", "vgg11", *SMALL_OPTIONS]


@pytest.fixture
def made(out, monkeypatch):
    """The runs that are made, as variants and seeds; a fake finishes one in no time, as another with constant."""
    calls = []
    (source,) = out.glob("*-constant-*")

    class Trainer:
        def __init__(self, config, placed):
            self.config = config

    def run(trainer, seed, folder, progress, **options):
        config = dataclasses.replace(trainer.config, seed=seed)
        calls.append((config.method.name, seed))
        (folder / config.name).mkdir(exist_ok=True)
        summary = json.loads((source / SUMMARY).read_text()) | {"config": config.flat()}
        (folder / config.name / SUMMARY).write_text(json.dumps(summary))
        shutil.copy(source / METRICS, folder / config.name)

    monkeypatch.setattr(sweep, "Trainer", Trainer)
    monkeypatch.setattr(sweep, "run", run)
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: None)
    return calls


def start(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["reproduce", *map(str, arguments)])
    cli.start(reproduce.main)


def rows(text, net="vgg11"):
    """The first table's rows by their second cell."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    found = {}
    for row in cells:
        if row[0] == net and len(row) > 2:
            found.setdefault(row[1], row[2:])
    return found


def test_a_table_grows_and_finished_runs_are_not_made_again(out, made, monkeypatch, capsys):
    seen, write = [], tables.write
    monkeypatch.setattr(tables, "write", lambda *args: seen.append(write(*args)) or seen[-1])
    start(monkeypatch, *TABLE, "--seeds", 2, "--out", out)
    assert made == [("decreasing", 0), ("baseline", 1), ("constant", 1), ("decreasing", 1)]
    first, *grown, last = map(rows, seen)
    finished = [sum(len(row[1].replace("-", "").split()) for row in table.values()) for table in grown]
    assert finished == [3, 4, 5, 6]
    assert first["decreasing"][:2] == ["not yet run", "-"] and "(1 of 2)" in first["constant"][0]
    assert first["baseline"][1].split()[1] == "-" and first["constant"][3] == "-"
    assert "of 2)" not in seen[-1] and "not yet" not in seen[-1]
    assert len(last["constant"][1].split()) == 2 and " to " in last["constant"][3]
    folder = printed_folder(capsys)
    assert (folder / "table.md").read_text() == seen[-1] and not list(folder.glob("*.tmp"))
    assert "3 of 8 epochs (vgg11)" in seen[-1] and "at 0.0625 of the width" in seen[-1]
    (table,) = json.loads((folder / "table.json").read_text())["tables"]
    constant = table["rows"][1]
    assert constant["difference"]["seeds"] == [0, 1] and constant["paper_median"] is None
    assert len(constant["commits"]) == 2 and constant["hardware"] and constant["seconds"] > 0
    made.clear()
    start(monkeypatch, *TABLE, "--seeds", 2, "--out", out)
    assert not made


def printed_folder(capsys):
    return pathlib.Path(capsys.readouterr().out.splitlines()[-1])


class Stop(Exception):
    """A run of this name is about to be made."""


def stop(config, _):
    raise Stop(config.name)


def test_published_summaries_count_as_finished(out, made, monkeypatch, capsys):
    long = "".join(f'{{"epoch": {epoch}}}\n' for epoch in range(1, 201))
    (baseline,) = out.glob("*-baseline-*")
    (baseline / METRICS).write_text(long)
    start(monkeypatch, *TABLE, "--seeds", 1, "--out", out, "--publish")
    before = rows((printed_folder(capsys) / "table.md").read_text())
    published = sorted(results.PUBLISHED.glob("*/summary.json"))
    assert len(published) == 3 and made == [("decreasing", 0)]
    thinned = [
        json.loads(line)["epoch"]
        for line in (results.PUBLISHED / baseline.name / METRICS).read_text().splitlines()
    ]
    assert len(thinned) == 50 and (thinned[0], thinned[-1]) == (1, 200)
    for summary in published:
        assert sum(path.stat().st_size for path in summary.parent.iterdir()) < 50_000
    made.clear()
    elsewhere = out.parent / "elsewhere"
    start(monkeypatch, *TABLE, "--seeds", 1, "--out", elsewhere)
    assert not made and rows((printed_folder(capsys) / "table.md").read_text()) == before
    with pytest.raises(SystemExit) as stopped:
        start(monkeypatch, "fig2", "--data", "digits", *SMALL_OPTIONS, "--out", elsewhere)
    message = capsys.readouterr().err
    message = message[message.index("error: fig2 shows weights") :]
    assert stopped.value.code == 1
    start(monkeypatch, "fig2", "--data", "digits", *SMALL_OPTIONS, "--out", elsewhere, "--plan")
    assert message.removeprefix("error: ").strip() in capsys.readouterr().out
    named, commands = message.split("only the summary is here. This makes them again:\n\n")
    for command in map(str.strip, commands.strip().splitlines()):
        assert command.startswith("python -m experiments.train ") and command.endswith(f"--out {elsewhere}")
        monkeypatch.setattr(train, "PlacedData", lambda data: None)
        monkeypatch.setattr(train, "Trainer", stop)
        with pytest.raises(Stop) as asked:
            train.main.main(command.split()[3:], standalone_mode=False)
        assert str(asked.value) in named
        named = named.replace(str(asked.value), "")
    assert "digits-vgg11" not in named


def test_a_run_that_fails_does_not_keep_the_others(out, made, monkeypatch, capsys):
    fake = sweep.run

    def run(trainer, seed, folder, progress, **options):
        if (trainer.config.method.name, seed) == ("decreasing", 0):
            raise errors.FailedRun("the loss is not finite")
        fake(trainer, seed, folder, progress)

    monkeypatch.setattr(sweep, "run", run)
    with pytest.raises(SystemExit):
        start(monkeypatch, *TABLE, "--seeds", 2, "--out", out)
    assert made == [("baseline", 1), ("constant", 1), ("decreasing", 1)]
    told = capsys.readouterr().err
    assert "\n2 of 6 runs are finished\n" in told
    assert told.splitlines()[-1].startswith("error: 1 of 4 runs failed: the loss is not")


def test_a_plan_runs_nothing(out, made, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "measure", lambda config, placed: (7.0, 1e9))
    start(monkeypatch, *TABLE, "--seeds", 1, "--out", out, "--plan")
    text = capsys.readouterr().out
    found = rows(text)
    assert not made and not list(out.glob("table1*"))
    assert found["baseline"][0] == "1 of 1" and found["baseline"][-1] == "-"
    assert found["decreasing"][:2] == ["0 of 1", "3"]
    seconds = int(found["decreasing"][-2].split()[0])
    assert found["decreasing"][-1] == f"{seconds + 7} s" and "1 of 3 runs left" in text


def test_measuring_leaves_compiling_out_and_takes_a_few_steps(shallow, monkeypatch):
    batches = []

    class Trainer:
        def __init__(self, config, placed):
            pass

        def start(self, seed):
            return 0, None

        def step(self, state, keys, examples):
            batches.append(examples)
            time.sleep(0.02 if state else 0.3)
            return state + 1

    class Placed:
        classes, train_examples = 10, 100

    monkeypatch.setattr(sweep, "Trainer", Trainer)
    compiling, rate = sweep.measure(configure(datasets.load("digits"), **SMALL)[0], Placed)
    assert 0.3 <= compiling < 3 and len(batches) == 11 and {len(batch) for batch in batches} == {32}
    assert 0.1 < rate * 0.02 / (32 * sweep.multiply_adds("vgg11", 10, 0.0625)) <= 1


def options(tmp_path, **overrides):
    return Options("cifar100", None, False, tmp_path, 60.0, overrides)


def noise(name="cifar100"):
    """A hundred classes of noise; batches divide over the tests' devices."""
    pictures = np.random.default_rng(0).integers(0, 256, (136, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(136, dtype=np.int32) % 100
    return datasets.Dataset(name, pictures, labels, pictures[:9], labels[:9], tuple(map(str, range(100))))


def everything(tmp_path, *, seeds=2, shorten=1.0, data="cifar100", names=tuple(paper.TABLES), **overrides):
    return study.prepare(
        "all",
        {name: paper.TABLES[name] for name in names},
        paper.FIGURES if len(names) > 1 else (),
        options(tmp_path, **overrides),
        noise(data),
        seeds=seeds,
        shorten=shorten,
    )


def test_all_makes_every_run_once_cheap_nets_first(tmp_path):
    job = everything(tmp_path)
    names = [config.name for config in job.runs]
    assert len(names) == len(set(names)) == 2 * (6 + 12 + 3)
    order = [(config.net.name, config.seed) for config in job.runs]
    assert order == sorted(order, key=lambda run: (paper.NETS.index(run[0]), run[1]))
    assert [config.method.name for config in job.runs[:3]] == ["baseline", "constant", "decreasing"]
    vgg = {config.name for config in job.runs if config.net.name == "vgg19" and config.seed == 0}
    assert {line.configs[0].name for line in job.figures["fig1"]} == vgg
    assert all(len(line.configs) == 1 for lines in job.figures.values() for line in lines)
    assert (
        job.folder.name.startswith("all-cifar100-") and job.folder != everything(tmp_path, seeds=1).folder
    )


def test_shortened_runs_keep_their_milestones_and_say_so(tmp_path):
    first, second, *_ = everything(tmp_path, shorten=0.1).sections
    assert first.title == "Table I: VGG, on cifar100, 10 of 100 epochs (vgg11), 20 of 200 epochs (vgg19)"
    configs = {line.row.net: line.configs[0] for line in first.lines + second.lines}
    assert configs["vgg11"].recipe.milestones == (4, 7, 9)
    assert configs["wrn28-10"].recipe.milestones == (6, 12, 16)
    decays = {net: config.recipe.weight_decay for net, config in configs.items()}
    assert decays == {"vgg11": 0.005, "vgg19": 0.0025, "wrn16-8": 0.005, "wrn28-10": 0.005}
    assert any("weight decay 0.005 instead of 0.0005" in note for note in first.notes)
    (tiny, *_) = everything(tmp_path, shorten=0.001).sections
    assert {line.configs[0].recipe.epochs for line in tiny.lines} == {1}
    assert {line.configs[0].recipe.weight_decay for line in tiny.lines} == {0.01, 0.0025}
    (whole, *_) = everything(tmp_path, data="tinyimagenet100", width=0.25).sections
    assert whole.title == "Table I: VGG, on tinyimagenet100 at 0.25 of the width" and not whole.notes
    half = whole.lines[0].configs[0].having(precision="bf16")
    assert half.net.how == " at 0.25 of the width in bfloat16"


@pytest.mark.parametrize(
    "names, more", [(tuple(paper.TABLES), {}), (["table1"], {"grids": ((128, (64, 2)),)})]
)
def test_the_command_of_a_table_makes_its_runs(names, more, tmp_path, monkeypatch):
    given = dict(width=0.25, lr=0.05, boundary="wrap", sync_bn=True)
    job = everything(tmp_path, shorten=0.1, names=names, **given, **more)
    made = []
    monkeypatch.setattr(Options, "load", lambda self: noise())
    monkeypatch.setattr(reproduce, "_carry_out", lambda job, *_: made.append(job))
    for name, section in zip(names, job.sections, strict=True):
        words = section.command.replace("'", "").split()
        assert words[:4] == ["python", "-m", "experiments.reproduce", name]
        reproduce.main.main(words[3:], standalone_mode=False)
        (same,) = made.pop().sections
        assert section.lines == same.lines


def test_the_command_of_a_part_of_a_table_names_its_nets(tmp_path):
    part = {"table1": paper.TABLES["table1"].of(("vgg19",))}
    job = study.prepare("table1", part, (), options(tmp_path), noise(), seeds=4, shorten=1.0)
    assert job.sections[0].command == (
        "python -m experiments.reproduce table1 --nets vgg19 --data cifar100 --seeds 4"
    )


def test_the_papers_numbers_stand_in_the_table_where_they_belong(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "PUBLISHED", tmp_path)
    for table, words in (("table1", ["69.96", "+0.20"]), ("table3", ["2.1775e-06 / 2.2977 / 3.6854"])):
        for comparable in (True, False):
            lines = [
                study.Line(row, tuple(finished[1][row.variant]), comparable)
                for row in paper.TABLES[table].rows
                if row.variant in finished[1] and row.net == paper.TABLES[table].rows[0].net
            ]
            section = study.Section(paper.TABLES[table], tuple(lines), "command")
            text = tables.markdown(section, frame.rows(section, finished[0]))
            assert all((word in text) == comparable for word in words)
    norms = json.loads((finished[2]["baseline"][0] / SUMMARY).read_text())["first_layer_magnitudes"]
    assert rows(text, "vgg19")["baseline"][:2] == [f"{min(norms):.4g}", f"{max(norms):.4g}"]
    assert rows(text, "vgg19")["baseline"][2] == f"{np.log(norms).std():.4g}"


def test_differences_are_of_the_seeds_that_both_have(finished):
    ours, theirs = (results.read(finished[2][variant][0]) for variant in ("constant", "baseline"))
    found = frame.difference({0: ours, 2: ours, 3: ours}, {0: theirs, 1: theirs, 3: theirs})
    change = ours["test_accuracy"] - theirs["test_accuracy"]
    assert found["seeds"] == [0, 3] and found["each"] == [change, change]
    assert found["mean"] == pytest.approx(change) and found["t_interval"] == pytest.approx((change, change))
    low, high = found["bootstrap_interval"]
    assert low < change < high
    assert results.correct(ours).mean() == pytest.approx(ours["test_accuracy"])
    assert frame.difference({0: ours}, {1: theirs}) is None
    assert frame.difference({1: ours}, {1: theirs})["t_interval"] is None


def test_who_made_a_run_is_kept_with_it(tmp_path, monkeypatch):
    origin.commit.cache_clear()
    for commit in ("aaa", "bbb", "bbb"):
        monkeypatch.setattr(origin, "commit", lambda commit=commit: commit)
        origin.sign(tmp_path)
    (tmp_path / SUMMARY).write_text("{}")
    assert results.read(tmp_path)["commits"] == ["aaa", "bbb"]


def test_commits_are_told_by_seed_where_they_differ():
    assert tables._commits([["aaa"], ["aaa"]]) == "aaa" and tables._commits([None, None]) == "-"
    assert tables._commits([["aaa"], None]) == "aaa; -"
    assert tables._commits([["aaa"], ["bbb", "aaa"], ["aaa"]]) == "aaa; bbb then aaa; aaa"


def test_a_damaged_summary_is_named(finished, tmp_path):
    _, configs, folders = finished
    config, folder = configs["baseline"][0], folders["baseline"][0]
    shutil.copytree(folder, tmp_path / folder.name)
    results.read(tmp_path / folder.name)
    for content in ("", "broken", "[1]"):
        (tmp_path / folder.name / SUMMARY).write_text(content)
        with pytest.raises(click.UsageError, match="summary.json' is damaged .* to finish the run again"):
            results.read(results.find(config, tmp_path))


def test_figures_are_drawn_of_each_variant_beside_the_baseline_and_once(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "_inspect", lambda job, line, *rest: drawn.append((line.row.net, rest)))
    monkeypatch.setattr(results, "PUBLISHED", tmp_path / "results")
    lines = figures.draw(everything(tmp_path), "small")
    assert [(net, rest[1].name, rest[2]) for net, rest in drawn] == [
        ("vgg19", "vgg19-constant", "none"),
        ("vgg19", "vgg19-decreasing", "none"),
        ("vgg11", "vgg11-constant", "small"),
        ("vgg11", "vgg11-decreasing", "small"),
    ]
    assert {rest[0].row.variant for _, rest in drawn} == {"baseline"}
    assert [line for line in lines if "(vgg11-constant/fig3.png)" in line]


def test_a_figure_shows_a_run_beside_its_baseline(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(looking, "look", lambda *given, **options: seen.append((*given, options)))
    job = everything(tmp_path)
    baseline, constant, _ = job.figures["fig2"]
    figures._inspect(job, constant, baseline, tmp_path / "target", "small")
    ((folders, target, data, data_dir, options),) = seen
    names = {"baseline": baseline.configs[0].name, "run": constant.configs[0].name}
    assert list(folders) == list(names) and {name: path.name for name, path in folders.items()} == names
    assert {path.parent for path in folders.values()} == {tmp_path}
    assert (target, data, data_dir, options) == (
        tmp_path / "target",
        "cifar100",
        None,
        {"setting": "small"},
    )


def test_every_part_has_a_command():
    wanted = [*paper.TABLES, *paper.OWN, *paper.FIGURES, "all"]
    assert [command.name for command in reproduce.commands] == wanted
