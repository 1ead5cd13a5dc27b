"""The self-test's promises of CUDA and cameras, on fakes that keep them and that do not."""

import functools
import types

import msgspec
import numpy as np
import pytest

from edge.selftest import FAIL, IMPOSSIBLE, PASS, TESTS, run_tests
from tests.edge.boards.rigs import Loader, make_rig, only, outcome
from tests.edge.boards.trees import write
from tests.edge.tensorrt.fake import Machine
from tests.edge.tensorrt.fake_cuda import ORIN, FakeCuda


@pytest.fixture
def rig(tmp_path):
    return functools.partial(make_rig, tmp_path)


@pytest.mark.parametrize(
    "name", ["probe", "round-trip-pycuda", "round-trip-ctypes", "pinned-copy", "events", "graphs"]
)
def test_promises_of_cuda_hold_on_a_device_that_works(rig, name):
    result = outcome(rig(), name)
    assert (result.outcome, result.promise) == (PASS, TESTS[name].promise)
    assert result.reason or result.figures


def test_a_copys_speed_is_bytes_over_the_gpus_own_time(rig):
    figures = outcome(rig(), "pinned-copy").figures
    assert figures["in_gb_per_s"] == pytest.approx(8 * (32 << 20) / 1e6 / (8 * 0.01))


def test_a_backend_that_is_not_installed_is_not_possible_and_not_failed(rig):
    result = outcome(rig(), "round-trip-bindings")
    assert result.outcome == IMPOSSIBLE
    assert "cuda.bindings.driver" in result.reason


class Lossy(FakeCuda):
    """Loses a byte on the way out."""

    def copy_out(self, array, address, stream):
        super().copy_out(array, address, stream)
        self.queue(
            stream,
            types.SimpleNamespace(
                run=lambda: array.view(np.uint8).__setitem__(3, array.view(np.uint8)[3] ^ 1), ms=0.0
            ),
        )


class Shared(FakeCuda):
    """Other programs take of the memory that it shares with them, more at each look."""

    looks = 0

    def memory(self):
        self.looks += 1
        free, total = super().memory()
        return free - self.looks * 500_000_000, total


class Confused(FakeCuda):
    """Has more free than there is."""

    def memory(self):
        _, total = super().memory()
        return total + 1, total


class Frozen(FakeCuda):
    """Its clock stands still."""

    def elapsed_ms(self, start, end):
        return 0.0


class Slow(FakeCuda):
    """Claims hours."""

    def elapsed_ms(self, start, end):
        return super().elapsed_ms(start, end) * 1e9


class Stale(FakeCuda):
    """A graph that moves what was there when it was recorded."""

    def launch_graph(self, graph, stream):
        return None


@pytest.mark.parametrize(
    ("name", "fake", "words"),
    [
        ("round-trip-ctypes", Lossy, "1 of 1048576 bytes came back changed"),
        ("round-trip-ctypes", Confused, "memory: 7988000001 bytes free of 7988000000"),
        ("pinned-copy", Lossy, "bytes intact: False"),
        ("pinned-copy", Frozen, "ms {'in': 0.0"),
        ("events", Frozen, "more work did not take longer"),
        ("events", Slow, "longer than the host waited"),
        ("graphs", Stale, "launch 1 of the graph gave 0, not 11"),
    ],
)
def test_a_device_that_breaks_a_promise_fails_it(rig, name, fake, words):
    result = outcome(rig(open_cuda=lambda _: fake(Machine())), name)
    assert result.outcome == FAIL
    assert words in result.reason


def test_memory_that_other_programs_take_meanwhile_is_no_failure(rig):
    result = outcome(rig(open_cuda=lambda _: Shared(Machine())), "round-trip-ctypes")
    assert result.outcome == PASS
    assert result.figures["free_mb"] == pytest.approx(7488.0)


@pytest.mark.parametrize(
    ("counted", "end", "words"),
    [((0, 30720), PASS, "30720 numbers, bit for bit"), ((3, 30720), FAIL, "3 of 30720 numbers"),
     ((0, 0), FAIL, "0 of 0 numbers")],
)  # fmt: skip
def test_the_kernels_numbers_are_counted_and_none_compared_proves_nothing(rig, counted, end, words):
    pixels = types.SimpleNamespace(differences=lambda cuda: counted)
    result = outcome(rig(load=Loader(edge_engines_pixels=pixels)), "preprocess-kernel")
    assert (result.outcome, words in result.reason) == (end, True)


def test_graphs_that_a_backend_lacks_are_not_possible(rig):
    result = outcome(rig(open_cuda=lambda _: FakeCuda(Machine(graphs=False))), "graphs")
    assert (result.outcome, result.reason) == (IMPOSSIBLE, "fake has no graphs here")


def test_another_gpu_than_the_profiles_and_a_card_in_a_jetson_fail_the_probe(rig):
    other = msgspec.structs.replace(ORIN, compute_capability="7.2")
    assert "jetson-orin-nano has SM 8.7" in outcome(rig(probe=lambda: other), "probe").reason
    card = msgspec.structs.replace(ORIN, integrated=False)
    assert "shares the CPU's memory" in outcome(rig(probe=lambda: card), "probe").reason


def test_the_context_is_closed_after_every_test_also_one_that_fails(rig):
    opened = []

    def open_cuda(name):
        opened.append(Lossy(Machine()))
        return opened[-1]

    run_tests(rig(open_cuda=open_cuda), only("round-trip-ctypes", "pinned-copy", "graphs"))
    assert len(opened) == 3
    assert all(cuda.closed for cuda in opened)


class Capture:
    def __init__(self, frames):
        self.frames, self.released = list(frames), False

    def isOpened(self):  # noqa: N802  # OpenCV's name
        return self.frames is not None

    def read(self):
        return (True, self.frames.pop(0)) if self.frames else (False, np.empty((0, 0, 3)))

    def release(self):
        self.released = True


def opencv(capture, gstreamer="YES"):
    asked = []
    return types.SimpleNamespace(
        __version__="4.8.0", CAP_V4L2=1, CAP_GSTREAMER=2, asked=asked,
        getBuildInformation=lambda: f"  GStreamer: {gstreamer}",
        VideoCapture=lambda source, kind: asked.append((source, kind)) or capture,
    )  # fmt: skip


def test_a_camera_must_give_a_picture(rig):
    made = rig()
    assert outcome(made, "camera").outcome == IMPOSSIBLE
    write(made.root, {"/dev/video0": "", "/sys/class/video4linux/video0/name": "USB Camera"})
    black, picture = np.zeros((4, 6, 3), np.uint8), np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    capture = Capture([black, black, picture])
    cv2 = opencv(capture)
    result = outcome(rig(load=Loader(cv2=cv2)), "camera")
    assert (result.outcome, result.reason) == (PASS, "/dev/video0: 6 x 4 px, frame 3")
    assert capture.released
    assert cv2.asked == [(str(made.root / "dev/video0"), cv2.CAP_V4L2)]
    result = outcome(rig(load=Loader(cv2=opencv(Capture([black] * 99)))), "camera")
    assert (result.outcome, "none with a picture" in result.reason) == (FAIL, True)


def test_a_csi_camera_is_read_by_gstreamer_or_said_to_need_it(rig):
    made = rig()
    write(
        made.root,
        {"/dev/video0": "", "/sys/class/video4linux/video0/name": "vi-output, imx219 9-0010"},
    )
    picture = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    cv2 = opencv(Capture([picture]))
    assert outcome(rig(load=Loader(cv2=cv2)), "camera").outcome == PASS
    assert "nvarguscamerasrc" in cv2.asked[0][0]
    assert cv2.asked[0][1] == cv2.CAP_GSTREAMER
    result = outcome(rig(load=Loader(cv2=opencv(Capture([picture]), "NO"))), "camera")
    assert (result.outcome, "without GStreamer" in result.reason) == (FAIL, True)
