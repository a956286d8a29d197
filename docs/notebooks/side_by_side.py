# %% [markdown]
# # LGNN, arranging and TopoLoss side by side
#
# Three ways to order a layer, on the same digits, start and batches: smoothed gradients, an order
# found afterwards, and a term of the loss. One seed and small images: read the order, not the
# accuracy.

# %%
# %matplotlib inline
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

from lgnn_jax import ConvLayout, lgnn, losses, reorder, ties, topography
from lgnn_jax.inspect import accumulate, nnx_responses, plots

digits = load_digits()
images = jnp.asarray(digits.images[..., None] / 16, jnp.float32)
labels = jnp.asarray(digits.target)
train, test = slice(0, 1200), slice(1200, None)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(1, 32, (3, 3), rngs=rngs)
        self.second = nnx.Conv(32, 64, (3, 3), strides=2, rngs=rngs)
        self.head = nnx.Linear(4 * 4 * 64, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.second(nnx.relu(self.first(x))))
        return self.head(x.reshape(len(x), -1))


layers = ConvLayout().layers(nnx.state(Net(nnx.Rngs(0)), nnx.Param))
print(*(f"{layer.path}: {layer.grid.size}" for layer in layers), sep="\n")

# %% [markdown]
# ## Train
#
# `strength` is TopoLoss's factor on its term. `chain` is what comes before the optimizer.


# %%
def trained(chain, strength=0.0):
    def loss(net, batch):
        logits = net(images[batch])
        task = optax.softmax_cross_entropy_with_integer_labels(logits, labels[batch]).mean()
        terms = [
            losses.topoloss(conv.kernel[...], layer.grid)
            for conv, layer in zip((net.first, net.second), layers, strict=True)
        ]
        return task + strength * sum(terms)

    @nnx.jit
    def step(net, optimizer, batch):
        optimizer.update(net, nnx.grad(loss)(net, batch))

    net = Net(nnx.Rngs(0))
    tx = optax.chain(chain, optax.adamw(3e-3, weight_decay=0.3))
    optimizer = nnx.Optimizer(net, tx, wrt=nnx.Param)
    for batch in np.random.default_rng(0).integers(0, 1200, (600, 64)):
        step(net, optimizer, batch)
    return net


nets = {
    "baseline": trained(optax.identity()),
    "LGNN 0.8": trained(lgnn(0.8)),
    "TopoLoss 0.3": trained(optax.identity(), strength=0.3),
}

# %% [markdown]
# ## Arrange
#
# Every network also gets an order by its responses to training images. Its outputs stay.


# %%
def arranged(net):
    graph, state = nnx.split(net)
    seen = accumulate(nnx_responses(net), images[train], labels[train], classes=10)
    tied = ties(lambda state, x: nnx.merge(graph, state)(x), state, images[:2])
    alike = {layer.path: seen[layer.path.removesuffix("/kernel")].similarity for layer in layers}
    return nnx.merge(graph, reorder(state, tied, tied.orders(alike, layers)))


everything = {}
for name, net in nets.items():
    everything[name] = net
    everything[f"{name}, arranged"] = arranged(net)

# %% [markdown]
# ## Measure, on test images
#
# Of the last layer: the neighbour cosine of weights, the neighbour correlation of responses, and
# the effective dimension of responses. The last is a guard: identical units would score as perfect
# order, and have a dimension of 1. In brackets is z: stds above relabellings at random.

# %%
grid, columns, t = layers[1].grid, ("as trained", "arranged"), {name: {} for name in nets}
print(f"{'':22} accuracy  weights     responses   dimension")
for title, net in everything.items():
    name, _, order = title.partition(", ")
    accuracy = (net(images[test]).argmax(-1) == labels[test]).mean()
    seen = accumulate(nnx_responses(net), images[test], labels[test], classes=10)["second"]
    scores = [
        topography.neighbour_cosine(similarity, grid, key=jax.random.key(0))
        for similarity in (topography.cosines(net.second.kernel[...]), seen.similarity)
    ]
    told = "  ".join(f"{s.value:5.2f} ({s.z:2.0f})" for s in scores)
    print(f"{title:22} {accuracy:8.1%}  {told}  {seen.effective_dimension:8.1f}")
    t[name][order or "as trained"] = seen.selectivity(constant="nan")

# %% [markdown]
# ## See
#
# A unit has the colour of the digit that it prefers.

# %% alt="The digit each of 64 units prefers, for baseline, LGNN and TopoLoss, as trained and arranged: regions are larger in every arranged network"
figure, _ = plots.preferred_classes(t, dict.fromkeys(columns, grid), "0123456789")
figure

# %% [markdown]
# ## What to read from it
#
# - Arranged, every network's responses are in order, the baseline's too. To *see* responses, an
#   order afterwards is enough.
# - LGNN and TopoLoss order weights while they train. TopoLoss at this strength orders them more.
# - An arrangement by responses takes some of that order of weights away.
# - All three have a lower effective dimension or the same. Watch it where more order is bought.
# - One seed says nothing about accuracy: see the [results](../results.md).
