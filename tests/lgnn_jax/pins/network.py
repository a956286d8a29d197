"""A small network with fixed weights, images of three classes in two groups, and what each layer says of them."""

import jax
import jax.numpy as jnp
import numpy as np

SHAPES = {"first": (4, 2), "second": (4, 3)}
CLASSES = ["circle", "square", "triangle & more"]
GROUPS, GROUP_OF = ["round", "angular"], [0, 1, 1]


def kernels(seed=0):
    """Two convolutions whose filters turn slowly over their grids; one filter of the first is zero."""
    draw, found, channels = np.random.default_rng(seed), {}, 3
    for name, shape in SHAPES.items():
        places = np.indices(shape).reshape(2, -1)
        waves = draw.standard_normal((9 * channels, 2)) @ places / 2 + draw.uniform(0, 6, (9 * channels, 1))
        kernel = np.cos(waves) + 0.3 * draw.standard_normal(waves.shape)
        found[name] = (kernel / np.sqrt(9 * channels)).reshape(3, 3, channels, -1).astype(np.float32)
        channels = places.shape[1]
    found["first"][..., 5] = 0
    return found


def responses(weights):
    """``images -> {layer: maps}`` of the two convolutions with ReLU."""

    @jax.jit
    def run(images):
        maps = {}
        x = images - 0.5
        for name, kernel in weights.items():
            x = jax.lax.conv_general_dilated(
                x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
            )
            x = maps[name] = jnp.maximum(x, 0.1 * x)
        return maps

    return run


def images(count=45):
    """Bytes, twelve by twelve; the classes differ in colour and in the length of their waves."""
    draw = np.random.default_rng(1)
    labels = np.arange(count) % len(CLASSES)
    y, x = np.mgrid[:12, :12]
    waves = np.sin(y / (1 + labels[:, None, None]) + draw.uniform(0, 6, (count, 1, 1)) + x / 3)[..., None]
    colour = 0.2 * np.eye(3)[labels][:, None, None]
    values = 0.4 + 0.2 * waves + colour + 0.1 * draw.standard_normal((count, 12, 12, 3))
    return np.rint(255 * values.clip(0, 1)).astype(np.uint8), labels
