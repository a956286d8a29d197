"""Networks of few layers under the paper's names, which compile in a moment.

VGG-11 has two convolutions and WRN-16-8 a block in each group: a layer of every kind. In a process of its own:
``python -m tests.experiments.shallow experiments.train --epochs 1``.
"""

import contextlib
import functools
import runpy
import sys
from unittest import mock

from experiments import config, sweep
from experiments.nets import vgg, wrn
from lgnn_jax import _arrange

LAYERS = (64, "M", 64, "M", "M", "M", "M")
# Of images of 8x8, as the digits are, with so many filters that their order on the grid can be measured.
SMALL_IMAGES = ("M", "M", 512, "M", 512, "M", "M")
BLOCKS, WIDENING = 1, 8


@functools.cache
def _known(layers):
    """What is known of these networks by their names alone, as of others elsewhere."""
    whole = {config: "_parameter_shapes", sweep: "forward_multiply_adds"}
    return [(at, name, functools.cache(getattr(at, name).__wrapped__)) for at, name in whole.items()]


@contextlib.contextmanager
def networks(layers=LAYERS):
    """Within it, networks are built shallow, VGG-11 with ``layers``."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(vgg.LAYERS, {"vgg11": layers}))
        stack.enter_context(mock.patch.dict(wrn.SIZES, {"wrn16-8": (BLOCKS, WIDENING)}))
        for at, name, known in _known(layers):
            stack.enter_context(mock.patch.object(at, name, known))
        yield


@contextlib.contextmanager
def short_annealing():
    """Within it, orders are annealed for a while, not until they are as good as can be: slow without LLVM."""
    whole = _arrange._steps
    with mock.patch.object(_arrange, "_steps", lambda units: min(whole(units), 2**9)):
        _arrange._finish.clear_cache()
        yield
    _arrange._finish.clear_cache()


if __name__ == "__main__":
    del sys.argv[0]
    with networks(), short_annealing():
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
