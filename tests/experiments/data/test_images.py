import io

import numpy as np
import pytest
from PIL import Image

from experiments.data.images import SIZE, Decoder

RGB = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
GREY = "1 grey pictures given three channels"
RESAMPLED = "1 pictures resampled to 32x32"


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(image, *notes, **options):
    """The decoded picture, after a check of type, shape and notes."""
    decode = Decoder()
    array = decode(encode(image, **options), "a.png")
    assert array.shape == (SIZE, SIZE, 3) and array.dtype == np.uint8
    assert decode.notes == notes
    return array


@pytest.mark.parametrize("kind, options", [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_rgb_of_the_right_size_is_bit_exact(kind, options):
    np.testing.assert_array_equal(decoded(Image.fromarray(RGB), kind=kind, **options), RGB)


@pytest.mark.parametrize("grey", [RGB[..., 0], RGB[..., 0] > 127], ids=["L", "1"])
def test_grey_becomes_three_equal_channels(grey):
    wanted = grey.astype(np.uint8) * (255 if grey.dtype == bool else 1)
    np.testing.assert_array_equal(decoded(Image.fromarray(grey), GREY), np.stack([wanted] * 3, -1))


def test_a_palette_is_looked_up():
    palette, indices = RGB[0], np.arange(32 * 32, dtype=np.uint8).reshape(32, 32) % 32
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes())
    assert image.mode == "P"
    np.testing.assert_array_equal(decoded(image), palette[indices])


@pytest.mark.parametrize("factors", [(2, 2), (3, 2), (1, 4)])
def test_larger_pictures_are_averaged_over_areas(factors):
    rows, columns = factors
    large = np.random.default_rng(1).integers(0, 256, (32 * rows, 32 * columns, 3), dtype=np.uint8)
    mean = large.reshape(32, rows, 32, columns, 3).mean((1, 3))
    assert np.abs(decoded(Image.fromarray(large), RESAMPLED) - mean).max() <= 1


@pytest.mark.parametrize("side", [8, 16])
def test_smaller_pictures_are_interpolated_linearly(side):
    small = np.random.default_rng(2).integers(0, 256, (side, side, 3), dtype=np.uint8)
    places = np.clip((np.arange(32) + 0.5) * side / 32 - 0.5, 0, side - 1)  # Of output pixels, in input's.
    weights = np.maximum(1 - np.abs(places[:, None] - np.arange(side)), 0)
    wanted = np.einsum("Ii,Jj,ijc->IJc", weights, weights, small)
    assert np.abs(decoded(Image.fromarray(small), RESAMPLED) - wanted).max() <= 1


def test_an_oblong_picture_is_kept_whole_and_interpolated_where_it_grows():
    tall = np.zeros((96, 16, 3), np.uint8)
    tall[:48, :, 0], tall[48:, :, 1], tall[..., 2] = 200, 200, 10 * np.arange(16)
    array = decoded(Image.fromarray(tall), RESAMPLED).astype(int)
    assert (array[0, :, :2] == [200, 0]).all() and (array[-1, :, :2] == [0, 200]).all()
    assert array[0, 0, 2] == 0 and array[0, -1, 2] == 150 and (np.diff(array[0, 1:-1, 2]) > 0).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_orientation_is_applied(kind):
    quarters = np.zeros((2, 2, 3), np.uint8)
    quarters[0, 0] = 255
    image, exif = Image.fromarray(np.kron(quarters, np.ones((16, 16, 1), np.uint8))), Image.Exif()
    for orientation, corner in ((1, (0, 0)), (3, (-1, -1)), (6, (0, -1)), (8, (-1, 0))):
        exif[0x0112] = orientation
        array = decoded(image, kind=kind, exif=exif).astype(int)
        assert array[corner].min() > 240 and array.mean() == pytest.approx(255 / 4, abs=8), orientation


def test_notes_count_over_pictures():
    decode, small = Decoder(), encode(Image.fromarray(RGB[:8, :8, 0]))
    assert decode.notes == ()
    for data in (small, small, encode(Image.fromarray(RGB[..., 0])), encode(Image.fromarray(RGB))):
        decode(data, "a.png")
    assert decode.notes == (
        "3 grey pictures given three channels",
        "2 pictures resampled to 32x32",
    )


RGBA = np.dstack([RGB, RGB[..., :1]])
PICTURE, ALPHA = Image.fromarray(RGB), Image.fromarray(RGBA)
PALETTE = PICTURE.convert("P")
OPAQUE = "1 opaque alpha channels dropped"
FULL, UNUSED = np.full((32, 32, 1), 255, np.uint8), (1, 2, 3)
assert not (RGB == UNUSED).all(-1).any()


@pytest.mark.parametrize(
    "image, options",
    [
        (Image.fromarray(np.dstack([RGB, FULL])), {}),
        (PICTURE, {"transparency": UNUSED}),
    ],
)
def test_an_alpha_channel_that_is_opaque_everywhere_is_dropped(image, options):
    np.testing.assert_array_equal(decoded(image, OPAQUE, **options), RGB)


def test_the_same_of_grey_and_of_a_palette():
    grey = np.broadcast_to(RGB[..., :1], RGB.shape)
    two = Image.fromarray(np.dstack([RGB[..., :1], FULL]))
    np.testing.assert_array_equal(decoded(two, GREY, OPAQUE), grey)
    np.testing.assert_array_equal(
        decoded(PALETTE, OPAQUE, transparency=bytes([255] * 256)), np.asarray(PALETTE.convert("RGB"))
    )


def test_one_pixel_that_is_not_is_enough_to_refuse():
    almost = np.dstack([RGB, FULL])
    almost[5, 7, 3] = 254
    with pytest.raises(ValueError, match="has an alpha channel"):
        Decoder()(encode(Image.fromarray(almost)), "a.png")


@pytest.mark.parametrize(
    "data, words",
    [
        (encode(ALPHA), r"has an alpha channel \(mode RGBA\); flatten it"),
        (encode(ALPHA, "WEBP", lossless=True), r"has an alpha channel \(mode RGBA\)"),
        (encode(ALPHA.convert("LA")), r"has an alpha channel \(mode LA\)"),
        (encode(PALETTE, transparency=PALETTE.getpixel((0, 0))), r"has an alpha channel \(mode P\)"),
        (encode(PICTURE, transparency=tuple(RGB[0, 0].tolist())), r"has an alpha channel \(mode RGB\)"),
        (encode(PICTURE.convert("CMYK"), "JPEG"), "is in mode CMYK; convert it to RGB"),
        (encode(Image.fromarray(RGB[..., 0].astype(np.uint16) * 257)), "is in mode I;16; convert"),
        (encode(PICTURE.convert("F"), "TIFF"), "is in mode F; convert"),
        (b"", "is not a readable image"),
        (b"no picture" * 100, "is not a readable image"),
        (encode(PICTURE)[:1500], "is not a readable image"),
        (encode(PICTURE, "JPEG")[:-200], "is not a readable image"),
        (encode(PICTURE, exif=b"garbage"), "is not a readable image"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(data, words):
    decode = Decoder()
    with pytest.raises(ValueError, match=f"^some/7.png {words}"):
        decode(data, "some/7.png")
    assert decode.notes == ()
