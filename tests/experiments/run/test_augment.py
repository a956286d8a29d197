import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.run import augment
from experiments.run.augment import PAD, crop_and_flip, example_keys, normalise


def pictures(count=6):
    return jnp.asarray(np.random.default_rng(0).standard_normal((count, 32, 32, 3)), jnp.float32)


@pytest.mark.parametrize("padding", ["constant", "reflect"])
@pytest.mark.parametrize("flip", [False, True])
def test_every_result_is_a_crop_of_the_padded_picture(padding, flip):
    images = pictures(40)
    out = np.asarray(
        crop_and_flip(images, example_keys(jax.random.key(0), jnp.arange(40)), padding=padding, flip=flip)
    )
    padded = np.pad(images, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)), mode=padding)
    found = []
    for image, source in zip(out, padded, strict=True):
        places = [
            (top, left, side)
            for top in range(2 * PAD + 1)
            for left in range(2 * PAD + 1)
            for side in (False, True)
            if np.array_equal(image[:, ::-1] if side else image, source[top : top + 32, left : left + 32])
        ]
        assert len(places) == 1
        found += places
    tops, lefts, sides = (set(values) for values in zip(*found, strict=True))
    assert len(tops) > 5 and len(lefts) > 5
    assert sides == ({False, True} if flip else {False})


def test_an_examples_crop_depends_on_its_index_and_the_key_alone():
    images, key = pictures(), jax.random.key(3)
    indices = jnp.array([5, 2, 11, 7, 3, 8])
    whole = crop_and_flip(images, example_keys(key, indices), padding="constant", flip=True)
    part = crop_and_flip(images[2:4], example_keys(key, indices[2:4]), padding="constant", flip=True)
    np.testing.assert_array_equal(whole[2:4], part)


def test_normalised_pictures_have_mean_zero_and_deviation_one():
    images = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3)).astype(np.uint8)
    mean, deviation = images.mean((0, 1, 2)) / 255, images.std((0, 1, 2)) / 255
    out = np.asarray(normalise(jnp.asarray(images), jnp.float32(mean), jnp.float32(deviation)))
    np.testing.assert_allclose(out.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(out.std((0, 1, 2)), 1, atol=1e-4)


def test_accelerators_cut_the_same_crops():
    padded, draw = pictures(40), np.random.default_rng(1)
    tops, lefts = (jnp.asarray(draw.integers(0, 2 * PAD + 1, 40)) for _ in range(2))
    expected = augment._by_slices(padded, tops, lefts)
    np.testing.assert_array_equal(augment._by_selects(padded, tops, lefts), expected)
    on_an_accelerator = jax.jit(lambda x, key: crop_and_flip(x, key, padding="constant", flip=True))
    shapes = jax.eval_shape(lambda: (pictures(), example_keys(jax.random.key(0), jnp.arange(6))))
    text = on_an_accelerator.trace(*shapes).lower(lowering_platforms=("tpu",)).as_text()
    assert "gather" not in text and "dynamic_slice" not in text
