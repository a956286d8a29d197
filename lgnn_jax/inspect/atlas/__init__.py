"""A trained network as one self-contained HTML page, for people who do not read code.

:func:`write` makes it of networks and images in one call, :func:`write_page` of what was computed before. The
page is data, described in ``docs/atlas.md``, with the scripts and style sheet of ``web``. It asks the
network for nothing, and its Content-Security-Policy forbids it to.
"""

from lgnn_jax.inspect.atlas._model import Layer, Shown, layer
from lgnn_jax.inspect.atlas._page import FORMAT, VERSION, write_page
from lgnn_jax.inspect.atlas._write import write

__all__ = ["FORMAT", "VERSION", "Layer", "Shown", "layer", "write", "write_page"]
