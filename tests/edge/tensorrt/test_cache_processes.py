"""The engine cache between processes, under SIGKILL, and on disks that are full or only read."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge.engines.tensorrt.cache import EngineCache
from edge.engines.tensorrt.lock import locked, try_locked
from tests.edge.tensorrt.cache_cases import KEY, SAVES, fresh, named, plan_of, self_proving, silent

ROOT = Path(__file__).parents[3]
KILLS = 200
CASES = [sys.executable, "-m", "tests.edge.tensorrt.cache_cases"]


def start(*arguments):
    return subprocess.Popen(
        [*CASES, *map(str, arguments)], cwd=str(ROOT), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def whole_engines(cache):
    """How many there are; each must be whole, by the cache's word and by its own content."""
    count = 0
    for name in SAVES:
        if not cache.path(named(name)).exists():
            continue
        engine = cache.find(named(name))
        assert engine is not None, cache.why(named(name))
        number = int.from_bytes(engine.plan[32:40], "little")
        assert engine.plan == self_proving(number)
        count += 1
    return count


def test_writers_killed_at_200_instants_leave_whole_engines_alone(tmp_path, capsys):
    rng, cache, killed_midway, found = random.Random(200), EngineCache(tmp_path), 0, 0
    with start("kill", tmp_path) as writer:
        for _ in range(KILLS):
            writer.stdin.write(f"{rng.uniform(0.0005, 0.025)}\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "killed\n"
            killed_midway += bool(list(tmp_path.glob(".*.partial")))
            found = whole_engines(cache)
        for _ in range(20):  # a busy computer may not have come to the last one in 25 ms
            if found == len(SAVES):
                break
            writer.stdin.write("1\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "killed\n"
            found = whole_engines(cache)
        writer.stdin.close()
        assert writer.wait(timeout=60) == 0
    assert found == len(SAVES)
    assert killed_midway > 10  # else the kills did not hit the writing
    cache.probe()
    assert not list(tmp_path.glob(".*"))
    assert not list(tmp_path.glob("*.damaged"))
    for name in SAVES:  # no lock outlives its process
        with try_locked(cache.path(named(name)).with_suffix(".lock")) as alone:
            assert alone
    with capsys.disabled():
        sys.stdout.write(f"\n{KILLS}/{KILLS} kills left whole engines alone, {killed_midway} of "
                         "them beside a partial file, all swept\n")  # fmt: skip


def wait_for(process, words):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return
    pytest.fail(f"the process ended without saying {words!r}: {lines}")


@pytest.mark.parametrize("waiters", [1, 2])
def test_of_several_processes_one_builds_and_all_get_its_engine(tmp_path, waiters):
    go, folder = tmp_path / "go", tmp_path / "engines"
    with start("obtain", folder, go) as builder:
        wait_for(builder, "building an engine of person: no engine of this bundle yet")
        others = [start("obtain", folder, go) for _ in range(waiters)]
        for other in others:
            wait_for(other, "another process builds this engine: waiting")
        go.touch()
        said = [process.communicate(timeout=60)[0].split()[-1] for process in (builder, *others)]
    assert said == [hashlib.sha256(plan_of(7)).hexdigest()] * (1 + waiters)
    assert len((tmp_path / "go.log").read_text().split()) == 1


def test_when_the_builder_dies_the_one_that_waits_builds(tmp_path):
    go, folder = tmp_path / "go", tmp_path / "engines"
    with start("obtain", folder, go, "die") as builder:
        wait_for(builder, "building an engine")
        with start("obtain", folder, go) as other:
            wait_for(other, "waiting")
            go.touch()
            assert builder.wait(timeout=60) == 9
            said = other.communicate(timeout=60)[0].splitlines()
    assert said[-2:] == ["building an engine of person: no engine of this bundle yet",
                         hashlib.sha256(plan_of(7)).hexdigest()]  # fmt: skip
    assert len(set((tmp_path / "go.log").read_text().split())) == 2


def test_a_lock_that_was_removed_under_a_waiter_keeps_nobody_out(tmp_path):
    """Whoever prunes removes lock files; a lock on a file that is gone must not count."""
    cache = EngineCache(tmp_path)
    lock = cache.path(KEY).with_suffix(".lock")
    with cache.locked(KEY, silent):
        lock.unlink()
        with try_locked(lock) as alone:  # a new file: whoever comes now is alone on it
            assert alone
            with try_locked(lock) as second:
                assert not second


def test_a_waiter_says_so_at_once_and_every_half_minute(tmp_path):
    cache, told, pauses = EngineCache(tmp_path), [], []
    lock = cache.path(KEY).with_suffix(".lock")

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 500:
            first.__exit__(None, None, None)

    first = cache.locked(KEY, silent)
    first.__enter__()
    with locked(lock, told.append, pause):
        pass
    assert sum(pauses) == pytest.approx(100.0)
    assert told == [f"another process builds this engine: waiting ({s} s)" for s in (0, 30, 60, 90)]


def on_a_disk(folder, options, *what):
    """What the processes say with a disk of their own mounted at `folder`, one after the other."""
    folder.mkdir()
    commands = [f"mount -t tmpfs -o {options} tmpfs {folder}"]
    for name in what:
        if name == "protected":
            commands.append(f"mount -o remount,ro {folder}")
        commands.append(f"{' '.join(CASES)} {name} {folder}")
    for flags in ("-m", "-rm"):  # as root, or as root of a namespace of one's own
        done = subprocess.run(["unshare", flags, "sh", "-c", " && ".join(commands)],
                              cwd=str(ROOT), capture_output=True, text=True)  # fmt: skip
        if done.returncode == 0:
            return done.stdout.splitlines()
        assert "Traceback" not in done.stderr, done.stderr
    pytest.skip(f"this machine mounts no file system for a test: {done.stderr.strip()}")


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare to mount a disk with")
def test_a_full_disk_is_one_error_and_leaves_nothing_behind(tmp_path):
    """A real disk of 2 MB: known to be too small before the build, or found so at the end of it."""
    said = on_a_disk(tmp_path / "disk", "size=2m", "overfill")
    known, building, found, left, whole = said
    assert re.search(r"refused: .*/engines: found 2 MB free; expected room for the engine, "
                     r"about 3 MB; ", known)  # fmt: skip
    assert building.startswith("building an engine of person")
    assert re.search(r"refused: .*: found No space left on device, 4 MB are needed; ", found)
    assert left == "left: "
    assert whole == "whole: True"


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare to mount a disk with")
def test_a_disk_that_is_only_read_serves_what_is_on_it_and_refuses_the_rest(tmp_path):
    said = on_a_disk(tmp_path / "disk", "size=2m", "overfill", "protected")[-2:]
    assert said[0] == "whole: True"
    assert re.search(r"refused: .*: found Read-only file system; .*--engine-cache$", said[1])


def test_an_engine_is_on_the_disk_before_its_name_is(tmp_path, monkeypatch):
    """What a killed process wrote is kept by the kernel; a power loss takes it, so order counts."""
    happened, real_sync, real_replace = [], os.fsync, Path.replace

    def fsync(descriptor):
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        happened.append(("on the disk", name.partition("-")[0], os.fstat(descriptor).st_size))
        real_sync(descriptor)

    def replace(path, target):
        happened.append(("named", Path(target).name.partition("-")[0], path.stat().st_size))
        return real_replace(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    size = EngineCache(tmp_path / "engines").store(KEY, fresh()).path.stat().st_size
    assert happened[:2] == [("on the disk", ".person", size), ("named", "person", size)]
    assert happened[2][:2] == ("on the disk", "engines")
