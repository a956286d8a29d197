"""Guards: a collapsed or dead layer scores as perfect topography, and these say that it is one."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lgnn_jax.grid import Grid
from lgnn_jax.topography.rows import centred, filters


class DeadShare(NamedTuple):
    """Share of dead filters, and how many are exactly zero or nearly so; see :func:`dead_share`."""

    value: float
    zero: int
    nearly_zero: int


def dead_share(
    kernel: jax.typing.ArrayLike, grid: Grid, *, centre: bool = False, threshold: float = 1e-3
) -> DeadShare:
    """Share of filters with ``|w_i| == 0`` or ``|w_i| < threshold * median |w|``.

    ``|w|`` is the L2 norm and the median runs over all filters. Where more than half of them have died, the
    median has died too: then only zeros are found, or filters far below the dead.

    Args:
      kernel: Weights, with the filters on ``grid.axis``; or responses ``(images, units)``.
      grid: The layer's grid.
      centre: Whether to subtract each filter's mean first: of responses, a constant unit is a dead one.
      threshold: Share of the median below which a filter counts as nearly zero, between 0 and 1.

    Returns:
      A :class:`DeadShare`: the share of both kinds together, and the number of each. It does not depend
      on where filters sit, so it has no permutation null.

    Raises:
      ValueError: If the kernel does not fit the grid or holds NaN or infinities; if ``threshold`` is not
        between 0 and 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import Grid, topography
      >>> topography.dead_share(jnp.array([[1.0, 2.0, 0.0, 1e-6]]), Grid((2, 2)))
      DeadShare(value=0.5, zero=1, nearly_zero=1)
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is a share of the median, between 0 and 1, got {threshold!r}.")
    rows = filters(kernel, grid)
    found = np.asarray(centred(rows) if centre else rows, np.float64)
    if not np.isfinite(found).all():
        raise ValueError("kernel holds NaN or infinite values; give finite ones.")
    size = np.linalg.norm(found, axis=1)
    zero = int((size == 0).sum())
    nearly = int(((size > 0) & (size < threshold * np.median(size))).sum())
    return DeadShare((zero + nearly) / grid.units, zero, nearly)


def effective_dimension(responses: jax.typing.ArrayLike) -> float:
    """Participation ratio of the responses' PCA: ``sum(lambda)**2 / sum(lambda**2)``.

    ``lambda`` are the eigenvalues of the units' covariance. Identical units have 1; units that vary
    independently and equally have as many as there are units.

    Args:
      responses: ``(images, units)``, at least two images.

    Returns:
      A number between 1 and ``min(images - 1, units)``. It does not depend on where units sit, so it has no
      permutation null.

    Raises:
      ValueError: If the responses are not ``(images, units)`` of two images or more, hold NaN or
        infinities, or no unit varies.

    Example:
      >>> import jax.numpy as jnp
      >>> from lgnn_jax import topography
      >>> topography.effective_dimension(jnp.array([[1.0, 1.0], [-1.0, -1.0], [2.0, 2.0]]))
      1.0

    Source:
      Gao et al., "A theory of multineuronal dimensionality, dynamics and measurement", 2017.
    """
    responses = jnp.asarray(responses)
    if responses.ndim != 2 or responses.shape[0] < 2 or not responses.shape[1]:
        raise ValueError(f"responses must be (images, units), two images or more, got {responses.shape}.")
    rows = responses.T.astype(jnp.promote_types(responses.dtype, jnp.float32))
    finite, total, squares = (float(number) for number in jax.device_get(_moments(rows)))
    if not finite:
        raise ValueError("responses hold NaN or infinities; their dimension is not defined.")
    if not total > 0:
        raise ValueError(
            "No unit's responses vary over the images, so they have no dimension: wanted at least one "
            "that does."
        )
    return total**2 / squares


@jax.jit
def _moments(rows: jax.Array):
    """Whether all is finite, and the sums of the covariance's eigenvalues and of their squares, both scaled."""
    finite = jnp.isfinite(rows).all()
    rows = centred(rows)
    largest = jnp.abs(rows).max()
    rows = rows / jnp.where(largest > 0, largest, 1)
    rows = (
        rows if rows.shape[0] <= rows.shape[1] else rows.T
    )  # The smaller of two with the same eigenvalues.
    gram = jnp.matmul(rows, rows.T, precision=lax.Precision.HIGHEST)
    total = jnp.trace(gram)
    gram = gram / jnp.where(total > 0, total, 1)
    return finite, jnp.trace(gram), (gram * gram).sum()
