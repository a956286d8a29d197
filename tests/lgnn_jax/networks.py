"""Small networks with random parameters, and whether a permutation of their units leaves what they compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lgnn_jax import reorder, ties


@pytest.fixture
def ranks_as_others_have_them():
    """Networks of others add biases as they are; the tests' own strictness is not for them."""
    with jax.numpy_rank_promotion("allow"):
        yield


def random_like(tree, seed=0):
    """Normal values in place of all floating ones, positive where variances need it; NumPy's, to compile less."""
    generator = np.random.default_rng(seed)

    def draw(x):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return x
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return np.zeros(x.shape, x.dtype)
        values = generator.normal(size=x.shape) / max(1, np.prod(x.shape[:-1])) ** 0.5
        return np.asarray(np.abs(values) + 0.5 if x.ndim == 1 else values, x.dtype)

    return jax.tree.map(draw, tree)


def params(seed=0, **shapes):
    """Random arrays by name, for networks of a few lines."""
    return random_like({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, seed)


def permutations(found, seed=0):
    """A random order of every group, none of which leaves a unit where it is."""
    generator, orders = np.random.default_rng(seed), {}
    for group in found.groups:
        member, by = group.members[0], generator.integers(1, group.units)
        cycle = generator.permutation(group.units)
        order = np.empty(group.units, int)
        order[cycle] = np.roll(cycle, by)
        orders[member.path, member.axis] = order
    return orders


def change(apply, old, new, *inputs):
    """The largest difference of outputs, as a part of the largest output."""
    with jax.default_matmul_precision("highest"):
        before, after = (jax.jit(apply)(tree, *inputs) for tree in (old, new))
    worst = 0.0
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert np.isfinite(a).all() and np.abs(a).max() > 0
        worst = max(worst, np.abs(a - b).max() / np.abs(a).max())
    return worst


def check(apply, tree, *inputs, groups, tolerance=2e-6):
    """The ties of a network, of so many groups; random orders of all of them must not change its outputs."""
    found = ties(apply, tree, *inputs)
    assert len(found.groups) == groups, found.describe()
    new = reorder(tree, found, permutations(found), check=False)
    moved = {member.path for group in found.groups for member in group.members}
    differ = jax.tree.map(lambda a, b: bool((a != b).any()), tree, new)
    assert sum(jax.tree.leaves(differ)) == len(moved)
    assert change(apply, tree, new, *inputs) < tolerance
    return found


def shape(found):
    """The members of every group, without the units."""
    return [{(m.path, m.axis, m.before, m.after) for m in group.members} for group in found.groups]
