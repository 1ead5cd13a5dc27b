"""`devices` prints aligned facts, marks predictions as predictions, and fails with one message."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from devices.__main__ import main
from devices.cli import READERS, read_costs
from devices.profile import profile_names

HERE = Path(__file__).parent
NET, NET_INT8 = str(HERE / "mobilenet_v2.json"), str(HERE / "mobilenet_v2-int8.json")


@pytest.fixture
def devices(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["devices", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        said = capsys.readouterr()
        return stopped.value.code, said.out, said.err

    return run


def test_list_shows_every_board_in_aligned_columns(devices):
    code, out, err = devices("list")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in lines[1:]] == list(profile_names())
    column = lines[0].index("precisions")
    assert all(line[column:].startswith("fp32 fp16") for line in lines[1:])


def test_show_names_units_sources_limits_and_the_board_it_is_taken_for(devices):
    code, out, _ = devices("show", "jetson-nano")
    assert code == 0
    for part in ("not jetson-orin-nano:", "921.6 MHz", "stated, devicequery", "4.6.1 to 4.6.6",
                 "int8: no. SM 5.3", "fps_min", "frames/s", "CUDA deviceQuery output"):  # fmt: skip
        assert part in out
    assert max(map(len, out.splitlines())) <= 110


def test_predict_for_one_board_marks_every_number_as_predicted(devices):
    code, out, _ = devices("predict", NET, "--profile", "jetson-nano")
    assert code == 0
    facts = [line for line in out.splitlines() if " [" in line and " .. " in line]
    assert [line.split()[0] for line in facts] == ["latency", "throughput", "engine", "memory"]
    assert all(line.endswith("predicted") for line in facts)
    assert "jetson-nano, MAXN, fp16" in out
    assert "dwconv" in out
    assert "90 % interval" in out


def test_predict_for_all_boards_refuses_int8_where_it_cannot_run(devices):
    code, out, _ = devices("predict", NET_INT8, "--all")
    assert code == 0
    rows = [line for line in out.splitlines() if line.endswith("predicted")]
    assert len(rows) == 10
    assert all(" int8 " in row for row in rows)
    assert "refused: jetson-nano, jetson-nano-2gb: SM 5.3: no fast INT8" in out
    assert "refused: jetson-tx2" in out


def test_a_q_dq_file_on_a_nano_is_one_message_and_exit_2(devices):
    code, out, err = devices("predict", NET_INT8, "--profile", "jetson-nano")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    for part in ("int8 on jetson-nano", "TensorRT issue 3399", "prune, distil and run in fp16",
                 "or jetson-orin-nano; expected what"):  # fmt: skip
        assert part in err
    assert devices("predict", NET_INT8, "--profile", "jetson-nano", "--precision", "fp16")[0] == 2


def test_int8_of_a_file_without_q_dq_is_refused(devices):
    code, _, err = devices("predict", NET, "--profile", "jetson-orin-nano", "--precision", "int8")
    assert code == 2
    assert "no Q/DQ" in err
    assert "compress --profile jetson-orin-nano" in err


def test_an_opset_the_board_cannot_read_is_refused(devices, tmp_path):
    stored = json.loads(Path(NET).read_text())
    stored["opset"] = 18
    path = tmp_path / "net.json"
    path.write_text(json.dumps(stored))
    code, _, err = devices("predict", str(path), "--profile", "jetson-nano")
    assert code == 2
    assert "reads ONNX opset 7 to 13" in err
    stored["opset"] = 8
    path.write_text(json.dumps(stored))
    code, _, err = devices("predict", str(path), "--profile", "jetson-orin-nano")
    assert (code, "reads ONNX opset 9 to 20" in err) == (2, True)
    stored["opset"] = 18
    path.write_text(json.dumps(stored))
    assert devices("predict", str(path), "--profile", "jetson-orin-nano")[0] == 0


def test_an_operation_outside_onnx_is_refused_by_name(devices, tmp_path):
    stored = json.loads(Path(NET).read_text())
    path = tmp_path / "net.json"
    path.write_text(json.dumps({**stored, "unknown_ops": ["acme::Wobble"]}))
    code, out, err = devices("predict", str(path), "--profile", "jetson-orin-nano")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "TensorRT runs acme::Wobble only with a plugin" in err
    code, out, _ = devices("predict", str(path), "--all")
    assert (code, "acme::Wobble" in out, "predicted" in out) == (0, True, False)
    path.write_text(json.dumps({**stored, "unknown_ops": ["NonZero"]}))
    assert devices("predict", str(path), "--profile", "jetson-orin-nano")[0] == 0


def test_an_assumed_batch_is_said(devices, tmp_path):
    stored = json.loads(Path(NET).read_text())
    path = tmp_path / "net.json"
    path.write_text(json.dumps({**stored, "batch_open": True}))
    code, out, _ = devices("predict", str(path), "--profile", "jetson-nano")
    assert (code, "batch 1 (assumed: the file leaves it open)" in out) == (0, True)
    assert "assumed" not in devices("predict", NET, "--profile", "jetson-nano")[1]


def test_json_holds_measurements_layers_and_refusals(devices):
    code, out, _ = devices("predict", NET_INT8, "--all", "--json")
    said = json.loads(out)
    assert code == 0
    assert said["costs"]["params"] == 3487816
    by_board = {entry["profile"]: entry for entry in said["predictions"]}
    assert set(by_board) == set(profile_names())
    assert "no fast INT8" in by_board["jetson-tx2"]["refusals"][0]["reason"]
    orin = by_board["jetson-orin-nano"]
    facts = {fact["name"]: fact for fact in orin["facts"]}
    assert set(facts) == {"params", "macs", "latency_ms", "fps", "engine_mb", "memory_mb"}
    assert facts["latency_ms"]["basis"] == "predicted"
    assert facts["latency_ms"]["unit"] == "ms"
    assert (len(orin["layers"]), orin["refusals"]) == (54, [])


def test_a_network_larger_than_the_board_is_shown_and_refused(devices, tmp_path):
    stored = json.loads(Path(NET).read_text())
    stored["peak_live_elems"] = 4_000_000_000
    path = tmp_path / "net.json"
    path.write_text(json.dumps(stored))
    code, out, err = devices("predict", str(path), "--profile", "jetson-nano")
    assert (code, err.count("\n")) == (2, 1)
    assert "CUDA is shown 4148 MB there" in err
    assert re.search(r"memory +\d+ +MB", out)
    code, out, _ = devices("predict", str(path), "--all")
    assert code == 0
    rows = [line.split()[0] for line in out.splitlines() if line.endswith("predicted")]
    assert "jetson-agx-orin" in rows
    assert "jetson-nano" not in rows
    assert "refused: jetson-nano: the process needs that at least (predicted)" in out


def test_a_network_that_may_not_fit_is_said_in_the_text(devices, tmp_path):
    stored = json.loads(Path(NET).read_text())
    stored["peak_live_elems"] = 1_600_000_000
    path = tmp_path / "net.json"
    path.write_text(json.dumps(stored))
    code, out, _ = devices("predict", str(path), "--profile", "jetson-nano")
    assert (code, "it may not fit: memory of " in out) == (0, True)


def test_q_dq_built_in_another_precision_is_refused(devices):
    code, _, err = devices("predict", NET_INT8, "--profile", "jetson-orin-nano",
                           "--precision", "fp16")  # fmt: skip
    assert (code, "54 of its kernels come through Q/DQ" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "jetson-nan"), "did you mean 'jetson-nano'"),
        (("show", "JETSON-NANO"), "did you mean 'jetson-nano'"),
        (("predict", NET, "--profile", "jetson-nano", "--mode", "maxm"), "did you mean 'MAXN'"),
        (("predict", NET), "neither --profile nor --all"),
        (("predict", NET, "--all", "--profile", "jetson-nano"), "both --profile and --all"),
        (("predict", NET, "--all", "--mode", "15W"), "boards name theirs differently"),
        (("predict", NET, "--profile", "jetson-nano", "--mode", "15W"), "power mode '15W'"),
        (("predict", "absent.json", "--all"), "absent.json"),
        (("predict", "net.pt", "--all"), "suffix '.pt'; expected one of .onnx, .json"),
        (("predict", __file__, "--all"), "suffix '.py'"),
    ],
)
def test_bad_input_is_one_message_and_exit_2(devices, arguments, message):
    code, out, err = devices(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("devices: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda net: net.update(kernels=[1]), "$.kernels[0]"),
        (lambda net: net.update(params=-1), "-1 at `$.params`, not 0 to 1e+15"),
        (lambda net: net.update(batch=0), "0 at `$.batch`, not 1 to"),
        (lambda net: net["kernels"][3].update(out_hw=[7, -7]), "-7 at `$.kernels[3].out_hw`"),
        (lambda net: net["kernels"][3].update(macs=10**400), "costs.json: found"),
        (lambda net: net["kernels"][0].update(op="conv3d"), "'conv3d' at `$.kernels[0].op`"),
    ],
)
def test_costs_that_no_network_has_are_refused(devices, tmp_path, change, words):
    net = json.loads(Path(NET).read_text())
    change(net)
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(net))
    code, out, err = devices("predict", str(path), "--all")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


@pytest.mark.parametrize("data", [b"\xff", b'{"kernels": "\xff"}', b'{"x": ' + b"[" * 100_000])
def test_senseless_bytes_are_refused(devices, tmp_path, data):
    path = tmp_path / "costs.json"
    path.write_bytes(data)
    code, _, err = devices("predict", str(path), "--all")
    assert (code, err.count("\n"), "costs.json: found " in err) == (2, 1, True)


def test_readers_are_strings_that_resolve():
    pytest.importorskip("onnx", reason="the ONNX reader is for hosts")
    assert set(READERS) == {".onnx", ".json"}
    assert read_costs(Path(NET)).params == 3487816


def test_the_lowest_floor_imports_nothing_above_it():
    code = (
        "import sys, devices.cli; "
        "print([m for m in sys.modules if m.split('.')[0] in ('calib', 'edge', 'compress')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         cwd=HERE.parents[1])  # fmt: skip
    assert run.stdout.strip() == "[]"
