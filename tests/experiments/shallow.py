"""Networks of few layers under the paper's names, which compile in a moment.

VGG-11 has two convolutions and WRN-16-8 a block in each group: a layer of every kind. In a process of its own:
``python -m tests.experiments.shallow experiments.train --epochs 1``.
"""

import contextlib
import runpy
import sys
from unittest import mock

from experiments import config
from experiments.nets import vgg, wrn

LAYERS = (64, "M", 64, "M", "M", "M", "M")
BLOCKS, WIDENING = 1, 8


@contextlib.contextmanager
def networks():
    """Within it, networks are built shallow."""
    config._parameter_shapes.cache_clear()
    with (
        mock.patch.dict(vgg.LAYERS, {"vgg11": LAYERS}),
        mock.patch.dict(wrn.SIZES, {"wrn16-8": (BLOCKS, WIDENING)}),
    ):
        yield
    config._parameter_shapes.cache_clear()


if __name__ == "__main__":
    del sys.argv[0]
    with networks():
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
