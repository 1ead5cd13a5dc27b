"""`calib` makes a set, shows it, and turns bad input into one line and exit code 2."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from calib.__main__ import main

cv2 = pytest.importorskip("cv2", reason="reads images with OpenCV")


def calib(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["calib", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    return caught.value.code or 0, out, err


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set").mkdir()
    for index in range(5):
        cv2.imwrite(str(tmp_path / "set" / f"{index}.png"), np.full((8, 8, 3), index, np.uint8))
    (tmp_path / "set" / "bad.png").write_bytes(b"no")
    return tmp_path / "set"


def test_a_set_is_made_and_shown(monkeypatch, capsys, folder, tmp_path):
    out = tmp_path / "set.json"
    code, text, _ = calib(monkeypatch, capsys, "set", folder, "-o", out)
    assert code == 0
    assert "pictures  5 from a folder (all)" in text
    assert "skipped   1 x picture bad.png: OpenCV cannot decode it" in text
    assert len(json.loads(out.read_text())["samples"]) == 5
    code, text, _ = calib(monkeypatch, capsys, "show", out)
    assert (code, "checked   every picture is as it was" in text) == (0, True)


def test_a_changed_picture_is_exit_code_2(monkeypatch, capsys, folder, tmp_path):
    out = tmp_path / "set.json"
    calib(monkeypatch, capsys, "set", folder, "-o", out, "--limit", 6, "--every", 2)
    cv2.imwrite(str(folder / "2.png"), np.zeros((8, 8, 3), np.uint8))
    code, text, err = calib(monkeypatch, capsys, "show", out)
    assert (code, text) == (2, "")
    assert err.startswith("calib: ")
    assert err.count("\n") == 1
    assert calib(monkeypatch, capsys, "show", out, "--no-check")[0] == 0


def test_a_list_says_how_it_was_chosen(monkeypatch, capsys, folder, tmp_path):
    listed = folder / "list.txt"
    listed.write_text("".join(f"{index}.png\n" for index in range(5)))
    out = tmp_path / "set.json"
    code, text, _ = calib(monkeypatch, capsys, "set", listed, "--every", 3, "-o", out)
    assert (code, "pictures  2 from a list (one in 3)" in text) == (0, True)
    assert [sample["source"] for sample in json.loads(out.read_text())["samples"]] == [
        "0.png", "3.png"]  # fmt: skip


@pytest.mark.parametrize("source", ["x" * 300, "x" * 300 + ".txt", "x" * 300 + ".mp4"])
def test_a_name_that_is_too_long_is_exit_code_2(monkeypatch, capsys, tmp_path, source):
    code, _, err = calib(monkeypatch, capsys, "set", source, "-o", tmp_path / "x.json")
    assert (code, err.count("\n")) == (2, 1)
    assert "File name too long" in err


@pytest.mark.parametrize("data", [b"\xff", b"[" * 100_000])
def test_a_set_of_senseless_bytes_is_exit_code_2(monkeypatch, capsys, tmp_path, data):
    (tmp_path / "set.json").write_bytes(data)
    code, _, err = calib(monkeypatch, capsys, "show", tmp_path / "set.json")
    assert (code, err.count("\n"), "set.json: found " in err) == (2, 1, True)


def test_an_empty_folder_is_exit_code_2(monkeypatch, capsys, tmp_path):
    code, _, err = calib(monkeypatch, capsys, "set", tmp_path, "-o", tmp_path / "x.json")
    assert code == 2
    assert "found no image" in err
    assert not (tmp_path / "x.json").exists()
