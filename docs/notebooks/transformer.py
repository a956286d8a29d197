# %% [markdown]
# # The MLP layers of a small transformer
#
# Grids are not for convolutions alone. Here the hidden units of a transformer's MLPs lie on grids
# of 8x8. `paths` names their kernels; nothing else changes.

# %%
# %matplotlib inline
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

from lgnn_jax import ConvLayout, lgnn, reorder, ties, topography
from lgnn_jax.inspect import accumulate, plots

digits = load_digits()
images = jnp.asarray(digits.images / 16, jnp.float32)
labels = jnp.asarray(digits.target)
train, test = slice(0, 1200), slice(1200, None)


class Block(nnx.Module):
    def __init__(self, width, hidden, rngs):
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])
        self.attention = nnx.MultiHeadAttention(4, width, decode=False, rngs=rngs)
        self.up, self.down = (nnx.Linear(*shape, rngs=rngs) for shape in ((width, hidden), (hidden, width)))

    def hidden(self, x):
        """The residual stream after attention, and the MLP's hidden units."""
        x = x + self.attention(self.norms[0](x))
        return x, nnx.gelu(self.up(self.norms[1](x)))

    def __call__(self, x):
        x, units = self.hidden(x)
        return x + self.down(units)


class Transformer(nnx.Module):
    """Sixteen tokens, patches of 2x2 pixels."""

    def __init__(self, rngs, width=32, hidden=64):
        self.embed = nnx.Linear(4, width, rngs=rngs)
        self.place = nnx.Param(0.02 * jax.random.normal(rngs.params(), (16, width)))
        self.blocks = nnx.List([Block(width, hidden, rngs) for _ in range(2)])
        self.head = nnx.Linear(width, 10, rngs=rngs)

    def tokens(self, x):
        x = x.reshape(-1, 4, 2, 4, 2).swapaxes(2, 3).reshape(-1, 16, 4)
        return self.embed(x) + self.place[...]

    def __call__(self, x):
        x = self.tokens(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


# %% [markdown]
# ## A layout of one's own
#
# `describe` shows what was laid out. Attention, embeddings and the head pass through.

# %%
net = Transformer(nnx.Rngs(0))
layout = ConvLayout(paths={f"blocks/{i}/up/kernel": (8, 8) for i in range(2)})
table = layout.describe(nnx.state(net, nnx.Param)).splitlines()
print("\n".join(line for line in table if "/up/" in line or "/down/" in line))

# %% [markdown]
# ## Train it twice

# %%


def loss(net, batch):
    logits = net(images[batch])
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels[batch]).mean()


@nnx.jit
def step(net, optimizer, batch):
    optimizer.update(net, nnx.grad(loss)(net, batch))


def trained(chain):
    net = Transformer(nnx.Rngs(0))
    tx = optax.chain(chain, optax.adamw(3e-3, weight_decay=0.1))
    optimizer = nnx.Optimizer(net, tx, wrt=nnx.Param)
    for batch in np.random.default_rng(0).integers(0, 1200, (600, 64)):
        step(net, optimizer, batch)
    return net


nets = {"baseline": trained(optax.identity()), "lgnn": trained(lgnn(0.8, layout=layout))}
layers = layout.layers(nnx.state(net, nnx.Param))
grid = layers[0].grid

# %% [markdown]
# ## What happened to the weights
#
# `lgnn` orders the weights into the hidden units. The baseline's are as ordered as chance.

# %%
for name, each in nets.items():
    accuracy = (each(images[test]).argmax(-1) == labels[test]).mean()
    print(f"{name}: test accuracy {accuracy:.1%}")
    for i, block in enumerate(each.blocks):
        cosines = topography.cosines(block.up.kernel[...])
        score = topography.neighbour_cosine(cosines, grid, key=jax.random.key(0))
        chance = f"{score.low:.2f} to {score.high:.2f}"
        print(f"  block {i}: neighbour cosine {score.value:.2f}, by chance {chance}")

# %% [markdown]
# ## Arrange by responses
#
# A function that gives hidden units is all that `accumulate` wants; tokens count as places. `ties`
# finds what must be permuted together: the kernel and bias of `up`, and what reads them, `down`.


# %%
def responses(net):
    graph, state = nnx.split(net)

    @jax.jit
    def hidden(images):
        net = nnx.merge(graph, state)
        x, found = net.tokens(images), {}
        for i, block in enumerate(net.blocks):
            found[f"block {i}"] = block.hidden(x)[1]
            x = block(x)
        return found

    return hidden


def arranged(net):
    graph, state = nnx.split(net)
    seen = accumulate(responses(net), images[train], labels[train], classes=10)
    tied = ties(lambda state, x: nnx.merge(graph, state)(x), state, images[:2])
    alike = {layer.path: seen[f"block {i}"].similarity for i, layer in enumerate(layers)}
    return nnx.merge(graph, reorder(state, tied, tied.orders(alike, layers)))


ordered = arranged(nets["lgnn"])
same = jnp.allclose(ordered(images), nets["lgnn"](images), atol=1e-4)
print(f"the same outputs: {same}")

# %% alt="The digit that each hidden unit of the second block prefers, on an 8x8 grid: the baseline scattered, lgnn in small regions, arranged in a few large ones"
t = {}
for name, each in {**nets, "lgnn, arranged": ordered}.items():
    seen = accumulate(responses(each), images[test], labels[test], classes=10)["block 1"]
    t[name] = seen.selectivity(constant="nan")
figure, _ = plots.preferred_classes({"block 1": t}, dict.fromkeys(t, grid), "0123456789")
figure
