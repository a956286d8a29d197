"""The atlas: its data, and the page in a real headless browser."""

import base64
import dataclasses
import json
import pathlib
import re
import shutil
import string
import types

import jax
import numpy as np
import pytest

from lgnn_jax import Grid, inspect, neighbours, topography
from lgnn_jax.inspect import accumulate, atlas, regions
from lgnn_jax.inspect.atlas import _encoding, _layer

pytest.importorskip("PIL")
NAMES = ['"><img src=x onerror=alert(1)>', "</script><script>alert(2)</script>", "tabby & 'cat' – 猫"]
GRIDS = {"first": Grid((4, 2)), "second": Grid((4, 3))}
SCORE = {"value": 0.4, "null_mean": 0.0, "null_low": -0.1, "null_high": 0.1, "z": 8.0}


def network(title, seed, **options):
    """A network of random projections of random pictures, the eighth unit of its first layer constant."""
    draw = np.random.default_rng(seed)
    images = np.random.default_rng(9).random((30, 4, 4, 3), np.float32)
    labels = np.arange(30) % 3
    images[labels == 1] *= 0.5
    kernels = {
        "first": draw.standard_normal((1, 1, 3, 8)),
        "second": draw.standard_normal((1, 1, 3, 12)),
    }
    kernels["first"][..., 7] = kernels["second"][..., 3] = 0
    found = accumulate(
        lambda x: {name: x @ kernel[0, 0] for name, kernel in kernels.items()},
        images,
        labels,
        classes=3,
        top=4,
    )
    made = types.SimpleNamespace(
        units=np.arange(12), images=draw.random((12, 16, 16, 3)), dead=np.arange(12) == 3
    )
    layers = [
        atlas.layer("first", kernels["first"], GRIDS["first"], found["first"], scores={"order": SCORE}),
        atlas.layer(
            "second",
            kernels["second"],
            GRIDS["second"],
            found["second"],
            visualisation=made,
            scores={"order": SCORE, "other": {"undefined": "for a reason"}},
        ),
    ]
    return atlas.Shown(
        title, layers, np.array([0.5, 0.25, 1.0]), {"test accuracy": "58 %"}, **options
    ), images


def arranged(net, seed):
    """The network with its second layer in another order too, in which responses are more alike."""
    order = np.random.default_rng(seed).permutation(12)
    better = [
        dataclasses.replace(net.layers[1], order=order, arranged_scores={"order": SCORE | {"value": 0.7}})
    ]
    return dataclasses.replace(net, layers=[*net.layers[:1], *better])


def write(folder, count=2):
    """The page of one or two networks, with the networks."""
    made = [network(title, seed) for seed, title in enumerate(("baseline", "LGNN"))][:count]
    page = folder / "atlas.html"
    atlas.write_page(
        page,
        [net for net, _ in made],
        images=made[0][1],
        class_names=NAMES,
        superclass_names=["all of them", "<b>rest</b>"],
        superclass_of=[0, 0, 1],
        threshold=2.0,
        title="An <atlas>",
    )
    return page, [net for net, _ in made]


def blocks(page):
    """The JSON of the page by element."""
    found = re.findall(
        r'<script type="application/json" id="([^"]+)">(.*?)</script>', page.read_text(), re.S
    )
    return {name: json.loads(text) for name, text in found}


def unpack(packed):
    if packed["type"] == "base64":
        letters = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
        codes = np.array([letters.index(letter) for letter in packed["data"]]).reshape(packed["shape"])
    else:
        codes = np.frombuffer(base64.b64decode(packed["data"]), packed["type"]).reshape(packed["shape"])
    undefined = {"int8": -128, "int16": -32768}.get(packed["type"])
    scale, offset = (
        unpack(given) if isinstance(given, dict) else given
        for given in (packed.get("scale", 1), packed.get("offset", 0))
    )
    return np.where(codes == undefined, np.nan, offset + scale * codes)


def counted(packed):
    return unpack(packed).astype(int)


def runs(codes):
    """Regions from their runs."""
    found, part = [], []
    for code in codes.tolist():
        part.append(-1 - code if code < 0 else code)
        if code < 0:
            found.append(part)
            part = []
    assert not part
    return found


def runs_of_groups(block):
    """Pairs of a group and a region."""
    ends = np.cumsum(counted(block["counts"]))
    parts = np.split(counted(block["members"]), ends)
    assert not len(parts.pop())
    return [(group, region) for group, part in enumerate(parts) for region in runs(part)]


def test_data_are_what_the_networks_hold(tmp_path):
    page, networks = write(tmp_path)
    found = blocks(page)
    overview = found["atlas"]
    assert overview["classes"] == NAMES and overview["superclass_of"] == [0, 0, 1]
    assert [net["title"] for net in overview["networks"]] == ["baseline", "LGNN"]
    assert overview["networks"][1]["class_accuracy"] == [0.5, 0.25, 1.0]
    used = np.unique(np.concatenate([one.top_images.ravel() for net in networks for one in net.layers]))
    assert found["images"]["count"] == len(used)
    for index, one in enumerate(networks[1].layers):
        block = found[f"layer-1-{index}"]
        lower = np.tril_indices(one.grid.units)
        for name, matrix in (("correlations", one.correlations), ("cosines", one.cosines)):
            np.testing.assert_allclose(unpack(block[name]), matrix[lower], atol=0.5 / 127 + 1e-6)
        t = np.concatenate([one.selectivity, one.statistics.selectivity([0, 0, 1], constant="nan")])
        check_preferences(block, t)
        means = np.concatenate(
            [one.class_means, one.statistics.grouped_means([0, 0, 1]), one.statistics.mean[None]]
        )
        np.testing.assert_allclose(unpack(block["means"]), means, atol=block["means"]["scale"])
        tops = unpack(block["top_images"]).astype(int)
        np.testing.assert_array_equal(used[tops], one.top_images)
        check_regions(block["regions"], one.grid, t, np.arange(one.grid.units))
        assert block["arranged_regions"] is block["order"] is None
    assert found["layer-0-0"]["constant"] == [7] and 7 in found["layer-0-0"]["dead"]
    assert found["layer-0-0"]["pictures"]["source"] == "weights"
    assert found["layer-0-1"]["dead"] == [3] and found["layer-0-1"]["pictures"]["source"] == "visualisation"
    assert found["layer-0-1"]["scores"]["other"] == {"undefined": "for a reason"}


def test_an_order_comes_with_its_scores_and_regions(tmp_path):
    net, images = network("one", 0)
    given, order = net.layers[1], np.random.default_rng(5).permutation(12)
    kernel = np.random.default_rng(0).standard_normal((1, 1, 3, 12))
    shown = atlas.layer(
        "second",
        kernel,
        GRIDS["second"],
        given.statistics,
        scores={"order": SCORE},
        order=order,
        arranged_scores={"order": SCORE | {"value": 0.7}, "new": SCORE},
    )
    page = tmp_path / "atlas.html"
    atlas.write_page(
        page,
        [atlas.Shown("one", [shown])],
        images=images,
        class_names=NAMES,
        superclass_names=["all of them", "rest"],
        superclass_of=[0, 0, 1],
        threshold=2.0,
    )
    found = blocks(page)
    block = found["layer-0-0"]
    assert found["atlas"]["version"] == 2 and set(found["atlas"]["metrics"]) == {"order", "new"}
    np.testing.assert_array_equal(unpack(block["order"]), order)
    assert block["arranged_scores"]["order"]["value"] == 0.7 and block["scores"]["order"] == SCORE
    t = np.concatenate([given.selectivity, given.statistics.selectivity([0, 0, 1], constant="nan")])
    check_regions(block["arranged_regions"], GRIDS["second"], t, order)
    check_regions(block["regions"], GRIDS["second"], t, np.arange(12))
    near, matrix, correlations = neighbours(GRIDS["second"]), given.correlations, {}
    for name, moved in (("native", np.arange(12)), ("arranged", order)):
        correlations[name] = np.nanmean([matrix[moved[a], moved[b]] for a, b in near])
    assert block["neighbour_correlation"] == pytest.approx(correlations)
    more = correlations["arranged"] > correlations["native"]
    assert found["atlas"]["arranged_first"] is bool(more)
    for options, words in (
        ({"order": order[:-1]}, "order must be a permutation of the 12 units of 'second'"),
        ({"arranged_scores": {"order": SCORE}}, "give it as order"),
    ):
        with pytest.raises(ValueError, match=words):
            atlas.layer("second", kernel, GRIDS["second"], given.statistics, **options)


def check_preferences(block, t):
    """What units prefer, and which units groups excite most, beside t of classes and superclasses."""
    for found, what, wanted in (
        (block["preferences"], "groups", t[:3].T),
        (block["responders"], "units", t),
    ):
        names, values = counted(found[what]), unpack(found["t"])
        given = np.take_along_axis(wanted, names, 1)
        np.testing.assert_allclose(values, given, atol=1.01 * found["t"]["scale"] + 1e-6)
        best = -np.sort(-np.nan_to_num(wanted, nan=-np.inf), 1)[:, : names.shape[1]]
        np.testing.assert_array_equal(np.nan_to_num(given, nan=-np.inf), best)
    most, which = np.nan_to_num(t[3:]).max(0), np.nan_to_num(t[3:]).argmax(0)
    np.testing.assert_array_equal(counted(block["preferred"]), np.where(most > 2.0, 3 + which, -1))


def check_regions(block, grid, t, order):
    """Regions and their chance beside the library's, of units in an order."""
    moved = regions(t[:, order], grid, threshold=2.0)
    assert runs_of_groups(block["groups"]) == [(x.label, order[x.members].tolist()) for x in moved]
    labels = inspect.preferred(t[3:, order], threshold=2.0)
    together = inspect.label_regions(labels, grid)
    assert runs(counted(block["preferred"]["members"])) == [order[x.members].tolist() for x in together]
    alive, key = ~np.isnan(t[0, order]), jax.random.key(0)
    scores = inspect.region_scores(labels, grid, alive=alive, key=key)
    for name in ("count", "largest", "mean"):
        kept = getattr(scores, name).summary()
        assert block["preferred"]["chance"][name] == {
            field: kept[field] for field in ("value", "null_mean", "null_low", "null_high", "z")
        }
    each = inspect.group_region_scores(t[:, order] > 2.0, grid, alive=alive, key=key)
    wanted = [[x.count.low, x.count.high, x.largest.low, x.largest.high] for x in each]
    np.testing.assert_allclose(unpack(block["groups"]["chance"]), wanted, atol=1e-3)


# Of light; Machado, Oliveira and Fernandes, IEEE Transactions on Visualization and Computer Graphics 15, 2009.
BLIND = {
    "none": np.eye(3),
    "red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.3039],
    ],
}


@pytest.mark.parametrize("blind", BLIND)
def test_colours_of_classes_are_told_apart_with_any_colour_vision(blind):
    text = (pathlib.Path(atlas.__file__).parent / "web" / "regions.js").read_text()
    given = [
        re.search(f'const {name} = "(.*?)"', text)[1].split() for name in ("COLOURS", "OTHERS", "NOTHING")
    ]
    rgb = np.array([[int(x[i : i + 2], 16) / 255 for i in (1, 3, 5)] for x in sum(given, [])])
    light = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(light @ np.transpose(BLIND[blind]), 0, 1)
    cones = [[0.41222, 0.53633, 0.05145], [0.2119, 0.6807, 0.1074], [0.0883, 0.28172, 0.62998]]
    oklab = [[0.21045, 0.79362, -0.00407], [1.978, -2.42859, 0.45059], [0.0259, 0.78277, -0.80868]]
    place = np.cbrt(seen @ np.transpose(cones)) @ np.transpose(oklab)
    count = len(given[0])
    apart = np.linalg.norm(place[:count, None] - place[None], axis=-1)
    apart[np.arange(count), np.arange(count)] = np.inf
    assert count == 8 and apart.min() > 0.12  # Paul Tol's muted colours and grey reach 0.04.


def test_what_test_images_excite_is_not_dead_whatever_the_visualisation_says():
    images, labels = np.random.default_rng(0).random((6, 2, 2, 3), np.float32), [0, 0, 0, 1, 1, 1]
    kernel = np.random.default_rng(1).standard_normal((1, 1, 3, 4)).astype(np.float32)
    kernel[..., 3] = 0

    def responses(x):
        maps = np.maximum(x @ kernel[0, 0], 0)
        maps[..., 1] = 0  # Shut by what the weights do not show, as a bias.
        return {"conv": maps}

    found = accumulate(responses, images, labels, classes=2, top=2)["conv"]
    assert found.constant.tolist() == [False, True, False, True]
    for dead, expected in (([1, 1, 0, 0], [0, 1, 0, 1]), ([0, 0, 0, 0], [0, 0, 0, 1])):
        made = types.SimpleNamespace(
            units=np.arange(4), images=np.full((4, 2, 2, 3), 0.5), dead=np.array(dead, bool)
        )
        shown = atlas.layer("conv", kernel, Grid((2, 2)), found, visualisation=made)
        assert shown.dead.tolist() == [bool(x) for x in expected]


@pytest.mark.parametrize("box", ["Partitioned", "LogicallyPartitioned", "Param", "VariableState"])
def test_kernels_come_in_boxes_of_flax(box):
    linen, nnx = pytest.importorskip("flax.linen"), pytest.importorskip("flax.nnx")
    names = (None, None, None, "model")
    boxes = {
        "Partitioned": lambda x: linen.Partitioned(x, names=names),
        "LogicallyPartitioned": lambda x: linen.LogicallyPartitioned(x, names=names),
        "Param": nnx.Param,
        "VariableState": lambda x: jax.tree.leaves(
            nnx.state(nnx.Dict(a=nnx.Param(x))), is_leaf=lambda leaf: not isinstance(leaf, nnx.State)
        )[0],
    }
    net, _ = network("one", 0)
    kernel, found = np.random.default_rng(0).standard_normal((1, 1, 3, 12)), net.layers[1].statistics
    boxed, plain = (
        atlas.layer("conv", x, GRIDS["second"], found)
        for x in (boxes[box](jax.numpy.asarray(kernel)), kernel)
    )
    np.testing.assert_allclose(boxed.images, plain.images, atol=1e-6)
    np.testing.assert_allclose(boxed.cosines, plain.cosines, atol=1e-6)


def test_pictures_are_as_they_were_given(tmp_path):
    import io

    from PIL import Image

    page, (net,) = write(tmp_path, count=1)
    about = blocks(page)["layer-0-1"]["pictures"]
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(about["data"]))), np.float64) / 255
    assert (about["count"], about["height"], about["width"]) == (12, 16, 16)
    row, column = divmod(5, about["columns"])
    shown = sheet[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
    given = net.layers[1].images[5]
    # Lossy: of noise, the means of 8x8 pixels remain.
    means = [x.reshape(2, 8, 2, 8, 3).mean((1, 3)) for x in (shown, given)]
    np.testing.assert_allclose(*means, atol=0.1)


def test_the_files_of_the_script_are_all_on_the_page(tmp_path):
    page, _ = write(tmp_path)
    text, folder = page.read_text(), pathlib.Path(atlas.__file__).parent / "web"
    files = sorted(folder.glob("*.js"))
    assert files and all(text.count(file.read_text()) == 1 for file in files)
    assert text.count("<script>") == 1


def test_the_schema_names_every_field(tmp_path):
    text = (pathlib.Path(__file__).parents[3] / "docs" / "atlas.md").read_text()
    page, _ = write(tmp_path)

    def fields(value):
        if isinstance(value, dict):
            for name, inner in value.items():
                yield name
                yield from fields(inner)
        elif isinstance(value, list) and value:
            yield from fields(value[0])

    own = {"first", "second", "order", "other", "undefined", "baseline", "LGNN"}  # Names of this test's.
    found = {name for block in blocks(page).values() for name in fields(block)} - own
    assert found and not [name for name in sorted(found) if f"`{name}`" not in text]


def test_wrong_input_says_what_to_do(tmp_path):
    (net, images), (other, _) = network("one", 0), network("two", 1)
    page = tmp_path / "atlas.html"

    def attempt(networks=(net,), images=images, class_names=NAMES, **options):
        atlas.write_page(page, networks, images=images, class_names=class_names, **options)

    for arguments, words in (
        ({"networks": []}, "one network or two"),
        ({"networks": [net, net]}, "Both networks are called 'one'"),
        ({"networks": [net, atlas.Shown("two", other.layers[:1])]}, "same layers"),
        ({"images": images[:5]}, "must be the 30 test images"),
        ({"images": 2 * images}, "must be in \\[0, 1\\]"),
        ({"class_names": ["a"]}, "must name the 3 classes"),
        ({"superclass_names": ["a"], "superclass_of": [0, 0, 1]}, "superclass_of must hold"),
        ({"threshold": float("nan")}, "threshold must be a finite t"),
    ):
        with pytest.raises(ValueError, match=words):
            attempt(**arguments)
    statistics = net.layers[1].statistics
    few = types.SimpleNamespace(units=np.arange(3), images=np.zeros((3, 2, 2, 3)), dead=np.zeros(3, bool))
    for arguments, options, words in (
        (("x", None, Grid((5, 2)), statistics), {}, "12 units"),
        (("x", None, Grid((2, 2, 3)), statistics), {}, "one or two dimensions"),
        (("x", None, Grid((4, 3)), statistics), {"visualisation": few}, "Visualise all channels"),
        (("x", None, Grid((4, 3)), statistics), {"scores": {"order": 3.0}}, "must be a Score"),
    ):
        with pytest.raises(ValueError, match=words):
            atlas.layer(*arguments, **options)
    assert not list(tmp_path.iterdir())


def test_scores_are_read_whether_they_are_fresh_or_from_a_file_of_before(tmp_path):
    """Files of before have no p; scores may also come with the filters' cosines of OIHW kernels."""
    net, images = network("one", 0)
    statistics, kernel = net.layers[1].statistics, np.random.default_rng(0).standard_normal((1, 1, 3, 12))
    similarity, grid = topography.cosines(kernel), GRIDS["second"]
    score = topography.neighbour_cosine(similarity, grid, key=jax.random.key(0), permutations=20)
    before = {name: value for name, value in score.summary().items() if name != "p"}
    for given in (score, score.summary(), before):
        scores = {"weights: neighbour cosine": given, "mine": SCORE}
        shown = atlas.layer("second", kernel, grid, statistics, scores=scores)
        kept = shown.scores["weights: neighbour cosine"]
        assert kept == {name: before[name] for name in ("value", "null_mean", "null_low", "null_high", "z")}
    oihw = atlas.layer("second", kernel.transpose(3, 2, 0, 1), grid, statistics, axis=0)
    np.testing.assert_array_equal(oihw.images, shown.images)
    np.testing.assert_allclose(oihw.cosines, shown.cosines, atol=1e-6)
    with pytest.raises(ValueError, match="kernel of 'second' of shape .* has 1 units on axis 0"):
        atlas.layer("second", kernel, grid, statistics, axis=0)
    page = tmp_path / "atlas.html"
    atlas.write_page(page, [atlas.Shown("one", [shown])], images=images, class_names=NAMES)
    meanings = blocks(page)["atlas"]["metrics"]
    name = "weights: neighbour cosine"
    assert meanings == {name: topography.METRICS[name].meaning, "mine": ""}


# The page in a browser.


@pytest.fixture(scope="module")
def driver():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write(tmp_path_factory.mktemp("atlas"))[0]


@pytest.fixture
def browser(driver, page):
    """The page, freshly opened."""
    sized(driver, 1280, 800)
    driver.get(page.as_uri())
    assert script(driver, "return performance.getEntriesByName('interactive').length") == 1
    yield driver
    assert driver.get_log("browser") == []


def sized(driver, width, height):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def script(driver, text, *arguments):
    return driver.execute_script(text, *arguments)


def all_of(driver, selector):
    painted(driver)
    return driver.find_elements("css selector", selector)


def pick(driver, name, text):
    """Clicks the radio button that reads ``text``."""
    for label in all_of(driver, f"label:has(input[name={name}])"):
        if label.text.startswith(text):
            label.click()
            return
    raise AssertionError(f"no {name} called {text}")


def choose(driver, select, text):
    for option in all_of(driver, f"#{select} option"):
        if option.get_attribute("textContent") == text:
            option.click()
            return
    raise AssertionError(f"no {text!r} in {select}")


def painted(driver):
    """Waits for the frame after the next: the page paints once a frame."""
    driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def pixels(driver):
    """What the networks' grids show."""
    painted(driver)
    return script(
        driver, "return [...document.querySelectorAll('.stage canvas')].map((c) => c.toDataURL())"
    )


def test_names_are_text_and_nothing_is_asked_for(browser):
    options = [option.get_attribute("textContent") for option in all_of(browser, "#group option")]
    assert set(NAMES) < set(options) and "<b>rest</b>" in options
    choose(browser, "group", NAMES[0])
    assert not all_of(browser, "img") and not all_of(browser, "b")
    assert len(all_of(browser, "script:not([type])")) == 1
    assert browser.title == "An <atlas>"
    log = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        entry["params"]["request"]["url"] for entry in log if entry["method"] == "Network.requestWillBeSent"
    ]
    assert asked and all(url.startswith(("file:", "blob:", "data:")) for url in asked)


def test_hovering_shows_what_is_alike_in_both_networks(browser):
    from selenium.webdriver import ActionChains

    pick(browser, "layer", "second")
    before = pixels(browser)
    cells = all_of(browser, "[role=gridcell]")
    assert len(cells) == 2 * 12
    ActionChains(browser).move_to_element(cells[5]).perform()
    after = pixels(browser)
    assert len(after) == 2 and all(x != y for x, y in zip(before, after, strict=True))
    assert "5" in all_of(browser, "#panel-title")[0].text
    tops = all_of(browser, "canvas.sheet")
    assert len(tops) == 2 and "activate filter 5 most" in tops[0].get_attribute("aria-label")
    ActionChains(browser).move_to_element(all_of(browser, "h1")[0]).perform()
    choose(browser, "group", NAMES[1])
    ActionChains(browser).move_to_element(cells[5]).perform()
    after = pixels(browser)
    pick(browser, "kind", "weights")
    ActionChains(browser).move_to_element(cells[5]).perform()
    assert pixels(browser) != after


def test_a_class_and_the_difference_of_two(browser):
    pick(browser, "layer", "second")
    pick(browser, "cells", "colours")
    choose(browser, "group", NAMES[1])
    choose(browser, "other", "– no other")
    one = pixels(browser)
    assert NAMES[1] in all_of(browser, "#shown")[0].text
    assert "25 % of its test images are recognised" in all_of(browser, "#panel")[0].text
    choose(browser, "other", NAMES[2])
    assert NAMES[2] in all_of(browser, "#shown")[0].text and pixels(browser) != one
    choose(browser, "group", "<b>rest</b>")
    assert "<b>rest</b>" in all_of(browser, "#shown")[0].text


def test_regions_are_named_where_several_things_are_outlined(browser):
    """A name hides squares, and the title has the only one there is."""

    def names():
        painted(browser)
        return set(
            script(
                browser, "return [...document.querySelectorAll('.labels span')].map((e) => e.textContent)"
            )
        )

    pick(browser, "layer", "second")
    assert names()
    choose(browser, "group", NAMES[1])
    choose(browser, "other", "– no other")
    assert not names()
    choose(browser, "other", "all images")
    assert not names()
    choose(browser, "other", NAMES[2])
    assert names() == {NAMES[1], NAMES[2]}


def test_the_keyboard_alone(browser):
    from selenium.webdriver import ActionChains, Keys

    def press(*keys):
        ActionChains(browser).send_keys(*keys).perform()
        painted(browser)

    def here():
        return script(
            browser,
            "const e = document.activeElement; return [e.dataset.unit, e.getAttribute('aria-label')]",
        )

    pick(browser, "layer", "second")
    script(browser, "document.activeElement.blur()")
    for _ in range(60):
        press(Keys.TAB)
        if here()[0] is not None:
            break
    assert here()[0] == "0" and "row 0 column 0" in here()[1]
    press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert here()[0] == "4"
    press(Keys.END)
    assert here()[0] == "5"
    press(Keys.ENTER)  # To the class that it prefers, on the map of regions,
    assert all_of(browser, "#group")[0].get_attribute("value") and not all_of(
        browser, "[aria-selected=true]"
    )
    press(Keys.ENTER)  # and from there to the filter itself.
    assert [cell.get_attribute("data-unit") for cell in all_of(browser, "[aria-selected=true]")] == [
        "5",
        "5",
    ]
    press(Keys.ESCAPE)
    assert not all_of(browser, "[aria-selected=true]")
    assert all_of(browser, "#group")[0].get_attribute("value")
    press(Keys.ESCAPE)
    assert not all_of(browser, "#group")[0].get_attribute("value")


def test_a_screen_reader_hears_names(browser):
    pick(browser, "layer", "second")
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    names = {}
    for node in tree:
        role = node.get("role", {}).get("value")
        names.setdefault(role, []).append(node.get("name", {}).get("value", ""))
    assert len(names["gridcell"]) == 24 and all(name.startswith("filter ") for name in names["gridcell"])
    assert any(name.endswith("dead") for name in names["gridcell"])
    for role in ("combobox", "radio", "grid", "button"):
        assert all(names.get(role, ["-"])), role
    assert "main" in names and len(names["heading"]) > 4


@pytest.fixture
def both_orders(driver, tmp_path):
    """A page of two networks, each with an order of its own for its second layer, and the networks."""
    made = [network(title, seed) for seed, title in enumerate(("baseline", "LGNN"))]
    networks = [arranged(net, seed + 3) for seed, (net, _) in enumerate(made)]
    page = tmp_path / "orders.html"
    atlas.write_page(page, networks, images=made[0][1], class_names=NAMES, threshold=1.0)
    sized(driver, 1280, 800)
    driver.get(page.as_uri())
    yield driver, networks
    assert driver.get_log("browser") == []


def cells_of(driver, network):
    squares = all_of(driver, ".squares")[network].find_elements("css selector", "[role=gridcell]")
    return [int(cell.get_attribute("data-unit")) for cell in squares]


def test_one_control_lays_all_filters_out_in_the_other_order(both_orders):
    browser, networks = both_orders
    pick(browser, "layer", "second")
    pick(browser, "order", "as trained")
    assert cells_of(browser, 0) == cells_of(browser, 1) == list(range(12))
    native, scores = pixels(browser), all_of(browser, "#metrics")[0].text
    assert "0.40" in scores and "0.70" not in scores
    pick(browser, "order", "arranged")
    for n, net in enumerate(networks):
        assert cells_of(browser, n) == net.layers[1].order.tolist()
    assert all(a != b for a, b in zip(native, pixels(browser), strict=True))
    assert "0.70" in all_of(browser, "#metrics")[0].text
    for n, net in enumerate(networks):
        t, order = net.layers[1].selectivity, net.layers[1].order
        labels = inspect.preferred(t[:, order], threshold=1.0)
        scored = inspect.region_scores(
            labels, GRIDS["second"], alive=~np.isnan(t[0, order]), key=jax.random.key(0)
        )
        told = " ".join(all_of(browser, "#panel-networks .side")[n].text.split())
        for words, score, digits in (
            ("{} region", scored.count, 0),
            ("The largest has {} filter", scored.largest, 0),
            ("A region has {} on average", scored.mean, 1),
        ):
            value, *ends = (f"{x:.{digits}f}" for x in (score.value, score.low, score.high))
            chance = " to ".join(dict.fromkeys(ends))
            assert re.search(f"{words.format(value)}s?; by chance {chance}\\.", told), (told, score)
    pick(browser, "layer", "first")  # Without another order.
    assert cells_of(browser, 0) == list(range(8))
    assert "no other order" in all_of(browser, ".network")[0].text
    assert re.search(
        "How alike neighbours respond, on average: .* unrelated", all_of(browser, ".network")[0].text
    )


def test_a_filter_that_is_kept_stays_so_in_the_other_order(both_orders):
    from selenium.webdriver import ActionChains

    browser, networks = both_orders
    pick(browser, "layer", "second")
    pick(browser, "order", "as trained")
    choose(browser, "group", NAMES[1])
    ActionChains(browser).click(all_of(browser, "[role=gridcell]")[5]).perform()
    ActionChains(browser).move_to_element(all_of(browser, "h1")[0]).perform()
    pick(browser, "order", "arranged")
    chosen = all_of(browser, "[aria-selected=true]")
    assert [cell.get_attribute("data-unit") for cell in chosen] == ["5", "5"]
    places = [str(net.layers[1].order.tolist().index(5)) for net in networks]
    assert [cell.get_attribute("data-place") for cell in chosen] == places


def test_the_first_view_is_a_map_of_regions_that_lead_to_their_class(browser):
    from selenium.webdriver import ActionChains

    assert all_of(browser, "#order")[0].get_attribute("hidden")  # There is one order.
    pick(browser, "layer", "second")
    colours = {tuple(script(browser, PIXEL, n, unit)) for n in range(2) for unit in (0, 1, 2)}
    assert len(colours) > 1 and "prefers" in all_of(browser, "#shown")[0].text
    names = [button.text.split("\n")[0] for button in all_of(browser, "#panel .places button")]
    assert names and set(names) <= {"all of them", "<b>rest</b>"}
    squares = all_of(browser, ".squares")[0].find_elements("css selector", "[role=gridcell]")
    wanted = next(cell for cell in squares if "prefers <b>rest" in cell.get_attribute("aria-label"))
    ActionChains(browser).click(wanted).perform()
    assert all_of(browser, "#shown")[0].text == "Average response to <b>rest</b>"
    assert all_of(browser, "#group option:checked")[0].get_attribute("textContent") == "<b>rest</b>"
    ActionChains(browser).click(all_of(browser, "#back")[0]).perform()
    assert "prefers" in all_of(browser, "#shown")[0].text
    all_of(browser, "#panel .places button")[0].click()
    assert all_of(browser, "#panel-title")[0].text == names[0]


@pytest.fixture
def over_training(driver, tmp_path):
    """A page of a network at three steps of its training, and the network."""
    steps = [network("LGNN", seed) for seed in (0, 3, 5)]
    net, images = steps[2]
    last = [dataclasses.replace(layer, scores={"order": SCORE | {"value": 0.9}}) for layer in net.layers]
    earlier = {"epoch 0": steps[0][0].layers, "epoch 10": steps[1][0].layers}
    net = dataclasses.replace(net, layers=last, earlier=earlier, at="epoch 50")
    page = tmp_path / "steps.html"
    atlas.write_page(page, [net], images=images, class_names=NAMES, threshold=1.0)
    sized(driver, 1280, 800)
    driver.get(page.as_uri())
    yield driver, page, net
    assert driver.get_log("browser") == []


def test_a_slider_goes_through_training(over_training):
    from selenium.webdriver import Keys

    browser, page, net = over_training
    data = blocks(page)
    assert data["atlas"]["steps"] == ["epoch 0", "epoch 10", "epoch 50"]
    for name, layers in (("-0", net.earlier["epoch 0"]), ("-1", net.earlier["epoch 10"]), ("", net.layers)):
        means = unpack(data[f"layer-0-1{name}"]["means"])[:3]
        np.testing.assert_allclose(means, layers[1].class_means, atol=1e-3)
    pick(browser, "layer", "second")
    slider, shown = all_of(browser, "#step")[0], []
    for step in ("epoch 50", "epoch 10", "epoch 0"):
        assert slider.get_attribute("aria-valuetext") == all_of(browser, "#step-name")[0].text == step
        shown.append(pixels(browser)[0])
        assert ("0.90, more than" if step == "epoch 50" else "0.40, more than") in all_of(
            browser, "#metrics"
        )[0].text
        facts = all_of(browser, ".network .facts")[0].text
        assert facts == ("" if step == "epoch 50" else "At epoch 50: ") + "test accuracy 58 %"
        slider.send_keys(Keys.ARROW_LEFT)
    assert len(set(shown)) == 3
    course = all_of(browser, "#metrics [aria-label='order over training']")
    assert len(course) == 1 and len(course[0].find_elements("css selector", "circle")) == 3


def test_steps_of_training_fit_each_other(tmp_path):
    (net, images), (other, _) = network("one", 0), network("two", 1)
    more = dataclasses.replace(net, earlier={"epoch 1": net.layers})
    for networks, words in (
        ([more, other], "same steps of training .* got \\['epoch 1', 'the end'\\] and \\['the end'\\]"),
        ([dataclasses.replace(more, earlier={"epoch 1": net.layers[:1]})], "same layers .* at 'epoch 1'"),
        ([dataclasses.replace(more, at="epoch 1")], "'epoch 1' of 'one' is both"),
    ):
        with pytest.raises(ValueError, match=words):
            atlas.write_page(tmp_path / "atlas.html", networks, images=images, class_names=NAMES)
    assert not list(tmp_path.iterdir())


def test_the_difference_of_networks_of_one_start_is_shown_filter_by_filter(driver, tmp_path):
    made = [network(title, seed) for seed, title in enumerate(("baseline", "LGNN"))]
    networks, images = [arranged(net, seed + 3) for seed, (net, _) in enumerate(made)], made[0][1]
    page = tmp_path / "difference.html"
    options = {"images": images, "class_names": NAMES, "threshold": 1.0}
    atlas.write_page(page, networks, same_units=True, **options)
    sized(driver, 1280, 800)
    driver.get(page.as_uri())
    pick(driver, "layer", "second")
    pick(driver, "order", "arranged")
    pick(driver, "compare", "difference")
    grids = [view for view in all_of(driver, ".network") if view.is_displayed()]
    assert len(grids) == 1 and "LGNN" in grids[0].text
    cells = grids[0].find_elements("css selector", "[role=gridcell]")
    order = networks[1].layers[1].order
    assert [int(cell.get_attribute("data-unit")) for cell in cells] == order.tolist()
    means = [net.layers[1].class_means for net in networks]
    with np.errstate(invalid="ignore"):
        wanted = [np.corrcoef(means[0][:, unit], means[1][:, unit])[0, 1] for unit in range(12)]
    found = np.array(script(driver, "return [...shown().values[1]]"), float)
    np.testing.assert_allclose(found, wanted, atol=0.02)
    assert np.isnan(found[3])  # Constant.
    choose(driver, "group", NAMES[1])
    found = np.array(script(driver, "return [...shown().values[1]]"), float)
    np.testing.assert_allclose(found, means[1][1] - means[0][1], atol=1e-3)
    cells[2].click()  # Keeps the filter at this place, the same in both networks.
    assert f"Filter {order[2]}" == all_of(driver, "#panel-title")[0].text
    pick(driver, "compare", "side by side")
    assert all(view.is_displayed() for view in all_of(driver, ".network"))
    assert driver.get_log("browser") == []
    with pytest.raises(ValueError, match="same_units is of two networks"):
        atlas.write_page(page, networks[:1], same_units=True, **options)
    atlas.write_page(page, networks, **options)
    driver.get(page.as_uri())
    assert all_of(driver, "#compare")[0].get_attribute("hidden")


def test_the_script_reads_what_wide_layers_keep(driver, tmp_path, monkeypatch):
    """As of a layer of 2,048 units and 1,000 classes, by lower limits."""
    monkeypatch.setattr(_encoding, "_PAIRS", 8)
    monkeypatch.setattr(_encoding, "_KEPT", 5)
    monkeypatch.setattr(_layer, "_SHARP", 0)
    page, (net,) = write(tmp_path, count=1)
    sized(driver, 1280, 800)
    driver.get(page.as_uri())
    pick(driver, "layer", "second")
    shown, order = net.layers[1], np.argsort(-np.nan_to_num(net.layers[1].correlations, nan=-9), axis=1)
    choose(driver, "group", NAMES[1])
    found = np.array(script(driver, "return [...shown().values[0]]"), float)
    np.testing.assert_allclose(
        found, shown.class_means[1], atol=np.ptp(shown.class_means, axis=0).max() / 100
    )
    cells = all_of(driver, "[role=gridcell]")
    cells[5].click()
    found = np.array(script(driver, "return [...shown().values[0]]"), float)
    assert np.flatnonzero(~np.isnan(found)).tolist() == sorted(order[5, :5].tolist())
    np.testing.assert_allclose(found[order[5, :5]], shown.correlations[5, order[5, :5]], atol=0.01)
    assert "the 5 most alike are kept" in all_of(driver, "#scale")[0].text
    assert driver.get_log("browser") == []


def test_images_are_kept_once(driver, tmp_path):
    """The one that activates a unit most is also among all images."""
    images = np.repeat(np.random.default_rng(3).random((30, 1, 1, 3), np.float32), 20, 1).repeat(20, 2)
    kernel = np.random.default_rng(4).standard_normal((3, 12))
    found = accumulate(
        lambda x: {"dense": x.mean((1, 2)) @ kernel}, images, np.arange(30) % 3, classes=3, top=4
    )["dense"]
    page = tmp_path / "once.html"
    shown = atlas.Shown("one", [atlas.layer("dense", None, GRIDS["second"], found)])
    atlas.write_page(page, [shown], images=images, class_names=NAMES)
    assert blocks(page)["layer-0-0"]["pictures"] == {"source": "images"}
    sized(driver, 1280, 800)
    driver.get(page.as_uri())
    pick(driver, "cells", "images")
    for unit in (0, 7):
        wanted = 255 * images[found.top_images[unit, 0], 0, 0]
        for _ in range(100):  # Until the sheet is decoded.
            painted(driver)
            red, green, blue, _ = script(driver, PIXEL, 0, unit)
            if np.abs(np.subtract((red, green, blue), wanted)).max() < 12:
                break
        else:
            raise AssertionError((unit, wanted, (red, green, blue)))
    assert driver.get_log("browser") == []


def test_a_wide_layer_takes_so_many_bytes_a_unit(tmp_path):
    """Beside means, a byte a class and unit: what is most alike, what is preferred, and no image twice."""
    units, classes = 1600, 5
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (1700, 32, 32, 3), np.uint8)
    found = accumulate(
        lambda x: {"wide": x}, draw.random((1700, units)), np.arange(1700) % classes, classes=classes, top=9
    )["wide"]
    shown = atlas.layer("wide", draw.random((1, 1, 4, units)), Grid((40, 40)), found)
    block = _layer.layer_block(shown, [], 5.0, np.arange(1700), images)
    assert len(json.dumps(block)) < 600 * units
    kept = _encoding.sheet(images[:units])
    assert (kept["height"], kept["width"]) == _encoding.kept_as(units, 32, 32)[:2]


PIXEL = """
    const canvas = document.querySelectorAll('.stage canvas')[arguments[0]];
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const [column, row] = [arguments[1] % 3, Math.floor(arguments[1] / 3)];
    const [x, y] = [((column + 0.1) * canvas.width) / 3, ((row + 0.85) * canvas.height) / 4];
    return [...copy.getImageData(x, y, 1, 1).data];
"""


def test_names_of_any_length_and_script_fit_a_narrow_window(driver, tmp_path):
    (net, images), long = network("x" * 90, 0), "encoder/" * 12
    layers = [dataclasses.replace(layer, name=long + layer.name) for layer in net.layers]
    page = tmp_path / "names.html"
    names = ["قطط كبيرة", "大型ネコ科動物" * 9, "Donaudampfschifffahrtsgesellschaft" * 3]
    atlas.write_page(
        page, [dataclasses.replace(net, layers=layers)], images=images, class_names=names, threshold=1.0
    )
    for width in (320, 390, 900, 1280):
        sized(driver, width, 700)
        driver.get(page.as_uri())
        assert script(driver, "return document.documentElement.scrollWidth") <= width
        for part in all_of(driver, ".controls, #grids, #panel"):
            assert part.size["width"] <= width
    assert driver.get_log("browser") == []


def test_a_wide_layer_keeps_the_most_alike_and_means_in_a_character():
    draw = np.random.default_rng(0)
    matrix = np.corrcoef(draw.standard_normal((20, 30)), rowvar=False)
    matrix[3] = matrix[:, 3] = np.nan
    kept = _encoding.nearest(matrix, 8)
    names, values = counted(kept["nearest"]), unpack(kept["values"])
    for unit in range(30):
        row = np.where(np.isnan(matrix[unit]), -9, matrix[unit])
        wanted = np.full(30, np.nan) if unit == 3 else np.sort(row)[::-1]
        np.testing.assert_allclose(values[unit], wanted[:8], atol=0.5 / 127 + 1e-6)
        assert unit == 3 or row[names[unit]].min() == pytest.approx(wanted[7])
    assert "nearest" in _encoding.likeness(np.eye(513)) and "data" in _encoding.likeness(np.eye(512))
    means = draw.standard_normal((50, 7)) * 10.0 ** np.arange(-3, 4)
    means[:, 2] = 5
    found = _encoding.by_column(means)
    assert found["type"] == "base64" and len(found["data"]) == means.size
    assert (np.abs(unpack(found) - means) <= np.ptp(means, axis=0) / 126 * 1.01 + 1e-6).all()


def test_a_phone_needs_no_sideways_scroll(browser, page):
    sized(browser, 390, 844)
    browser.get(page.as_uri())
    assert script(browser, "return document.documentElement.scrollWidth") <= 390
    cells = all_of(browser, "[role=gridcell]")
    assert min(cell.size["width"] for cell in cells) >= 12
