import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from lgnn_jax.inspect import (
    LUCID,
    SMALL,
    FeatureVisualisation,
    Setting,
    mean_activations,
    share_beyond,
    visualise,
)
from lgnn_jax.inspect._feature_vis import _network, _optimisation, _parametrisation, _transforms

KEY = jax.random.key(0)
STILL = Setting(steps=80, learning_rate=0.3, pad=0, jitter=0, scales=(1.0,), angles=(0.0,), jitter_after=0)
WEIGHTS = np.random.default_rng(0).standard_normal((3, 3, 3, 6)).astype(np.float32)


def convolved(images):
    """Six random filters and a ReLU, then their differences: six units that every picture excites differently."""
    maps = jax.lax.conv_general_dilated(
        images - 0.5, WEIGHTS, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return {"first": maps, "second": jax.nn.relu(maps) - jnp.roll(maps, 1, -1)}


def smooth(count, height, width, channels=3):
    """Pictures with waves of twelve pixels and more."""
    y, x = np.mgrid[:height, :width]
    phase = np.arange(count * channels).reshape(count, 1, 1, channels)
    waves = np.sin(y[None, ..., None] / 3 + phase) * np.cos(x[None, ..., None] / 4 + 2 * phase)
    return (0.5 + 0.3 * waves).astype(np.float32)


# Lucid, picture by picture in float64.


def lucid_picture(spectrum, height, width, decorrelate):
    """``fft_image`` and ``to_valid_rgb``: (2, channels, height, columns) to (height, width, channels)."""
    columns = width // 2 + (2 if width % 2 else 1)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[:columns]
    scale = np.sqrt(width * height) / np.maximum(np.sqrt(fx * fx + fy * fy), 1 / max(width, height))
    even = width + width % 2
    channels = [np.fft.irfft2(scale * (real + 1j * imag), (height, even)) for real, imag in zip(*spectrum)]  # noqa: B905
    picture = np.stack(channels, -1)[:, :width] / 4
    if decorrelate:
        matrix = np.array([[0.26, 0.09, 0.02], [0.27, 0, -0.05], [0.27, -0.09, 0.03]]) / 0.461952
        picture = picture @ matrix.T
    return 1 / (1 + np.exp(-picture))


def lucid_resize(picture, height, width):
    """``tf.image.resize_bilinear`` as it was: no half pixels, clamped at the end."""
    for axis, size in enumerate((height, width)):
        old = picture.shape[axis]
        at = np.arange(size) * old / size
        low = np.floor(at).astype(int)
        share = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        high = np.minimum(low + 1, old - 1)
        picture = picture.take(low, axis) * (1 - share) + picture.take(high, axis) * share
    return picture


def lucid_rotate(picture, degrees):
    """``tf.contrib.image.rotate`` about the middle, but linear and with grey corners."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    back = np.array([[cos, sin], [-sin, cos]])  # Of (row, column); rows point down.
    middle = (np.array(picture.shape[:2]) - 1) / 2
    turn = functools.partial(
        scipy.ndimage.affine_transform,
        matrix=back,
        offset=middle - back @ middle,
        order=1,
        mode="grid-constant",
        cval=0.5,
    )
    return np.stack([turn(channel) for channel in np.moveaxis(picture, -1, 0)], -1)


def lucid_transforms(picture, setting, draw):
    """Pad, crop, scale, rotate, crop, one after another."""
    (top, left), scale, angle, (top_after, left_after) = draw
    pad, crop, after = setting.pad, setting.jitter, setting.jitter_after
    padded = np.pad(picture, ((pad, pad), (pad, pad), (0, 0)), constant_values=0.5)
    size = padded.shape
    cropped = padded[top : top + size[0] - crop, left : left + size[1] - crop]
    factor = setting.scales[scale]
    scaled = lucid_resize(cropped, *(int(factor * length + 1e-6) for length in cropped.shape[:2]))
    turned, size = lucid_rotate(scaled, angle), scaled.shape
    return turned[top_after : top_after + size[0] - after, left_after : left_after + size[1] - after]


# Pictures.


@pytest.mark.parametrize(
    "shape, decorrelate", [((32, 32, 3), True), ((9, 7, 3), True), ((6, 5, 1), True), ((4, 8, 3), False)]
)
def test_pictures_are_lucids(shape, decorrelate):
    spectra = 50 * np.asarray(_parametrisation.starting_spectra(KEY, jnp.arange(2), shape))
    out = np.asarray(_parametrisation.to_images(spectra, shape, decorrelate))
    assert out.shape == (2, *shape) and out.std() > 0.05
    expected = [
        lucid_picture(part, *shape[:2], decorrelate and shape[2] == 3)
        for part in spectra.astype(np.float64)
    ]
    np.testing.assert_allclose(out, expected, atol=2e-5)


@pytest.mark.parametrize("shape, decorrelate", [((8, 6, 3), True), ((5, 7, 3), False), ((4, 5, 1), True)])
def test_the_spectra_of_pictures_give_these_back(shape, decorrelate):
    pictures = np.random.default_rng(0).uniform(0.02, 0.98, (2, *shape)).astype(np.float32)
    spectra = _parametrisation.spectra_of(pictures, decorrelate)
    assert spectra.shape == _parametrisation.starting_spectra(KEY, jnp.arange(2), shape).shape
    np.testing.assert_allclose(_parametrisation.to_images(spectra, shape, decorrelate), pictures, atol=1e-5)
    black = _parametrisation.spectra_of(np.zeros((1, *shape)), decorrelate)
    np.testing.assert_allclose(_parametrisation.to_images(black, shape, decorrelate), 0.01, atol=1e-5)


def test_spectra_start_by_unit_with_lucids_deviation():
    start = _parametrisation.starting_spectra(KEY, jnp.asarray([5, 2, 5]), (32, 32, 3))
    assert start.shape == (3, 2, 3, 32, 17)
    np.testing.assert_array_equal(start[0], start[2])
    np.testing.assert_array_equal(
        start[1:2], _parametrisation.starting_spectra(KEY, jnp.asarray([2]), (32, 32, 3))
    )
    np.testing.assert_allclose([start[0].std(), start[1].std()], 0.01, rtol=0.05)
    assert abs(np.corrcoef(start[0].ravel(), start[1].ravel())[0, 1]) < 0.1


# Transforms.


def test_lucids_transforms_make_39_to_48_pixels_of_32_and_small_ones_nearly_32():
    sizes = _transforms.sizes_of(LUCID, (32, 32))
    assert sizes.final[:, 0].tolist() == [39, 40, 41, 42, 43, 44, 44, 45, 46, 47, 48]
    assert sizes.canvas == (48, 48) and len(LUCID.angles) == 26 and LUCID.angles.count(0) == 6
    assert _transforms.sizes_of(SMALL, (32, 32)).canvas == (33, 33)


@functools.cache
def transformed(setting):
    return jax.jit(functools.partial(_transforms.transform, setting=setting))


def draw_of(jitter=(0, 0), scale=0, angle=0.0, after=(0, 0)):
    return _transforms.Draw(jnp.asarray(jitter), jnp.asarray(scale), jnp.float32(angle), jnp.asarray(after))


@pytest.mark.parametrize(
    "change, draw, atol",
    [
        (dict(pad=3), draw_of(), 1e-6),
        (dict(pad=3, jitter=5), draw_of((5, 1)), 1e-6),
        (dict(jitter_after=4), draw_of(after=(1, 3)), 1e-6),
        (dict(pad=2, scales=(0.9, 1.1)), draw_of(scale=0), 1e-5),
        (dict(pad=2, scales=(0.9, 1.1)), draw_of(scale=1), 1e-5),
        (dict(pad=4, angles=(10.0,)), draw_of(angle=10), 0.01),
        (dict(pad=4, angles=(-35.0,)), draw_of(angle=-35), 0.03),
        (dataclasses.asdict(LUCID), draw_of((8, 3), 9, 7, (4, 1)), 0.02),
    ],
    ids=["pad", "jitter", "jitter after", "smaller", "larger", "rotate", "rotate far", "all"],
)
def test_transforms_are_lucids_on_a_canvas_of_grey(change, draw, atol):
    setting = dataclasses.replace(STILL, **change)
    pictures = smooth(2, 15, 21)
    if atol < 1e-4:
        pictures = np.random.default_rng(0).random(pictures.shape).astype(np.float32)
    elif "scales" not in change:
        pictures = smooth(2, 31, 27)
    out = np.asarray(transformed(setting)(pictures, draw))
    canvas = _transforms.sizes_of(setting, pictures.shape[1:3]).canvas
    assert out.shape == (2, *canvas, 3)
    values = [np.asarray(part).tolist() for part in draw]
    expected = np.full(out.shape, 0.5)
    parts = np.stack([lucid_transforms(part.astype(np.float64), setting, values) for part in pictures])
    expected[:, : parts.shape[1], : parts.shape[2]] = parts
    off = np.abs(out - expected)
    # Where the grey begins, the two ways to interpolate differ by a share of a pixel.
    assert off.max() < atol or (
        np.abs(values[2]) > 0 and np.quantile(off, 0.85) < atol and off.mean() < atol
    )


def test_scale_and_rotation_are_exact_on_a_ramp():
    y, x = np.mgrid[:41, :36]  # To 24 and 21 pixels, which are not the same share.
    ramp = (0.5 + 0.01 * (y - 20) + 0.02 * (x - 18))[None, ..., None].astype(np.float32)
    setting = dataclasses.replace(STILL, scales=(0.6,))
    out = transformed(setting)(ramp, draw_of(angle=30))[0, 7:17, 7:14, 0]
    expected = lucid_rotate(lucid_resize(ramp[0].astype(np.float64), 24, 21), 30)[7:17, 7:14, 0]
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_draws_cover_their_ranges_evenly():
    keys = jax.random.split(KEY, 2000)
    draws = jax.tree.map(
        np.asarray, jax.jit(jax.vmap(lambda key: _transforms.draw_transforms(key, LUCID)))(keys)
    )
    assert set(draws.jitter.ravel().tolist()) == set(range(9))
    assert set(draws.jitter_after.ravel().tolist()) == set(range(5))
    assert np.bincount(draws.scale, minlength=11).min() > 120
    assert 0.18 < (draws.angle == 0).mean() < 0.28 and set(draws.angle.tolist()) == set(range(-10, 11))
    assert not np.array_equal(draws.jitter[:, 0], draws.jitter[:, 1])


# Objective.


def test_the_objective_is_over_the_part_of_the_map_that_is_the_picture():
    sizes = _transforms.sizes_of(LUCID, (32, 32))
    assert _network.counts_of(sizes, (48, 48))[:, 0].tolist() == sizes.final[:, 0].tolist()
    assert _network.counts_of(sizes, (12, 3))[[0, -1]].tolist() == [[10, 2], [12, 3]]
    assert _network.counts_of(sizes, (1, 1)).min() == 1
    assert _network.counts_of(sizes, (5,)).tolist() == [[5]] * 11
    maps, units = np.random.default_rng(0).random((3, 6, 5, 4)), np.array([2, 0, 2])
    every, counts = np.arange(3), jnp.asarray([4, 3])
    mean = _network.objective_of(jnp.asarray(maps), units, counts, "channel")
    np.testing.assert_allclose(mean, maps[:, :4, :3].mean((1, 2))[every, units], rtol=1e-6)
    middle = _network.objective_of(jnp.asarray(maps), units, counts, "neuron")
    np.testing.assert_allclose(middle, maps[every, 2, 1, units], rtol=1e-6)
    flat = _network.objective_of(jnp.asarray(maps[:, 0, 0]), units, jnp.zeros(0, int), "channel")
    np.testing.assert_allclose(flat, maps[every, 0, 0, units], rtol=1e-6)


# Visualisations.


def test_pictures_reach_known_optima_and_dead_channels_are_grey():
    def responses(images):
        red = images @ jnp.asarray([1.0, -1, -1])
        weak = 3e-10 * images[..., 2]  # Blue, of a filter that is nearly worn off.
        drowned = 1 + 3e-7 * images[..., 0]  # Raised by no more than rounding.
        return {"maps": jnp.stack([red, jnp.zeros_like(red), weak, drowned, red * 0 + 2], -1)}

    setting = dataclasses.replace(STILL, decorrelate=False)
    found = visualise(responses, "maps", key=KEY, setting=setting, shape=(5, 7, 3))
    assert found.dead.tolist() == [False, True, False, True, True]
    assert found.units.tolist() == [0, 1, 2, 3, 4] and found.layer == "maps"
    assert found.images.dtype == np.float32 and found.images.shape == (5, 5, 7, 3)
    assert (found.images[found.dead] == 0.5).all()
    np.testing.assert_allclose(found.images[0].mean((0, 1)), [1, 0, 0], atol=0.05)
    assert found.images[2, ..., 2].mean() > 0.95 and found.values[0] > 0.85
    np.testing.assert_allclose(found.values[[1, 3, 4]], [0, 1, 2], rtol=1e-6)
    assert found.start[0] < 0 and (found.values >= found.start)[:3].all()


@pytest.mark.parametrize("objective", ["channel", pytest.param("neuron", marks=pytest.mark.slow)])
def test_steps_that_noise_gives_no_gradient_begin_at_the_image_that_activates_most(objective):
    def responses(images):
        red, green, blue = jnp.moveaxis(images, -1, 0)
        shut = jax.nn.relu(red - 0.8)
        flat = (green > 0.8).astype(jnp.float32)  # Of which there is no gradient at all.
        return {"maps": jnp.stack([shut, jax.nn.relu(blue - 2), flat, blue, jax.nn.relu(green - 0.7)], -1)}

    images, calls = np.full((7, 4, 5, 3), 0.4, np.float32), []
    images[4, ..., 0], images[2, ..., 0], images[5, ..., 1] = 0.9, 0.85, 0.95
    options = dict(key=KEY, setting=dataclasses.replace(STILL, decorrelate=False), shape=(4, 5, 3), batch=3)
    options |= dict(objective=objective)
    alone = visualise(responses, "maps", **options)
    assert alone.dead.tolist() == [True, True, True, False, True]
    found = visualise(responses, "maps", images=images, progress=lambda *at: calls.append(at), **options)
    assert found.dead.tolist() == [False, True, False, False, False]
    assert calls[-1] == (240, 240) and calls[19] == (160, 160) and len(calls) == 30
    assert found.values[0] > 0.15 and found.start[0] == pytest.approx(0.1, abs=1e-5)
    assert found.values[4] > 0.28 and (found.images[1] == 0.5).all() and found.values[1] == 0
    np.testing.assert_array_equal(found.images[2], images[5])
    np.testing.assert_array_equal(found.images[3], alone.images[3])
    as_they_are = responses(jnp.asarray(found.images))["maps"]
    if objective == "channel":
        np.testing.assert_allclose(found.values, np.diagonal(as_they_are.mean((1, 2))), atol=1e-6)
    whole = (images * 255).round().astype(np.uint8)
    assert visualise(responses, "maps", images=whole, **options).dead.tolist() == found.dead.tolist()
    with pytest.raises(ValueError, match=r"images must be of shape \(4, 5, 3\), got \(4, 4, 3\)"):
        visualise(responses, "maps", images=images[:, :, :4], **options)


def test_of_many_images_some_of_every_class_are_looked_at(monkeypatch):
    """Of images that are sorted by class, the first ones are of the first class alone."""
    images = np.full((9, 4, 5, 3), 0.4, np.float32)
    images[6:, ..., 0] = 0.9
    options = dict(
        key=KEY,
        setting=dataclasses.replace(STILL, steps=2, decorrelate=False),
        shape=(4, 5, 3),
        images=images,
    )

    def responses(images):
        return {"maps": jax.nn.relu(images[..., :1] - 0.8)}

    for most, dead in ((9, False), (3, False), (1, True)):
        monkeypatch.setattr(_optimisation, "_EXCITING", most)
        assert visualise(responses, "maps", **options).dead.tolist() == [dead]


def test_a_neuron_is_the_middle_of_the_map():
    found = visualise(
        lambda images: {"maps": images}, "maps", key=KEY, setting=STILL, shape=(6, 9, 1), objective="neuron"
    )
    np.testing.assert_allclose(found.values, found.images[:, 3, 4, 0])
    assert found.values > 0.99 and found.images.argmax() == 3 * 9 + 4


def test_a_step_looks_at_the_part_of_the_canvas_that_is_the_picture():
    """Scaled to half, the middle is that of the smaller picture; in the canvas's there is nothing but grey."""
    setting = dataclasses.replace(STILL, scales=(0.5,))
    options = dict(key=KEY, setting=setting, shape=(8, 8, 1), objective="neuron")
    found = visualise(lambda images: {"maps": images}, "maps", **options)
    assert found.values > 0.99 and not found.dead.any()


def test_a_channels_picture_depends_on_key_and_channel_alone_to_rounding():
    setting = dataclasses.replace(SMALL, steps=16)
    calls, traces = [], []

    def responses(images):
        traces.append(images.shape)
        return convolved(images)

    options = dict(key=KEY, setting=setting, shape=(20, 20, 3))
    every = visualise(responses, "second", batch=4, progress=lambda *at: calls.append(at), **options)
    assert calls == [(8, 32), (16, 32), (24, 32), (32, 32)]
    in_two_batches = len(traces)
    old = jax.random.wrap_key_data(jax.random.key_data(KEY))
    again = visualise(responses, "second", [3, 0, 3], **(options | dict(key=jax.random.key_data(old))))
    assert len(traces) == 2 * in_two_batches  # Compiled once a call, however many batches.
    assert again.units.tolist() == [3, 0, 3]
    np.testing.assert_allclose(
        again.images[0], again.images[2], atol=1e-5
    )  # Rounding depends on the place.
    np.testing.assert_allclose(again.images, every.images[[3, 0, 3]], atol=1e-4)
    np.testing.assert_allclose(again.start, every.start[[3, 0, 3]], rtol=1e-4, atol=1e-6)
    assert (every.values > every.start).all() and not every.dead.any()
    actual = mean_activations(responses, "second", every.images)[np.arange(6), np.arange(6)]
    np.testing.assert_allclose(every.values, actual, rtol=1e-5)
    same = visualise(responses, "second", batch=4, **options)
    np.testing.assert_array_equal(same.images, every.images)


def test_the_network_is_an_argument_of_the_step_and_not_a_part_of_the_program():
    weights = jnp.asarray(np.random.default_rng(0).standard_normal((3, 4096)), jnp.float32)
    network = _network.Network(lambda x: {"maps": x @ weights}, "maps", (4, 4, 3), STILL)
    program = _optimisation._Program(network, STILL, "channel", 2)
    units = np.array([0, 1])
    state = jax.eval_shape(lambda: program._start(program._noise(KEY, units)))
    text = program._step.lower(program._arrays, state, KEY, units).as_text()
    assert [part.shape for part in program._arrays] == [(3, 4096)] and len(text) < 3 * 4096 * 8


# The score.


def test_the_share_beyond_a_quantile_is_over_live_channels():
    images = np.linspace(0, 1, 101, dtype=np.float32).reshape(-1, 1, 1, 1) * np.ones(
        (1, 2, 2, 3), np.float32
    )
    pictures = np.zeros((4, 2, 2, 3), np.float32)
    pictures += np.array([0.995, 0.985, 0.505, 1], np.float32)[:, None, None, None]
    units, dead = np.array([2, 0, 0, 1]), np.array([False, False, False, True])
    made = FeatureVisualisation("maps", units, pictures, np.ones(4), np.zeros(4), dead)
    out = share_beyond(made, lambda x: {"maps": x}, images, batch=32)
    assert out.beyond.tolist() == [True, False, False, False] and out.share == pytest.approx(1 / 3)
    np.testing.assert_allclose(out.percentile, 100 / 101 * np.array([100, 99, 51, np.nan]))
    assert share_beyond(made, lambda x: {"maps": x}, images, 0.5).share == 1
    none = dataclasses.replace(made, dead=np.ones(4, bool))
    assert np.isnan(share_beyond(none, lambda x: {"maps": x}, images).share)
    with pytest.raises(ValueError, match="of unit 2, but 'maps' has 2 units"):
        share_beyond(made, lambda x: {"maps": x[..., :2]}, images)
    with pytest.raises(ValueError, match="quantile must be from 0 to 1, got 99"):
        share_beyond(made, lambda x: {"maps": x}, images, 99)


def test_excitations_are_means_over_space_in_one_shape():
    images, shapes = smooth(7, 4, 4), set()

    def responses(x):
        shapes.add(x.shape)
        return {"maps": np.asarray(x)}

    out = mean_activations(responses, "maps", images, batch=3)
    np.testing.assert_allclose(out, images.mean((1, 2)), rtol=1e-6)
    assert shapes == {(3, 4, 4, 3)}
    whole = np.full((1, 2, 2, 1), 51, np.uint8)
    assert mean_activations(responses, "maps", whole).tolist() == [[np.float32(0.2)]]


@pytest.mark.parametrize(
    "images, message",
    [
        (np.full((2, 4, 4, 3), 200.0), r"in \[0, 1\], got values from 200 to 200. Normalise them inside"),
        (np.full((2, 4, 4, 3), np.nan), r"in \[0, 1\], got values from nan"),
        (np.full((2, 4, 4, 3), 200), "floats in .* or uint8, got int64"),
        (np.zeros((0, 4, 4, 3)), "at least one image"),
    ],
)
def test_images_that_are_not_pictures_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        mean_activations(convolved, "first", images)


def test_responses_that_are_not_finite_say_where():
    images = smooth(5, 4, 4)
    images[3] = 0
    with pytest.raises(ValueError, match="'maps' are NaN or infinite, first unit 0 to image 3"):
        mean_activations(lambda x: {"maps": np.where(x == 0, np.nan, x)}, "maps", images, batch=2)


# Errors.


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(steps=0), "steps must be a positive integer, got 0"),
        (dict(learning_rate=0), "learning_rate must be positive, got 0"),
        (dict(learning_rate=float("nan")), "learning_rate must be finite"),
        (dict(decorrelate=1), "decorrelate must be True or False, got 1"),
        (dict(pad=-1), "pad must be a number of pixels, an integer from 0, got -1"),
        (dict(jitter=1.5), "jitter must be a number of pixels"),
        (dict(jitter_after=True), "jitter_after must be a number of pixels"),
        (dict(scales=()), r"scales must be finite numbers, at least one, got \(\)"),
        (dict(scales=1.0), "scales must be finite numbers, at least one, got 1.0"),
        (dict(scales=(1, -0.5)), "scales must be positive, got -0.5"),
        (dict(angles=(0, -90)), "angles must be from -45 to 45 degrees, got -90"),
    ],
)
def test_settings_are_checked(change, message):
    with pytest.raises(ValueError, match=message):
        Setting(**change)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(layer="third"), "Unknown layer 'third'. responses returns: first, second"),
        (dict(units=[]), "units must be integers"),
        (dict(units=[0.5]), "units must be integers .* of float64"),
        (dict(units=[True]), "units must be integers .* of bool"),
        (dict(units=[0, 6]), "'first' has units 0 to 5, got units from 0 to 6"),
        (dict(units=[-1]), "got units from -1 to -1"),
        (dict(shape=(32, 32)), r"shape must be \(height, width, channels\), got \(32, 32\)"),
        (dict(shape=(32, 0, 3)), "every size of shape must be a positive integer, got 0"),
        (dict(shape=(8, 8, 4)), "Colours of 4 channels cannot be decorrelated"),
        (dict(shape=(8, 8, 3), setting=Setting(jitter=20)), "leave nothing of an image of 8x8"),
        (dict(shape=(8, 8, 3), setting=dataclasses.replace(STILL, scales=(0.1,))), "leave nothing"),
        (dict(objective="layer"), "objective must be 'channel' or 'neuron', got 'layer'"),
        (dict(batch=0), "batch must be a positive integer, got 0"),
        (dict(responses=lambda x: {"first": x.mean()}), r"must give arrays \(1, ..., units\)"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    arguments = dict(responses=convolved, layer="first", units=None, key=KEY, setting=STILL)
    with pytest.raises(ValueError, match=message):
        visualise(**(arguments | change))


def test_a_network_that_takes_one_size_only_is_told_what_to_do():
    def responses(images):
        return {"maps": images.reshape(len(images), -1) @ jnp.ones((8 * 8 * 3, 2))}

    wide = dataclasses.replace(STILL, pad=1)
    with pytest.raises(ValueError, match=r"8x8 but not the canvas of 10x10 .* scales=\(1.0,\)\)"):
        visualise(responses, "maps", key=KEY, setting=wide, shape=(8, 8, 3))
    still = dataclasses.replace(SMALL, steps=2, scales=(1.0,))
    assert _transforms.sizes_of(still, (8, 8)).canvas == (8, 8)
    assert _network.Network(responses, "maps", (8, 8, 3), still).units == 2


@pytest.mark.parametrize(
    "limit, message", [(0.4, "for its starting image"), (0.6, "for the first .* steps")]
)
def test_an_objective_that_is_not_finite_says_which_and_when(limit, message):
    def responses(images):
        return {"maps": jnp.where(images.mean() > limit, jnp.nan, images)}

    with pytest.raises(ValueError, match=f"unit 0 of 'maps' is NaN or infinite {message}"):
        visualise(responses, "maps", [0], key=KEY, setting=STILL, shape=(4, 4, 3))


def test_steps_are_held_and_fall_and_forget_as_the_setting_says():
    """Of a constant gradient, without memory, Adam's steps are the rate."""
    adam = _optimisation._adam(Setting(steps=10, learning_rate=0.5, hold=0.5, b1=0, b2=0))
    state, taken = adam.init(jnp.zeros(())), []
    for _ in range(10):
        update, state = adam.update(jnp.float32(3), state)
        taken.append(-float(update))
    np.testing.assert_allclose(taken, [0.5] * 5 + [0.5, 0.4, 0.3, 0.2, 0.1], rtol=1e-6)
    adam = _optimisation._adam(Setting(learning_rate=0.5, b1=0.5, b2=0.75))
    _, state = adam.update(jnp.float32(3), adam.init(jnp.zeros(())))
    update, _ = adam.update(jnp.float32(-1), state)
    mean, square = (0.5 * 3 * 0.5 - 0.5) / 0.75, (0.75 * 0.25 * 9 + 0.25) / (1 - 0.75**2)
    np.testing.assert_allclose(update, -0.5 * mean / np.sqrt(square), rtol=1e-5)
