import struct

import pytest
from tensorboardX.crc32c import crc32c
from tensorboardX.proto import event_pb2

from experiments.errors import FailedRun
from experiments.run.log import Log


def line(epoch, **changes):
    values = {
        "epoch": epoch,
        "step": 10 * epoch,
        "learning_rate": 0.1,
        "sigma": 0.5,
        "train_loss": 4.0 - epoch,
        "train_accuracy": 0.25,
        "test_loss": 5.0,
        "test_accuracy": 0.125,
        "images_per_second": 100.0,
    }
    return values | changes


def events(folder):
    """TensorBoard's events in the order of the files, read as the format says and not by its writer."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            record = content[place + 12 : place + 12 + length]
            (checksum,) = struct.unpack_from("<I", content, place + 12 + length)
            plain = crc32c(record)
            assert checksum == ((plain >> 15 | plain << 17) + 0xA282EAD8) & 0xFFFFFFFF
            found.append(event_pb2.Event.FromString(record))
            place += 16 + length
    return found


def curves(folder):
    """Every curve as a user of TensorBoard sees it: what a later start of the writer replaces is gone."""
    curve = {}
    for event in events(folder):
        if event.session_log.status == event_pb2.SessionLog.START:
            for points in curve.values():
                for step in [step for step in points if step >= event.step]:
                    del points[step]
        for value in event.summary.value:
            curve.setdefault(value.tag, {})[event.step] = value.simple_value
    return curve


def test_every_epoch_is_in_both_at_once(tmp_path):
    with Log(tmp_path, 0) as log:
        for epoch in (1, 2):
            log.write(line(epoch))
            assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == epoch
            assert list(curves(tmp_path)["loss/train"]) == [10 * e for e in range(1, epoch + 1)]
    found = curves(tmp_path)
    assert found["loss/train"] == {10: 3.0, 20: 2.0} and found["accuracy/test"] == {10: 0.125, 20: 0.125}
    assert set(found) == {
        "loss/train",
        "loss/test",
        "accuracy/train",
        "accuracy/test",
        "schedule/learning_rate",
        "schedule/sigma",
        "speed/images_per_second",
    }


def test_a_run_that_goes_on_replaces_what_came_after_its_checkpoint(tmp_path):
    """The process before had logged three epochs when it was killed, after a checkpoint in the second."""
    with Log(tmp_path, 0) as log:
        for epoch in (1, 2, 3):
            log.write(line(epoch))
    with Log(tmp_path, 1) as log:
        log.write(line(2, train_loss=0.5, images_per_second=None))
    assert [text.split(",")[0] for text in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [
        '{"epoch": 1',
        '{"epoch": 2',
    ]
    found = curves(tmp_path)
    assert found["loss/train"] == {10: 3.0, 20: 0.5} and found["speed/images_per_second"] == {10: 100.0}


def test_a_run_that_starts_anew_leaves_no_old_curves(tmp_path):
    for loss in (1.5, 0.5):
        with Log(tmp_path, 0) as log:
            log.write(line(1, train_loss=loss))
    assert curves(tmp_path)["loss/train"] == {10: 0.5}
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_lost_log_is_an_error_and_no_gap(tmp_path):
    with pytest.raises(FailedRun, match="has 0 lines, but the newest checkpoint is after epoch 2"):
        Log(tmp_path, 2)
