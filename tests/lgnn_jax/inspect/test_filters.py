import jax
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from lgnn_jax import Grid, topography
from lgnn_jax.inspect import cosine_by_offset, cosine_maps, gram_maps, magnitudes, plots, tiles


def noise(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def test_tiles_are_min_max_scaled_filters_in_row_major_order():
    kernel = noise(3, 3, 3, 8)
    out = tiles(kernel, Grid((4, 2)))
    assert out.shape == (4, 2, 3, 3, 3)
    filter_5 = kernel[..., 5]
    np.testing.assert_allclose(out[2, 1], (filter_5 - filter_5.min()) / np.ptp(filter_5))
    assert (tiles(np.ones((3, 3, 1, 4)), Grid((2, 2))) == 0.5).all()
    np.testing.assert_array_equal(tiles(kernel.transpose(3, 2, 0, 1), Grid((4, 2)), axis=0), out)


def test_cosine_maps_are_the_cosines_with_the_unit_itself_left_out():
    kernel = noise(3, 3, 4, 6)
    rows = kernel.reshape(36, 6).T
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = rows @ rows.T - np.eye(6)
    out = cosine_maps(topography.cosines(kernel), Grid((3, 2)), [4, 1])
    np.testing.assert_allclose(out, expected[[4, 1]].reshape(2, 3, 2), atol=1e-6)


@pytest.mark.parametrize(
    "shape, grid", [((3, 3, 4, 8), Grid((4, 2))), ((3, 3, 3, 8), Grid((8,))), ((3, 8), Grid((4, 2)))]
)
def test_tiles_are_for_first_layers(shape, grid):
    with pytest.raises(ValueError, match="tiles draws first-layer kernels"):
        tiles(np.ones(shape), grid)


def test_gram_maps_are_inner_products():
    kernel = noise(3, 3, 4, 6)
    rows = kernel.reshape(36, 6).T
    expected = rows @ rows.T
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(
        gram_maps(kernel, Grid((3, 2)), [2]), expected[[2]].reshape(1, 3, 2), rtol=1e-5
    )


def test_magnitudes_are_norms_and_logarithms_over_filters():
    kernel = noise(3, 3, 3, 8) * 10.0 ** -np.arange(8)
    kernel[..., 5] = 0
    norms = np.sqrt((kernel**2).sum((0, 1, 2)))
    found = magnitudes(kernel)
    alive = np.delete(norms, 5)
    assert found.smallest == pytest.approx(alive.min()) and found.largest == pytest.approx(norms.max())
    assert found.log_std == pytest.approx(np.log(alive).std())
    assert found.zero == 1 and found.small == (norms < 1e-3 * np.median(norms)).sum()
    assert magnitudes(np.moveaxis(kernel, 3, 0), axis=0) == pytest.approx(found)
    with pytest.raises(TypeError, match="It lays nothing out"):
        magnitudes(kernel, Grid((4, 2)))


@pytest.mark.parametrize("kernel", [np.zeros((2, 4)), np.full((2, 4), np.nan)])
def test_magnitudes_refuse_what_has_none(kernel):
    with pytest.raises(ValueError, match="finite weights that are not all zero"):
        magnitudes(kernel)


def test_units_must_be_on_the_grid():
    with pytest.raises(ValueError, match="indices from 0 to 5"):
        cosine_maps(np.eye(6), Grid((3, 2)), [6])
    with pytest.raises(ValueError, match="similarity has 6 units, but a grid of 3x3 holds 9"):
        cosine_maps(np.eye(6), Grid((3, 3)), [0])
    with pytest.raises(ValueError, match=r"Of a kernel give topography.cosines\(kernel\)"):
        cosine_maps(noise(3, 3, 2, 6), Grid((3, 2)), [0])


def test_cosines_by_offset_are_means_over_all_pairs_so_far_apart():
    kernel, grid = noise(5, 12), Grid((4, 3))
    rows = kernel.T / np.linalg.norm(kernel.T, axis=1, keepdims=True)
    planes = rows.reshape(4, 3, 5)
    out = cosine_by_offset(topography.cosines(kernel), grid, reach=2)
    np.testing.assert_allclose(out[2, 3], (planes[:, :-1] * planes[:, 1:]).sum(-1).mean(), atol=1e-6)
    np.testing.assert_allclose(out[4, 1], (planes[:-2, 1:] * planes[2:, :-1]).sum(-1).mean(), atol=1e-6)
    np.testing.assert_allclose(out, out[::-1, ::-1])
    assert np.isnan(out[2, 2]) and np.isfinite(np.delete(out.ravel(), 12)).all()
    far = cosine_by_offset(topography.cosines(kernel), grid, reach=6)
    np.testing.assert_array_equal(far[4:9, 4:9], out)
    assert (
        np.isfinite(far[3:10, 4:9]).sum() == 34 and np.isfinite(far).sum() == 34
    )  # 7 x 5 less the unit itself.
    with pytest.raises(ValueError, match="two dimensions"):
        cosine_by_offset(topography.cosines(kernel), Grid((12,)))


def test_figures_return_what_they_show():
    kernels = {"baseline": noise(3, 3, 3, 8), "LGNN": noise(3, 3, 3, 8)}
    figure, arrays = plots.first_layer(kernels, Grid((4, 2)))
    assert list(arrays) == ["baseline", "LGNN"] and [a.get_title() for a in figure.axes] == list(arrays)
    figure, arrays = plots.correlation_maps(kernels, Grid((4, 2)), [0, 5])
    assert arrays["LGNN"].shape == (2, 4, 2)
    drawn = figure.axes[3].images[0].get_array()
    np.testing.assert_array_equal(drawn, arrays["LGNN"][1])
    layers = {title: {"conv": kernel} for title, kernel in kernels.items()}
    figure, arrays = plots.offset_maps(layers, {"conv": Grid((4, 2))}, reach=1)
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), arrays["LGNN"]["conv"])


def test_figures_of_kernels_with_the_filters_first_are_the_same():
    grid, hwio = Grid((4, 2)), noise(3, 3, 3, 8)
    kernels, turned = {"net": hwio}, {"net": hwio.transpose(3, 2, 0, 1)}
    for draw in (
        lambda kernels, **options: plots.first_layer(kernels, grid, **options),
        lambda kernels, **options: plots.correlation_maps(kernels, grid, [0, 5], **options),
        lambda kernels, **options: plots.similarity_maps(kernels, grid, [0, 5], **options),
        lambda kernels, **options: plots.offset_maps({"net": kernels}, {"net": grid}, **options),
    ):
        expected, found = (draw(given, axis=axis)[1]["net"] for given, axis in ((kernels, -1), (turned, 0)))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), expected, found)


def test_figures_draw_on_axes_that_are_given():
    kernels = {"baseline": noise(3, 3, 3, 8), "LGNN": noise(3, 3, 3, 8)}
    layers = {title: {"conv": kernel} for title, kernel in kernels.items()}
    grid = Grid((4, 2))
    for shape, draw in (
        ((1, 2), lambda axes: plots.first_layer(kernels, grid, axes=axes[0])),
        ((2, 1), lambda axes: plots.offset_maps(layers, {"conv": grid}, reach=1, axes=axes)),
        ((2, 2), lambda axes: plots.correlation_maps(kernels, grid, [0, 5], axes=axes)),
        ((2, 4), lambda axes: plots.similarity_maps(kernels, grid, [0, 5], axes=axes)),
    ):
        figure = Figure()
        axes = figure.subplots(*shape, squeeze=False)
        assert draw(axes)[0] is figure and all(panel.images for panel in axes.flat)
        with pytest.raises(ValueError, match="axes must be"):
            draw(figure.subplots(3, 3))


def test_similarity_maps_are_inner_products_and_cosines():
    kernels = {"baseline": noise(3, 3, 3, 8)}
    figure, arrays = plots.similarity_maps(kernels, Grid((4, 2)), [3])
    np.testing.assert_array_equal(arrays["baseline"][0], gram_maps(kernels["baseline"], Grid((4, 2)), [3]))
    np.testing.assert_array_equal(
        arrays["baseline"][1], cosine_maps(topography.cosines(kernels["baseline"]), Grid((4, 2)), [3])
    )
    drawn = [axes.images[0].get_array() for axes in figure.axes[:2]]
    for values, array in zip(drawn, arrays["baseline"], strict=True):
        assert values.mask[1, 1] and values.mask.sum() == 1
        np.testing.assert_array_equal(values.data, array[0])


def test_filter_pictures_lie_at_their_places_with_frames_and_crosses():
    pictures = np.random.default_rng(0).random((12, 8, 6, 3))
    dead = np.arange(12) == 5
    figure, drawn = plots.filter_images(
        pictures, Grid((4, 3)), [4, 5, 7, 8], dead=dead, outlined={"red": [4, 0], "blue": [8, 4]}
    )
    (axes,) = figure.axes
    assert list(drawn) == [4, 5, 7, 8]
    np.testing.assert_array_equal(drawn[8], pictures[8])
    canvas = np.asarray(axes.images[0].get_array())
    gap = canvas.shape[0] - 2 * 8
    np.testing.assert_array_equal(canvas[8 + gap :, 6 + gap :], pictures[8])  # Row 2, column 2.
    np.testing.assert_array_equal(canvas[:8, :6], pictures[4])
    assert np.ptp(canvas[:8, 6 + gap :], axis=(0, 1)).max() == 0 and len(axes.lines) == 2
    frames = [(to_hex(frame.get_edgecolor()), *frame.get_xy()) for frame in axes.patches]
    (_, x, y), (_, x_inside, y_inside), (_, x_8, y_8) = frames
    assert [colour for colour, *_ in frames] == ["#ff0000", "#0000ff", "#0000ff"]
    assert x < x_inside and y < y_inside and x_8 > x + 6 and y_8 > y + 8
    grey = plots.filter_images(np.zeros((4, 2, 2, 1), np.uint8), Grid((2, 2)))[1]
    assert grey[3].shape == (2, 2, 3)


@pytest.mark.parametrize(
    "pictures, options, words",
    [
        (np.zeros((5, 2, 2, 3)), {}, "images must be"),
        (np.zeros((4, 2, 2, 2)), {}, "images must be"),
        (np.full((4, 2, 2, 3), 1.5), {}, "floats in \\[0, 1\\]"),
        (np.zeros((4, 2, 2, 3)), {"dead": [True]}, "dead must be \\(4,\\)"),
        (np.zeros((4, 2, 2, 3)), {"units": [4]}, "indices from 0 to 3"),
    ],
)
def test_filter_pictures_fit_the_grid(pictures, options, words):
    with pytest.raises(ValueError, match=words):
        plots.filter_images(pictures, Grid((2, 2)), **options)
