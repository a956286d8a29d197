"""Images made worse, beside their formulas."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from experiments.data.corruptions import CORRUPTIONS


@pytest.fixture(scope="module")
def images():
    smooth = np.random.default_rng(0).integers(40, 200, (8, 4, 4, 3), dtype=np.uint8)
    return smooth.repeat(8, 1).repeat(8, 2)


def worse(name, images):
    (found,) = [corrupt for title, corrupt in CORRUPTIONS.items() if title.startswith(name)]
    return found(images, np.random.default_rng(0))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_changes_images_and_is_the_same_again(name, images):
    before = images.copy()
    found = CORRUPTIONS[name](images, np.random.default_rng(0))
    assert (
        found.dtype == np.uint8 and found.shape == images.shape and (found != images).any((1, 2, 3)).all()
    )
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(found, CORRUPTIONS[name](images, np.random.default_rng(0)))


def test_severities(images):
    change = {name: worse(name, images).astype(float) - images for name in ("noise", "brightness")}
    assert change["noise"].std() == pytest.approx(25.5, rel=0.05) and abs(change["noise"].mean()) < 1
    assert change["brightness"][images < 170].min() == pytest.approx(76, abs=1)
    flat = worse("contrast", images).astype(float)
    means = images.mean((1, 2, 3)), flat.mean((1, 2, 3))
    np.testing.assert_allclose(*means, atol=1)
    assert flat.std() < 0.5 * images.std()
    patch = worse("occlusion", images) == 127
    assert (patch.all(-1).sum((1, 2)) >= 144).all() and (patch.all(-1).sum((1, 2)) < 200).all()
    for image, blurred, squeezed in zip(images, worse("blur", images), worse("JPEG", images), strict=True):
        wanted = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1)), float)
        inside = slice(4, -4), slice(4, -4)
        assert np.abs(wanted[inside] - blurred[inside].astype(float)).mean() < 4
        assert np.abs(squeezed.astype(float) - image).mean() < 20
