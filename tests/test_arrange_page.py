"""The blocks of docs/arrange.md run one after another, and a network in order is the same network."""

import pathlib
import re

import jax
import numpy as np
import pytest

from lgnn_jax import topography

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "arrange.md"


@pytest.mark.slow
def test_the_page_puts_a_trained_network_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    found = {"__name__": "page"}
    with jax.numpy_rank_promotion("allow"):
        for number, block in enumerate(blocks):
            exec(compile(block, f"{PAGE} block {number}", "exec"), found)
            if number == 1:
                net, images = found["net"], found["images"]
                before, after = (net.apply(found[name], images) for name in ("variables", "ordered"))
    np.testing.assert_allclose(before, after, atol=1e-4)
    assert (np.asarray(before).argmax(-1) == found["labels"]).mean() > 0.9
    assert (tmp_path / "preferred.png").stat().st_size > 10_000
    native, moved = (
        topography.neighbour_cosine(found[name].similarity, found["grid"], key=jax.random.key(0))
        for name in ("native", "moved")
    )
    assert moved.value > native.high and moved.p < 0.01  # On images that the order was not fitted on.
    assert found["score"].value > found["score"].high
