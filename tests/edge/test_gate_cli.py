"""`edge gate` from the outside: board, mode and notes in the text; bad input is one message."""

from __future__ import annotations

import hashlib
import sys

import pytest

from edge.__main__ import main


@pytest.fixture
def gate(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["edge", "gate", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return run


def reseal(folder, text):
    """What a forger does: another manifest, and the seal that fits it."""
    (folder / "manifest.json").write_bytes(text)
    digest = hashlib.sha256(text).hexdigest()
    (folder / "bundle.sha256").write_bytes(f"{digest}  manifest.json\n".encode())


def test_the_text_says_the_mode_judged_and_what_widened_the_interval(gate, tiny):
    code, out, err = gate(tiny, "--for", "jetson-nano-2gb", "--mode", "5W", "--fps-min", 1)
    flat = " ".join(out.split())
    assert (code, err) == (4, "")
    assert "board: jetson-nano-2gb, mode 5W" in out
    for words in ("compressed for jetson-nano, not for jetson-nano-2gb",
                  "has no row of its own", "scaled by clocks from full clocks"):  # fmt: skip
        assert words in flat
    assert max(map(len, out.splitlines())) <= 100


def test_more_memory_than_the_board_has_is_not_allowed(gate, tiny):
    _, out, _ = gate(tiny, "--for", "jetson-nano", "--memory-mb-max", 1e5)
    assert "memory_mb_max      at most 4148.17 MB" in out
    assert "memory_mb_max of 100000 MB is more than the 4148 MB" in out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fps_min = -3", "b.toml: $.fps_min: found -3.0; expected a finite number, 0 or more"),
        ("engine_mb_max = inf", "$.engine_mb_max: found inf; expected a finite number"),
        ("fps_mim = 3", "unknown field `fps_mim`; expected the fields this table knows"),
        ("fps_min = 'x'", "$.fps_min: found `str`; expected `float"),
    ],
)
def test_a_wrong_budget_file_is_told_by_its_field(gate, tiny, tmp_path, text, words):
    (tmp_path / "b.toml").write_text(text + "\n")
    code, out, err = gate(tiny, "--for", "jetson-nano", "--budget", tmp_path / "b.toml")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_a_name_that_is_too_long_is_one_message(gate):
    code, _, err = gate("x" * 300, "--for", "jetson-nano")
    assert (code, err.count("\n")) == (2, 1)
    assert "File name too long" in err


@pytest.mark.parametrize(
    ("new", "words"),
    [(b"[" * 50_000 + b"]" * 50_000, "nested too deep"), (b'"\xff"', "utf-8")],
    ids=["deep", "not UTF-8"],
)
def test_a_senseless_manifest_under_a_right_seal_is_one_message(gate, tiny_copy, new, words):
    text = (tiny_copy / "manifest.json").read_bytes()
    assert text.count(b'"params": {}') == 1
    reseal(tiny_copy, text.replace(b'"params": {}', b'"params": {"a": ' + new + b"}"))
    code, _, err = gate(tiny_copy, "--for", "jetson-nano")
    assert (code, err.count("\n"), "manifest.json: found " in err) == (2, 1, True)
    assert words in err
