"""The search behind ``arrange``: exchange the best disjoint pairs of units at once, as long as it gains.

With ``A`` the similarity in its present order and ``K`` the neighbourhood between positions, both with 0 on the
diagonal, the objective is ``sum_{p<q} A_pq K_pq``. Exchanging what sits at ``p`` and ``q`` changes it by exactly
``M_pq + M_qp - M_pp - M_qq + 2 A_pq K_pq`` where ``M = A K``. A Gaussian neighbourhood on a grid is a product over
its dimensions, so ``M`` costs a small matrix product a dimension and not one of all units.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lgnn_jax._grid import Grid, distances

_HIGHEST = lax.Precision.HIGHEST


def standardised(matrix: jax.Array, alive: jax.Array) -> jax.Array:
    """Similarities between live units with mean 0 and variance 1, 0 elsewhere and on the diagonal.

    The objective changes by a constant and a factor, and its rounding is that of the differences that count.
    """
    pairs = alive[:, None] & alive[None] & ~jnp.eye(len(matrix), dtype=bool)
    count = jnp.maximum(pairs.sum(dtype=matrix.dtype), 1)
    shifted = jnp.where(pairs, matrix - jnp.where(pairs, matrix, 0).sum() / count, 0)
    std = jnp.sqrt((shifted * shifted).sum() / count)
    return (shifted + shifted.T) / (2 * jnp.where(std > 0, std, 1))


def live_first(order: jax.Array, alive: jax.Array) -> jax.Array:
    """An order with its dead units at the end, ascending, and the others as they were."""
    units = jnp.arange(len(order), dtype=jnp.int32)
    return order[jnp.argsort(jnp.where(alive[order], units, len(order) + order), stable=True)]


def spectral(values: jax.Array, grid: Grid, alive: jax.Array) -> jax.Array:
    """Orders by leading eigenvectors: of the centred similarity, and of a graph of those most alike ``(2, units)``.

    The first sees what varies smoothly over the whole grid, the second (Laplacian eigenmaps) what neighbours alone
    share.
    """
    live = alive.astype(values.dtype)
    count = jnp.maximum(live.sum(), 1)
    rows = values.sum(1) / count
    centred = values - (rows[:, None] + rows[None] - rows.sum() / count) * live[:, None] * live[None]
    graph = jnp.maximum(values, 0) ** 4
    degree = graph.sum(1)
    root = jnp.sqrt(jnp.where(degree > 0, degree, 1))
    graph = graph / (root[:, None] * root[None])
    return jnp.stack(
        [
            placed(_leading(centred), grid, alive),
            placed(_leading(graph)[:, 1:] / root[:, None], grid, alive),
        ]
    )


def _leading(matrix: jax.Array) -> jax.Array:
    """Eigenvectors as columns, that of the largest eigenvalue first, each with a sign of its own."""
    _, vectors = jnp.linalg.eigh(matrix)
    vectors = vectors[:, ::-1]
    largest = jnp.take_along_axis(vectors, jnp.abs(vectors).argmax(0)[None], 0)
    return vectors * jnp.where(largest < 0, -1, 1).astype(vectors.dtype)


def placed(vectors: jax.Array, grid: Grid, alive: jax.Array) -> jax.Array:
    """An order of units by coordinates ``(units, coordinates)``, the longest dimension by the first of them."""
    longest = sorted((d for d, size in enumerate(grid.shape) if size > 1), key=lambda d: -grid.shape[d])
    order, size = jnp.arange(grid.units, dtype=jnp.int32)[None], grid.units
    most = vectors.shape[1] - 1
    for dimension in sorted(longest):
        rank = longest.index(dimension)
        if grid.wrap:
            coordinate = jnp.arctan2(*(vectors[:, min(c, most)] for c in (2 * rank, 2 * rank + 1)))
        else:
            coordinate = vectors[:, min(rank, most)]
        coordinate = jnp.where(alive, coordinate, jnp.inf)
        order = jnp.take_along_axis(order, coordinate[order].argsort(axis=1, stable=True), axis=1)
        size //= grid.shape[dimension]
        order = order.reshape(-1, size)
    return live_first(order.reshape(-1), alive)


class Neighbourhood(NamedTuple):
    """``exp(-d^2 / (2 sigma^2))`` between positions: as a matrix, and as a factor a dimension."""

    matrix: jax.Array
    factors: tuple[jax.Array, ...]

    def times(self, rows: jax.Array) -> jax.Array:
        """The matrix times ``rows`` ``(units, n)``."""
        shape, before = rows.shape, 1
        for factor in self.factors:
            blocks = rows.reshape(before, len(factor), -1)
            rows = jnp.matmul(factor[None], blocks, precision=_HIGHEST)
            before *= len(factor)
        return rows.reshape(shape)


def neighbourhood(grid: Grid, sigma: jax.Array) -> Neighbourhood:
    """The Gaussian neighbourhood on a grid."""
    factors = []
    for size in grid.shape:
        square = jnp.asarray(distances(Grid((size,), grid.wrap)) ** 2, sigma.dtype)
        factors.append(jnp.exp(-square / (2 * sigma * sigma)))
    matrix = jnp.ones((1, 1), sigma.dtype)
    for factor in factors:
        matrix = (matrix[:, None, :, None] * factor[None, :, None, :]).reshape(
            len(matrix) * len(factor), len(matrix) * len(factor)
        )
    return Neighbourhood(matrix, tuple(factors))


def gains(ordered: jax.Array, near: Neighbourhood) -> tuple[jax.Array, jax.Array]:
    """What every exchange would gain ``(units, units)``, and twice each position's share of the objective."""
    product = near.times(ordered)  # With 1 on the neighbourhood's diagonal, so M_pq + A_pq.
    own = jnp.diagonal(product)
    both = product + product.T - (own[:, None] + own[None])
    return both - 2 * ordered * (1 - near.matrix), own


class _State(NamedTuple):
    order: jax.Array  # int32 (units,).
    own: jax.Array  # (units,), shares of the objective.
    partner: jax.Array  # int32 (units,), with whom an exchange would gain most.
    gain: jax.Array  # (units,), how much.
    most: jax.Array  # int32, pairs to exchange at once.
    rounds: jax.Array  # int32.


def descend(
    values: jax.Array, grid: Grid, order: jax.Array, alive: jax.Array, sigma: jax.Array, rounds: jax.Array
) -> jax.Array:
    """Exchanges disjoint pairs at one sigma, the best partners of each other, until none gains.

    Where they gain nothing together, half as many are tried, in the end the best alone.
    """
    near = neighbourhood(grid, sigma)
    units = jnp.arange(grid.units, dtype=jnp.int32)
    lives = units < alive.sum(dtype=jnp.int32)
    allowed = lives[:, None] & lives[None]
    tolerance = 1e-5 * near.matrix.sum(1).max()

    def look(order: jax.Array) -> tuple[jax.Array, ...]:
        gained, own = gains(values[order][:, order], near)
        gained = jnp.where(allowed, gained, -1)
        return own, gained.argmax(1).astype(jnp.int32), gained.max(1)

    def paired(state: _State) -> jax.Array:
        return (state.partner[state.partner] == units) & (state.gain > tolerance)

    def step(state: _State) -> _State:
        pairs = paired(state)
        first = pairs & (units < state.partner)
        rank = jnp.where(first, -state.gain, jnp.inf).argsort().argsort().astype(jnp.int32)
        first &= rank < state.most
        chosen = pairs & (first | first[state.partner])
        order = state.order[jnp.where(chosen, state.partner, units)]
        own, partner, gain = look(order)
        count = first.sum(dtype=jnp.int32)
        accepted = ((own - state.own).sum() > 2 * tolerance) | (count == 1)
        kept = _State(order, own, partner, gain, jnp.full_like(state.most, grid.units), state.rounds + 1)
        less = state._replace(most=count // 2, rounds=state.rounds + 1)
        return jax.tree.map(lambda new, old: jnp.where(accepted, new, old), kept, less)

    def more(state: _State) -> jax.Array:
        return paired(state).any() & (state.rounds < rounds)

    zero = jnp.zeros((), jnp.int32)
    own, partner, gain = look(order)
    return lax.while_loop(more, step, _State(order, own, partner, gain, zero + grid.units, zero)).order


def objective(values: jax.Array, grid: Grid, order: jax.Array, sigma: float = 1.0) -> jax.Array:
    """What ``descend`` raises."""
    near = neighbourhood(grid, jnp.asarray(sigma, values.dtype))
    return (values[order][:, order] * near.matrix).sum() / 2
