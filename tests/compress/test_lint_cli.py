"""`compress lint` as a user runs it: exit codes, the list, OUT, bad input; `compress` itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("onnx", reason="needs it: pip install 'jetpress[compress]'")
pytest.importorskip("onnxruntime", reason="needs it: pip install 'jetpress[compress]'")

import onnx

from compress.rtx import RtxResult
from devices.errors import MissingExtraError
from edge.engines.tensorrt.errors import Fault
from tests.compress import test_lint as cases
from tests.compress.broken_graphs import BROKEN, legal


def answer(*, built=True, faults=(), warnings=()):
    return lambda path: RtxResult(
        parsed=built, built=built, faults=faults, errors=(), warnings=warnings, seconds=0.1,
        plan_bytes=7 if built else None, version="1.7.1",
    )  # fmt: skip


@pytest.fixture
def lint(tmp_path, monkeypatch):
    """Runs `compress lint` in a folder of its own, NVIDIA's parser replaced by `lint.answer`."""
    from compress import lint_file
    from compress.cli import cli

    monkeypatch.chdir(tmp_path)
    whole = lint_file.ask_nvidia
    ask = lambda path, profile, findings, build: whole(path, profile, findings, run.answer)  # noqa: E731
    monkeypatch.setattr(lint_file, "ask_nvidia", ask)

    def run(model, *words, profile="jetson-orin-nano"):
        if not isinstance(model, str):
            onnx.save(model, tmp_path / "m.onnx")
            model = "m.onnx"
        told = ["lint", model, "--profile", profile, *map(str, words)]
        return CliRunner().invoke(cli, told, catch_exceptions=False)

    run.answer = answer()
    run.folder = tmp_path
    return run


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_clean_file_is_0_and_says_how_many_rules_were_asked(lint):
    result = lint(legal())
    assert result.exit_code == 0
    assert "rules for jetson-orin-nano (TensorRT 10.3.0): errors 0, warnings 0" in result.output


def test_an_error_is_3_and_each_block_names_rule_node_consequence_cure_and_source(lint):
    result = lint(cases.uint8_input())
    assert result.exit_code == 3
    block = result.output.split("warning")[0]
    assert block.startswith("error    uint8-zero-point at quantizelinear3, dequantizelinear4\n")
    for word in ("found: a uint8", "so: the engine", "cure: make it int8", "source: parser"):
        assert word in block


def test_a_warning_alone_is_0(lint):
    result = lint(BROKEN["Pad between DQ and Conv"][0]())
    assert result.exit_code == 0
    assert "warning  moved-input at conv" in result.output


@pytest.mark.parametrize("name", BROKEN)
def test_the_list_holds_every_finding_and_the_exit_code_its_severity(lint, name):
    make, wanted, broken = BROKEN[name]
    model = make()
    result = lint(model, "--json")
    assert result.exit_code == (3 if broken else 0), result.output
    told = json.loads(result.stdout)
    assert {item["rule"] for item in told} == wanted
    for item in told:
        assert {"rule", "node", "severity", "found", "source", "consequence", "cure"} <= set(item)


def test_an_empty_list_is_a_list(lint):
    result = lint(legal(), "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])


def test_q_on_a_nano_is_an_error(lint):
    result = lint(legal(), "--json", profile="jetson-nano")
    assert result.exit_code == 3
    assert [item["rule"] for item in json.loads(result.stdout)] == ["int8-not-legal"]


def test_nvidias_agreement_and_silence_are_printed_rule_by_rule(lint):
    lint.answer = answer(warnings=("UINT8 zero_point. Defaulting to INT8 instead",))
    result = lint(cases.uint8_input())
    assert "  uint8-zero-point: agrees\n" in result.output
    lint.answer = answer()
    result = lint(cases.uint8_input(), "--json")
    assert {i["nvidia"] for i in json.loads(result.stdout) if i["severity"] == "error"} == {
        "takes it without a word"
    }


def test_what_nvidia_refuses_and_no_rule_explains_is_a_finding_and_3(lint):
    fault = Fault(node="relu1", operator="Relu", text="no such thing", cure="")
    lint.answer = answer(built=False, faults=(fault,))
    result = lint(legal(), "--json")
    assert result.exit_code == 3
    (item,) = json.loads(result.stdout)
    assert (item["rule"], item["node"], item["found"]) == (
        "nvidia-refuses", "relu1", "no such thing",
    )  # fmt: skip
    assert "no rule of ours says so" in lint(legal()).output


def test_a_rule_that_nvidia_did_not_come_to_is_said_to_be_unheard(lint):
    fault = Fault(node="q", operator="QuantizeLinear", text="Non-zero zero point", cure="")
    lint.answer = answer(built=False, faults=(fault,))
    model = cases.shifted_zero_point()
    model.graph.node[0].input[0] = "x"
    result = lint(model)
    assert "nonzero-zero-point: agrees" in result.output
    assert "nvidia-refuses" not in result.output


def test_without_nvidias_parser_one_line_says_what_to_install(lint):
    def missing(path):
        raise MissingExtraError("tensorrt_rtx", extra="check", needed_for=str(path))

    lint.answer = missing
    result = lint(legal())
    assert result.exit_code == 0
    (line,) = [line for line in result.output.splitlines() if "NVIDIA" in line]
    assert "pip install 'jetpress[check]'" in line
    result = lint(legal(), "--json")
    assert json.loads(result.stdout) == []
    assert "pip install 'jetpress[check]'" in result.stderr


def test_a_fix_writes_a_clean_file_and_says_what_and_how_near(lint):
    onnx.save(cases.uint8_input(), lint.folder / "m.onnx")
    before = (lint.folder / "m.onnx").read_bytes()
    result = lint("m.onnx", "--fix", "-o", "out.onnx")
    assert result.exit_code == 0, result.output
    assert "fixed    signed zero points: 2 of 2 findings (uint8-zero-point)" in result.output
    assert "dB between the file as it is written and the mended one" in result.output
    assert (lint.folder / "m.onnx").read_bytes() == before
    assert files(lint.folder) == ["m.onnx", "out.onnx"]
    again = lint("out.onnx", "--json")
    assert again.exit_code == 0
    assert "uint8-zero-point" not in again.stdout


def test_a_fix_that_leaves_an_error_is_3_and_lists_what_remains(lint):
    result = lint(cases.per_channel_activation(), "--fix", "-o", "out.onnx", "--json")
    assert result.exit_code == 3
    assert "per-channel-activation" in [item["rule"] for item in json.loads(result.stdout)]
    assert "left     per-channel-activation: 1 (error)" in result.stderr


def test_the_same_fix_gives_the_same_bytes(lint):
    for out in ("a.onnx", "b.onnx"):
        lint(cases.uint8_input(), "--fix", "-o", out)
    assert (lint.folder / "a.onnx").read_bytes() == (lint.folder / "b.onnx").read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing.onnx",), "no such file"),
        ((".",), "expected an ONNX file"),
        (("words.onnx",), "expected a readable ONNX model"),
        (("empty.onnx",), "expected a readable ONNX model"),
        (("cut.onnx",), "expected a readable ONNX model"),
        (("m.onnx", "--fix"), "--fix -o OUT.onnx"),
        (("m.onnx", "-o", "out.onnx"), "--fix -o OUT.onnx"),
        (("m.onnx", "--fix", "-o", "m.onnx"), "the input itself"),
        (("m.onnx", "--fix", "-o", "link.onnx"), "the input itself"),
        (("m.onnx", "--fix", "-o", "none/out.onnx"), "no such folder"),
        (("m.onnx", "--fix", "-o", "."), "a folder"),
        (("m.onnx", "--fix", "-o", "/dev/null"), "a device or pipe"),
    ],
)
def test_bad_input_is_2_one_message_and_nothing_written(lint, words, said):
    onnx.save(cases.uint8_input(), lint.folder / "m.onnx")
    whole = (lint.folder / "m.onnx").read_bytes()
    (lint.folder / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (lint.folder / "words.onnx").write_text("not a model\n" * 9)
    (lint.folder / "empty.onnx").write_bytes(b"")
    (lint.folder / "link.onnx").symlink_to(lint.folder / "m.onnx")
    before = files(lint.folder)
    result = lint(*words)
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert result.output.count("\n") == 1
    assert files(lint.folder) == before
    assert (lint.folder / "m.onnx").read_bytes() == whole


def test_an_unknown_board_is_2_and_the_nearest_is_named(lint):
    result = lint(legal(), profile="jetson-nan")
    assert result.exit_code == 2
    assert "did you mean 'jetson-nano'" in result.output


def test_a_disk_that_fails_while_writing_leaves_nothing(lint, monkeypatch):
    def full(path, *parts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("compress.lint_file.write_whole", full)
    result = lint(cases.uint8_input(), "--fix", "-o", "out.onnx")
    assert result.exit_code == 2
    assert "No space left on device" in result.output
    assert files(lint.folder) == ["m.onnx"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere: run as another user")
def test_a_folder_without_permission_is_2(lint):
    (lint.folder / "closed").mkdir(mode=0o500)
    result = lint(cases.uint8_input(), "--fix", "-o", "closed/out.onnx")
    assert result.exit_code == 2
    assert "no permission to write" in result.output


def test_weights_in_a_file_of_their_own_are_read_and_never_written_to(lint):
    onnx.save(cases.uint8_input(), lint.folder / "big.onnx", save_as_external_data=True,
              location="weights.bin", size_threshold=0)  # fmt: skip
    before = (lint.folder / "weights.bin").read_bytes()
    result = lint("big.onnx", "--fix", "-o", "weights.bin")
    assert result.exit_code == 2
    assert (lint.folder / "weights.bin").read_bytes() == before
    assert lint("big.onnx", "--fix", "-o", "out.onnx").exit_code == 0
    assert all(not t.external_data for t in onnx.load("out.onnx").graph.initializer)


def test_a_model_that_is_called_lint_is_reached_by_its_path(lint):
    onnx.save(legal(), lint.folder / "lint")
    result = lint("./lint")
    assert result.exit_code == 0, result.output


def run(*words, cwd):
    command = [sys.executable, "-m", "compress", *words]
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env)


def test_help_shows_both_ways_and_imports_neither():
    from compress.cli import cli

    result = CliRunner().invoke(cli, ["--help"], prog_name="compress")
    assert result.exit_code == 0
    assert result.output.startswith("Usage: compress [OPTIONS] [MODEL]")
    assert "--profile NAME" in result.output
    assert "Say what a board's TensorRT will do with a file." in result.output
    result = CliRunner().invoke(cli, ["lint", "--help"], prog_name="compress")
    assert result.output.startswith("Usage: compress lint [OPTIONS] MODEL")


def test_compress_without_a_word_of_its_own_goes_on_as_before():
    from compress.cli import cli

    result = CliRunner().invoke(cli, ["nosuch.onnx", "--profile", "jetson-nano"])
    assert result.exit_code == 2
    assert "nosuch.onnx: found no such file" in result.output
    result = CliRunner().invoke(cli, [], prog_name="compress")
    assert result.exit_code == 2
    assert "Usage: compress [OPTIONS] [MODEL]" in result.output
    assert "Missing option '--profile'" in result.output
    result = CliRunner().invoke(cli, ["--profile", "jetson-nano", "lint"])  # a model of that name
    assert result.exit_code == 2
    assert "lint" in result.output


def test_the_console_command_exits_with_the_codes_of_lint(tmp_path):
    onnx.save(cases.uint8_input(), tmp_path / "m.onnx")
    done = run("lint", "m.onnx", "--profile", "jetson-orin-nano", "--json", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)[0]["rule"] == "uint8-zero-point"
    done = run("lint", "nothing.onnx", "--profile", "jetson-orin-nano", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("compress: nothing.onnx: found no such file")
    assert np.size(done.stderr.splitlines()) == 1
