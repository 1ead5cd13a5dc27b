"""The first command of the README makes a bundle, makes it again, and deletes nothing of yours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edge.bundle import open_bundle, seal

SCRIPT = Path(__file__).parent / "make_bundle.py"


def make(*arguments, cwd):
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], cwd=str(cwd),
                          capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])})  # fmt: skip


def files_below(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_made_and_made_again(tmp_path):
    assert make("new/bundle", cwd=tmp_path).stderr == ""
    first = files_below(tmp_path)
    (tmp_path / "new" / "bundle" / "model.onnx").write_bytes(b"damaged")
    assert make("new/bundle", cwd=tmp_path).stderr == ""
    assert files_below(tmp_path) == first
    assert open_bundle(tmp_path / "new" / "bundle").manifest.name == "tiny"
    (tmp_path / "empty").mkdir()
    assert make("empty", cwd=tmp_path).returncode == 0


def _mine(folder, maker):
    (folder / "thesis.txt").write_text("mine")


def _model(folder, maker):
    (folder / "model.onnx").write_text("mine")


def _more(folder, maker):
    maker.make_bundle(folder)
    (folder / "notes.txt").write_text("mine")


def _pressed(folder, maker):
    """A bundle with the same files and another name."""
    maker.make_bundle(folder)
    for name in ("manifest.json", "bundle.sha256"):
        (folder / name).unlink()
    seal(folder, msgspec.structs.replace(maker.tiny_manifest(), name="person"))


def _unreadable(folder, maker):
    maker.make_bundle(folder)
    (folder / "manifest.json").write_bytes(b"[]\xff")


@pytest.mark.parametrize("fill", [_mine, _model, _more, _pressed, _unreadable])
def test_a_folder_of_yours_is_left_as_it_was(tmp_path, maker, fill):
    (tmp_path / "yours").mkdir()
    fill(tmp_path / "yours", maker)
    before = files_below(tmp_path)
    done = make("yours", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("yours: found ")
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("name", ["yours", "yours.onnx"])
def test_a_file_of_yours_is_left_as_it_was(tmp_path, name):
    (tmp_path / name).write_text("mine")
    assert make(name, cwd=tmp_path).returncode == 1
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize(("flag", "code"), [("--help", 0), ("-h", 0), ("--no-such", 2), (None, 2)])
def test_a_flag_is_no_folder(tmp_path, flag, code):
    done = make(*([flag] if flag else []), cwd=tmp_path)
    assert (done.returncode, list(tmp_path.iterdir())) == (code, [])
    assert "FOLDER" in done.stdout + done.stderr
