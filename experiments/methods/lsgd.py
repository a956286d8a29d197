"""A control: Laplacian smoothing of gradients along a line, with no grid of filters."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import optax

from experiments.fields import setting
from experiments.methods.base import Method

if TYPE_CHECKING:
    from experiments.config import Run


@dataclasses.dataclass(frozen=True)
class LSGD(Method):
    """Every parameter's flattened gradient ``g`` becomes ``(I - strength L)^-1 g``.

    ``L`` is the Laplacian of a circle, ``(L g)[i] = g[i - 1] - 2 g[i] + g[i + 1]``, so that by the discrete Fourier
    transform component ``k`` of ``n`` is divided by ``1 + 2 strength (1 - cos(2 pi k / n))``.

    As in the paper's code, every parameter is smoothed on its own, biases and normalisation too, and flattened in
    PyTorch's order: filters, inputs, height, width. Neighbours are then weights of one filter that are neighbours
    in space. In this library's own order, filters last, they would be neighbouring filters.

    Source:
      Osher et al., "Laplacian smoothing gradient descent", arXiv:1806.06317.
    """

    name = "lsgd"
    about = "every gradient smoothed along a line"
    strength: float = setting(
        "With lsgd: factor on the Laplacian, the paper's sigma.", 1.0, key="lsgd_strength"
    )

    def check(self, run: Run) -> None:
        """Raises ``ValueError`` if the factor is negative or not finite."""
        if not 0 <= self.strength < math.inf:
            raise ValueError(f"lsgd_strength must be at least 0 and finite, got {self.strength:g}.")

    def chain(self, run: Run, steps_per_epoch: int) -> optax.GradientTransformation:
        """The smoothing."""
        return optax.stateless_with_tree_map(lambda g, _: _smoothed(g, self.strength))


def _smoothed(g: jax.Array, strength: float) -> jax.Array:
    to_torch = (g.ndim - 1, g.ndim - 2, *range(g.ndim - 2)) if g.ndim > 1 else tuple(range(g.ndim))
    turned = g.transpose(to_torch)
    waves = jnp.fft.rfft(turned.ravel())
    angles = 2 * jnp.pi / g.size * jnp.arange(len(waves))
    line = jnp.fft.irfft(waves / (1 + 2 * strength * (1 - jnp.cos(angles))), g.size)
    back = sorted(range(g.ndim), key=to_torch.__getitem__)
    return line.reshape(turned.shape).transpose(back).astype(g.dtype)
