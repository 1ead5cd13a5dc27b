"""`edge cache`: what is listed, and what is removed."""

from __future__ import annotations

import os

import pytest
from click.testing import CliRunner

from edge.cli import cli
from edge.engines.tensorrt.cache import EngineCache
from edge.places import PlaceError
from tests.edge.tensorrt.cache_cases import KEY, built, fresh, named, placed


def run(*arguments):
    result = CliRunner().invoke(cli, ["cache", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def filled(folder):
    cache = EngineCache(folder, now=lambda: 1_790_000_000.0)
    keys = [KEY, built(placed(KEY, tensorrt="10.7.0"), dla_core=1), named("face")]
    for number, key in enumerate(keys):
        path = cache.store(key, fresh(size_bytes=2_000_000)).path
        os.utime(str(path), (1_790_000_000 + 86400 * number,) * 2)
    return cache, keys


def test_each_engine_is_a_line_with_what_it_was_built_for_latest_used_first(tmp_path):
    cache, keys = filled(tmp_path)
    lines = run("--engine-cache", tmp_path)
    assert [line.split()[1] for line in lines[:-1]] == ["face", "person", "person"]
    assert lines[2] == (
        "engine     person 3f3f3f3f…, int8 on the GPU, batch 1..1..1, jetson-orin-nano in 15W, "
        "TensorRT 10.3.0; 2.0 MB, built 2026-09-21 in 12 s, used 2026-09-21: "
        + cache.path(keys[0]).name
    )
    assert "int8 on the DLA 1" in lines[1]
    assert "used 2026-09-22" in lines[1]
    assert lines[3] == f"engines    3, 6.0 MB, in {tmp_path}"


def test_a_damaged_one_is_named_with_its_fault(tmp_path):
    cache, keys = filled(tmp_path)
    cache.path(keys[2]).write_bytes(b"torn")
    assert f"damaged    {cache.path(keys[2]).name}: 4 bytes, too few for a header" in run(
        "--engine-cache", tmp_path
    )


def test_keep_removes_all_but_the_latest_used_of_each_name(tmp_path):
    cache, keys = filled(tmp_path)
    lines = run("--engine-cache", tmp_path, "--keep", "1")
    assert lines[0] == f"removed    {cache.path(keys[0])}"
    assert [cache.path(key).exists() for key in keys] == [False, True, True]
    assert len(run("--engine-cache", tmp_path, "--keep", "0")) == 3
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_and_a_missing_default_one_are_no_error_and_not_made(tmp_path, monkeypatch):
    assert run("--engine-cache", tmp_path) == [f"engines    0, 0.0 MB, in {tmp_path}"]
    monkeypatch.setenv("JETPRESS_CACHE", str(tmp_path / "none"))
    assert run() == [f"engines    0, 0.0 MB, in {tmp_path / 'none' / 'engines'}"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "found"),
    [("none", "No such file or directory"), ("file", "a file"), ("pipe", "a pipe"),
     ("file/x", "Not a directory"), ("x" * 300, "File name too long")],
)  # fmt: skip
@pytest.mark.parametrize("keep", [(), ("--keep", "0")])
def test_a_folder_that_was_named_and_is_none_is_told(tmp_path, name, found, keep):
    (tmp_path / "file").write_text("")
    os.mkfifo(str(tmp_path / "pipe"))
    done = CliRunner().invoke(cli, ["cache", "--engine-cache", str(tmp_path / name), *keep])
    assert isinstance(done.exception, PlaceError)
    assert (done.exception.found, done.exception.where) == (
        found, f"engine cache {tmp_path / name}")  # fmt: skip


def test_keep_leaves_what_it_never_made(tmp_path):
    """Other tools end the names of their files so too."""
    cache, keys = filled(tmp_path)
    stem = cache.path(keys[0]).stem
    theirs = ("foo.engine", "timing-x.cache", "yolo-fp16.engine", "foo.engine.damaged",
              ".download.partial", "model.onnx_b1_gpu0_fp16.engine", f"{stem}.engine.bak",
              "tiny-0123.engine", f"timing-{'z' * 20}.cache")  # fmt: skip
    for name in theirs:
        (tmp_path / name).write_bytes(b"theirs")
    (tmp_path / f"away-{'0' * 20}.engine").symlink_to("nowhere")
    (tmp_path / f"held-{'0' * 20}.engine").mkdir()
    ours = [cache.path(key) for key in keys]
    for name in (f"{stem}.engine.damaged", f"timing-{'0' * 20}.cache"):
        (tmp_path / name).write_bytes(b"ours")
        ours.append(tmp_path / name)
    removed = {line[11:] for line in run("--engine-cache", tmp_path, "--keep", "0")
               if line.startswith("removed")}  # fmt: skip
    assert removed == set(map(str, ours))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*theirs, f"away-{'0' * 20}.engine", f"held-{'0' * 20}.engine"}


def test_a_link_to_nothing_hides_no_engine(tmp_path):
    filled(tmp_path)
    (tmp_path / "aaa.engine").symlink_to("nowhere")
    assert run("--engine-cache", tmp_path)[-1].startswith("engines    3, ")
