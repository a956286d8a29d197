"""What the rest of the experiments knows of a network: how it is built, and what its layers are for."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn

# What a convolution is for: it reads the image, it is on the main path, or it is a projection beside that.
ROLES = STEM, MAIN, SHORTCUT = ("stem", "main", "shortcut")
_KERNEL = "/kernel"


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network.

    Args:
      module: Gives it for a number of classes, a factor on its widths, an axis for shared batch statistics (or
        None), and a type to compute in.
      layers: The role of every convolution, one of ``ROLES``, by a pattern of its name; the first that fits counts.
      padding: Of images that are cropped at random: ``constant`` (zeros) or ``reflect``.
      head: The dense layer at the end, whose bias has a weight a class.
      scopes: Which convolutions may be smoothed, as ``where`` of a ConvLayout by name; None is all of them.
    """

    module: Callable[[int, float, str | None, Any], nn.Module]
    layers: Mapping[str, str]
    padding: str
    head: str = "dense"
    scopes: Mapping[str, Callable[[str, Any], bool] | None] = dataclasses.field(
        default_factory=lambda: {"all": None}
    )

    def role(self, path: str) -> str | None:
        """What the layer of a parameter is for; None if it is no convolution."""
        return role(self.layers, path)

    def by_depth(self, paths: Iterable[str]) -> list[str]:
        """The paths of layers in the order of the network."""
        return sorted(paths, key=lambda path: (self.role(path) != STEM, natural(path)))


def role(layers: Mapping[str, str], path: str) -> str | None:
    """What the layer of a parameter is for, by the ``layers`` of an Architecture."""
    name = layer_name(path)
    return next((role for pattern, role in layers.items() if re.fullmatch(pattern, name)), None)


def layer_name(path: str) -> str:
    """What tables and titles call the layer of a kernel.

    Example:
      >>> layer_name("group_0_block_1/conv_0/kernel")
      'group_0_block_1/conv_0'
    """
    return path.removesuffix(_KERNEL)


def kernel_path(name: str) -> str:
    """The path of the kernel of a layer, which may be the kernel's already."""
    return layer_name(name) + _KERNEL


def natural(name: str) -> list[Any]:
    """A sorting key by which ``conv_10`` follows ``conv_9``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.replace("/", "_").split("_")]
