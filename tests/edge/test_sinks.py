"""Sinks keep every result, whole, and stop cleanly where they cannot."""

from __future__ import annotations

import errno
import json
import os
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from devices.budget import Basis
from edge.draw import annotate
from edge.errors import SinkError
from edge.frames import Classes, Detections, Frame
from edge.heads import RawHead, decode
from edge.sinks import Scene, Timing, open_sink, open_sinks

SCENE = Scene(classes=("person",), profile="jetson-nano", precision="fp16", basis=Basis.EMULATED,
              time_basis=Basis.EMULATED,
              banner="emulated jetson-nano | fp16 | predicted 7.1 ms", fps=10.0)  # fmt: skip
FOUND = Detections(
    np.array([[1.5, 2, 30, 40], [10, 10, 20, 20]], np.float32),
    np.array([0.75, 0.5], np.float32),
    np.array([0, 7], np.int64),
)
KINDS = [
    FOUND,
    Detections.empty(),
    Classes(np.array([0]), np.array([0.5], np.float32)),
    decode(RawHead(), {"y": np.ones((1, 2), np.float32)}, None, (1, 1)),
]


def frame(sequence, hw=(60, 80), shade=100):
    return Frame(np.full((*hw, 3), shade, np.uint8), sequence / 10, sequence, "clip.avi")


def test_json_lines_hold_everything_with_its_basis(tmp_path):
    sink = open_sink(f"jsonl:{tmp_path}/out.jsonl", SCENE)
    for sequence, result in enumerate(KINDS):
        sink.write(frame(sequence), result, Timing(sequence / 10, sequence / 10 + 0.025))
    sink.close()
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[0] == {
        "sequence": 0, "source": "clip.avi", "captured_s": 0.0, "age_ms": 25.0,
        "profile": "jetson-nano", "precision": "fp16", "basis": "emulated",
        "detections": [
            {"class": "person", "class_id": 0, "score": 0.75, "xyxy_px": [1.5, 2.0, 30.0, 40.0]},
            {"class": "class 7", "class_id": 7, "score": 0.5, "xyxy_px": [10.0, 10.0, 20.0, 20.0]},
        ],
    }  # fmt: skip
    assert lines[1]["detections"] == []
    assert lines[2]["classes"] == [{"class": "person", "class_id": 0, "score": 0.5}]
    assert lines[3]["outputs"][0]["mean"] == 1.0


def test_an_age_on_this_computers_clock_is_called_so(tmp_path):
    scene = msgspec.structs.replace(SCENE, time_basis=None)
    sink = open_sink(f"jsonl:{tmp_path}/out.jsonl", scene)
    sink.write(frame(0), FOUND, Timing(0, 0.025))
    sink.close()
    line = json.loads((tmp_path / "out.jsonl").read_text())
    assert (line["host_age_ms"], "age_ms" in line) == (25.0, False)


@pytest.mark.parametrize("kind", ["jsonl:{}.jsonl", "video:{}.avi"])
def test_an_earlier_file_is_left_alone_until_the_first_result(tmp_path, kind):
    pytest.importorskip("cv2", reason="writes video")
    text = kind.format(tmp_path / "out")
    path = tmp_path / text.rpartition("/")[2]
    path.write_text("earlier")
    sink = open_sink(text, SCENE)
    assert path.read_text() == "earlier"
    sink.close()
    assert path.read_text() == "earlier"
    sink = open_sink(text, SCENE)
    sink.write(frame(0), FOUND, Timing(0, 0))
    sink.close()
    assert b"earlier" not in path.read_bytes()


def test_no_sink_leaves_a_file_where_nothing_was_written(tmp_path):
    open_sink(f"jsonl:{tmp_path}/out.jsonl", SCENE).close()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def busy(tmp_path):
    """A bundle, a clip, a hard link and a symbolic link to it; and what opens sinks beside them."""
    pytest.importorskip("cv2", reason="writes video")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "model.onnx").write_text("model")
    (tmp_path / "clip.avi").write_text("clip")
    os.link(str(tmp_path / "clip.avi"), str(tmp_path / "hard.avi"))
    (tmp_path / "soft.avi").symlink_to(tmp_path / "clip.avi")

    def opened(*texts):
        return open_sinks(
            [text.format(tmp=tmp_path) for text in texts], SCENE,
            bundle=tmp_path / "bundle", reads=(tmp_path / "clip.avi",),
        )  # fmt: skip

    return opened


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["video:{tmp}/clip.avi"], "found a file that this run reads"),
        (["video:{tmp}/bundle/../clip.avi"], "found a file that this run reads"),
        (["video:{tmp}/hard.avi"], "found a file that this run reads"),
        (["jsonl:{tmp}/soft.avi"], "found a file that this run reads"),
        (["jsonl:{tmp}/bundle/model.onnx"], "found a path inside a bundle"),
        (["jsonl:{tmp}/bundle/new.jsonl"], "found a path inside a bundle"),
        (["jsonl:{tmp}/new", "jsonl:{tmp}/bundle/../new"], "found the file of another sink"),
        (["jsonl:{tmp}/out", "video:{tmp}/no/out.avi"], "found no such folder"),
    ],
)
def test_no_sink_writes_over_what_runs_or_over_another(busy, tmp_path, texts, words):
    (tmp_path / "out").write_text("earlier")
    with pytest.raises(SinkError, match=words):
        busy(*texts)
    assert (tmp_path / "clip.avi").read_text() == "clip"
    assert (tmp_path / "bundle" / "model.onnx").read_text() == "model"
    assert (tmp_path / "out").read_text() == "earlier"


def test_sinks_beside_each_other_are_fine(busy):
    assert len(busy("jsonl:{tmp}/a.jsonl", "video:{tmp}/a.avi", "jsonl:{tmp}/b.jsonl")) == 3
    assert busy() == ()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_video_that_cannot_be_opened_costs_no_earlier_file(tmp_path, monkeypatch, order):
    cv2 = pytest.importorskip("cv2", reason="writes video")
    texts = [f"jsonl:{tmp_path}/out.jsonl", f"video:{tmp_path}/out.avi", f"jsonl:{tmp_path}/new"]
    for text in texts[:2]:
        Path(text.partition(":")[2]).write_text("earlier")

    def no_codec(name, *_):
        Path(name).write_text("begun")
        return SimpleNamespace(isOpened=lambda: False)

    monkeypatch.setattr(cv2, "VideoWriter", no_codec)
    sinks = open_sinks([texts[2], *(texts[i] for i in order)], SCENE, bundle=tmp_path / "b",
                       reads=())  # fmt: skip
    for sink in sinks:
        if sink.path.suffix == ".avi":
            with pytest.raises(SinkError, match="found a file OpenCV cannot write"):
                sink.open(frame(0))
            break
        sink.open(frame(0))
    for sink in sinks:
        sink.close()
    left = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert left == {"out.jsonl": "earlier", "out.avi": "earlier"}


@pytest.mark.parametrize("kind", ["jsonl:{}.jsonl", "video:{}.avi"])
def test_a_sink_that_is_open_and_never_written_leaves_all_as_it_was(tmp_path, kind):
    pytest.importorskip("cv2", reason="writes video")
    for earlier in (None, "earlier"):
        text = kind.format(tmp_path / "out")
        path = Path(text.partition(":")[2])
        if earlier:
            path.write_text(earlier)
        sink = open_sink(text, SCENE)
        sink.open(frame(0))
        sink.open(frame(0))
        sink.close()
        assert [p.read_text() for p in tmp_path.iterdir()] == ([earlier] if earlier else [])


def test_a_link_stays_and_its_file_is_written(tmp_path):
    pytest.importorskip("cv2", reason="writes video")
    (tmp_path / "real").mkdir()
    (tmp_path / "out.avi").symlink_to(tmp_path / "real" / "clip.avi")
    sink = open_sink(f"video:{tmp_path}/out.avi", SCENE)
    sink.write(frame(0), FOUND, Timing(0, 0))
    sink.close()
    assert (tmp_path / "out.avi").is_symlink()
    assert len(read_video(tmp_path / "real" / "clip.avi")[0]) == 1
    assert len(list((tmp_path / "real").iterdir())) == 1


def test_a_file_that_cannot_be_opened_speaks_of_no_lines(tmp_path):
    sink = open_sink(f"jsonl:{tmp_path}/out.jsonl", SCENE)
    (tmp_path / "out.jsonl").mkdir()
    with pytest.raises(SinkError, match=r"found Is a directory; .*; choose another path$"):
        sink.open(frame(0))


class FullAfter:
    """A file on a disk with room for this many bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = self.file.write(data[: self.room])
        self.room -= done
        return done

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_full_disk_leaves_only_whole_lines(tmp_path):
    sink = open_sink(f"jsonl:{tmp_path}/out.jsonl", SCENE)
    sink.write(frame(0), FOUND, Timing(0, 0))
    sink._file = FullAfter(sink._file, room=100)
    with pytest.raises(SinkError, match=r"No space left on device.*make room"):
        sink.write(frame(1), FOUND, Timing(0, 0))
    sink.close()
    sink.close()
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["sequence"] for line in lines] == [0]


def test_ctrl_c_inside_a_line_leaves_only_whole_ones(tmp_path):
    class Stopped(FullAfter):
        def write(self, data):
            if self.room == 0:
                raise KeyboardInterrupt
            return super().write(data)

    sink = open_sink(f"jsonl:{tmp_path}/out.jsonl", SCENE)
    sink.write(frame(0), FOUND, Timing(0, 0))
    sink._file = Stopped(sink._file, room=100)
    with pytest.raises(KeyboardInterrupt):
        sink.write(frame(1), FOUND, Timing(0, 0))
    sink.close()
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["sequence"] for line in lines] == [0]


def read_video(path):
    cv2 = pytest.importorskip("cv2", reason="reads video")
    capture = cv2.VideoCapture(str(path))
    found = []
    while True:
        ok, pixels = capture.read()
        if not ok:
            return found, capture.get(cv2.CAP_PROP_FPS)
        found.append(pixels)


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
@pytest.mark.parametrize("hw", [(60, 80), (61, 83)])
def test_a_video_has_the_sources_rate_and_length(tmp_path, suffix, hw):
    pytest.importorskip("cv2", reason="writes video")
    sink = open_sink(f"video:{tmp_path}/out{suffix}", SCENE)
    for sequence, result in ((0, FOUND), (1, KINDS[1]), (5, KINDS[2])):  # 2, 3 and 4 were dropped
        sink.write(frame(sequence, hw, shade=40 * sequence), result, Timing(0, 0))
    sink.close()
    frames, fps = read_video(tmp_path / f"out{suffix}")
    assert fps == 10.0
    assert len(frames) == 6
    assert frames[0].shape == (hw[0] + hw[0] % 2, hw[1] + hw[1] % 2, 3)
    shades = [int(np.median(f)) for f in frames]
    assert np.allclose(shades, [0, 40, 40, 40, 40, 200], atol=12)


def test_pictures_of_another_size_fit_into_the_video(tmp_path):
    pytest.importorskip("cv2", reason="writes video")
    sink = open_sink(f"video:{tmp_path}/out.avi", SCENE)
    for sequence, hw in enumerate([(60, 80), (30, 40), (600, 200)]):
        sink.write(frame(sequence, hw, shade=200), Detections.empty(), Timing(0, 0))
    sink.close()
    frames, _ = read_video(tmp_path / "out.avi")
    assert [f.shape for f in frames] == [(60, 80, 3)] * 3
    assert frames[1][50, 70].max() < 30  # black beside the small picture


def test_boxes_and_banner_are_drawn_on_a_copy():
    pytest.importorskip("cv2", reason="draws")
    pixels = np.full((240, 320, 3), 50, np.uint8)
    box = Detections(
        np.array([[50, 60, 150, 200]], np.float32), np.array([0.9], np.float32), np.array([0])
    )
    drawn = annotate(pixels, box, ("person",), SCENE.banner)
    assert (pixels == 50).all()
    assert (drawn[60, 50:150] != 50).any(axis=-1).all(), "the top edge"
    assert (drawn[100:190, 60:140] == 50).all(), "nothing inside the box"
    assert drawn[:25, :300].max() > 200, "the banner"
    assert (annotate(pixels, Detections.empty(), (), "") == pixels).all()


def test_a_nearly_full_disk_stops_a_video_that_can_be_played(tmp_path, monkeypatch):
    pytest.importorskip("cv2", reason="writes video")
    sink = open_sink(f"video:{tmp_path}/out.mp4", SCENE)
    sink.write(frame(0), FOUND, Timing(0, 0))
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 5_000_000)
    monkeypatch.setattr("edge.sinks.video.shutil.disk_usage", lambda _: usage)
    with pytest.raises(SinkError, match="found 5 MB free on the disk; expected 16 MB at least"):
        sink.write(frame(1), FOUND, Timing(0, 0))
    assert len(read_video(tmp_path / "out.mp4")[0]) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mqtt:host", "found kind 'mqtt'; expected jsonl:PATH or video:PATH"),
        ("out.jsonl", "found no kind"),
        ("jsonl:", r"found no path; .*; add a path: jsonl:PATH$"),
        ("jsonl", r"found no path; .*; add a path: jsonl:PATH$"),
        ("JSONL:x", r"found kind 'JSONL'; .*; did you mean 'jsonl'"),
        ("jsonl:{tmp}/no/out.jsonl", "found no such folder"),
        ("jsonl:{tmp}", "found a folder"),
        ("jsonl:{tmp}/loop", "found .*loop"),
        ("jsonl:{tmp}/" + "n" * 300, "found File name too long"),
        ("video:{tmp}/out.gif", r"found suffix '\.gif'; expected one of \.mp4, \.avi"),
        ("video:{tmp}/no/out.mp4", "found no such folder"),
    ],
)
def test_a_place_that_cannot_be_written_is_an_error(text, words, tmp_path):
    pytest.importorskip("cv2", reason="writes video")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(SinkError, match=words):
        open_sink(text.format(tmp=tmp_path), SCENE)
