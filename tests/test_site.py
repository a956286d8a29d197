"""How the site is made of the repository's pages and docstrings."""

import importlib.util
import json
import types

import pytest

from tests.pages import ROOT


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "_tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def led(markdown, place, repo_url=""):
    """A page's text, its links led to where they go on the site."""
    pytest.importorskip("mkdocs")
    kept = types.SimpleNamespace(is_included=lambda: True)
    files = [
        types.SimpleNamespace(src_uri=uri, inclusion=kept)
        for uri in (
            "index.md",
            "results.md",
            "atlas.jpg",
            "experiments.md",
            "api/core.md",
            "notebooks/quickstart.md",
        )
    ]
    page = types.SimpleNamespace(file=types.SimpleNamespace(src_uri=place))
    config = types.SimpleNamespace(repo_url=repo_url)
    return tool("pages").on_page_markdown(markdown, page, config, files)


@pytest.mark.parametrize(
    "place, link, there",
    [
        ("index.md", "docs/results.md#the-digits", "results.md#the-digits"),
        ("index.md", "docs/atlas.jpg", "atlas.jpg"),
        ("experiments.md", "../README.md", "index.md"),
        ("experiments.md", "../docs/results.md", "results.md"),
        ("results.md", "../experiments/README.md#tpu", "experiments.md#tpu"),
        ("results.md", "#here", "#here"),
        ("results.md", "https://arxiv.org/abs/2007.06131", "https://arxiv.org/abs/2007.06131"),
        ("results.md", "nowhere.md", "nowhere.md"),  # Of which the build says so.
        ("api/core.md", "../results.md", "../results.md"),
        ("notebooks/quickstart.md", "../results.md", "../results.md"),
        ("index.md", "docs/notebooks/quickstart.ipynb", "notebooks/quickstart.md"),
    ],
)
def test_links_of_the_repository_lead_to_pages_of_the_site(place, link, there):
    assert led(f"See [`this` and\nthat]({link}).", place) == f"See [`this` and\nthat]({there})."
    assert led(f"[![alt]({link})]({link})", place) == f"[![alt]({there})]({there})"
    assert led(f"```\n[a]({link})\n```", place) == f"```\n[a]({link})\n```"


def test_a_file_that_is_no_page_is_linked_where_the_repository_is_known():
    assert led("Licence: [Apache-2.0](LICENSE).", "index.md") == "Licence: Apache-2.0."
    known = led("[Apache-2.0](LICENSE)", "index.md", "https://example.org/us/lgnn_jax/")
    assert known == "[Apache-2.0](https://example.org/us/lgnn_jax/blob/main/LICENSE)"


def test_notebooks_open_in_colab_where_the_repository_is_known():
    link = led("# Quickstart", "notebooks/quickstart.md", "https://github.com/us/lgnn_jax")
    assert "colab.research.google.com/github/us/lgnn_jax/blob/main/docs/notebooks/quickstart.ipynb" in link
    assert led("# Quickstart", "notebooks/quickstart.md") == "# Quickstart"


def test_a_notebook_becomes_a_page_with_images():
    pytest.importorskip("mkdocs")
    file = ROOT / "docs" / "notebooks" / "quickstart.ipynb"
    text, images = tool("pages").converted(file)
    code = [cell for cell in json.loads(file.read_text())["cells"] if cell["cell_type"] == "code"]
    assert text.startswith("# Quickstart\n") and text.count("```python\n") == len(code)
    assert "```text\ntest accuracy" in text and "](quickstart_0.png)" in text
    assert [data[:4] for data in images.values()] == [b"\x89PNG"]


def test_docstrings_get_links_and_sections():
    pytest.importorskip("griffe")
    docstrings = tool("docstrings")
    told = docstrings.rewritten(
        "A :func:`lgnn`.\n\nExample:\n  >>> 1\n  1\n\nSource:\n  Tan,\n  2020.\n", "lgnn_jax._x"
    )
    assert told.split() == "A [`lgnn`][lgnn_jax.lgnn]. Examples: >>> 1 1 **Source:** Tan, 2020.".split()
    assert docstrings.target("Layer", "lgnn_jax._layout.ConvLayout") == "lgnn_jax.Layer"
    assert (
        docstrings.target("Layer", "lgnn_jax.inspect.atlas._page.write") == "lgnn_jax.inspect.atlas.Layer"
    )
    assert docstrings.target("_private", "lgnn_jax._x") is None
    assert docstrings.target("lgnn_jax._stencils", "lgnn_jax._x") is None
