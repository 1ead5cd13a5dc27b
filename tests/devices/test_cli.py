"""`devices` prints aligned facts, marks predictions as predictions, and fails with one message."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from devices.cli import READERS, main, read_costs
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
    for part in ("int8 on jetson-nano", "TensorRT issue 3399", "prune, distil and run in fp16"):
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
    assert "reads ONNX up to opset 13" in err
    assert devices("predict", str(path), "--profile", "jetson-orin-nano")[0] == 0


def test_json_holds_measurements_layers_and_refusals(devices):
    code, out, _ = devices("predict", NET_INT8, "--all", "--json")
    said = json.loads(out)
    assert code == 0
    assert said["costs"]["params"] == 3487816
    by_board = {entry["profile"]: entry for entry in said["predictions"]}
    assert set(by_board) == set(profile_names())
    assert "no fast INT8" in by_board["jetson-tx2"]["refused"]["reason"]
    orin = by_board["jetson-orin-nano"]
    assert orin["latency_ms"]["basis"] == "predicted"
    assert orin["latency_ms"]["unit"] == "ms"
    assert len(orin["layers"]) == 54


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "jetson-nan"), "did you mean 'jetson-nano'"),
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


def test_a_damaged_costs_file_is_refused(devices, tmp_path):
    path = tmp_path / "costs.json"
    path.write_text('{"kernels": [1]}')
    code, _, err = devices("predict", str(path), "--all")
    assert code == 2
    assert "$.kernels[0]" in err


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
