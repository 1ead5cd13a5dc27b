"""`compress sensitivity` as a user runs it: both halves, one of them, and why one is missing."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("nncf", reason="calibrates; pip install 'jetpress[compress]'")
pytest.importorskip("torch", reason="needs the extra 'compress'")
pytest.importorskip("onnxruntime", reason="runs the graphs; pip install 'jetpress[compress]'")
pytest.importorskip("cv2", reason="reads pictures; pip install 'jetpress[compress]'")
pytest.importorskip("jinja2", reason="makes the page; pip install 'jetpress[compress]'")

import cv2
import onnx
import torch

from compress.cli import cli
from compress.export import Names, export_onnx
from devices.profile import load_profile
from tests.compress import user_nets
from tests.compress.qdq_graphs import Builder
from tests.compress.small_nets import FRAME

ORIN, NANO = "jetson-orin-nano", "jetson-nano"
WIDE = "tests.compress.user_nets:wide"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The wide net as a file of each kind, a net that is not converted, frames."""
    made = tmp_path_factory.mktemp("given")
    net, example = user_nets.wide(), (torch.zeros(1, 3, 96, 96),)
    export_onnx(net, example, made / "wide.onnx", names=Names(inputs=("x",), outputs=("y",)),
                opset=13)  # fmt: skip
    torch.export.save(torch.export.export(net, example), made / "wide.pt2")
    rng = np.random.default_rng(0)
    np.savez(made / "x.npz", x=rng.random((4, 3, 96, 96), np.float32))
    n = Builder()
    w = n.const(n.rng.normal(0, 0.5, (16, 3, 3, 3)).astype(np.float32))
    deep = n.op("Conv", "x", w, pads=[1] * 4, name="see")
    odd = n.op("LRN", deep, size=3)
    last = n.const(n.rng.normal(0, 0.5, (4, 16, 1, 1)).astype(np.float32))
    onnx.save(n.model(n.op("Conv", odd, last, name="say"), FRAME), made / "odd.onnx")
    np.savez(made / "odd.npz", x=rng.random((4, *FRAME[1:]), np.float32))
    (made / "pictures").mkdir()
    for index in range(4):
        pixels = rng.integers(0, 255, (96, 96, 3), np.uint8)
        cv2.imwrite(str(made / "pictures" / f"{index}.png"), pixels)
    return made


def invoke(*words):
    return CliRunner().invoke(cli, ["sensitivity", *map(str, words)], catch_exceptions=False)


def told(*words):
    result = invoke(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def both(folder, tmp_path_factory):
    """(JSON, text, page) of the wide net's file on a board with INT8."""
    out = tmp_path_factory.mktemp("page") / "out.html"
    given = (folder / "wide.onnx", "--data", folder / "x.npz", "--profile", ORIN)
    text = invoke(*given, "--html", out)
    assert text.exit_code == 0, text.output
    return told(*given), text.stdout, out.read_text()


def test_both_halves_are_told_and_speak_of_the_same_layers_and_frames(both):
    found = both[0]
    assert found["missing"] == []
    prune = found["prune"]
    assert prune["frames_judged"] == found["net"]["frames_judged"] == 4
    nodes = {row["node"] for row in found["layers"]}
    labels = {group["label"].partition(" +")[0] for group in prune["groups"]}
    assert labels == {"/inner/Conv", "/stem/Conv"}
    assert labels < nodes
    assert prune["groups_total"] == 3
    assert prune["kept"] == [{"reason": "output of the network", "count": 1, "groups": ["head"]}]
    assert prune["fp16_ms"] == pytest.approx(found["net"]["latency_fp16"]["value"], rel=0.02)
    assert prune["int8_ms"] < prune["fp16_ms"]


def test_each_cut_has_its_loss_and_its_gains_with_units_in_the_keys(both):
    for group in both[0]["prune"]["groups"]:
        assert [cut["units_cut_share"] for cut in group["cuts"]] == [0.25, 0.5]
        quarter, half = group["cuts"]
        assert set(quarter) == {
            "units_left", "units_cut_share", "net_sqnr_db", "lost_db", "fp16_ms_won",
            "int8_ms_won", "macs_share_won", "lost_db_per_fp16_ms",
        }  # fmt: skip
        assert half["lost_db"] > quarter["lost_db"] > 0
        assert half["fp16_ms_won"] > quarter["fp16_ms_won"] > 0
        assert half["macs_share_won"] == pytest.approx(2 * quarter["macs_share_won"], rel=0.01)
    assert [step["fp16_ms"] for step in both[0]["prune"]["way"]] == sorted(
        (step["fp16_ms"] for step in both[0]["prune"]["way"]), reverse=True
    )


def test_the_text_says_unit_and_basis_of_each_number(both):
    lines = both[1].splitlines()
    (at,) = (i for i, line in enumerate(lines) if line.startswith("group "))
    assert lines[at].split() == ["group", "units", "answers", "lost", "won", "FP16", "won", "INT8",
                                 "MACs", "lost"]  # fmt: skip
    assert lines[at + 1].split() == ["dB", "dB", "ms", "ms", "%", "dB/ms"]
    first = both[0]["prune"]["groups"][0]
    assert lines[at + 2].split()[0] == first["label"]
    assert f"{first['units']} -> {first['cuts'][0]['units_left']}" in lines[at + 2]
    assert lines[at + 3].startswith(" ")  # the same group, cut further
    words = " ".join(both[1].split())
    assert "predicted for jetson-orin-nano, not measured" in words
    assert "kept 1 group: output of the network (/head/Gemm)" in words
    assert max(map(len, lines)) <= 100


def test_the_page_has_both_halves_five_drawings_and_no_script(both):
    html = both[2]
    assert html.count("<figure>") == html.count("<svg") == 5
    assert "what each layer costs to quantize and each group to prune" in html
    for title in ("Loss against gain", "The way down", "Groups that stay whole"):
        assert title in html
    for group in both[0]["prune"]["groups"]:
        assert html.count(f'scope="row">{group["label"]}<span') == 2
    assert not re.search(r'(src|href)="http|<script|class="verdict', html)
    assert not re.search(r"class=\"\w*\" \w+=\"nan|>nan<|inf ", html)


@pytest.mark.parametrize("model", [WIDE, "wide.pt2"])
def test_a_factory_and_a_pt2_file_cost_what_their_file_does(folder, both, model):
    given = model if model == WIDE else folder / model
    np.savez(folder / "images.npz", images=np.load(folder / "x.npz")["x"])
    found = told(given, "--data", folder / "images.npz", "--profile", ORIN, "--what", "prune")
    assert (found["net"], found["layers"]) == (None, [])
    wanted = {group["label"].strip("/").partition("/")[0]: group["cuts"]
              for group in both[0]["prune"]["groups"]}  # fmt: skip
    for group in found["prune"]["groups"]:
        for cut, other in zip(group["cuts"], wanted[group["group"]], strict=True):
            assert cut["net_sqnr_db"] == pytest.approx(other["net_sqnr_db"], abs=0.6)
            assert cut["fp16_ms_won"] == pytest.approx(other["fp16_ms_won"], rel=0.02)


def test_a_factory_has_both_halves_and_takes_pictures(folder):
    found = told(WIDE, "--data", folder / "pictures", "--profile", ORIN, "--frames", 2)
    assert {row["node"] for row in found["layers"]} >= {"/inner/Conv", "/outer/Conv"}
    assert {group["group"] for group in found["prune"]["groups"]} == {"inner", "stem"}
    assert any("no --spec was given" in item["reason"] for item in found["refusals"])


@pytest.mark.parametrize("board", [NANO, "jetson-tx2"])
def test_a_board_without_int8_tells_the_prune_half_alone_and_why(folder, board):
    given = (folder / "wide.onnx", "--data", folder / "x.npz", "--profile", board)
    found = told(*given)
    assert (found["net"], found["default"], found["layers"]) == (None, None, [])
    (missing,) = found["missing"]
    assert missing["what"] == "quantizing, layer by layer"
    assert load_profile(board).refuse("int8").reason in missing["reason"]
    prune = found["prune"]
    assert (prune["int8_ms"], prune["channel_multiple"]) == (None, 4)
    assert all(cut["int8_ms_won"] is None for group in prune["groups"] for cut in group["cuts"])
    text = invoke(*given).stdout
    assert "INT8 " not in "".join(line for line in text.splitlines() if line.startswith("group "))
    assert "missing   quantizing, layer by layer" in text


def test_its_page_says_so_too(folder, tmp_path):
    invoke(folder / "wide.onnx", "--data", folder / "x.npz", "--profile", NANO,
           "--html", tmp_path / "out.html")  # fmt: skip
    html = (tmp_path / "out.html").read_text()
    assert "Missing: quantizing, layer by layer" in html
    assert html.count("<figure>") == 2
    assert "not on this board" in html
    assert "Layers, the costliest first" not in html


def test_a_file_that_is_not_converted_tells_the_quantize_half_alone_and_why(folder):
    found = told(folder / "odd.onnx", "--data", folder / "odd.npz", "--profile", ORIN)
    assert found["prune"] is None
    assert {row["node"] for row in found["layers"]} == {"see", "say"}
    (missing,) = found["missing"]
    assert missing["what"] == "pruning, group by group"
    assert "LRN x1" in missing["reason"]


def test_where_neither_half_is_to_be_had_that_is_an_error(folder):
    given = (folder / "odd.onnx", "--data", folder / "odd.npz")
    for more in (("--profile", NANO), ("--profile", ORIN, "--what", "prune")):
        result = invoke(*given, *more)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "LRN" in result.stderr


def test_halves_that_are_not_asked_for_are_not_told(folder, both):
    given = (folder / "wide.onnx", "--data", folder / "x.npz", "--profile", ORIN)
    prune, quantize = told(*given, "--what", "prune"), told(*given, "--what", "quantize")
    assert (prune["net"], quantize["prune"]) == (None, None)
    assert (prune["missing"], quantize["missing"]) == ([], [])
    assert prune["prune"] == both[0]["prune"]
    assert quantize["layers"] == both[0]["layers"]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("no.such:net", "no.such"),
        ("tests.compress.user_nets:none", "none"),
        ("tests.compress.user_nets:not_a_module", "not_a_module"),
        ("tests.compress.user_nets:without_size", "does not say its image size"),
        ("words.pt2", "words.pt2"),
        ("none.pt2", "No such file or directory"),
    ],
)
def test_a_model_that_cannot_be_read_is_one_message(folder, tmp_path, monkeypatch, model, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.pt2").write_text("not a net")
    result = invoke(model, "--data", folder / "x.npz", "--profile", ORIN)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
