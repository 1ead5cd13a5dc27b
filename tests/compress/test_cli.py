"""The command end to end on small nets of a user: exit codes, errors, resuming, same bytes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from compress.host_check import check_on_host
from compress.rtx import RtxResult
from edge.bundle import open_bundle
from edge.engines.tensorrt.errors import Fault

pytest.importorskip("torch", reason="needs the extra 'compress'")
pytest.importorskip("nncf", reason="needs the extra 'compress'")
cv2 = pytest.importorskip("cv2", reason="needs the extra 'compress'")

SMALL = "tests.compress.user_nets:small"
LARGE = "tests.compress.user_nets:large"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Twelve pictures of coloured light and noise."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    for index in range(12):
        picture = rng.integers(0, 60, (40, 50, 3)) + 180 * (np.arange(3) == index % 3)
        cv2.imwrite(str(folder / f"{index:02}.png"), picture.astype(np.uint8))
    return folder


@pytest.fixture
def compress(tmp_path, monkeypatch):
    from compress.cli import cli

    monkeypatch.setenv("JETPRESS_CACHE", str(tmp_path / "cache"))

    def run(*arguments, out=tmp_path / "run"):
        words = [str(word) for word in (*arguments, "--out", out)]
        return CliRunner().invoke(cli, words, catch_exceptions=False)

    run.out = tmp_path / "run"
    return run


def report(compress):
    return json.loads((compress.out / "report.json").read_bytes())


@pytest.mark.slow
def test_a_factory_is_distilled_and_quantized_for_an_orin(compress, pictures):
    result = compress(
        SMALL, "--profile", "jetson-orin-nano", "--data", pictures, "--teacher", LARGE,
        "--distil-steps", 5, "--accuracy-drop-max", 100,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    manifest = open_bundle(compress.out / "bundle").manifest
    assert [step.name for step in manifest.lineage] == ["import", "distil", "int8", "seal"]
    assert (manifest.precision, manifest.profile) == ("int8", "jetson-orin-nano")
    assert not [name for name in manifest.files if name.startswith("workshop/")]
    facts = report(compress)
    keys = {"profile", "verdict", "checks", "stages", "refusals", "lineage", "inputs"}
    assert keys <= set(facts)
    assert facts["verdict"] == "pass"
    assert [stage["name"] for stage in facts["stages"]] == ["baseline", "distil", "int8"]
    assert {check["fact"]["basis"] for check in facts["checks"]} == {"predicted", "emulated"}
    assert "measured" not in (compress.out / "report.md").read_text().replace("not measured", "")


@pytest.mark.slow
def test_a_nano_ends_in_fp16_and_says_what_int8_would_have_needed(compress, pictures):
    result = compress(SMALL, "--profile", "jetson-nano", "--data", pictures)
    assert result.exit_code == 4, result.output  # a dozen pictures do not prove one point
    assert "too few to tell" in (compress.out / "report.md").read_text()
    assert open_bundle(compress.out / "bundle").manifest.precision == "fp16"
    assert "SM 6.1" in result.output
    reasons = " ".join(refusal["reason"] for refusal in report(compress)["refusals"])
    assert "DP4A" in reasons
    assert "fast enough for 15 frames/s" in reasons


@pytest.mark.slow
def test_an_onnx_file_of_ours_can_be_compressed_again_for_another_board(
    compress, pictures, tmp_path
):
    compress(SMALL, "--profile", "jetson-nano", "--data", pictures, "--distil-steps", 0)
    model = compress.out / "bundle" / "model.onnx"
    result = compress(
        model, "--profile", "jetson-orin-nano", "--data", pictures, out=tmp_path / "second"
    )
    assert result.exit_code in (0, 4), result.output
    assert open_bundle(tmp_path / "second" / "bundle").manifest.precision == "int8"


@pytest.mark.slow
def test_the_same_command_again_computes_nothing_and_gives_the_same_bytes(compress, pictures):
    words = (SMALL, "--profile", "jetson-nano", "--data", pictures)
    compress(*words)
    before = {path.name: path.read_bytes() for path in compress.out.glob("report.*")}
    sealed = open_bundle(compress.out / "bundle").sha256
    again = compress(*words)
    assert "(kept from before)" in again.output
    assert open_bundle(compress.out / "bundle").sha256 == sealed
    assert {path.name: path.read_bytes() for path in compress.out.glob("report.*")} == before


@pytest.mark.slow
def test_limits_that_cannot_be_met_exit_3_and_leave_the_bundle(compress, pictures):
    result = compress(SMALL, "--profile", "jetson-nano", "--data", pictures, "--fps-min", 1e6)
    assert result.exit_code == 3
    assert "fps_min" in result.output
    assert report(compress)["verdict"] == "fail"
    open_bundle(compress.out / "bundle")


@pytest.mark.slow
def test_without_frames_int8_is_refused_and_accuracy_is_unknown(compress):
    result = compress(SMALL, "--profile", "jetson-orin-nano")
    assert result.exit_code == 4
    assert "--data" in result.output
    assert open_bundle(compress.out / "bundle").manifest.precision == "fp16"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--profile", "jetson-nan"], ["jetson-nano"]),
        (["no-such.onnx", "--profile", "jetson-nano"], ["no such file", "check the path"]),
        (["tests.compress.user_nets:smal", "--profile", "jetson-nano"], ["did you mean 'small'"]),
        (["tests.compress.no_nets:f", "--profile", "jetson-nano"], ["no module"]),
        (
            ["tests.compress.user_nets:not_a_module", "--profile", "jetson-nano"],
            ["torch.nn.Module"],
        ),
        (["tests.compress.user_nets:without_size", "--profile", "jetson-nano"], ["--size"]),
        ([SMALL, "--profile", "jetson-nano", "--size", "32"], ["--size", "HEIGHTxWIDTH"]),
        ([SMALL, "--profile", "jetson-nano", "--prune", "x"], ["--prune", "0.5"]),
        ([SMALL, "--profile", "jetson-nano", "--fps-min", "-1"], ["--fps-min", "0 or more"]),
        ([SMALL, "--profile", "jetson-nano", "--mode", "99W"], ["99W"]),
        (
            [SMALL, "--profile", "jetson-orin-nano", "--dla"],
            ["jetson-orin-nano, which has no DLA", "jetson-orin-nx", "leave --dla out"],
        ),
        ([SMALL, "--profile", "jetson-nano", "--labels", "x.json"], ["--data"]),
        ([SMALL, "--profile", "jetson-nano", "--data", "no-such-folder"], ["no-such-folder"]),
        ([SMALL, "--profile", "jetson-nano", "--recipe", "no.toml"], ["no.toml"]),
        ([SMALL, "--profile", "jetson-nano", "--spec", "no.toml"], ["no.toml"]),
        (
            [SMALL, "--profile", "jetson-nano", "--recipe", "no.toml", "--prune", "auto"],
            ["--recipe", "--prune beside it"],
        ),
        (
            [SMALL, "--profile", "jetson-nano", "--recipe", "r", "--distil-steps", "3"],
            ["--recipe", "--distil-steps beside it", "write it into r"],
        ),
        (
            [
                SMALL,
                "--profile",
                "jetson-nano",
                "--teacher",
                "tests.compress.user_nets:four_classes",
            ],
            ["teacher", "[1, 4]", "[1, 3]"],
        ),
    ],
    ids=lambda value: " ".join(value)[:50],
)
def test_bad_input_is_one_message_in_four_parts_and_exit_2(compress, words, parts):
    result = compress(*words)
    assert result.exit_code == 2, result.output
    last = result.output.strip().splitlines()[-1]
    assert last.startswith("compress: ")
    assert ": found " in last
    assert "; expected " in last
    for part in parts:
        assert part in last


def test_an_empty_folder_of_pictures_is_refused(compress, tmp_path):
    (tmp_path / "empty").mkdir()
    result = compress(SMALL, "--profile", "jetson-nano", "--data", tmp_path / "empty")
    assert result.exit_code == 2
    assert "no image" in result.output


@pytest.mark.slow
def test_corrupt_pictures_are_skipped_counted_and_reported(compress, pictures, tmp_path):
    import shutil

    folder = tmp_path / "mixed"
    shutil.copytree(pictures, folder)
    (folder / "broken.png").write_bytes(b"not a picture")
    result = compress(
        SMALL, "--profile", "jetson-nano", "--data", folder, "--accuracy-drop-max", 100
    )
    assert result.exit_code == 0, result.output
    assert any("broken.png" in str(refusal) for refusal in report(compress)["refusals"])


def test_a_folder_that_holds_something_else_is_left_alone(compress):
    compress.out.mkdir()
    (compress.out / "thesis.txt").write_text("mine")
    result = compress(SMALL, "--profile", "jetson-nano")
    assert result.exit_code == 2
    assert "thesis.txt" in result.output
    assert [path.name for path in compress.out.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_a_folder_that_holds_another_run_is_refused_and_left_intact(compress, pictures):
    compress(SMALL, "--profile", "jetson-nano", "--data", pictures)
    sealed = open_bundle(compress.out / "bundle").sha256
    other = compress(LARGE, "--profile", "jetson-nano", "--data", pictures)
    assert other.exit_code == 2
    assert "another run (it differs in: model, teacher)" in other.output
    assert open_bundle(compress.out / "bundle").sha256 == sealed


@pytest.mark.slow
@pytest.mark.parametrize("left", [b"", b'{"model": "a', b"[1]", b"\xff"])
def test_a_damaged_run_json_is_one_message_and_without_it_the_run_goes_on(compress, left):
    assert compress(SMALL, "--profile", "jetson-nano").exit_code == 4
    (compress.out / "run.json").write_bytes(left)
    result = compress(SMALL, "--profile", "jetson-nano")
    assert result.exit_code == 2
    last = result.output.strip().splitlines()[-1]
    assert last.startswith("compress: ")
    assert "run.json: found " in last
    assert "remove this file" in last
    (compress.out / "run.json").unlink()
    assert compress(SMALL, "--profile", "jetson-nano").exit_code == 4


def test_run_json_appears_whole_or_not_at_all(compress, monkeypatch):
    real = os.fsync

    def full(descriptor):
        if "run.json" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, "full")
        return real(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr("devices.wholefile.os.fsync", full)
        result = compress(SMALL, "--profile", "jetson-nano")
    assert result.exit_code == 2
    assert f"{compress.out}: found a full disk" in result.output
    assert not list(compress.out.glob("*run.json*"))


@pytest.mark.slow
def test_a_recipe_for_int8_on_a_nano_ends_in_fp16_and_says_so(compress, pictures, tmp_path):
    (tmp_path / "r.toml").write_text('[[pass]]\nname = "int8"\n')
    result = compress(
        SMALL, "--profile", "jetson-nano", "--data", pictures, "--accuracy-drop-max", 100,
        "--recipe", tmp_path / "r.toml",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert open_bundle(compress.out / "bundle").manifest.precision == "fp16"
    (refusal,) = [r for r in report(compress)["refusals"] if r["what"] == "int8 on jetson-nano"]
    assert refusal["instead"] == "the run ends in fp16"
    assert "prune, distil" not in result.output


@pytest.mark.slow
def test_what_nvidia_refuses_here_is_no_pass_and_is_sealed_into_the_bundle(
    compress, pictures, monkeypatch
):
    def refusing(path):
        return RtxResult(
            parsed=False, built=False, errors=(), warnings=(), seconds=0.1, plan_bytes=None,
            faults=(Fault(node="n7", operator="Relu", text="no", cure=""),), version="1",
        )  # fmt: skip

    patched = partial(check_on_host, build=refusing)
    monkeypatch.setattr("compress.job.check_on_host", patched)
    words = ("--profile", "jetson-nano", "--data", pictures, "--accuracy-drop-max", 100)
    result = compress(SMALL, *words)
    assert result.exit_code == 4, result.output
    assert report(compress)["verdict"] == "inconclusive"
    assert [check["outcome"] for check in report(compress)["checks"]] == ["pass"] * 4
    told = [r for r in report(compress)["refusals"] if r["reason"] == "Relu n7: no"]
    sealed = open_bundle(compress.out / "bundle").manifest.refusals
    assert [r["what"] for r in told] == ["NVIDIA's parser and builder on this host"]
    assert "Relu n7: no" in [refusal.reason for refusal in sealed]


@pytest.mark.slow
def test_a_run_without_a_terminal_prints_its_lines_and_nothing_on_standard_error(
    pictures, tmp_path
):
    words = (
        SMALL, "--profile", "jetson-orin-nano", "--data", pictures, "--teacher", LARGE,
        "--distil-steps", 2, "--accuracy-drop-max", 100, "--out", tmp_path / "run",
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "compress", *map(str, words)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    starts = {line.split(" ")[0] for line in done.stdout.splitlines() if line[:1].strip()}
    assert starts == {
        "baseline", "distil", "int8", "checked", "sealed", "limit", "fps_min", "engine_mb_max",
        "memory_mb_max", "accuracy_drop_max", "board:", "note:", "pass:", "basis:", "report:",
        "bundle:",
    }  # fmt: skip


def test_ctrl_c_while_the_command_is_imported_is_one_line_and_130(monkeypatch, capsys):
    import importlib

    from compress.__main__ import main

    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "compress: stopped\n"


def test_ctrl_c_before_the_first_pass_is_130(compress, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("compress.boards.load_profile", stop)
    result = compress(SMALL, "--profile", "jetson-nano")
    assert result.exit_code == 130
    assert "the same command goes on" in result.output


def test_two_runs_at_once_in_one_folder_are_refused(compress):
    import fcntl

    (compress.out / ".passes").mkdir(parents=True)
    with (compress.out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = compress(SMALL, "--profile", "jetson-nano")
    assert result.exit_code == 2
    assert "another compress at work" in result.output


@pytest.mark.slow
def test_ctrl_c_exits_130_and_the_same_command_goes_on(compress, pictures, monkeypatch):
    words = (SMALL, "--profile", "jetson-orin-nano", "--data", pictures, "--teacher", LARGE,
             "--distil-steps", 3, "--accuracy-drop-max", 100)  # fmt: skip
    with monkeypatch.context() as patched:

        def stop(*arguments, **options):
            raise KeyboardInterrupt

        patched.setattr("compress.press.quantize_int8", stop)
        stopped = compress(*words)
    assert stopped.exit_code == 130
    assert not (compress.out / "bundle").exists()
    again = compress(*words)
    assert again.exit_code == 0, again.output
    assert "(kept from before)" in again.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--size", "99999x9"), "at most 16384 px a side"),
        (("--data", "{pictures}", "--teacher", "tests.compress.user_nets:nan_net"), "not finite"),
        (("--recipe", "{recipe}"), "frames_max must be 1 or more"),
    ],
)
def test_senseless_requests_end_in_one_message(compress, pictures, tmp_path, words, said):
    recipe = tmp_path / "r.toml"
    recipe.write_text('[[pass]]\nname = "int8"\nframes_max = 0\n')
    named = [word.format(pictures=pictures, recipe=recipe) for word in words]
    result = compress(SMALL, "--profile", "jetson-orin-nano", *named)
    assert result.exit_code == 2, result.output
    assert said in result.output


def test_an_output_folder_that_cannot_be_made_is_one_message(compress, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file" / "run", tmp_path / ("n" * 300)):
        result = compress(SMALL, "--profile", "jetson-orin-nano", out=out)
        assert result.exit_code == 2, result.output
        assert "expected a folder that can be made" in result.output
    assert (tmp_path / "file").read_text() == "mine"
