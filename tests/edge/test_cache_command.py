"""`edge cache`: what is listed, and what is removed."""

from __future__ import annotations

import os

from click.testing import CliRunner

from edge.cli import cli
from edge.engines.tensorrt.cache import EngineCache
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


def test_an_empty_or_missing_folder_is_no_error_and_is_not_made(tmp_path):
    assert run("--engine-cache", tmp_path / "none") == [
        f"engines    0, 0.0 MB, in {tmp_path / 'none'}"
    ]
    assert list(tmp_path.iterdir()) == []
