# %% [markdown]
# # Quickstart
#
# A small network learns handwritten digits. Its units are then put in order, and what each of them
# prefers is drawn. It takes a minute on two cores.

# %%
# %matplotlib inline
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from lgnn_jax import ConvLayout, lgnn, reorder, ties, topography
from lgnn_jax.inspect import accumulate, linen_responses, plots

digits = load_digits()
images = jnp.asarray(digits.images[..., None] / 16, jnp.float32)
labels = jnp.asarray(digits.target)
train, test = slice(0, 1200), slice(1200, None)

# %% [markdown]
# ## Train with `lgnn`
#
# `lgnn` is the first transformation of the chain. Nothing else is new.

# %%
net = nn.Sequential(
    [
        nn.Conv(32, (3, 3)),
        nn.relu,
        nn.Conv(64, (3, 3)),
        nn.relu,
        lambda x: x.reshape(len(x), -1),
        nn.Dense(10),
    ]
)
params = net.init(jax.random.key(0), images[:1])["params"]
tx = optax.chain(lgnn(sigma=0.8), optax.adamw(3e-3, weight_decay=0.1))


@jax.jit
def step(params, state, batch):
    def loss(params):
        logits = net.apply({"params": params}, images[batch])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels[batch]).mean()

    updates, state = tx.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state


state = tx.init(params)
for batch in np.random.default_rng(0).integers(0, 1200, (300, 64)):
    params, state = step(params, state, batch)
accuracy = (net.apply({"params": params}, images[test]).argmax(-1) == labels[test]).mean()
print(f"test accuracy {accuracy:.1%}")

# %% [markdown]
# ## Which leaf lies on which grid?

# %%
print(ConvLayout().describe(params))

# %% [markdown]
# ## Are neighbours alike?
#
# A number comes with its null: the same network, its units relabelled at random 1000 times. The
# second layer lies far above it. The first is as random as it began: 300 steps wear little of the
# start off.

# %%
layers = ConvLayout().layers(params)
for layer in layers:
    cosines = topography.cosines(params[layer.path.split("/")[0]]["kernel"])
    score = topography.neighbour_cosine(cosines, layer.grid, key=jax.random.key(1))
    print(f"{layer.path}: {score.value:.2f}, by chance {score.low:.2f} to {score.high:.2f}")

# %% [markdown]
# ## Arrange what is left
#
# `lgnn` orders weights. To see what units *respond* to, their order by responses is better. It is
# fitted on training images and looked at on test images. The network's outputs stay.

# %%
variables = {"params": params}
seen = accumulate(linen_responses(net, variables), images[train], labels[train], classes=10)
tied = ties(net.apply, variables, images[:2])
alike = {layer.path: seen[layer.path.removesuffix("/kernel")].similarity for layer in layers}
ordered = reorder(variables, tied, tied.orders(alike, layers))
same = jnp.allclose(net.apply(variables, images), net.apply(ordered, images), atol=1e-4)
print(f"the same outputs: {same}")

# %% [markdown]
# ## See it
#
# A unit has the colour of the digit that it prefers. Neighbours of one colour are a region.

# %% alt="Two maps of 64 units by the digit they prefer: trained with lgnn in small regions, arranged in a few large ones"
last, grid = "layers_2", layers[1].grid
shown = {}
for title, tree in {"trained with lgnn": variables, "arranged": ordered}.items():
    found = accumulate(linen_responses(net, tree), images[test], labels[test], classes=10)[last]
    shown[title] = found.selectivity(constant="nan")
figure, _ = plots.preferred_classes({last: shown}, dict.fromkeys(shown, grid), "0123456789")
figure
