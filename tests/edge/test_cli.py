"""`edge run`, `gate` and `verify` from the outside: what they print, write, and exit with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from devices.budget import Basis, Measurement
from edge.__main__ import main
from edge.bundle import seal
from edge.gate import write_accuracy

pytest.importorskip("onnxruntime", reason="runs the emulated engine")
pytest.importorskip("cv2", reason="the emulate extra has both")

SYNTHETIC = "synthetic://?frames=20&fps=10&width=120&height=90"


@pytest.fixture
def edge(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["edge", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return run


def test_a_run_writes_what_it_saw_and_says_what_it_is_worth(edge, tiny, tmp_path):
    code, out, err = edge(
        "run", tiny, "--source", SYNTHETIC, "--profile", "jetson-nano",
        "--sink", f"jsonl:{tmp_path}/o.jsonl", "--sink", f"video:{tmp_path}/o.avi",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert out.startswith("emulated jetson-nano | fp16 | predicted ")
    assert "20 in, 20 processed, 0 dropped" in out
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [line["sequence"] for line in lines] == list(range(20))
    assert {line["basis"] for line in lines} == {"emulated"}
    boxes = [box for line in lines for box in line["detections"]]
    assert {box["class"] for box in boxes} <= {"disc", "box"}
    assert f"results    {len(boxes)} in 20 frames" in out
    assert (tmp_path / "o.avi").stat().st_size > 1000


def test_two_virtual_runs_write_the_same_bytes(edge, tiny, tmp_path):
    for name in ("a", "b"):
        edge("run", tiny, "--source", SYNTHETIC, "--sink", f"jsonl:{tmp_path}/{name}")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_source_faster_than_the_board_drops_and_counts(edge, tiny):
    fast = SYNTHETIC.replace("fps=10", "fps=5000")
    run = json.loads(edge("run", tiny, "--source", fast, "--json")[1])["run"]
    assert run["dropped"] > 0
    assert run["processed"] + run["dropped"] == run["frames_in"] == 20
    assert run["pacing"] == "virtual"
    kept = json.loads(edge("run", tiny, "--source", fast, "--json", "--every-frame")[1])["run"]
    assert (kept["processed"], kept["dropped"]) == (20, 0)


def test_frames_and_realtime(edge, tiny):
    arguments = ("--source", SYNTHETIC.replace("fps=10", "fps=100"), "--frames", 7, "--realtime")
    record = json.loads(edge("run", tiny, *arguments, "--json")[1])
    assert record["run"]["frames_in"] == 7
    assert record["run"]["pacing"] == "realtime"
    assert (record["run"]["rate"], record["run"]["age"]) == (None, None)
    assert record["run"]["host_rate_fps"] > 0
    assert (record["profile"], record["precision"]) == ("jetson-nano", "fp16")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--source", "rtsp://x"), "found scheme 'rtsp'"),
        (("--source", SYNTHETIC, "--profile", "jetson-nan"), "did you mean 'jetson-nano'"),
        (("--source", SYNTHETIC, "--engine", "tensorflow"), "found no such engine"),
        (("--source", SYNTHETIC, "--sink", "mqtt:x"), "expected jsonl:PATH or video:PATH"),
        (("--source", SYNTHETIC, "--mode", "MAXQ"), "power mode 'MAXQ'"),
        (("--source", ""), "found no path"),
        (("--source", SYNTHETIC, "--profile", "JETSON-NANO"), "did you mean 'jetson-nano'"),
        (("--source", SYNTHETIC, "--sink", "jsonl:"), "add a path: jsonl:PATH"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(edge, tiny, arguments, words):
    code, out, err = edge("run", tiny, *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert err.startswith("edge: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--virtual", "--realtime"), "--virtual and --realtime exclude each other"),
        (("--every-frame", "--virtual"), "--virtual and --every-frame exclude each other"),
        (("--threads", 65), "65 is not in the range 0<=x<=64"),
        (("--threads", -1), "-1 is not in the range"),
    ],
)
def test_flags_that_make_no_run_are_wrong_usage(edge, tiny, flags, words):
    code, out, err = edge("run", tiny, "--source", SYNTHETIC, *flags)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: edge run ")
    assert words in " ".join(err.split())


@pytest.mark.parametrize("flag", ["--virtual", "--realtime", "--every-frame"])
def test_each_pacing_has_its_flag(edge, tiny, flag):
    code, out, _ = edge("run", tiny, "--source", SYNTHETIC.replace("fps=10", "fps=900"), flag)
    assert (code, f"({flag[2:]})" in out) == (0, True)


def test_another_board_than_the_bundles_is_a_note(edge, tiny):
    note = "note       The bundle was compressed for jetson-nano, not for jetson-tx2."
    out = edge("run", tiny, "--source", SYNTHETIC, "--profile", "jetson-tx2")[1]
    assert note in out.splitlines()
    record = json.loads(edge("run", tiny, "--source", SYNTHETIC, "--profile", "jetson-tx2",
                             "--json")[1])  # fmt: skip
    assert record["run"]["notes"][0] == note[11:]
    for profile in ((), ("--profile", "jetson-nano")):
        assert "compressed for" not in edge("run", tiny, "--source", SYNTHETIC, *profile)[1]


def test_int8_on_a_nano_is_refused_before_anything_runs(edge, maker, tmp_path):
    maker.make_bundle(tmp_path / "b", precision="int8")
    code, _, err = edge("run", tmp_path / "b", "--source", SYNTHETIC, "--profile", "jetson-nano")
    assert code == 2
    assert "no fast INT8" in err


def test_a_flipped_byte_is_refused_by_every_command(edge, tiny_copy):
    data = bytearray((tiny_copy / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (tiny_copy / "model.onnx").write_bytes(bytes(data))
    for command in (
        ("verify", tiny_copy),
        ("gate", tiny_copy, "--for", "jetson-nano"),
        ("run", tiny_copy, "--source", SYNTHETIC),
    ):
        code, out, err = edge(*command)
        assert (code, out) == (2, "")
        assert "model.onnx: found sha256" in err
        assert f"{tiny_copy}/model.onnx: found" in err
        assert "do not run it: get the bundle again" in err


def test_verify_says_what_the_bundle_is(edge, tiny):
    code, out, _ = edge("verify", tiny)
    assert code == 0
    assert "tiny, detect, fp16, for jetson-nano" in out
    assert "every byte as sealed" in out
    assert "golden" not in out


def test_verify_names_what_engines_are_built_and_checked_by(edge, tiny_copy, maker):
    from edge.bundle import seal
    from edge.models import GOLDEN_FILE, STRONG_MODEL

    (tiny_copy / GOLDEN_FILE).write_bytes(b"0" * 20_000)
    (tiny_copy / STRONG_MODEL).write_bytes(b"")
    seal(tiny_copy, maker.tiny_manifest())
    code, out, _ = edge("verify", tiny_copy)
    assert code == 0
    assert "golden.npz 0.02 MB, inputs and the outputs expected of them" in out
    assert "model.strong.onnx 0.00 MB, FP16 in its types, for TensorRT 11" in out


@pytest.mark.parametrize(
    ("limits", "drop_pt", "code"),
    [
        (("--fps-min", 1), 0.2, 0),
        (("--fps-min", 1e9), 0.2, 3),
        (("--fps-min", 1), 7.0, 3),
        (("--fps-min", 1), None, 4),  # nobody knows the accuracy
    ],
)
def test_the_gates_exit_code_is_its_verdict(edge, tiny_copy, maker, limits, drop_pt, code):
    if drop_pt is not None:
        drop = Measurement.exact("accuracy_drop_pt", drop_pt, "points", basis=Basis.EMULATED,
                                 source="test")  # fmt: skip
        write_accuracy(tiny_copy, (drop,))
        for name in ("manifest.json", "bundle.sha256"):
            (tiny_copy / name).unlink()
        seal(tiny_copy, maker.tiny_manifest())
    found, out, _ = edge("gate", tiny_copy, "--for", "jetson-nano", *limits)
    assert found == code
    assert "basis: predicted" in out


def test_the_gate_prints_json(edge, tiny):
    code, out, _ = edge("gate", tiny, "--for", "jetson-nano", "--fps-min", 1e9, "--json")
    report = json.loads(out)
    assert (code, report["verdict"]) == (3, "fail")
    checks = {check["limit"]: check for check in report["checks"]}
    assert checks["fps_min"]["bound"] == 1e9


def test_impossible_limits_are_exit_code_2(edge, tiny, tmp_path):
    code, _, err = edge("gate", tiny, "--for", "jetson-nano", "--fps-min", -1)
    assert (code, "--fps-min: found -1.0; expected a finite number" in err) == (2, True)
    (tmp_path / "b.toml").write_text("fps_mim = 3\n")
    code, _, err = edge("gate", tiny, "--for", "jetson-nano", "--budget", tmp_path / "b.toml")
    assert (code, "fps_mim" in err) == (2, True)


def test_ctrl_c_keeps_what_was_written(tiny, tmp_path):
    out = tmp_path / "o.jsonl"
    command = [sys.executable, "-m", "edge", "run", str(tiny), "--realtime",
               "--source", "synthetic://?frames=100000&fps=50&width=64&height=48",
               "--sink", f"jsonl:{out}", "--sink", f"video:{tmp_path}/o.mp4"]  # fmt: skip
    root = Path(__file__).parents[2]
    running = subprocess.Popen(command, cwd=str(root), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    deadline = time.monotonic() + 30
    while not (out.exists() and out.read_bytes().count(b"\n") >= 3):
        assert time.monotonic() < deadline, running.communicate()
        assert running.poll() is None, running.communicate()
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGINT)
    stdout, stderr = running.communicate(timeout=30)
    assert running.returncode == 130
    assert stderr == "edge: stopped; what was written is whole\n"
    assert stdout.startswith("emulated jetson-nano")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) >= 3
    import cv2

    assert cv2.VideoCapture(str(tmp_path / "o.mp4")).read()[0]


def test_help_and_wrong_usage_have_their_exit_codes(edge):
    code, out, _ = edge("run", "--help")
    assert (code, "synthetic://" in out, "jsonl, video" in out, "emulated" in out) == (
        0, True, True, True)  # fmt: skip
    code, _, err = edge("run", "x")
    assert (code, "Missing option '--source'" in err) == (2, True)


def test_a_truncated_video_is_counted_in_the_summary(edge, tiny, tmp_path):
    edge("run", tiny, "--source", SYNTHETIC, "--sink", f"video:{tmp_path}/o.avi")
    data = (tmp_path / "o.avi").read_bytes()
    (tmp_path / "o.avi").write_bytes(data[: int(len(data) * 0.7)])
    code, out, _ = edge("run", tiny, "--source", tmp_path / "o.avi")
    assert code == 0
    came = int(out.split("frames     ")[1].split(" in")[0])
    assert 0 < came < 20
    assert f"skipped    {20 - came} x frame of o.avi: its container promised 20, {came} came" in out


def test_ctrl_c_before_the_first_frame_is_130(edge, tiny, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("edge.session.open_source", stop)
    code, out, err = edge("run", tiny, "--source", SYNTHETIC)
    assert (code, out, err.strip()) == (130, "", "edge: stopped")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's always full device")
def test_a_full_disk_is_one_line_and_exit_code_2(edge, tiny, tmp_path):
    code, out, err = edge("run", tiny, "--source", SYNTHETIC, "--sink", "jsonl:/dev/full",
                          "--sink", f"jsonl:{tmp_path}/kept.jsonl")  # fmt: skip
    assert code == 2
    assert "1 in, 0 processed, 0 dropped while the engine was busy, 1 unfinished" in out
    assert err.startswith("edge: /dev/full: found No space left on device; expected")
    assert err.count("\n") == 1


def test_a_source_that_fails_midway_is_counted_before_the_error(edge, tiny, tmp_path):
    import cv2

    (tmp_path / "set").mkdir()
    good = cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes()
    for index in range(6):
        (tmp_path / "set" / f"{index}.png").write_bytes(b"no" if index else good)
    code, out, err = edge("run", tiny, "--source", tmp_path / "set", "--every-frame")
    assert code == 2
    assert "1 in, 1 processed, 0 dropped" in out
    assert "skipped    4 x image 1.png" in out
    assert "4 of 6 images unreadable" in err


def files_below(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("source", "sinks"),
    [
        ("clip.avi", ["video:clip.avi"]),
        ("clip.avi", ["jsonl:old.jsonl", "video:./clip.avi"]),
        ("set", ["jsonl:set/a.png"]),
        ("clip.avi", ["jsonl:tiny/model.onnx"]),
        ("clip.avi", ["jsonl:tiny/found.jsonl"]),
        ("clip.avi", ["jsonl:old.jsonl", "jsonl:old.jsonl"]),
        ("clip.avi", ["jsonl:old.jsonl", "video:no/such/out.avi"]),
        ("clip.avi", ["jsonl:old.jsonl", "mqtt:x"]),
        ("rotten.avi", ["jsonl:old.jsonl", "video:old.avi"]),
        ("rotten", ["jsonl:old.jsonl", "video:old.avi"]),
        ("no-such.avi", ["jsonl:old.jsonl", "video:old.avi"]),
    ],
)
def test_a_run_that_cannot_start_leaves_every_file_as_it_was(
    edge, tiny_copy, tmp_path, monkeypatch, source, sinks
):
    monkeypatch.chdir(tmp_path)
    edge("run", tiny_copy, "--source", SYNTHETIC, "--sink", "video:clip.avi")
    for folder in ("set", "rotten"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(b"no")
    for name in ("old.jsonl", "old.avi", "rotten.avi"):
        (tmp_path / name).write_text("earlier")
    before = files_below(tmp_path)
    flags = [part for sink in sinks for part in ("--sink", sink)]
    code, out, err = edge("run", "tiny", "--source", source, *flags)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert files_below(tmp_path) == before


def test_an_opset_past_the_boards_is_refused_as_the_gate_does(edge, tiny_copy, maker):
    for name in ("manifest.json", "bundle.sha256"):
        (tiny_copy / name).unlink()
    seal(tiny_copy, msgspec.structs.replace(maker.tiny_manifest(), opset=17))
    code, out, err = edge("run", tiny_copy, "--source", SYNTHETIC)
    assert (code, out, "found ONNX opset 17 on jetson-nano" in err) == (2, "", True)
    assert edge("gate", tiny_copy, "--for", "jetson-nano")[0] == 3
