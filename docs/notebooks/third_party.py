# %% [markdown]
# # A network that others trained
#
# [MTCNN](https://pypi.org/project/mtcnn/) finds faces. Its package holds trained weights (MIT), and
# scikit-image holds 100 faces and 100 other patches. This notebook writes MTCNN's last network as a
# function, puts its units in order, and makes the page to explore them.

# %%
# %matplotlib inline
import importlib.metadata
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import joblib
import numpy as np
import skimage.data

from lgnn_jax import inspect, topography
from lgnn_jax.inspect import plots

images = np.float32(skimage.data.lfw_subset())[..., None]  # Grey, in [0, 1], as they are shown.
labels = np.repeat([1, 0], 100)
names = ["other", "face"]  # Class k is logit k.
images.shape

# %% [markdown]
# ## Its weights
#
# They lie in the package as a list of arrays: kernel, bias and the slopes of PReLU, layer by layer.
# `mtcnn` itself is not imported, because it would need TensorFlow.

# %%
package = importlib.metadata.distribution("mtcnn")
weights = joblib.load(package.locate_file("mtcnn/assets/weights/onet.lz4"))
layers = ["conv1", "conv2", "conv3", "conv4"]
params = {name: weights[3 * k : 3 * k + 3] for k, name in enumerate([*layers, "dense"])}
params["face"] = weights[-2:]
print(*(f"{name}: {params[name][0].shape}" for name in params), sep="\n")

# %% [markdown]
# ## The network, as a function
#
# It returns what units should be looked at, by name, and logits. `preprocess` says what it takes:
# 48 x 48 pixels, three colours, from -1 to 1.

# %%
POOLS = {"conv1": (3, "SAME"), "conv2": (3, "VALID"), "conv3": (2, "SAME")}


def prelu(x, slope):
    return jnp.where(x > 0, x, slope * x)


def apply(params, x):
    found = {}
    for name in layers:
        kernel, bias, slope = params[name]
        x = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        found[name] = x = prelu(x + bias, slope)
        if name in POOLS:
            size, padding = POOLS[name]
            window, strides = (1, size, size, 1), (1, 2, 2, 1)
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, padding)
    kernel, bias, slope = params["dense"]
    x = prelu(x.transpose(0, 2, 1, 3).reshape(len(x), -1) @ kernel + bias, slope)
    kernel, bias = params["face"]
    return found | {"logits": x @ kernel + bias}


def preprocess(x):
    x = jax.image.resize(jnp.repeat(x, 3, -1), (len(x), 48, 48, 3), "bilinear")
    return (255 * x - 127.5) / 128


logits = apply(params, preprocess(images))["logits"]
print(f"accuracy: {(logits.argmax(-1) == labels).mean():.1%}")

# %% [markdown]
# An accuracy as it should be says that the function is the network. Where classes are in another
# order than logits, the page's call warns.
#
# ## Arrange
#
# Half of the images say how units lie on their grid. The other half measures it.

# %%
network = inspect.function(
    apply,
    params,
    kernels={name: params[name][0] for name in layers},
    layers=layers,
    output=lambda found: found["logits"],
    preprocess=preprocess,
    title="MTCNN, O-Net",
)
fit, test = slice(0, None, 2), slice(1, None, 2)
orders = inspect.arrange(network, images[fit])
seen = inspect.accumulate(network.activations(), images[test], labels[test], classes=2)
grids = {layer.path: layer.grid for layer in network.layers(images)}

print("neighbours' correlation, and what relabelling gives")
for name, grid in grids.items():
    arranged = seen[name].reordered(orders[name])
    for order, statistics in {"as trained": seen[name], "arranged": arranged}.items():
        score = topography.neighbour_cosine(statistics.similarity, grid, key=jax.random.key(0))
        print(f"{name} {order:10} {score.value:5.2f}  ({score.low:.2f} to {score.high:.2f})")

# %% [markdown]
# ## See
#
# A unit of the last convolution has the colour of the class that it prefers. Grey ones prefer none:
# their Welch's t, a class against all other images, is at most 5.

# %% alt="Which of two classes each of 128 units prefers: as trained both lie anywhere, arranged units for faces fill one part of the grid"
t = {
    "as trained": seen["conv4"].selectivity(constant="nan"),
    "arranged": seen["conv4"].reordered(orders["conv4"]).selectivity(constant="nan"),
}
for order, selectivity in t.items():
    prefers = inspect.preferred(selectivity, threshold=5)
    alive = np.isfinite(selectivity).all(0)
    largest = inspect.region_scores(prefers, grids["conv4"], alive=alive, key=jax.random.key(0)).largest
    print(
        f"{order:10}  {(prefers == 1).sum()} units prefer faces. The largest region has "
        f"{largest.value:.0f}; by chance {largest.low:.0f} to {largest.high:.0f}."
    )
shown = {order: np.where(x.max(0) > 5, x, np.nan) for order, x in t.items()}
figure, _ = plots.preferred_classes({"conv4": shown}, dict.fromkeys(t, grids["conv4"]), names)
figure

# %% [markdown]
# ## The page
#
# One call does all of this for every layer, with images and every metric.

# %%
page = pathlib.Path(tempfile.mkdtemp()) / "atlas.html"
inspect.atlas.write(page, network, images, labels, class_names=names, permutations=200)
print(f"{page.name}: {page.stat().st_size / 1e6:.1f} MB")

# %% [markdown]
# ## What to read from it
#
# - Nothing was trained here. A grid shows what the network's units already do.
# - As trained, neighbours are no more alike than chance makes them. Arranged, they are in every
#   layer, on images that the order was not fitted to.
# - Almost half of the last convolution's units prefer faces. Arranged, nearly all of them lie
#   together.
# - 200 patches and two classes are few. That a unit prefers faces says that it tells them from these
#   other patches, not what it looks for. Pages with more classes say more.
#
# Networks of Flax, Equinox, Haiku and PyTorch: [any network, one call](../any_network.md).
