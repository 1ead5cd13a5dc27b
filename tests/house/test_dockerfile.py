"""Dockerfile.jetson: a stage for every line it names, of the versions the tables say, no torch."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from devices.jetpack import jetpack_line, jetpack_lines
from edge.doctor_board import MOUNTS
from edge.doctor_software import GPU_NODES
from edge.doctor_system import ARGUS_MOUNT
from tests.house.dockerfile import Stage, reached, replaced, stages
from tests.house.jetson_pins import LINES, line_of, read_pins

ROOT = Path(__file__).parents[2]
FILE = ROOT / "Dockerfile.jetson"
HEAD, STAGES = stages(FILE)
BY_NAME = {stage.name: stage for stage in STAGES}
# What an image of NVIDIA brings where it is not what JetPack brings.
OTHER_TENSORRT = {"7.2": "10.16.1"}
IMAGES = {
    "4.6": "l4t-tensorrt:r8.2.1-runtime",
    "5.1": "l4t-tensorrt:r8.5.2-runtime",
    "6.2": "l4t-tensorrt:r10.3.0-runtime",
    "7.1": "tensorrt:25.10-py3",
    "7.2": "tensorrt:26.05-py3",
}


def labels(stage: Stage):
    words = shlex.split(" ".join(stage.all("LABEL")))
    return {key.partition(".")[2]: value for key, _, value in (w.partition("=") for w in words)}


def needed(name):
    """The stages that `--build-arg JETPACK=name` builds."""
    return [stage for stage in STAGES if stage.name in reached(STAGES, {"JETPACK": name})]


def test_there_is_a_stage_for_each_line_and_no_other():
    named = {stage.name.partition("-")[2] for stage in STAGES if stage.name.startswith("jetpack-")}
    assert named == set(LINES) == set(IMAGES)
    assert {name.split(".")[0] for name in named} == {"4", "5", "6", "7"}
    default = next(item.text for item in HEAD if item.name == "ARG")
    assert default.partition("=")[2] in named
    assert named <= {line.name for line in jetpack_lines()}


@pytest.mark.parametrize("name", LINES)
def test_the_build_argument_chooses_the_image_that_runs(name):
    last = STAGES[-1]
    assert replaced(last.base, {"JETPACK": name}) == f"jetpack-{name}"
    assert BY_NAME[f"jetpack-{name}"].base == f"nvcr.io/nvidia/{IMAGES[name]}"
    others = {stage.name for stage in needed(name) if stage.name.startswith("jetpack-")}
    assert others == {f"jetpack-{name}"}
    built = {stage.name for stage in needed(name)}
    assert ("binding-4.6" in built) == ("opencv-4.6" in built) == (name == "4.6")


@pytest.mark.parametrize("name", LINES)
def test_versions_are_those_of_the_jetpack_table(name):
    line, said = jetpack_line(name), labels(BY_NAME[f"jetpack-{name}"])
    assert said["jetpack"] == name
    assert said["tensorrt"] == OTHER_TENSORRT.get(name, line.tensorrt)
    assert said["tensorrt"].split(".")[:2] == line.tensorrt.split(".")[:2]
    assert said["cuda"] == line.cuda
    assert said["python"] == line_of(name).python
    first, _, last = line.l4t.partition(" to ")
    major_minor = tuple(map(int, said["l4t"].split(".")))
    low, high = (tuple(map(int, text.split(".")[:2])) for text in (first, last or first))
    assert low <= major_minor <= high


@pytest.mark.parametrize("name", LINES)
def test_the_table_at_the_top_says_the_same(name):
    rows = re.findall(r"^# (\d\.\d)  +(\S+) +(\S+) +(\S+) +(3\.\d+)", FILE.read_text(), re.M)
    row = {found[0]: found[1:] for found in rows}[name]
    said = labels(BY_NAME[f"jetpack-{name}"])
    assert row == (IMAGES[name], said["tensorrt"], said["cuda"], said["python"])


@pytest.mark.parametrize("name", ["5.1", "6.2"])
def test_the_binding_of_the_board_is_the_tensorrt_of_the_image(name):
    said, run = labels(BY_NAME[f"jetpack-{name}"]), " ".join(BY_NAME[f"jetpack-{name}"].all("RUN"))
    assert f"python3-libnvinfer={said['tensorrt']}" in run
    assert IMAGES[name].split(":")[1].startswith(f"r{said['tensorrt']}")
    assert f"common r{said['l4t']} main" in run


def test_the_binding_of_jetpack_4_is_built_of_the_tag_of_its_tensorrt():
    run = " ".join(BY_NAME["binding-4.6"].all("RUN"))
    tensorrt = jetpack_line("4.6").tensorrt
    assert f"--branch {tensorrt} https://github.com/NVIDIA/TensorRT.git" in run
    assert "PYTHON_MINOR_VERSION=8" in run
    assert f"VERSION##|{tensorrt}|" in run
    copied = BY_NAME["jetpack-4.6"].all("COPY")
    assert {text.split()[0] for text in copied} == {"--from=binding-4.6", "--from=opencv-4.6"}
    assert "PYTHONPATH=/opt/jetpack" in BY_NAME["jetpack-4.6"].all("ENV")


def documented_run():
    """The words of the `docker run` in the first comment, and the commands a shell runs in them."""
    head = FILE.read_text().partition("ARG JETPACK")[0]
    lines = head.partition("#   docker run")[2].partition("\n#\n")[0]
    command = " ".join(line.strip("# \\") for line in lines.splitlines())
    return re.sub(r" \$\([^)]*\)", "", command), re.findall(r"\$\(([^)]*)\)", command)


def test_the_documented_run_brings_all_that_the_doctor_would_ask_for():
    command, asked = documented_run()
    words = shlex.split(command)
    for wanted in (MOUNTS, ARGUS_MOUNT, "--runtime nvidia", "--device /dev/video0"):
        parts = shlex.split(wanted)
        for option, value in zip(parts[::2], parts[1::2]):
            assert (option, value) in list(zip(words, words[1:])), value
    assert words[-1] == "doctor"
    assert words[-2] in {f"jetpress:{name}" for name in LINES}
    assert f"jetpress:{STAGES[-1].all('VOLUME')[0]}" in words
    (groups,) = asked
    nodes = [word for word in groups.split() if word in GPU_NODES]
    assert {GPU_NODES[node] for node in nodes} == set(GPU_NODES.values()) == {"video", "render"}


def test_the_groups_of_the_gpu_are_numbers_and_a_node_that_is_not_there_is_none(tmp_path):
    (groups,) = documented_run()[1]
    (tmp_path / "nvmap").touch()
    here = groups.replace("/dev/nvmap", str(tmp_path / "nvmap")).replace("/dev/dri", str(tmp_path))
    done = subprocess.run(["sh", "-c", here], capture_output=True, text=True)
    assert done.stdout.split() == ["--group-add", str((tmp_path / "nvmap").stat().st_gid)]
    assert done.stderr == ""


def test_every_base_is_pinned_or_a_stage_of_this_file():
    seen = set()
    for stage in STAGES:
        names = [replaced(stage.base, {"JETPACK": name}) for name in LINES]
        if all(name in seen for name in names):
            pass
        else:
            tag = stage.base.rpartition(":")[2]
            assert ":" in stage.base, stage.base
            assert re.search(r"\d", tag), stage.base
            assert "latest" not in tag, stage.base
        seen.add(stage.name)


def test_no_torch_no_opencv_wheel_and_no_compiler_is_on_the_board():
    text = "\n".join(line for line in FILE.read_text().splitlines() if not line.startswith("#"))
    assert "torch" not in text
    for stage in STAGES:
        for run in stage.all("RUN"):
            assert not re.search(r"pip install[^&]*opencv", run), stage.name
    for name in LINES:
        pins = set(read_pins(name))
        assert not pins & {"torch", "opencv-python", "opencv-python-headless", "onnx", "tensorrt"}
        run = " ".join(BY_NAME[f"jetpack-{name}"].all("RUN"))
        assert "build-essential" not in run
        assert ("python3-opencv" in run) == (name != "4.6")


def test_the_last_user_is_none_of_roots_and_its_health_is_asked():
    last = STAGES[-1]
    assert last.all("USER") == ["10001"]
    names = [item.name for item in last.instructions]
    assert "RUN" not in names[names.index("USER") :]
    run = " ".join(last.all("RUN"))
    assert "--uid 10001 --groups video,render " in run
    for group in ("video", "render"):  # not in every base image
        assert run.index(f"groupadd --force --system {group}") < run.index("useradd")
    assert json.loads(last.all("ENTRYPOINT")[0]) == ["edge"]
    (health,) = last.all("HEALTHCHECK")
    command = json.loads(health[health.index("[") :])
    assert command[2].split()[:2] == ["edge", "doctor"]
    assert command[2].endswith("|| exit 1")  # Docker knows 0 and 1 alone


def test_the_health_check_asks_for_flags_that_exist():
    health = STAGES[-1].all("HEALTHCHECK")[0]
    (flags,) = re.findall(r"edge doctor ([^>]*)>", health)
    done = subprocess.run(
        [sys.executable, "-m", "edge", "doctor", *flags.split(), "--help"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--for" in done.stdout


def test_everything_copied_is_there_and_nothing_ignores_it():
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    kept = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    checked = set()
    for name in LINES:
        for stage in needed(name):
            for text in stage.all("COPY"):
                if text.startswith("--from="):
                    assert text.split()[0].partition("=")[2] in BY_NAME
                    continue
                for source in text.split()[:-1]:
                    path = replaced(source, {"JETPACK": name})
                    assert (ROOT / path).exists(), path
                    assert any(fnmatch.fnmatch(path.split("/")[0], entry) for entry in kept), path
                    checked.add(path)
    assert {f"edge/jetson/requirements-{name}.txt" for name in LINES} < checked
    assert {"pyproject.toml", "calib", "devices", "edge"} < checked
    assert "compress" not in checked


@pytest.mark.parametrize(
    ("name", "found", "fits"),
    [("4.6", "8.2.1", True), ("5.1", "8.5.2.2", True), ("6.2", "10.3.0", True),
     ("7.2", "10.16.1.11", True), ("7.2", "10.13.3", False), ("6.2", "10.30.0", False),
     ("5.1", "8.6.1", False)],
)  # fmt: skip
def test_the_build_stops_at_an_image_with_another_tensorrt(tmp_path, name, found, fits):
    run = STAGES[-1].all("RUN")[0]
    code = re.search(r'python -c "([^"]*)"', run)[1].replace("$JETPACK", name)
    info = tmp_path / f"tensorrt-{found}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tensorrt\nVersion: {found}\n")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (done.returncode == 0) is fits, done.stderr
    if not fits:
        assert f"TensorRT {found} is not" in done.stderr


def test_lists_of_packages_are_not_left_in_the_image():
    for stage in STAGES:
        for text in stage.all("RUN"):
            if "apt-get update" in text:
                assert "rm -rf /var/lib/apt/lists/*" in text, stage.name
                assert "--no-install-recommends" in text, stage.name
            for call in re.findall(r"pip install ([^&]*)", text):
                assert "--no-deps" in call, stage.name
                assert "--require-hashes" in call or "--no-index" in call, stage.name


def test_hadolint_has_nothing_to_say():
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which(
        "hadolint"
    )
    if program is None:
        pytest.skip("no hadolint on this computer: pip install 'jetpress[dev]'")
    done = subprocess.run(
        [program, "--no-color", "--config", str(ROOT / ".hadolint.yaml"), str(FILE)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert done.stdout == ""


def test_hadolint_would_speak_up(tmp_path):
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("no hadolint beside this interpreter: pip install 'jetpress[dev]'")
    bad = tmp_path / "Dockerfile"
    bad.write_text(FILE.read_text().replace("USER 10001", "USER root"))
    done = subprocess.run([program, "--config", str(ROOT / ".hadolint.yaml"), str(bad)],
                          capture_output=True, text=True)  # fmt: skip
    assert "DL3002" in done.stdout
