"""The engine cache: what it finds, why it does not, what it keeps, what it says of a bad folder."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from pathlib import Path

import msgspec
import pytest

from edge.engines.tensorrt import cache as cache_module
from edge.engines.tensorrt.cache import CacheError, EngineCache, FreshEngine, default_cache
from edge.engines.tensorrt.enginekey import differences, serves
from tests.edge.tensorrt.cache_cases import (
    KEY,
    PLACE,
    built,
    fresh,
    kept,
    named,
    placed,
    plan_of,
    silent,
)

OTHERS = {
    "board": "jetson-orin-nx", "device": "Xavier", "compute_capability": "7.2",
    "tensorrt": "10.7.0", "cuda": "13.2", "power_mode": "7W", "sm_count": 4,
    "module": "tensorrt_rtx",
}  # fmt: skip
SETTINGS = {
    "precision": "fp16", "workspace_mb": 64.0, "batch": (1, 2, 4), "dla_core": 1,
    "version_compatible": True,
}  # fmt: skip


def every_other_key():
    for field in PLACE.__struct_fields__:
        yield placed(KEY, **{field: OTHERS[field]})
    for field in KEY.settings.__struct_fields__:
        yield built(KEY, **{field: SETTINGS[field]})
    yield msgspec.structs.replace(KEY, bundle_sha256="a7" * 32)
    yield msgspec.structs.replace(KEY, model="model.strong.onnx")


def test_an_engine_comes_back_as_it_was_stored_with_what_was_said_of_it(tmp_path):
    cache = EngineCache(tmp_path / "not" / "there", now=lambda: 1000.0)
    stored = cache.store(KEY, fresh(3))
    found = cache.find(KEY)
    assert found.plan == plan_of(3) == stored.plan
    assert found.header.key == KEY
    assert (found.header.build_s, found.header.peak_memory_mb) == (12.5, 900.0)
    assert (found.header.built_at_s, found.header.notes) == (1000.0, ("a note",))
    assert found.header.plan_sha256 == hashlib.sha256(plan_of(3)).hexdigest()
    assert re.fullmatch(r"person-[0-9a-f]{20}\.engine", found.path.name)


def test_an_empty_plan_and_a_large_one_come_back_too(tmp_path):
    cache = EngineCache(tmp_path)
    for size_bytes in (0, 1, 7_000_001):
        cache.store(KEY, FreshEngine(plan=bytes(size_bytes), build_s=0.0))
        assert cache.find(KEY).plan == bytes(size_bytes)


def test_every_field_of_a_key_decides_and_is_named_when_it_differs(tmp_path):
    cache, _ = kept(tmp_path)
    others = list(every_other_key())
    assert len(others) == 8 + 5 + 2
    assert len({key.digest for key in [KEY, *others]}) == len(others) + 1
    for other in others:
        assert cache.find(other) is None
        assert len(differences(KEY, other)) == 1
        assert cache.why(other) == differences(KEY, other)[0]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (placed(KEY, tensorrt="10.7.0"), "TensorRT 10.3.0 -> 10.7.0"),
        (placed(KEY, board="jetson-orin-nx"), "built on jetson-orin-nano, this is jetson-orin-nx"),
        (placed(KEY, power_mode=None), "power mode 15W -> none"),
        (built(KEY, dla_core=0), "DLA core none -> 0"),
        (built(KEY, batch=(1, 2, 4)), "batch 1..1..1 -> 1..2..4"),
        (built(KEY, workspace_mb=64.0), "workspace MB 512 -> 64"),
        (msgspec.structs.replace(KEY, bundle_sha256="a7" * 32), "the bundle changed: 3f3f3f3f… -> "
                                                                "a7a7a7a7…"),
        (msgspec.structs.replace(KEY, model="model.strong.onnx"), "built from model.onnx, this is "
                                                                  "model.strong.onnx"),
        (named("face"), "no engine of this bundle yet"),
    ],
)  # fmt: skip
def test_a_rebuild_says_why(tmp_path, key, words):
    cache, _ = kept(tmp_path)
    assert cache.why(key) == words


def test_of_several_engines_the_nearest_is_compared(tmp_path):
    cache, _ = kept(tmp_path, placed(KEY, tensorrt="8.6.2", board="jetson-nano", cuda="10.2"))
    cache.store(placed(KEY, tensorrt="10.7.0"), fresh())
    assert cache.why(KEY) == "TensorRT 10.7.0 -> 10.3.0"
    cache.store(placed(KEY, tensorrt="10.7.0", cuda="12.8", power_mode="7W"), fresh())
    assert cache.why(KEY) == "TensorRT 10.7.0 -> 10.3.0"


def test_a_name_that_begins_like_another_is_another(tmp_path):
    cache, _ = kept(tmp_path, named("person-small"))
    assert cache.why(named("person")) == "no engine of this bundle yet"


def test_a_version_compatible_engine_serves_later_versions_of_its_major_alone(tmp_path):
    old = built(placed(KEY, tensorrt="10.3.0"), version_compatible=True)
    cache, _ = kept(tmp_path, old)
    assert cache.find(placed(old, tensorrt="10.16.2")).header.key == old
    assert cache.find(placed(old, tensorrt="11.4.1")) is None
    assert not serves(placed(old, tensorrt="10.16.2"), old)
    assert cache.find(placed(old, tensorrt="10.2.0")) is None  # refused and set aside: it is newer
    assert "TensorRT 10.3.0 -> 10.2.0" in cache.why(placed(old, tensorrt="10.2.0"))


def test_a_second_start_builds_nothing_and_rebuild_builds_once(tmp_path):
    cache, builds, told = EngineCache(tmp_path), [], []

    def build():
        builds.append(1)
        return fresh(len(builds))

    first = cache.obtain(KEY, build, tell=told.append)
    again = EngineCache(tmp_path).obtain(KEY, build, tell=told.append)
    assert (len(builds), first.plan, again.plan) == (1, plan_of(1), plan_of(1))
    assert (first.why, again.why) == ("no engine of this bundle yet", "")
    asked = cache.obtain(KEY, build, tell=told.append, rebuild=True)
    assert (len(builds), asked.plan, asked.why) == (2, plan_of(2), "it was asked for")
    assert told == ["building an engine of person: no engine of this bundle yet",
                    "building an engine of person: it was asked for"]  # fmt: skip


def test_a_build_that_fails_leaves_nothing_and_the_next_may_build(tmp_path):
    cache = EngineCache(tmp_path)

    def fails():
        raise RuntimeError("no tactic")

    with pytest.raises(RuntimeError, match="no tactic"):
        cache.obtain(KEY, fails, tell=silent)
    assert cache.find(KEY) is None
    assert cache.obtain(KEY, fresh, tell=silent).plan == plan_of(1)


def test_an_engine_with_wrong_results_is_set_aside_and_named_as_the_reason(tmp_path):
    cache, path = kept(tmp_path)
    cache.set_aside(KEY, "its outputs are not the sealed ones")
    assert not path.exists()
    assert Path(f"{path}.damaged").read_bytes()
    assert cache.find(KEY) is None
    assert cache.why(KEY) == "the one there was refused: its outputs are not the sealed ones"
    cache.store(KEY, fresh(5))
    assert cache.find(KEY).plan == plan_of(5)


def test_the_latest_used_engines_of_each_name_stay(tmp_path):
    cache = EngineCache(tmp_path, kept=3)
    keys = [placed(KEY, cuda=f"12.{number}") for number in range(5)]
    for number, key in enumerate(keys):
        path = cache.store(key, fresh()).path
        os.utime(str(path), (1000 + number, 1000 + number))
    cache.store(named("face"), fresh())
    assert [cache.find(key) is not None for key in keys] == [False, False, True, True, True]
    assert cache.find(named("face")) is not None
    for number, key in enumerate(keys[2:]):
        os.utime(str(cache.path(key)), (2000 + number, 2000 + number))
    cache.find(keys[2])  # now it is the latest used
    cache.store(placed(KEY, cuda="13.0"), fresh())
    assert cache.find(keys[2]) is not None
    assert cache.find(keys[3]) is None
    assert len(list(tmp_path.glob("*.lock"))) == 0


def test_an_engine_being_built_is_not_pruned(tmp_path):
    cache = EngineCache(tmp_path, kept=1)
    old = placed(KEY, cuda="12.0")
    path = cache.store(old, fresh()).path
    os.utime(str(path), (1000, 1000))
    with cache.locked(old, silent):
        cache.store(placed(KEY, cuda="12.1"), fresh())
        assert path.exists()
    cache.store(placed(KEY, cuda="12.1"), fresh())
    assert not path.exists()


def test_an_engine_that_another_process_prunes_while_it_is_read_leaves_nothing(
    tmp_path, monkeypatch
):
    cache, path = kept(tmp_path)
    real = cache_module._read

    def read_and_lose(*arguments):
        found = real(*arguments)
        path.unlink()
        return found

    monkeypatch.setattr(cache_module, "_read", read_and_lose)
    assert cache.find(KEY).plan == plan_of(1)
    assert list(tmp_path.iterdir()) == []


def test_engines_set_aside_are_bounded_too(tmp_path):
    cache = EngineCache(tmp_path, kept=2)
    for number in range(5):
        key = placed(KEY, cuda=f"12.{number}")
        cache.store(key, fresh())
        cache.set_aside(key, "its outputs are not the sealed ones")
    cache.store(KEY, fresh())
    assert len(list(tmp_path.glob("*.damaged"))) == 2
    assert cache.find(KEY) is not None


def test_kernel_times_serve_the_place_they_were_measured_in_alone(tmp_path):
    cache = EngineCache(tmp_path)
    assert cache.timing(PLACE) is None
    cache.store_timing(PLACE, b"times")
    assert cache.timing(PLACE) == b"times"
    for field, other in OTHERS.items():
        assert cache.timing(msgspec.structs.replace(PLACE, **{field: other})) is None
    (path,) = tmp_path.glob("timing-*.cache")
    data = path.read_bytes()
    for cut in (data[:-1], data + b"x", data[:60], b""):
        path.write_bytes(cut)
        assert cache.timing(PLACE) is None
    other = msgspec.structs.replace(PLACE, power_mode="7W")
    path.write_bytes(data)
    path.replace(cache._timing(other))
    assert cache.timing(other) is None


def test_a_listing_names_what_can_be_read_and_what_cannot(tmp_path):
    cache, path = kept(tmp_path)
    cache.store(named("face"), fresh())
    (tmp_path / "person-0000.engine").write_bytes(b"nothing")
    whole = {entry.path: entry for entry in cache.entries()}
    assert len(whole) == 3
    assert whole[path].header.key == KEY
    assert whole[tmp_path / "person-0000.engine"].fault == "7 bytes, too few for a header"
    assert [entry.path for entry in cache.entries("face")] == [cache.path(named("face"))]
    assert EngineCache(tmp_path / "nowhere").entries() == ()


def four_parts(error):
    text = str(error.value)
    assert re.fullmatch(r".+: found .+; expected .+; .+", text), text
    assert "--engine-cache" in text
    return text


def never():
    pytest.fail("a build was begun")


def test_a_file_in_the_folders_place_is_one_error_before_the_build(tmp_path):
    (tmp_path / "engines").write_text("a file")
    cache = EngineCache(tmp_path / "engines")
    with pytest.raises(CacheError) as error:
        cache.obtain(KEY, never, tell=silent)
    assert "engines" in four_parts(error)
    with pytest.raises(CacheError):
        cache.store(KEY, fresh())


def refuse_writing(monkeypatch, code):
    """The file system refuses new files, as one mounted read-only or a full one does."""
    real = os.open

    def opened(path, flags, *rest, **more):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(code, os.strerror(code), str(path))
        return real(path, flags, *rest, **more)

    def write_bytes(path, data):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(Path, "write_bytes", write_bytes)


def test_a_folder_that_may_not_be_looked_at_is_one_error(tmp_path, stranger):
    with pytest.raises(CacheError) as error:
        EngineCache(tmp_path / ("x" * 300)).require_writable()
    assert "File name too long" in four_parts(error)
    (tmp_path / "closed").mkdir()
    with stranger(tmp_path / "closed"), pytest.raises(CacheError) as error:
        EngineCache(tmp_path / "closed" / "engines").require_writable()
    assert "Permission denied" in four_parts(error)


def test_partials_of_other_programs_are_left(tmp_path):
    cache, path = kept(tmp_path)
    (tmp_path / f".{path.name}.partial").write_bytes(b"torn")
    (tmp_path / ".download.partial").write_bytes(b"theirs")
    assert cache.sweep() == 1
    assert {file.name for file in tmp_path.glob(".*.partial")} == {".download.partial"}


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_takes_no_file_is_one_error_before_the_build(tmp_path, monkeypatch, code):
    """The system calls are refused by hand: tests may run as root, whom permissions do not stop."""
    cache = EngineCache(tmp_path)
    refuse_writing(monkeypatch, code)
    with pytest.raises(CacheError) as error:
        cache.obtain(KEY, never, tell=silent, expected_bytes=40_000_000)
    text = four_parts(error)
    assert os.strerror(code) in text
    assert ("40 MB" in text) == (code == errno.ENOSPC)


def test_an_engine_in_a_folder_that_is_only_read_is_used(tmp_path, monkeypatch):
    kept(tmp_path)
    refuse_writing(monkeypatch, errno.EROFS)
    assert EngineCache(tmp_path).obtain(KEY, never, tell=silent).plan == plan_of(1)


def test_too_little_room_is_said_with_both_numbers_before_the_build(tmp_path, monkeypatch):
    usage = cache_module.shutil._ntuple_diskusage(10**9, 0, 30_000_000)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CacheError) as error:
        EngineCache(tmp_path).obtain(KEY, never, tell=silent, expected_bytes=100_000_000)
    assert "found 30 MB free; expected room for the engine, about 100 MB" in four_parts(error)
    assert list(tmp_path.iterdir()) == []


def test_the_default_folder_is_the_users_own():
    assert default_cache({"JETPRESS_CACHE": "/data/jp"}) == Path("/data/jp/engines")
    assert default_cache({}) == Path.home() / ".cache" / "jetpress" / "engines"
