"""The doctor: one line each, with what was found and the cure; boards, hosts and damage."""

import errno
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from edge.doctor import BOARD, CHECKS, HOST, JETSON_FILES, ONLY, diagnose, text
from edge.doctor_software import opencv_has
from edge.tegrastats import LOG
from tests.edge.boards.places import (
    BUILD_INFO,
    NOW_S,
    cv2,
    gpu,
    installed,
    lines,
    no_gpu,
    orin_tree,
    place,
    tensorrt,
)
from tests.edge.boards.trees import BOARDS, build, write


@pytest.fixture
def orin(tmp_path):
    return orin_tree(tmp_path)


def test_a_board_with_everything_lacks_nothing(orin):
    diagnosis = diagnose(place(orin))
    found = {line.what: line.found for line in diagnosis.lines}
    assert diagnosis.exit_code == 0
    assert not diagnosis.of("missing")
    assert list(found) == list(CHECKS)
    assert found["board"] == (
        "NVIDIA Jetson Orin Nano Developer Kit, p3767-0005: profile jetson-orin-nano"
    )
    assert found["JetPack"] == (
        "6.1 to 6.2.2 (L4T 36.4.0): CUDA 12.6, TensorRT 10.3.0, Python 3.10"
    )
    assert found["TensorRT"] == "10.3.0, dialect tensors-weak"
    assert found["CUDA"] == "Orin, SM 8.7, driver for CUDA 12.6, 7988 MB"
    assert found["CUDA context"] == ("opened and closed through ctypes, 6000 MB free of 7988 MB")
    assert found["OpenCV"] == "4.8.0, GStreamer 1.20.3, FFmpeg yes"
    assert found["cameras"] == "/dev/video0 (USB Camera)"
    assert found["memory"] == "6144 MB free of 7990 MB"
    assert found["swap"] == "4295 MB free on a disk, 655 MB of zram, which is compressed memory"
    assert found["power mode"] == "15W of 15W, 7W"
    assert found["time"].endswith("UTC, synchronised")
    assert "0 engines" in found["engine cache"]


def test_a_line_that_is_not_well_has_a_cure_and_one_that_is_has_none(tmp_path):
    seen = set()
    for name in BOARDS:
        for probe in (gpu(), no_gpu):
            root = build(name, tmp_path / name / probe.__name__)
            for line in diagnose(place(root, load=installed(), probe=probe)).lines:
                assert line.found
                assert bool(line.cure) == (line.state in ("warn", "missing")), line
                assert "\n" not in line.found + line.cure
                seen.add(line.state)
    assert seen == {"ok", "warn", "missing", "none"}


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_every_board_is_looked_at_and_shown_within_100_columns(tmp_path, name):
    shown = text(diagnose(place(build(name, tmp_path), cache=Path("/tmp/engines"))))
    assert max(len(row) for row in shown.splitlines() if " -> " not in row) <= 100
    assert shown.splitlines()[-1].endswith(("warning", "warnings", "on this board"))


def test_a_bare_board_misses_what_it_cannot_run_without(orin):
    diagnosis = diagnose(place(orin, load=installed(), probe=no_gpu))
    assert [line.what for line in diagnosis.of("missing")] == ["TensorRT", "CUDA", "OpenCV"]
    assert diagnosis.exit_code == 3
    assert (
        text(diagnosis)
        .splitlines()[-1]
        .startswith("missing to build engines and run them on this board: TensorRT, CUDA, OpenCV")
    )


def test_a_host_is_asked_for_no_part_of_a_board(tmp_path):
    diagnosis = diagnose(place(tmp_path, role=HOST, probe=no_gpu))
    states = {line.what: line.state for line in diagnosis.lines}
    assert {states[name] for name in ONLY[BOARD]} == {"none"}
    assert (states["ONNX Runtime"], states["OpenCV"]) == ("ok", "ok")
    assert diagnosis.exit_code == 0
    shown = text(diagnosis).splitlines()
    assert sum("not a Jetson: nothing to cure" in row for row in shown) == 1
    assert shown[-1].startswith("nothing is missing to run bundles on this host, emulated")
    lacking = diagnose(place(tmp_path, role=HOST, load=installed()))
    assert [line.what for line in lacking.of("missing")] == ["ONNX Runtime", "OpenCV"]
    assert lacking.of("missing")[0].cure == "pip install 'jetpress[emulate]'"


def test_a_host_asked_as_a_board_hears_in_one_line_that_it_is_none(tmp_path):
    wheel = cv2(gstreamer="NO", file="/opt/venv/lib/python3.10/site-packages/cv2/cv2.so")
    there = place(tmp_path, load=installed(cv2=wheel), probe=no_gpu)
    found = lines(there)
    assert (found["board"].state, found["board"].found) == ("missing", "not a Jetson")
    assert "--for host" in found["board"].cure
    assert {found[name].state for name in JETSON_FILES} == {"none"}
    assert "JetPack" not in found["OpenCV"].found
    shown = text(diagnose(there))
    assert shown.count("not a Jetson: nothing to cure (JetPack, power mode, clocks, sensors)") == 1


def test_a_wheel_of_pip_that_hides_jetpacks_opencv_is_said_with_the_cure(orin):
    wheel = cv2(gstreamer="NO", file="/opt/venv/lib/python3.10/site-packages/cv2/cv2.so")
    line = lines(place(orin, load=installed(cv2=wheel)), "OpenCV")["OpenCV"]
    assert line.state == "warn"
    assert "a wheel of pip hides JetPack's OpenCV" in line.found
    assert line.cure.startswith("pip uninstall opencv-python")
    line = lines(place(orin, load=installed(cv2=cv2(gstreamer="NO"))), "OpenCV")["OpenCV"]
    assert (line.state, "wheel" in line.found) == ("warn", False)


@pytest.mark.parametrize(
    ("said", "has"),
    [("YES", "yes"), ("YES (1.20.3)", "1.20.3"), ("NO", ""), ("", "")],
)
def test_what_opencv_was_built_with(said, has):
    assert opencv_has(BUILD_INFO.format(gstreamer=said, ffmpeg="YES"), "GStreamer") == has


@pytest.mark.parametrize(
    "error", [ImportError("libnvinfer.so.10: cannot open"), OSError("bad ELF"),
              AttributeError("module 'numpy' has no attribute 'bool'")],
)  # fmt: skip
def test_a_broken_package_is_a_line_and_not_a_crash(orin, error):
    load = installed(tensorrt=error, cv2=error)
    found = lines(place(orin, load=load), "TensorRT", "OpenCV")
    for line in found.values():
        assert line.state == "missing"
        assert str(error) in line.found


def test_tensorrt_of_another_python_and_of_another_jetpack_are_said(orin):
    (orin / "usr/lib/python3.10/dist-packages/tensorrt").mkdir(parents=True)
    line = lines(place(orin, load=installed()), "TensorRT")["TensorRT"]
    assert "there for python3.10" in line.cure
    line = lines(place(orin, load=installed(tensorrt=tensorrt("10.7.0"))), "TensorRT")["TensorRT"]
    assert line.state == "ok"
    assert line.found.endswith("(JetPack 6.1 to 6.2.2 brings 10.3.0)")


def test_jetpack_4_is_told_of_the_dockerfile(tmp_path):
    root = build("jetson-nano", tmp_path)
    line = lines(place(root, load=installed()), "TensorRT")["TensorRT"]
    assert "Dockerfile.jetson" in line.cure


def test_a_module_with_less_memory_than_its_profile_is_said(tmp_path):
    """The developer kit of 2022 has the GPU of the 64 GB module and 32 GB."""
    root = build("jetson-agx-orin", tmp_path)
    kit = b"nvidia,p3737-0000+p3701-0000\0nvidia,p3701-0000\0nvidia,tegra234\0"
    write(root, {"/proc/device-tree/compatible": kit,
                 "/proc/meminfo": "MemTotal: 31250000 kB\nMemAvailable: 30000000 kB\n"
                                  "SwapTotal: 0 kB\nSwapFree: 0 kB"})  # fmt: skip
    line = lines(place(root), "board")["board"]
    assert line.state == "warn"
    assert "jetson-agx-orin counts on 65894 MB, here are 32000 MB" in line.found


def test_a_board_no_profile_lists_and_a_container_that_hides_it_are_warned_of(tmp_path):
    root = build("unknown", tmp_path)
    found = lines(place(root), "board", "JetPack", "power mode")
    assert {line.state for line in found.values()} == {"warn"}
    assert "-v /etc/nv_boot_control.conf" in found["board"].cure
    assert "L4T 99.9, of no JetPack that is known here" in found["JetPack"].found
    write(root, {"/proc/device-tree/compatible": b"nvidia,p3701-0008\0nvidia,tegra234\0"})
    line = lines(place(root), "board")["board"]
    assert "p3701-0008" in line.found
    assert "--profile" in line.cure


def test_a_small_board_without_swap_hears_the_recipe(tmp_path):
    root = build("jetson-nano", tmp_path)
    head = "Filename Type Size Used Priority\n"
    write(root, {"/proc/swaps": f"{head}/dev/zram0 partition 2029656 0 5"})
    line = lines(place(root), "swap")["swap"]
    assert (line.state, line.found) == (
        "warn", "0 MB free on a disk, 2078 MB of zram, which is compressed memory; with 4157 MB of "
        "memory, builds may be killed")  # fmt: skip
    assert line.cure.startswith("sudo ")
    assert "fallocate -l 4G" in line.cure
    write(root, {"/proc/swaps": f"{head}/swapfile file 4194300 0 -2"})
    assert lines(place(root), "swap")["swap"].state == "ok"


def test_clocks_that_move_are_locked_or_held_down(tmp_path, orin):
    assert lines(place(orin), "clocks")["clocks"].found == "held down now by gpu-throttle-alert"
    write(orin, {"/sys/class/thermal/cooling_device0/cur_state": 0})
    line = lines(place(orin), "clocks")["clocks"]
    assert (line.state, "between 306 and 1020 MHz" in line.found) == ("warn", True)
    assert line.cure.endswith("sudo jetson_clocks")
    thor = build("jetson-agx-thor", tmp_path / "thor")
    assert lines(place(thor), "clocks")["clocks"].found == "locked, GPU at 1575 MHz"


def test_a_weak_supply_shows_in_the_sensors(orin):
    line = lines(place(orin), "sensors")["sensors"]
    assert line.state == "warn"
    assert "oc2_event_cnt 15, oc3_event_cnt 37" in line.found
    write(orin, {f"/sys/class/hwmon/hwmon3/oc{n}_event_cnt": 0 for n in (1, 2, 3)})
    line = lines(place(orin), "sensors")["sensors"]
    assert line.found == (
        "4 temperatures, the highest 45.5 degC; power rails VDD_IN, VDD_CPU_GPU_CV, VDD_SOC"
    )


def test_a_container_without_power_rails_hears_of_tegrastats_log_and_uses_it(tmp_path):
    root = build("jetson-nano-2gb", tmp_path)
    assert "no power figures" in lines(place(root), "sensors")["sensors"].cure
    write(root, {"/.dockerenv": ""})
    line = lines(place(root), "sensors")["sensors"]
    assert "sudo tegrastats --interval 1000 --logfile /run/jetpress/tegrastats" in line.cure
    assert line.cure.endswith("start the container with -v /run/jetpress:/run/jetpress:ro")
    write(root, {LOG: "RAM 1345/7829MB (lfb 1x4MB) GPU@41C VDD_IN 2003/2658"})
    os.utime(root / LOG.lstrip("/"), (NOW_S, NOW_S))
    line = lines(place(root), "sensors")["sensors"]
    assert line.state == "ok"
    assert line.found == (
        "1 temperatures, the highest 38.0 degC; power rails VDD_IN; from tegrastats' log: rails_mw"
    )
    line = lines(place(root, now_s=NOW_S + 60), "sensors")["sensors"]
    assert (line.state, "/run/jetpress/tegrastats: last written 60 s ago" in line.found) == (
        "warn", True)  # fmt: skip


def test_a_power_mode_without_clocks_in_the_profile_is_said_with_one_that_has(tmp_path):
    root = build("jetson-agx-thor", tmp_path)
    line = lines(place(root), "power mode")["power mode"]
    assert line.found == (
        "120W of MAXN, 120W, 90W, 70W; jetson-agx-thor has no clocks for it, so nothing is "
        "predicted for it"
    )
    assert line.cure == "sudo nvpmodel -m 0"
    (root / "var/lib/nvpmodel/status").unlink()
    assert lines(place(root), "power mode")["power mode"].cure == "sudo nvpmodel -q"
    write(root, {"/.dockerenv": ""})
    line = lines(place(root), "power mode")["power mode"]
    assert "-v /var/lib/nvpmodel:/var/lib/nvpmodel:ro" in line.cure


def test_a_cache_folder_that_cannot_be_written_is_missing_and_none_is_made(orin, monkeypatch):
    there = place(orin)
    assert lines(there, "engine cache")["engine cache"].state == "ok"
    assert not there.cache.exists()
    monkeypatch.setattr("edge.doctor_system.os.access", lambda path, mode: False)
    line = lines(there, "engine cache")["engine cache"]
    assert (line.state, "cannot be written to" in line.found) == ("missing", True)
    assert "JETPRESS_CACHE" in line.cure


def test_an_engine_folder_that_may_not_be_read_is_a_line_and_no_traceback(orin, monkeypatch):
    there = place(orin)

    def refuse(cache):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("edge.doctor_system.EngineCache.entries", refuse)
    line = lines(there, "engine cache")["engine cache"]
    assert (line.state, "Permission denied" in line.found) == ("missing", True)
    assert "chown" in line.cure


def test_a_full_disk_and_a_damaged_engine_are_said(orin, monkeypatch):
    there = place(orin)
    write(there.cache, {"tiny-1.engine": "no engine"})
    line = lines(there, "engine cache")["engine cache"]
    assert (line.state, "1 engines" in line.found, "damaged: tiny-1.engine" in line.found) == (
        "warn", True, True)  # fmt: skip
    usage = types.SimpleNamespace(free=50_000_000)
    monkeypatch.setattr("edge.doctor_system.shutil.disk_usage", lambda path: usage)
    line = lines(there, "engine cache")["engine cache"]
    assert (line.state, "50 MB free" in line.found) == ("missing", True)


def test_a_clock_of_1970_is_said(orin):
    line = lines(place(orin, now_s=3600.0), "time")["time"]
    assert (line.state, line.found) == ("warn", "1970-01-01 01:00 UTC: the clock is not set")
    assert line.cure == "sudo timedatectl set-ntp true"


@pytest.mark.parametrize(
    ("files", "kind"),
    [({}, "no"), ({"/.dockerenv": ""}, "Docker"), ({"/run/.containerenv": ""}, "Podman"),
     ({"/proc/1/cgroup": "0::/kubepods/besteffort/pod1"}, "kubepods")],
)  # fmt: skip
def test_a_container_is_told_by_its_marks(tmp_path, files, kind):
    root = build("jetson-nano", tmp_path)
    write(root, files)
    assert kind in lines(place(root), "container")["container"].found


def test_the_command_prints_the_lines_and_the_same_as_json():
    run = [sys.executable, "-m", "edge", "doctor", "--for", "host"]
    shown = subprocess.run(run, capture_output=True, text=True)
    told = subprocess.run([*run, "--json"], capture_output=True, text=True)
    assert shown.returncode == told.returncode == 0, shown.stderr + told.stderr
    found = json.loads(told.stdout)
    assert [line["what"] for line in found["lines"]] == list(CHECKS)
    assert re.search(r"^ok +ONNX Runtime +\d", shown.stdout, re.M)
    assert found["role"] == "host"
