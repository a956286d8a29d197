import functools
import http.server
import io
import tarfile
import threading
import time

import numpy as np
import pytest
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.image_classification import cifar as original

from experiments import data
from experiments.data import cifar

UNREACHABLE = "http://127.0.0.1:9/cifar.tar.gz"
CLASSES = {"cifar10": {"label": 10}, "cifar100": {"coarse_label": 20, "label": 100}}
LABEL_FILES = {
    ("cifar10", "label"): "batches.meta.txt",
    ("cifar100", "coarse_label"): "coarse_label_names.txt",
    ("cifar100", "label"): "fine_label_names.txt",
}
FOLDER = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}
TRAIN_FILES = {"cifar10": [f"data_batch_{n}.bin" for n in range(1, 6)], "cifar100": ["train.bin"]}
TEST_FILES = {"cifar10": ["test_batch.bin"], "cifar100": ["test.bin"]}


def records(name, count, rng):
    """A file in CIFAR's binary format, its pictures and the last label of each."""
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = [rng.integers(0, classes, count, dtype=np.uint8) for classes in CLASSES[name].values()]
    planes = [images[..., channel].reshape(count, 1024) for channel in range(3)]
    return np.hstack([np.stack(labels, 1), *planes]).tobytes(), images, labels[-1]


def archive(name, path):
    """An archive like the one on CIFAR's site, with few pictures; returns what is in each split."""
    rng, splits = np.random.default_rng(0), {}
    files = {
        LABEL_FILES[name, key]: "".join(f"{key} {index}\n" for index in range(classes)) + "\n"
        for key, classes in CLASSES[name].items()
    }
    files = {file: content.encode() for file, content in files.items()} | {"readme.html": b"<html>"}
    for split, names in (("train", TRAIN_FILES[name]), ("test", TEST_FILES[name])):
        parts = {file: records(name, 7, rng) for file in names}
        files |= {file: part[0] for file, part in parts.items()}
        splits[split] = [np.concatenate([part[index] for part in parts.values()]) for index in (1, 2)]
    with tarfile.open(path, "w:gz") as tar:
        for file, content in files.items():
            member = tarfile.TarInfo(f"{FOLDER[name]}/{file}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return splits


def redirect(monkeypatch, name, url):
    """Lets tensorflow-datasets look for CIFAR elsewhere, where it knows no checksum."""
    base = {"cifar10": original.Cifar10, "cifar100": original.Cifar100}[name]
    info = base._cifar_info.fget
    monkeypatch.setattr(base, "_cifar_info", property(lambda self: info(self)._replace(url=url)))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def site(tmp_path):
    """A folder, and the address at which it is served."""
    folder = tmp_path / "site"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name, labels", [("cifar10", 1), ("cifar100", 2)])
def test_records_are_labels_and_then_planes(name, labels):
    content, images, last = records(name, 3, np.random.default_rng(1))
    found = list(cifar.read_binary(content, labels))
    np.testing.assert_array_equal([image for _, image in found], images)
    assert [label[-1] for label, _ in found] == list(last) and {len(label) for label, _ in found} == {
        labels
    }


def test_a_hand_made_record():
    red, green, blue = ([value] * 32 + [value + 1] * 992 for value in (10, 20, 30))
    ((labels, image),) = cifar.read_binary(bytes([4, 77, *red, *green, *blue]), 2)
    assert labels.tolist() == [4, 77]
    assert image[0, 31].tolist() == [10, 20, 30] and image[1, 0].tolist() == [11, 21, 31]


@pytest.mark.parametrize("size", [1, 3072, 3074, 2 * 3073 - 1])
def test_a_file_of_another_length_is_refused(size):
    with pytest.raises(ValueError, match=f"{size} bytes does not hold whole records of 3073"):
        list(cifar.read_binary(bytes(size), 1))


@pytest.mark.parametrize("name", cifar.NAMES)
def test_download_prepare_and_read_back(name, site, tmp_path, monkeypatch):
    folder, address = site
    splits = archive(name, folder / f"{name}.tar.gz")
    redirect(monkeypatch, name, f"{address}/{name}.tar.gz")
    loaded = data.load(name, data_dir=str(tmp_path / "sets"), download=True)
    assert loaded.class_names == tuple(f"label {index}" for index in range(CLASSES[name]["label"]))
    for split, (images, labels) in splits.items():
        # tensorflow-datasets shuffles what it writes.
        read = getattr(loaded, f"{split}_images"), getattr(loaded, f"{split}_labels")
        assert len(read[0]) == len(images)
        of = [np.flatnonzero((images == image).all((1, 2, 3))).item() for image in read[0]]
        assert sorted(of) == list(range(len(images)))
        np.testing.assert_array_equal(read[1], labels[of])
    redirect(monkeypatch, name, UNREACHABLE)
    again = data.load(name, data_dir=str(tmp_path / "sets"), download=True, cache=False)
    assert again.digest == loaded.digest


@pytest.mark.parametrize("name", cifar.NAMES)
def test_the_checksum_is_the_one_of_tensorflow_datasets(name, tmp_path):
    builder = cifar.builder(name, str(tmp_path))
    (known,) = [info for url, info in builder.url_infos.items() if url == builder._cifar_info.url]
    assert builder.url_infos == getattr(original, name.capitalize()).url_infos
    assert len(known.checksum) == 64 and known.size > 150e6


@pytest.mark.parametrize("name", cifar.NAMES)
def test_a_file_with_another_checksum_is_refused(name, tmp_path):
    builder = cifar.builder(name, str(tmp_path))
    by_hand = tmp_path / "downloads" / "manual" / builder._cifar_info.url.split("/")[-1]
    by_hand.parent.mkdir(parents=True)
    archive(name, by_hand)
    with pytest.raises(NonMatchingChecksumError, match=by_hand.name):
        builder.download_and_prepare()
    assert not builder.is_prepared()


def test_a_site_that_answers(site):
    folder, address = site
    (folder / "file").touch()
    cifar.check_reachable(f"{address}/file")
    cifar.check_reachable(f"{address}/missing")  # The client says more about it.


@pytest.mark.parametrize("url", [UNREACHABLE, "no address"])
def test_a_site_that_does_not(url):
    started = time.monotonic()
    with pytest.raises(ConnectionError, match="cannot be reached"):
        cifar.check_reachable(url, timeout=2)
    assert time.monotonic() - started < 10


def test_a_site_that_is_out_of_order(site, monkeypatch):
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "do_HEAD", lambda self: self.send_error(503))
    with pytest.raises(ConnectionError, match="answers 503"):
        cifar.check_reachable(site[1])


@pytest.mark.parametrize("name", cifar.NAMES)
def test_no_connection_names_what_works_without_one(name, tmp_path, monkeypatch):
    redirect(monkeypatch, name, UNREACHABLE)
    started = time.monotonic()
    with pytest.raises(ValueError, match=f"(?s){name}.*{tmp_path}.*--data digits.*folder:PATH.*--data-dir"):
        data.load(name, data_dir=str(tmp_path), download=True)
    assert time.monotonic() - started < 10
