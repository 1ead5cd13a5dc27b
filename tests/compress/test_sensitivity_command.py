"""`compress sensitivity` as a user runs it: table, JSON, page, several inputs."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("nncf", reason="calibrates; pip install 'jetpress[compress]'")
pytest.importorskip("onnxruntime", reason="runs the graphs; pip install 'jetpress[compress]'")
pytest.importorskip("cv2", reason="reads pictures; pip install 'jetpress[compress]'")
pytest.importorskip("jinja2", reason="makes the page; pip install 'jetpress[compress]'")

import cv2
import onnx
from onnx import TensorProto, helper

from calib.preprocess import Preprocess
from compress.quantize.int8 import Int8Options, quantize_int8
from devices.profile import load_profile
from devices.roofline import predict
from edge.cost import CostError, costs_from_onnx
from tests.compress.qdq_graphs import Builder
from tests.compress.small_nets import FRAME, frames, residual_net
from tests.compress.uneven_nets import DEPTHWISE, STEM, uneven_net

BOARD = "jetson-orin-nano"
FEEDS = frames(8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two nets, arrays and pictures for them; tests do not write here."""
    made = tmp_path_factory.mktemp("given")
    onnx.save(uneven_net(), made / "uneven.onnx")
    onnx.save(residual_net(), made / "residual.onnx")
    np.savez(made / "x.npz", x=np.concatenate([feed["x"] for feed in FEEDS]))
    (made / "pictures").mkdir()
    for index, feed in enumerate(FEEDS):
        pixels = ((feed["x"][0].transpose(1, 2, 0) + 1) * 127).astype(np.uint8)
        cv2.imwrite(str(made / "pictures" / f"{index}.png"), pixels)
    return made


def invoke(*words):
    from compress.cli import cli

    return CliRunner().invoke(cli, ["sensitivity", *map(str, words)], catch_exceptions=False)


def told(*words):
    result = invoke(*words, "--profile", BOARD, "--what", "quantize", "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def uneven(folder):
    return told(folder / "uneven.onnx", "--data", folder / "x.npz")


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    """(text on the terminal, the page) for the uneven net."""
    out = tmp_path_factory.mktemp("page") / "out.html"
    result = invoke(folder / "uneven.onnx", "--profile", BOARD, "--data", folder / "x.npz",
                    "--what", "quantize", "--html", out)  # fmt: skip
    assert result.exit_code == 0, result.output
    return result.stdout, out.read_text()


def test_the_layer_that_hurts_comes_first_and_is_what_the_default_leaves_float(uneven):
    rows = uneven["layers"]
    assert len(rows) == uneven["net"]["quantized"] == uneven["net"]["layers"] == 5
    assert [row["net_sqnr_db"] for row in rows] == sorted(row["net_sqnr_db"] for row in rows)
    worst = rows[0]
    assert (worst["node"], worst["default"]) == (DEPTHWISE, "float")
    assert worst["net_sqnr_db"] < 10
    assert worst["noise_share"] > 0.95
    assert sum(row["noise_share"] for row in rows) == pytest.approx(1)
    assert [row["default"] for row in rows[1:]] == ["int8"] * 4
    assert uneven["default"]["float"] == [DEPTHWISE]
    assert "1 of 5 layers float" in uneven["default"]["why"]


def test_it_tells_what_a_run_would_do_with_the_same_frames(folder, uneven, tmp_path):
    result = quantize_int8(folder / "uneven.onnx", FEEDS, tmp_path / "q.onnx", Int8Options())
    assert result.choice is not None
    assert uneven["default"]["float"] == list(result.choice.names)
    assert uneven["net"]["sqnr_db"] == pytest.approx(result.choice.plain_db)
    assert uneven["default"]["sqnr_db"] == pytest.approx(result.choice.chosen_db)
    alone = {cost.node: cost.net_sqnr_db for cost in result.choice.layers}
    assert {row["node"]: row["net_sqnr_db"] for row in uneven["layers"]} == pytest.approx(alone)
    noise = np.array([cost.noise for cost in result.choice.layers])
    share = dict(zip(alone, (noise / noise.sum(axis=0)).mean(axis=1), strict=True))
    assert {row["node"]: row["noise_share"] for row in uneven["layers"]} == pytest.approx(share)


def test_the_nets_forecast_is_near_what_is_run(uneven):
    assert uneven["net"]["forecast_sqnr_db"] == pytest.approx(uneven["net"]["sqnr_db"], abs=2)
    assert uneven["default"]["sqnr_db"] > uneven["net"]["sqnr_db"] + 10


def test_times_and_macs_are_those_of_the_cost_model(folder, uneven):
    costs = costs_from_onnx(folder / "uneven.onnx")
    prediction = predict(costs, load_profile(BOARD), precision="fp16")
    ms = {layer.kernel: layer.ms for layer in prediction.layers}
    macs = {kernel.name: kernel.macs for kernel in costs.kernels}
    for row in uneven["layers"]:
        assert row["fp16_ms"] == pytest.approx(ms[row["node"]])
        assert row["macs"] == macs[row["node"]]
        assert row["macs_share"] == pytest.approx(macs[row["node"]] / costs.macs)
        assert row["int8_ms"] > 0
    net = uneven["net"]
    assert net["latency_fp16"]["value"] == pytest.approx(prediction.latency_ms.value)
    assert {net[f"latency_{key}"]["basis"] for key in ("fp16", "int8", "default")} == {"predicted"}
    assert net["latency_default"]["value"] != net["latency_int8"]["value"]
    assert uneven["basis"] == {
        "dB": "emulated", "ms": "predicted", "MAC": "counted", "noise": "emulated",
    }  # fmt: skip


def test_int8_times_are_those_of_the_net_with_all_layers_in_int8(folder, uneven, tmp_path):
    quantize_int8(folder / "uneven.onnx", FEEDS, tmp_path / "q.onnx", Int8Options(keep_float=()))
    costs = costs_from_onnx(tmp_path / "q.onnx")
    prediction = predict(costs, load_profile(BOARD), precision="int8")
    ms = {layer.kernel: layer.ms for layer in prediction.layers}
    for row in uneven["layers"]:
        assert row["int8_ms"] == pytest.approx(ms[row["node"]])
        assert row["int8_ms"] != row["fp16_ms"]
    assert uneven["net"]["latency_int8"]["value"] == pytest.approx(prediction.latency_ms.value)


def test_another_board_is_priced_anew_and_its_noise_is_the_same(folder, uneven):
    result = invoke(folder / "uneven.onnx", "--data", folder / "x.npz", "--json",
                    "--what", "quantize", "--profile", "jetson-agx-orin")  # fmt: skip
    other = json.loads(result.stdout)
    assert other["net"]["latency_fp16"]["value"] < uneven["net"]["latency_fp16"]["value"]
    assert other["net"]["sqnr_db"] == uneven["net"]["sqnr_db"]


def test_another_power_mode_is_priced_anew(folder, uneven):
    slow = told(folder / "uneven.onnx", "--data", folder / "x.npz", "--mode", "7W")
    assert (slow["mode"], uneven["mode"]) == ("7W", "15W")
    assert slow["net"]["latency_fp16"]["value"] > uneven["net"]["latency_fp16"]["value"]
    assert slow["layers"][0]["fp16_ms"] > uneven["layers"][0]["fp16_ms"]


def test_the_table_says_unit_and_basis_of_each_number(page):
    text = page[0]
    lines = text.splitlines()
    assert lines[0] == "uneven.onnx for jetson-orin-nano, power mode 15W"
    (at,) = (i for i, line in enumerate(lines) if line.startswith("layer "))
    assert lines[at].split() == ["layer", "op", "answers", "own", "noise", "MACs", "FP16", "->",
                                 "INT8", "default"]  # fmt: skip
    assert lines[at + 1].split() == ["dB", "dB", "%", "%", "ms"]
    rows = [line.split() for line in lines[at + 2 : at + 7]]
    assert rows[0][0] == DEPTHWISE
    assert rows[0][-1] == "float"
    assert [row[-1] for row in rows[1:]] == ["int8"] * 4
    assert re.fullmatch(r"0\.\d{3} -> 0\.\d{3}", " ".join(rows[1][6:9]))
    words = " ".join(text.split())
    assert "dB, emulated on this host" in words
    assert "ms, predicted for jetson-orin-nano, not measured" in words
    assert "%, counted in the file" in words
    assert f"float {DEPTHWISE}: alone it makes" in words
    assert max(map(len, lines)) <= 100


def test_the_page_holds_each_layer_three_drawings_and_no_verdict(page, uneven):
    html = page[1]
    assert all(f'scope="row">{row["node"]}</th>' in html for row in uneven["layers"])
    assert html.count("<figure>") == html.count("<svg") == 3
    for word in ("emulated", "predicted", "counted"):
        assert f'class="badge {word}"' in html
    assert "Where the noise comes from" in html
    assert f"{uneven['net']['sqnr_db']:.1f}" in html
    assert not re.search(r'(src|href)="http|<script|class="verdict', html)
    assert not re.search(r"class=\"\w*\" \w+=\"nan|>nan<|inf ", html)


def test_the_same_call_gives_the_same_page(folder, page, tmp_path):
    out = tmp_path / "again.html"
    invoke(folder / "uneven.onnx", "--profile", BOARD, "--data", folder / "x.npz",
           "--what", "quantize", "--html", out)  # fmt: skip
    command = re.compile(r"<pre>.*</pre>")
    assert command.sub("", out.read_text()) == command.sub("", page[1])


def test_a_net_that_bears_int8_keeps_all_of_it_and_the_reason_is_said(folder):
    found = told(folder / "residual.onnx", "--data", folder / "x.npz")
    assert found["default"]["float"] == []
    assert {row["default"] for row in found["layers"]} == {"int8"}
    assert "above 15 dB: compress would leave none of them float" in found["default"]["why"]
    assert found["net"]["latency_default"] == found["net"]["latency_int8"]
    assert len(found["layers"]) == 10


def test_pictures_go_in_as_the_spec_says(folder, tmp_path):
    given = (folder / "residual.onnx", "--data", folder / "pictures")
    assumed = told(*given)
    assert any("no --spec was given" in item["reason"] for item in assumed["refusals"])
    spec = tmp_path / "spec.toml"
    spec.write_text("[preprocess]\nmean = [127.5, 127.5, 127.5]\nstd = [127.5, 127.5, 127.5]\n")
    said = told(*given, "--spec", spec)
    assert not any("--spec" in item["reason"] for item in said["refusals"])
    assert said["net"]["sqnr_db"] != assumed["net"]["sqnr_db"]
    as_said = Preprocess(height=32, width=32, mean=(127.5,) * 3, std=(127.5,) * 3)
    read = [cv2.imread(str(folder / "pictures" / f"{index}.png")) for index in range(8)]
    np.savez(tmp_path / "same.npz", x=np.concatenate([as_said(pixels) for pixels in read]))
    same = told(folder / "residual.onnx", "--data", tmp_path / "same.npz")
    assert said["layers"] == same["layers"]
    assert any("frames, fewer than 30" in item["reason"] for item in said["refusals"])


def test_a_video_gives_frames_too(folder, tmp_path):
    size = FRAME[3], FRAME[2]
    video = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, size)
    for feed in frames(12):
        video.write(((feed["x"][0].transpose(1, 2, 0) + 1) * 127).astype(np.uint8))
    video.release()
    found = told(folder / "residual.onnx", "--data", tmp_path / "v.avi")
    assert found["net"]["frames"] == 12
    assert found["net"]["sqnr_db"] > 10


def test_frames_bounds_how_many_calibrate(folder, uneven):
    few = told(folder / "uneven.onnx", "--data", folder / "x.npz", "--frames", 3)
    assert (few["net"]["frames"], few["net"]["frames_judged"]) == (3, 3)
    assert few["inputs"][1]["note"].startswith("3 of 8 samples")
    assert uneven["net"]["frames"] == 8


def test_one_frame_is_enough(folder):
    assert told(folder / "uneven.onnx", "--data", folder / "x.npz", "--frames", 1)["layers"]


def two_inputs() -> onnx.ModelProto:
    """A convolution of a picture, and of whole numbers that choose a row of a table to add."""
    n = Builder()
    w = n.const(n.rng.normal(0, 0.5, (8, 3, 3, 3)).astype(np.float32))
    deep = n.op("Conv", "picture", w, pads=[1] * 4, name="see")
    row = n.op("Gather", n.const(n.rng.normal(0, 1, (5, 8)).astype(np.float32)), "row")
    wide = n.op("Reshape", row, n.const(np.int64([1, 8, 1, 1])))
    last = n.const(n.rng.normal(0, 0.5, (4, 8, 1, 1)).astype(np.float32))
    out = n.op("Conv", n.op("Relu", n.op("Add", deep, wide)), last, name="say")
    graph = helper.make_graph(
        n.nodes, "two",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, (1, 3, 8, 8)),
         helper.make_tensor_value_info("row", TensorProto.INT64, (1,))],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, None)], n.constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def test_a_net_of_two_inputs_takes_an_array_for_each(tmp_path):
    onnx.save(two_inputs(), tmp_path / "two.onnx")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "two.npz", picture=rng.normal(0, 1, (6, 3, 8, 8)), row=np.arange(6) % 5)
    found = told(tmp_path / "two.onnx", "--data", tmp_path / "two.npz")
    assert {row["node"] for row in found["layers"]} == {"see", "say"}
    assert all(15 < row["net_sqnr_db"] < 80 for row in found["layers"])
    refused = invoke(tmp_path / "two.onnx", "--profile", BOARD, "--data", tmp_path)
    assert refused.exit_code == 2
    assert "pictures for the inputs picture [1, 3, 8, 8] float32, row [1] int64" in refused.output
    assert "expected an .npz with an array for each" in refused.output


def test_a_net_whose_macs_nobody_can_count_is_told_its_noise_alone(folder, monkeypatch):
    def unknown(path):
        raise CostError(str(path), found="a shape that is not static", expected="s", cure="c")

    monkeypatch.setattr("compress.sensitivity.costs_from_onnx", unknown)
    found = told(folder / "residual.onnx", "--data", folder / "x.npz")
    assert found["default"] is None
    assert found["net"]["latency_fp16"] is None
    row = found["layers"][0]
    assert (row["macs"], row["fp16_ms"]) == (None, None)
    assert row["net_sqnr_db"] > 0
    assert any(item["reason"] == "a shape that is not static" for item in found["refusals"])
    text = invoke(folder / "residual.onnx", "--profile", BOARD, "--what", "quantize",
                  "--data", folder / "x.npz").stdout  # fmt: skip
    assert "not known" in text
    assert "chooses nothing: the MACs that each layer costs are not known" in text


def test_help_says_what_both_halves_tell_and_that_nothing_is_measured():
    words = " ".join(invoke("--help").output.split())
    assert "costs to quantize for a board, and each group to prune" in words
    assert "--what [quantize|prune|both]" in words
    assert "nothing is measured on a board" in words


@pytest.mark.parametrize("board", ["jetson-nano", "jetson-tx2"])
def test_quantizing_for_a_board_without_int8_is_refused_with_its_reason(folder, board):
    result = invoke(folder / "uneven.onnx", "--profile", board, "--what", "quantize",
                    "--data", folder / "x.npz")  # fmt: skip
    why = load_profile(board).refuse("int8")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert why.reason in result.stderr
    assert why.instead in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere: run as another user")
def test_a_closed_folder_is_2_before_any_work(folder, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    result = invoke(folder / "uneven.onnx", "--profile", BOARD, "--data", folder / "x.npz",
                    "--html", tmp_path / "closed" / "out.html")  # fmt: skip
    assert result.exit_code == 2
    assert "no permission to write" in result.stderr


def test_a_disk_that_fails_while_writing_leaves_no_page_and_says_so(folder, tmp_path, monkeypatch):
    def full(path, *parts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("compress.sensitivity_file.write_whole", full)
    result = invoke(folder / "uneven.onnx", "--profile", BOARD, "--data", folder / "x.npz",
                    "--html", tmp_path / "out.html")  # fmt: skip
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_layers_beyond_the_choices_reach_are_told_too(folder, monkeypatch):
    from compress import sensitivity
    from compress.quantize.float_layers import FloatRule

    narrow = FloatRule(runs_max=4, frames_max=2)  # two of the five layers, two frames
    monkeypatch.setattr(sensitivity, "FloatRule", lambda: narrow)
    found = told(folder / "uneven.onnx", "--data", folder / "x.npz")
    assert found["net"]["frames_judged"] == 2
    assert {STEM, DEPTHWISE} <= {row["node"] for row in found["layers"]}
    assert len(found["layers"]) == 5
