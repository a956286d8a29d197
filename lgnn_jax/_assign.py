"""The wide stage of ``arrange``: all units are assigned to positions anew, for neighbourhoods that narrow.

With ``A`` the similarity, ``P`` a permutation and ``K`` the neighbourhood, the objective is half of
``tr(A P K P')``. A similarity and a Gaussian have no negative eigenvalues (but for what their diagonals were less),
so it lies above its tangent, and the best assignment under the tangent ``A P K`` does not lower it. Assignments are
SciPy's, on the host.
"""

from __future__ import annotations

import numpy as np

from lgnn_jax._grid import Grid, distances

_ASSIGNMENTS = 40
_FEWEST = 2
_WORK = (
    1.7e9  # units ** 3 of all assignments, about: a second. Those of 2,048 units take five seconds each.
)


def assign(values: np.ndarray, alive: np.ndarray, starts: np.ndarray, grid: Grid) -> np.ndarray:
    """Orders ``(starts, units)`` after assignments at sigmas from a quarter of the grid to one step.

    Args:
      values: Standardised similarities ``(units, units)``, 0 on the diagonal and for dead units.
      alive: Booleans ``(units,)``.
      starts: Orders ``(starts, units)``, the live units first.
      grid: The grid.
    """
    from scipy.optimize import linear_sum_assignment  # Half as long to import as jax.

    values = np.asarray(values, np.float32)
    chosen = np.flatnonzero(np.asarray(alive))
    live = len(chosen)
    count = int(min(_ASSIGNMENTS, max(_FEWEST, _WORK // max(1, live) ** 3)))
    orders = np.array(starts, np.int32)
    for sigma in np.geomspace(max(1.0, max(grid.shape) / 4), 1.0, count):
        factors = [
            np.exp(-(distances(Grid((size,), grid.wrap)) ** 2) / (2 * sigma**2)).astype(np.float32)
            for size in grid.shape
        ]
        for order in orders:
            pull = values[order]
            for axis, factor in enumerate(factors):
                shaped = pull.reshape(*grid.shape, -1)
                pull = np.moveaxis(np.tensordot(factor, shaped, (1, axis)), 0, axis)
            pull = pull.reshape(grid.units, -1)[:live]  # By position, then by unit.
            _, units = linear_sum_assignment(pull[:, chosen], maximize=True)
            order[:live] = chosen[units]
    return orders
