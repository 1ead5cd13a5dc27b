"""An output's name is followed, replaced or refused; what is read is plain and small.

Device nodes are made in a folder of the test; the system's own are never written to.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import msgspec
import pytest

from devices.budget import Budget
from devices.errors import JetpressError
from devices.plainfile import is_same, read_plain
from devices.tomlfile import read_toml
from devices.wholefile import require_place, write_whole


def pipe(path):
    os.mkfifo(str(path))


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def device(path):
    try:
        os.mknod(str(path), stat.S_IFCHR | 0o666, os.makedev(1, 5))  # what zeros come from
    except PermissionError:
        pytest.skip("only root makes device nodes")


SPECIAL = [(pipe, "a pipe"), (device, "a device"), (Path.mkdir, "a folder"),
           (unix_socket, "a socket")]  # fmt: skip
READABLE = SPECIAL[:3]  # a socket cannot even be opened


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("make", "words"), SPECIAL, ids=[words for _, words in SPECIAL])
@pytest.mark.parametrize("act", [lambda path: write_whole(path, b"new"), require_place])
def test_what_is_no_plain_file_keeps_its_name(tmp_path, make, words, act):
    make(tmp_path / "out")
    before = (tmp_path / "out").lstat()
    (tmp_path / "link").symlink_to("out")
    for name in ("out", "link"):
        with pytest.raises(OSError, match=f"{words}, no plain file"):
            act(tmp_path / name)
    after = (tmp_path / "out").lstat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert names(tmp_path) == ["link", "out"]


@pytest.mark.parametrize("earlier", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path, earlier):
    (tmp_path / "far").mkdir()
    if earlier:
        (tmp_path / "far" / "record").write_bytes(b"old")
    (tmp_path / "near").symlink_to("far/record")
    (tmp_path / "again").symlink_to("near")
    require_place(tmp_path / "again")
    write_whole(tmp_path / "again", b"new", b"er")
    assert (tmp_path / "again").is_symlink()
    assert (tmp_path / "near").is_symlink()
    assert (tmp_path / "far" / "record").read_bytes() == b"newer"
    assert names(tmp_path / "far") == ["record"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("no/such/out", "No such file"), ("file/out", "Not a directory"), ("x" * 300, "too long"),
     ("loop", "symbolic links")],
)  # fmt: skip
def test_a_place_where_nothing_can_be_written_is_known_before(tmp_path, name, words):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    for act in (require_place, write_whole):
        with pytest.raises(OSError, match=words):
            act(tmp_path / name)
    assert names(tmp_path) == ["file", "loop"]


@pytest.mark.parametrize(("make", "words"), READABLE, ids=[words for _, words in READABLE])
def test_what_is_no_plain_file_is_not_read(tmp_path, make, words):
    make(tmp_path / "in.toml")
    with pytest.raises(OSError, match=f"{words}, no plain file"):
        read_plain(tmp_path / "in.toml")
    with pytest.raises(JetpressError, match=f"in.toml: found {words}, .*; expected a TOML file"):
        read_toml(tmp_path / "in.toml", Budget, JetpressError)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "huge.toml").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(JetpressError, match="found more than 16 MB"):
        read_toml(tmp_path / "huge.toml", Budget, JetpressError)
    (tmp_path / "fits").write_bytes(b"12345")
    assert read_plain(tmp_path / "fits", bytes_max=5) == b"12345"
    with pytest.raises(OSError, match="more than"):
        read_plain(tmp_path / "fits", bytes_max=4)


@pytest.mark.parametrize(
    ("text", "words"),
    [("a = " + "[" * 50_000, "nested too deep"), ("fps_min = " + "9" * 6000, "b.toml")],
)
def test_toml_that_python_cannot_hold_is_one_error(tmp_path, text, words):
    (tmp_path / "b.toml").write_text(text)
    with pytest.raises(JetpressError, match=words):
        read_toml(tmp_path / "b.toml", Budget, JetpressError)


def test_one_file_is_known_by_every_name(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(msgspec.json.encode({}))
    os.link(str(path), str(tmp_path / "hard.json"))
    (tmp_path / "soft.json").symlink_to("a.json")
    (tmp_path / "copy.json").write_bytes(path.read_bytes())
    same = [name for name in ("a.json", "hard.json", "soft.json", "copy.json", "none")
            if is_same(path, tmp_path / name)]  # fmt: skip
    assert same == ["a.json", "hard.json", "soft.json"]
    assert is_same(tmp_path / "none", tmp_path / "sub" / ".." / "none")
