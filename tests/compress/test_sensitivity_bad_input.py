"""`compress sensitivity` given what it cannot use: one message, exit code 2, nothing written."""

from __future__ import annotations

import os

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("nncf", reason="calibrates; pip install 'jetpress[compress]'")
pytest.importorskip("onnxruntime", reason="runs the graphs; pip install 'jetpress[compress]'")
pytest.importorskip("cv2", reason="reads pictures; pip install 'jetpress[compress]'")

import cv2
import onnx
from onnx import numpy_helper

from compress.cli import cli
from tests.compress.qdq_graphs import Builder
from tests.compress.small_nets import FRAME, frames
from tests.compress.uneven_nets import uneven_net


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("none.onnx", "--data", "x.npz"), "none.onnx: found No such file or directory"),
        (("pictures", "--data", "x.npz"), "pictures: found a folder"),
        (("a" * 300, "--data", "x.npz"), "File name too long"),
        (("pipe", "--data", "x.npz"), "pipe: found a pipe"),
        (("m.onnx", "--data", "a" * 300), "File name too long"),
        (("m.onnx", "--data", "a" * 300 + ".npz"), "File name too long"),
        (("m.onnx", "--data", "pipe"), "--data pipe: found a pipe"),
        (("words.onnx", "--data", "x.npz"), "expected a readable ONNX model"),
        (("cut.onnx", "--data", "x.npz"), "expected a readable ONNX model"),
        (("relu.onnx", "--data", "x.npz"), "found no layer that can be INT8"),
        (("nan.onnx", "--data", "x.npz"), "nan.onnx"),
        (("m.onnx", "--data", "none"), "--data none: found No such file or directory"),
        (("m.onnx", "--data", "empty"), "found no image"),
        (("m.onnx", "--data", "words.onnx"), "words.onnx"),
        (("m.onnx", "--data", "y.npz"), "'y': found no input of that name"),
        (("m.onnx", "--data", "small.npz"), "'x': found the shape [8, 3, 16, 16]"),
        (("m.onnx", "--data", "no.npz"), "found no samples"),
        (("m.onnx", "--data", "x.npz", "--spec", "s.toml"), "--spec: found s.toml beside"),
        (("m.onnx", "--data", "pictures", "--spec", "none.toml"), "none.toml"),
        (("m.onnx", "--data", "x.npz", "--size", "9"), "--size: found '9'"),
        (("m.onnx", "--data", "x.npz", "--size", "64x64"), "found --size 64x64"),
        (("m.onnx", "--data", "x.npz", "--mode", "9W"), "9W"),
        (("m.onnx", "--data", "x.npz", "--html", "m.onnx"), "a name that ends in .html"),
        (("m.html", "--data", "x.npz", "--html", "m.html"), "a file that this command reads"),
        (("m.html", "--data", "x.npz", "--html", "link.html"), "a file that this command reads"),
        (("m.onnx", "--data", "x.npz", "--html", "none/out.html"), "No such file or directory"),
        (("m.onnx", "--data", "x.npz", "--html", "folder.html"), "a folder, no plain file"),
    ],
)
def test_bad_input_is_2_one_message_and_nothing_written(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    spoil(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    told = ["sensitivity", *words, "--profile", "jetson-orin-nano"]
    result = CliRunner().invoke(cli, told, catch_exceptions=False)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def spoil(folder):
    """Files with a fault each, and whole ones beside them."""
    model = uneven_net()
    whole = model.SerializeToString()
    for name in ("m.onnx", "m.html"):
        (folder / name).write_bytes(whole)
    (folder / "link.html").symlink_to("m.html")
    (folder / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (folder / "words.onnx").write_text("not a model\n" * 9)
    for name in ("empty", "pictures", "folder.html"):
        (folder / name).mkdir()
    cv2.imwrite(str(folder / "pictures" / "0.png"), np.full((32, 32, 3), 90, np.uint8))
    os.mkfifo(folder / "pipe")
    n = Builder()
    onnx.save(n.model(n.op("Relu", "x"), FRAME), folder / "relu.onnx")
    (weights,) = (t for t in model.graph.initializer if list(t.dims) == [16, 3, 3, 3])
    weights.CopyFrom(numpy_helper.from_array(np.full((16, 3, 3, 3), np.nan, np.float32),
                                             weights.name))  # fmt: skip
    onnx.save(model, folder / "nan.onnx")
    x = np.concatenate([feed["x"] for feed in frames(8)])
    np.savez(folder / "x.npz", x=x)
    np.savez(folder / "y.npz", y=x)
    np.savez(folder / "small.npz", x=x[:, :, ::2, ::2])
    np.savez(folder / "no.npz", x=x[:0])
    (folder / "s.toml").write_text("[preprocess]\n")
