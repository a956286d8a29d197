"""Every Markdown page: its links lead somewhere, its code runs and prints what it says, its lines are short."""

import hashlib
import importlib
import json
import re

import jax
import numpy as np
import pytest

from lgnn_jax import topography
from tests.pages import PAGES, ROOT, anchors, blocks, is_file, links, name, prose, run

LONG = {"CHANGELOG.md"}  # Sentences of its own time.
ALL = pytest.mark.parametrize("page", PAGES, ids=name)
# Run by tests that say more of them.
ELSEWHERE = {f"docs/{page}.md" for page in ("recipes", "arrange", "add_a_metric", "any_network")} | {
    "README.md"
}
WITH_CODE = [
    page
    for page in PAGES
    if name(page) not in ELSEWHERE
    and any(block.language == "python" and not is_file(block) for block in blocks(page))
]
MODULES = ["", ".topography", ".losses", ".som", ".inspect", ".inspect.plots", ".inspect.atlas"]


@ALL
def test_links_lead_somewhere(page):
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@ALL
def test_lines_are_short(page):
    """Of at most 100 columns, but for what cannot be broken: tables, images and the README's two commands."""
    commands = ("python3 -m venv",) if name(page) == "README.md" else ()
    long = [
        line
        for line in page.read_text().splitlines()
        if len(line) > 100 and not line.lstrip().startswith(("|", "![", "- [![", *commands))
    ]
    assert not long


@pytest.mark.parametrize("page", [page for page in PAGES if name(page) not in LONG], ids=name)
def test_sentences_are_short(page):
    """Of at most 25 words, where code counts as one and a colon or semicolon ends a sentence."""
    text = re.sub(r"`[^`]*`", "code", re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", prose(page)))
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*[-*] |\d+\. |[|#])", text):
        if not paragraph.lstrip().startswith(("|", "#", "!", ":::")):
            for sentence in re.split(r"(?<=[.:;?!])\*{0,2}\s+", paragraph):
                assert len(re.findall(r"\w\S*", sentence)) <= 25, sentence


@ALL
def test_images_say_what_they_show(page):
    for text in re.findall(r"!\[([^\]]*)\]\(", prose(page)):
        assert len(text.split()) >= 5, text


@pytest.mark.parametrize("page", WITH_CODE, ids=name)
def test_code_runs_and_prints_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(page)


@pytest.mark.slow
def test_a_network_in_order_is_the_same_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    both = []

    def compare(number, found):
        if number == 1:
            both.extend(found["net"].apply(found[key], found["images"]) for key in ("variables", "ordered"))

    found = run(ROOT / "docs" / "arrange.md", compare)
    before, after = both
    np.testing.assert_allclose(before, after, atol=1e-4)
    assert (np.asarray(before).argmax(-1) == found["labels"]).mean() > 0.9
    assert (tmp_path / "preferred.png").stat().st_size > 10_000
    native, moved = (
        topography.neighbour_cosine(found[key].similarity, found["grid"], key=jax.random.key(0))
        for key in ("native", "moved")
    )
    assert moved.value > native.high and moved.p < 0.01  # On images that the order was not fitted on.
    assert found["score"].value > found["score"].high


def test_the_api_has_every_public_name_once():
    told = [line for page in PAGES for line in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)]
    names = []
    for module in (f"lgnn_jax{suffix}" for suffix in MODULES):
        names += [f"{module}.{each}" for each in importlib.import_module(module).__all__]
    modules = {f"lgnn_jax{suffix}" for suffix in MODULES}
    assert sorted(told) == sorted(set(names) - modules)


def cells(text):
    """The cells of a source in the percent format: whether they are code, and their text."""
    for head, body in re.findall(r"^# %%([^\n]*)\n(.*?)(?=^# %%|\Z)", text, re.DOTALL | re.MULTILINE):
        is_code = "[markdown]" not in head
        commented = "^# (?=%)" if is_code else "^# ?"  # Magic commands, and all of the prose.
        yield is_code, re.sub(commented, "", body, flags=re.MULTILINE).strip("\n")


@pytest.mark.parametrize("source", sorted(ROOT.glob("docs/notebooks/*.py")), ids=lambda source: source.stem)
def test_a_notebook_was_executed_as_it_stands(source):
    """Else: ``python docs/_tools/notebooks.py``, which runs those that changed."""
    file = source.with_suffix(".ipynb")
    notebook = json.loads(file.read_text())
    assert notebook["metadata"]["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    held = [(cell["cell_type"] == "code", "".join(cell["source"])) for cell in notebook["cells"]]
    assert held == list(cells(source.read_text()))
    outputs = [each for cell in notebook["cells"] for each in cell.get("outputs", [])]
    assert outputs and not any(each["output_type"] == "error" for each in outputs)
    assert file.stat().st_size < 200_000
    for cell in notebook["cells"]:
        drawn = any("image/png" in each.get("data", {}) for each in cell.get("outputs", []))
        assert not drawn or len(cell["metadata"].get("alt", "").split()) >= 5


def test_every_notebook_is_in_the_index_and_the_navigation():
    index, site = ((ROOT / file).read_text() for file in ("docs/notebooks/index.md", "mkdocs.yml"))
    for source in ROOT.glob("docs/notebooks/*.py"):
        assert f"({source.stem}.ipynb)" in index and f"- notebooks/{source.stem}.md\n" in site


def test_the_table_of_metrics_has_them_all():
    rows = re.findall(
        r"^\| `(.*?)` +\| (\w+) +\| (.*?) +\|$", (ROOT / "docs/api/topography.md").read_text(), re.M
    )
    assert rows == [(key, metric.kind, metric.meaning) for key, metric in topography.METRICS.items()]


def test_the_readme_fits():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
