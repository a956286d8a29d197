"""Training in bfloat16: what is rounded, and what is kept in float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import nets
from experiments.config import configure
from experiments.nets.fast_cpu import patches, winograd
from experiments.run.step import PlacedData, Trainer, order
from tests.experiments.run.test_step import pictures

NETS = [("vgg11", 0.0625), ("wrn16-8", 0.03125)]


def types(tree):
    return {leaf.dtype for leaf in jax.tree.leaves(tree)}


def test_a_step_keeps_everything_in_float32(single):
    data = pictures()
    config, _ = configure(data, width=0.0625, batch=16, epochs=2, precision="bf16")
    trainer = Trainer(config, PlacedData(data))
    state, keys = trainer.start(0)
    state = trainer.step(state, keys, order(0, 0, 64, 16)[0])
    assert types((state.params, state.batch_stats)) == {jnp.dtype("float32")}
    assert types(state.opt_state) <= {jnp.dtype("float32"), jnp.dtype("int32")}
    assert state.totals.loss.dtype == jnp.float32
    correct, loss = trainer.evaluate(state)
    assert correct.shape == (21,) and np.isfinite(loss)


@pytest.mark.parametrize("net, width", NETS)
def test_layers_compute_in_bfloat16_and_scores_come_in_float32(net, width):
    module = nets.build(net, 7, width, dtype=jnp.bfloat16)

    def apply(x):
        variables = module.init(jax.random.key(0), x, train=False)
        scores, seen = module.apply(
            variables,
            x,
            train=True,
            mutable=True,
            capture_intermediates=True,
            rngs={"dropout": jax.random.key(1)},
        )
        return variables["params"], seen["batch_stats"], scores, seen["intermediates"]

    params, statistics, scores, seen = jax.eval_shape(apply, jnp.zeros((2, 32, 32, 3)))
    assert types((params, statistics, scores)) == {jnp.dtype("float32")}
    inner = {
        jax.tree_util.keystr(path): leaf.dtype
        for path, leaf in jax.tree_util.tree_leaves_with_path(seen)
        if "dense" not in jax.tree_util.keystr(path) and leaf.ndim == 4
    }
    assert len(inner) > 8 and set(inner.values()) == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("net, width", [NETS[0], pytest.param(*NETS[1], marks=pytest.mark.slow)])
def test_gradients_point_where_those_of_float32_do(net, width, depth):
    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.standard_normal((32, 32, 32, 3)), jnp.float32)
    labels = jnp.asarray(draw.integers(0, 7, 32))
    both = [nets.build(net, 7, width, dtype=dtype) for dtype in (jnp.float32, jnp.bfloat16)]
    variables = jax.jit(lambda: both[0].init(jax.random.key(0), x[:1], train=False))()

    def gradient(module):
        def loss(params):
            scores, _ = module.apply(
                variables | {"params": params},
                x,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(1)},
            )
            return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()

        return jax.jit(jax.grad(loss))(variables["params"])

    exact, rounded = map(gradient, both)
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (exact, rounded))
    assert types(rounded) == {jnp.dtype("float32")} and (a != b).any()
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.99


@pytest.mark.parametrize("convolve", [winograd.convolve, patches.convolve])
def test_sums_of_products_are_in_float32(convolve):
    """Of 333 ones, where bfloat16, of 8 binary digits, counts to 256."""
    options = {} if convolve is winograd.convolve else {"stride": 1}
    x = jnp.ones((1, 4, 4, 333), jnp.bfloat16)
    kernel = jnp.zeros((3, 3, 333, 1)).at[1, 1].set(1)
    out = jax.jit(functools.partial(convolve, **options))(x, kernel)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(out), np.float32(jnp.bfloat16(333)))


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="Unknown precision 'fp8'. Known: float32, bf16"):
        configure(pictures(), batch=16, precision="fp8")
