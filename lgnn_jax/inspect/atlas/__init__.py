"""A trained network as one self-contained HTML page, for people who do not read code.

The page is data, described in ``docs/atlas.md``, with the scripts and style sheet of ``web``. It asks the
network for nothing, and its Content-Security-Policy forbids it to.
"""

from lgnn_jax.inspect.atlas._model import Layer, Network, layer
from lgnn_jax.inspect.atlas._page import FORMAT, VERSION, write

__all__ = ["FORMAT", "VERSION", "Layer", "Network", "layer", "write"]
