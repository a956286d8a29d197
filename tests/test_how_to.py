"""What docs/add_a_*.md say, done to a copy of the checkout, works; the commands are the pages' own."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PAGES = {name: ROOT / "docs" / f"add_a_{name}.md" for name in ("method", "network", "data_set", "metric")}


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def follow(page, root):
    """Writes a page's file and changes its registry; returns the code that tries it out."""
    tried = []
    for code in blocks(page, "python"):
        file = re.match(r"# (\S+\.py)\n", code)
        if file is None:
            tried.append(code)
            continue
        assert not (root / file[1]).exists()
        (root / file[1]).write_text(code[file.end() :])
    for change in blocks(page, "diff"):
        head, *lines = change.splitlines()
        file = root / head.removeprefix(" # ")
        old = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
        new = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
        text = file.read_text()
        assert text.count(old) == 1, (file, old)
        file.write_text(text.replace(old, new))
    return tried


def python(root, *arguments):
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    environment["PYTHONPATH"] = str(root)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """A copy in which all pages were followed, and what they try out."""
    root = tmp_path_factory.mktemp("checkout")
    for package in ("lgnn_jax", "experiments"):
        ignored = shutil.ignore_patterns("results", "__pycache__")
        shutil.copytree(ROOT / package, root / package, ignore=ignored)
    return root, {name: follow(page, root) for name, page in PAGES.items()}


def trained(root, command):
    """The folder of the run that a command makes, and the last line of its log."""
    folder = root / python(root, *command.split()[1:]).splitlines()[-1]
    return folder, json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])


def test_a_method_has_its_option(changed):
    shown = python(changed[0], "-m", "experiments.train", "--help")
    assert "--strength" in shown and "Factor on the mean activation." in shown


@pytest.mark.slow
def test_the_network_trains_with_the_method_on_the_data_set(changed):
    options = (
        "--net small --width 0.25 --variant sparse --strength 0.05 --data stripes --batch 32 --epochs 1"
    )
    folder, line = trained(changed[0], f"python -m experiments.train {options}")
    assert folder.name.startswith("stripes-small-w0.25-sparse-s0-") and line["step"] == 8
    assert line["strength"] == json.loads((folder / "config.json").read_text())["strength"] == 0.05
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["grids"] == {"conv_0/kernel": [4, 2], "conv_1/kernel": [4, 4]}


@pytest.mark.slow
@pytest.mark.parametrize("name, steps", [("method", 44), ("network", 44), ("data_set", 8)])
def test_the_command_of_a_page_trains(changed, name, steps):
    (command,) = blocks(PAGES[name], "bash")
    _, line = trained(changed[0], command)
    assert line["step"] == steps


def test_a_metric_has_a_null_and_is_that_of_a_loop(changed):
    root, tried = changed
    (code,) = tried["metric"]
    loop = """
s, near = topography.cosines(kernel), 0
for unit in range(64):
    best = max((other for other in range(64) if other != unit), key=lambda other: float(s[unit, other]))
    near += abs(unit // 8 - best // 8) + abs(unit % 8 - best % 8) == 1
assert abs(found.value - near / 64) < 1e-6 and len(found.samples) == 1000, (found, near)
"""
    assert python(root, "-c", code + loop) == "True\n"


@pytest.mark.parametrize("page", [*PAGES.values(), ROOT / "CONTRIBUTING.md"], ids=lambda page: page.stem)
def test_pages_are_short_and_their_links_lead_somewhere(page):
    lines = page.read_text().splitlines()
    code = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    assert len(lines) <= 90 and max(map(len, lines)) <= 100
    for link in re.findall(r"\]\(([^)#]+)", code):
        assert (page.parent / link).exists(), link
