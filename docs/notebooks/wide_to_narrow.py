# %% [markdown]
# # Wide to narrow
#
# A self-organising map begins with a neighbourhood as wide as half the grid, and narrows it. So
# can `lgnn`, with a heat kernel: it takes any width without ascending the finest differences
# between filters.

# %%
# %matplotlib inline
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

from lgnn_jax import Grid, HeatKernel, lgnn, topography
from lgnn_jax.inspect import plots

digits = load_digits()
images = jnp.asarray(digits.images[..., None] / 16, jnp.float32)
labels = jnp.asarray(digits.target)
train, test = slice(0, 1200), slice(1200, None)
steps, grid = 800, Grid((8, 8))

# %% [markdown]
# ## Three neighbourhoods
#
# The same network, start and batches. Only the neighbourhood differs. Sigma is in grid steps.

# %%
narrowing = optax.exponential_decay(3.0, steps // 2, 0.1, end_value=0.3)
chains = {
    "none": optax.identity(),
    "constant 0.5": lgnn(0.5),
    "3 to 0.3": lgnn(narrowing, window=HeatKernel()),
}


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(1, 32, (3, 3), rngs=rngs)
        self.second = nnx.Conv(32, 64, (3, 3), rngs=rngs)
        self.head = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.second(nnx.relu(self.first(x))))
        return self.head(x.max((1, 2)))


def loss(net, batch):
    logits = net(images[batch])
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels[batch]).mean()


@nnx.jit
def step(net, optimizer, batch):
    optimizer.update(net, nnx.grad(loss)(net, batch))


def neighbours(net):
    cosines = topography.cosines(net.second.kernel[...])
    return topography.neighbour_cosine(cosines, grid, key=jax.random.key(0))


# %%
curves, nets = {}, {}
for name, chain in chains.items():
    net = Net(nnx.Rngs(0))
    tx = optax.chain(chain, optax.adamw(3e-3, weight_decay=0.3))
    optimizer = nnx.Optimizer(net, tx, wrt=nnx.Param)
    curves[name], nets[name] = [], net
    for i, batch in enumerate(np.random.default_rng(0).integers(0, 1200, (steps, 64))):
        step(net, optimizer, batch)
        if (i + 1) % 50 == 0:
            curves[name].append(neighbours(net))
    accuracy = (net(images[test]).argmax(-1) == labels[test]).mean()
    score = curves[name][-1]
    print(f"{name:13} accuracy {accuracy:.1%}, neighbour cosine {score.value:.2f}, z {score.z:.0f}")

# %% [markdown]
# ## How order grows
#
# A wide neighbourhood makes all filters alike, also by chance: the grey band, which is its null,
# rises with it. Order is what lies above the band.

# %% alt="Neighbour cosine over training steps for three neighbourhoods, each with its null as a band: order is highest where sigma narrowed"
figure, panels = plt.subplots(1, 3, figsize=(8, 2.4), sharey=True, layout="constrained")
at = np.arange(50, steps + 1, 50)
for panel, (name, scores) in zip(panels, curves.items(), strict=True):
    low, high = [s.low for s in scores], [s.high for s in scores]
    panel.fill_between(at, low, high, color="0.8", label="null")
    panel.plot(at, [s.value for s in scores], color="#0072b2", label="neighbour cosine")
    panel.set(title=name, xlabel="step")
panels[0].legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## Where it is
#
# How alike two filters are, by how far apart they lie. The middle of a panel is a filter itself.

# %% alt="Cosine of filters by their offset on the grid for three neighbourhoods: none shows no pattern, a constant one a small dark centre, a narrowing one a wide one"
kernels = {name: {"second": net.second.kernel[...]} for name, net in nets.items()}
figure, _ = plots.offset_maps(kernels, {"second": grid})
figure
