"""Sources give frames in order with their times, and count what they could not read."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from edge.errors import SourceError
from edge.session import SessionOptions, _pacing
from edge.sources import SOURCES, open_source, parse_address


def images(folder, count):
    cv2 = pytest.importorskip("cv2", reason="writes images")
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        pixels = np.full((6, 8, 3), index, np.uint8)
        assert cv2.imwrite(str(folder / f"{index:02d}.png"), pixels)


def write_video(path, count=12, fps=29.97):
    cv2 = pytest.importorskip("cv2", reason="writes video")
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (160, 120))
    for index in range(count):
        writer.write(rng.integers(0, 30, (120, 160, 3), dtype=np.uint8) + np.uint8(index * 10))
    writer.release()


def test_synthetic_frames_are_the_same_for_the_same_seed():
    def run(query):
        return [f.pixels for f in open_source(f"synthetic://?{query}").frames()]

    first, again = run("frames=3&width=33&height=17"), run("frames=3&width=33&height=17")
    assert [f.shape for f in first] == [(17, 33, 3)] * 3
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[2]).any(), "shapes move"
    assert (first[0] != run("frames=1&width=33&height=17&seed=1")[0]).any()


def test_synthetic_frames_carry_time_and_sequence():
    source = open_source("synthetic://?fps=4&frames=3&width=8&height=8")
    found = [(f.sequence, f.captured_s, f.source) for f in source.frames()]
    assert found == [(0, 0.0, "synthetic"), (1, 0.25, "synthetic"), (2, 0.5, "synthetic")]
    assert (source.fps, source.live, source.refusals) == (4.0, False, ())


def test_a_video_keeps_its_rate_and_every_frame(tmp_path):
    write_video(tmp_path / "clip.avi")
    for text in (str(tmp_path / "clip.avi"), f"file://{tmp_path}/clip.avi"):
        source = open_source(text)
        frames = list(source.frames())
        assert [f.sequence for f in frames] == list(range(12))
        assert source.fps == pytest.approx(29.97, abs=1e-3)
        assert frames[3].captured_s == pytest.approx(3 / 29.97, abs=1e-5)
        assert [round((float(f.pixels.mean()) - 14.5) / 10) for f in frames] == list(range(12))
        assert source.refusals == ()


def test_a_truncated_video_ends_cleanly_and_is_counted(tmp_path):
    path = tmp_path / "clip.avi"
    write_video(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    source = open_source(str(path))
    got = len(list(source.frames()))
    assert 0 < got < 12
    (refusal,) = source.refusals
    assert refusal.count == 12 - got
    assert refusal.reason == f"its container promised 12, {got} came"


def test_a_folder_skips_and_counts_corrupt_images(tmp_path):
    images(tmp_path / "set", 4)
    (tmp_path / "set" / "01.png").write_bytes(b"no")
    source = open_source(f"folder://{tmp_path}/set?fps=2")
    assert [(f.sequence, f.captured_s, f.source) for f in source.frames()] == [
        (0, 0.0, "00.png"), (2, 1.0, "02.png"), (3, 1.5, "03.png")]  # fmt: skip
    (refusal,) = source.refusals
    assert (refusal.what, refusal.count) == ("image 01.png", 1)
    assert len(list(source.frames())) == 3
    assert source.refusals[0].count == 1, "reading again does not count twice"


def test_a_plain_path_is_what_it_is(tmp_path):
    assert parse_address(str(tmp_path)).scheme == "folder"
    assert parse_address(str(tmp_path / "x.mp4")).scheme == "file"
    assert parse_address("folder:///a%20b?fps=1").path == "/a b"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("rtsp://camera/1", r"scheme 'rtsp'; expected file://, folder://, synthetic://, v4l2://"),
        ("sinthetic://", "did you mean 'synthetic'"),
        ("", "source '': found no path"),
        ("file://", "source 'file://': found no path"),
        ("folder://?fps=5", r"found no path; .*; name a video or a folder"),
        ("no/such.mp4", "found no such file"),
        ("folder://no/such", "found no such folder"),
        ("{tmp}", "found no image"),
        ("folder://{tmp}?fps=inf", "found fps=inf; expected a rate above 0"),
        ("{tmp}/text.avi", "cannot open as video"),
        ("synthetic://?fsp=3", "did you mean 'fps'"),
        ("synthetic://?fps=fast", "found fps=fast; expected a number like 30"),
        ("synthetic://?fps=0", "expected sides of"),
        ("synthetic://?width=0", "expected sides of"),
        ("synthetic://?frames=0", "expected sides of"),
        ("x" * 300, "found File name too long"),
        ("file://" + "x" * 300, "found File name too long"),
        ("folder://" + "x" * 300, "found File name too long"),
        ("v4l2:///dev/no-such-camera", "found no such device"),
        ("file://{tmp}", "found a folder; expected a video file"),
        ("folder://{tmp}/text.avi", "found a file; expected a folder of images"),
        ("{tmp}/pipe", "found a pipe; expected a video file"),
        ("/dev/null", "found a device; expected a video file"),
        ("folder:///dev/null", "found a device; expected a folder of images"),
        ("synthetic://?shapes=1" + "0" * 30, r"expected sides of .*, 0\.\.10000 shapes"),
    ],
)
def test_what_cannot_be_read_is_an_error_with_a_cure(uri, words, tmp_path):
    pytest.importorskip("cv2", reason="opens video")
    (tmp_path / "text.avi").write_text("hello")
    os.mkfifo(str(tmp_path / "pipe"))
    with pytest.raises(SourceError, match=words):
        open_source(uri.format(tmp=tmp_path))


@pytest.mark.parametrize(
    ("uri", "words"),
    [("folder://{tmp}", "a folder that this user may not read"),
     ("file://{tmp}/clip.avi", "a file that this user may not read")],
)  # fmt: skip
def test_what_may_not_be_read_is_called_so(uri, words, tmp_path, monkeypatch):
    """The system call is answered by hand: tests may run as root, whom permissions do not stop."""
    (tmp_path / "clip.avi").write_text("a video")
    monkeypatch.setattr("edge.sources.os.access", lambda path, mode: False)
    with pytest.raises(SourceError, match=f"found {words}"):
        open_source(uri.format(tmp=tmp_path))


@pytest.mark.parametrize(("count", "bad"), [(1, 1), (4, 3), (5, 3)])
def test_a_folder_with_more_than_half_of_it_damaged_is_an_error(tmp_path, count, bad):
    images(tmp_path, count)
    for index in range(bad):
        (tmp_path / f"{index:02d}.png").write_bytes(b"no")
    words = rf"{bad} of {count} images unreadable so far: {bad} x OpenCV cannot decode it \(00\.png"
    words += r".* expected 50 % of them readable at least"
    with pytest.raises(SourceError, match=words):
        list(open_source(str(tmp_path)).frames())


def test_a_folder_with_half_of_it_damaged_still_runs(tmp_path):
    images(tmp_path, 4)
    for index in range(2):
        (tmp_path / f"{index:02d}.png").write_bytes(b"no")
    source = open_source(str(tmp_path))
    assert [f.sequence for f in source.frames()] == [2, 3]
    assert [r.count for r in source.refusals] == [2]


def test_the_table_names_what_exists():
    assert sorted(SOURCES) == ["file", "folder", "synthetic", "v4l2"]


class Camera:
    """A V4L2 camera of 640 x 480 at 15 frames/s that gives three frames and is then unplugged."""

    takes = ()  # the settings it obeys

    def __init__(self, device, backend):
        assert (device[-6:], backend) == ("video9", "v4l2")
        self.settings = {"width": 640.0, "height": 480.0, "fps": 15.0}
        self.asked, self.left, self.released = {}, 3, 0

    def isOpened(self):  # noqa: N802
        return True

    def set(self, key, value):
        self.asked[key] = value
        if key in self.takes:
            self.settings[key] = value

    def get(self, key):
        return self.settings[key]

    def read(self):
        self.left -= 1
        return self.left >= 0, np.zeros((4, 4, 3), np.uint8)

    def release(self):
        self.released += 1


@pytest.fixture
def plugged(tmp_path, monkeypatch):
    """Opens the source of a camera of this class."""

    def opened(query="", camera=Camera):
        cv2 = SimpleNamespace(VideoCapture=camera, CAP_V4L2="v4l2", CAP_PROP_FPS="fps",
                              CAP_PROP_FRAME_WIDTH="width", CAP_PROP_FRAME_HEIGHT="height",
                              CAP_PROP_BUFFERSIZE="buffer")  # fmt: skip
        monkeypatch.setattr("edge.sources.v4l2.opencv", lambda _: cv2)
        (tmp_path / "video9").touch()
        return open_source(f"v4l2://{tmp_path}/video9{query}")

    return opened


def test_a_camera_gives_frames_until_it_is_unplugged_which_is_an_error(plugged):
    source = plugged("?width=640")
    camera = source._capture
    assert camera.asked == {"width": 640, "buffer": 1}
    assert (source.live, source.fps, source.refusals) == (True, 15.0, ())
    frames = source.frames()
    assert [next(frames).sequence for _ in range(3)] == [0, 1, 2]
    with pytest.raises(SourceError, match=r"found no frame after 3; .*check the cable"):
        next(frames)
    source.close()
    assert camera.released == 1


def test_a_camera_that_answers_another_size_or_rate_says_so(plugged):
    class Obeys(Camera):
        takes = ("height", "fps")

    source = plugged("?width=1280&height=720&fps=30", Obeys)
    assert [(r.what, r.reason, r.instead) for r in source.refusals] == [
        ("width of video9", "1280 px asked for", "the driver gives 640")]  # fmt: skip
    assert source.fps == 30.0
    assert [r.what for r in plugged("?fps=30").refusals] == ["fps of video9"]
    assert plugged("?fps=15.01").refusals == (), "close enough"


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), 1e9])
def test_a_camera_that_does_not_say_its_rate_has_one_assumed_and_says_so(plugged, rate):
    class Silent(Camera):
        def get(self, key):
            return rate if key == "fps" else super().get(key)

    source = plugged(camera=Silent)
    assert source.fps == 30.0
    (refusal,) = source.refusals
    assert (refusal.what, refusal.instead) == ("rate of video9", "30 frames/s assumed")


@pytest.mark.parametrize("wish", ["width=-5", "height=0", "fps=nan", "fps=-1", "fps=inf"])
def test_wishes_that_no_camera_can_have_are_refused(plugged, wish):
    name, _, value = wish.partition("=")
    with pytest.raises(SourceError, match=f"found {name}={value}; expected .*more than 0"):
        plugged(f"?{wish}")


def test_a_camera_is_not_released_while_a_thread_reads_it(plugged):
    inside, answer = threading.Event(), threading.Event()

    class Stuck(Camera):
        def read(self):
            inside.set()
            answer.wait(5)
            assert not self.released, "released while it was read"
            return super().read()

    source = plugged(camera=Stuck)
    found = []
    reader = threading.Thread(target=lambda: found.extend(source.frames()))
    reader.start()
    inside.wait(5)
    source.close()
    assert source._capture.released == 0
    answer.set()
    reader.join(5)
    assert (source._capture.released, found) == (1, [])


def test_a_camera_does_not_wait():
    def asked(pacing):
        return SessionOptions(source="video0", pacing=pacing)

    live = SimpleNamespace(live=True, name="video0")
    assert _pacing(live, asked(None)) == _pacing(live, asked("realtime")) == "realtime"
    with pytest.raises(SourceError, match="a camera does not wait"):
        _pacing(live, asked("virtual"))
    assert _pacing(SimpleNamespace(live=False, name="clip"), asked(None)) == "virtual"
