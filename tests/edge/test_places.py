"""Where results must not be written, and names that are none: told before anything is done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from devices.budget import Basis, Measurement
from devices.measured import BenchRecord, BoardState, EngineState, Percentiles, record_to_json
from edge.__main__ import main
from edge.bundle import in_bundle, open_bundle

ROOT = Path(__file__).parents[2]
TIMES = Percentiles(count=9, mean_ms=2.0, p50_ms=2.0, p90_ms=2.0, p95_ms=2.0, p99_ms=2.0,
                    max_ms=2.0)  # fmt: skip


@pytest.fixture
def edge(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["edge", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return run


def record_of(folder):
    """A record of that bundle on a Jetson Nano, its numbers made up."""
    bundle = open_bundle(folder)
    fps = Measurement.exact("fps", 500.0, "frames/s", basis=Basis.MEASURED, source="test")
    return BenchRecord(
        bundle_name=bundle.manifest.name, bundle_sha256=bundle.sha256, precision="fp16",
        board=BoardState(profile="jetson-nano", mode="MAXN", gpu="X1", compute_capability="5.3",
                         tensorrt="8.2.1", cuda_driver="10.2"),
        engine=EngineState(model="model.onnx", workspace_mb=1.0, batch=(1, 1, 1), dla_core=None,
                           version_compatible=False, plan_sha256="0" * 64),
        date="2026-01-01T00:00:00Z", warmup=1, facts=(fps,), gpu=TIMES, host=TIMES,
    )  # fmt: skip


def files_below(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def measured(monkeypatch):
    """Takes the board's place; the commands that asked it to measure."""
    asked = []

    def bench(bundle, options, plan):
        asked.append(bundle.root)
        return record_of(bundle.root)

    monkeypatch.setattr("edge.commands.bench.bench_on_board", bench)
    monkeypatch.setattr("edge.commands.doctor.run_tests", lambda *_, **__: pytest.fail("it ran"))
    return asked


INSIDE = [
    ("gate", "{bundle}", "--for", "jetson-nano", "--report", "{place}/r.json"),
    ("bench", "{bundle}", "-o", "{place}/r.json"),
    ("bench", "{bundle}", "--engine-cache", "{place}"),
    ("build", "{bundle}", "--engine-cache", "{place}/new"),
    ("build", "{bundle}", "--dry-run", "--engine-cache", "{place}/new"),
    ("run", "{bundle}", "--source", "synthetic://", "--engine-cache", "{place}"),
    ("run", "{bundle}", "--source", "synthetic://?frames=1", "--sink", "jsonl:{place}/r.jsonl"),
    ("cache", "--engine-cache", "{place}", "--keep", "0"),
    ("doctor", "--device", "-o", "{place}/r.json"),
    ("export", "{bundle}", "--triton", "{place}/t"),
]


@pytest.mark.parametrize("place", ["tiny", "other", "link"])
@pytest.mark.parametrize("arguments", INSIDE, ids=lambda given: " ".join((given[0], given[-2])))
def test_nothing_is_written_into_a_bundle(edge, tiny_copy, tmp_path, measured, arguments, place):
    """Its own, another one, and one behind a link."""
    if arguments[0] == "run":
        pytest.importorskip("onnxruntime", reason="runs the emulated engine")
    other = tmp_path / "other"
    other.mkdir()
    for path in tiny_copy.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (tmp_path / "link").symlink_to(other)
    before = files_below(tmp_path)
    code, out, err = edge(*(word.format(bundle=tiny_copy, place=tmp_path / place)
                            for word in arguments))  # fmt: skip
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "inside a bundle" in err
    assert files_below(tmp_path) == before
    assert measured == []


def test_a_folder_is_a_bundle_by_its_seal(tiny, tmp_path):
    assert in_bundle(tiny)
    assert in_bundle(tiny / "a" / "b")
    assert not in_bundle(tiny.parent)
    assert not in_bundle(tmp_path)
    assert in_bundle(tmp_path / "x", tmp_path)
    assert not in_bundle(Path("x" * 300))
    (tmp_path / "bundle.sha256").write_text("")
    assert not in_bundle(tmp_path)


@pytest.mark.parametrize(
    ("output", "words"),
    [("no/such/r.json", "No such file or directory"), (".", "a folder, no plain file"),
     ("file/r.json", "Not a directory"), ("pipe", "a pipe, no plain file"),
     ("x" * 300, "File name too long")],
)  # fmt: skip
def test_a_bad_place_is_told_before_minutes_are_spent(
    edge, tiny, tmp_path, measured, monkeypatch, output, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    os.mkfifo("pipe")
    for command in (("bench", tiny), ("doctor", "--device")):
        code, out, err = edge(*command, "-o", output)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"edge: -o {output}: found {words}; expected a file that can be written" in err
    assert measured == []


def test_a_record_that_cannot_be_written_is_printed(edge, tiny, tmp_path, measured, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("devices.measured.write_whole", full)
    code, out, err = edge("bench", tiny, "-o", tmp_path / "r.json", "--json")
    assert (code, out) == (2, record_to_json(record_of(tiny)).decode())
    assert "found No space left on device" in err
    assert "next:" not in err


def test_the_next_command_can_be_pasted(edge, tiny, tmp_path, measured):
    code, _, err = edge("bench", tiny, "-o", tmp_path / "a b.json")
    assert code == 0
    assert f"--measured '{tmp_path}/a b.json'" in err
    assert (tmp_path / "a b.json").read_bytes() == record_to_json(record_of(tiny))


@pytest.mark.parametrize("name", ["record.json", "hard.json", "soft.json"])
def test_a_report_is_not_written_over_the_record_it_judges(edge, tiny, tmp_path, name):
    record = tmp_path / "record.json"
    record.write_bytes(record_to_json(record_of(tiny)))
    os.link(str(record), str(tmp_path / "hard.json"))
    (tmp_path / "soft.json").symlink_to("record.json")
    before = files_below(tmp_path)
    command = ("gate", tiny, "--for", "jetson-nano", "--measured", record, "--report")
    code, out, err = edge(*command, tmp_path / name)
    assert (code, out, "found a file that this command reads" in err) == (2, "", True)
    assert files_below(tmp_path) == before
    assert edge(*command, tmp_path / "report.json")[0] != 2
    assert msgspec.json.decode((tmp_path / "report.json").read_bytes())["title"] == "tiny"


@pytest.mark.parametrize("kind", ["pipe", "huge", "folder"])
def test_a_record_is_a_plain_file_of_a_fair_size(edge, tiny, tmp_path, kind):
    path = tmp_path / "record.json"
    if kind == "pipe":
        os.mkfifo(str(path))
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    code, out, err = edge("gate", tiny, "--for", "jetson-nano", "--measured", path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    words = {"pipe": "a pipe, no", "folder": "a folder, no", "huge": "more than 16 MB"}[kind]
    assert f"record.json: found {words}" in err


@pytest.mark.parametrize(
    ("command", "flag"),
    [("run", "--profile"), ("run", "--mode"), ("run", "--engine-cache"), ("run", "--cuda"),
     ("build", "--profile"), ("build", "--mode"), ("build", "--engine-cache"),
     ("bench", "--profile"), ("bench", "--mode"), ("bench", "--engine-cache"), ("bench", "-o"),
     ("gate", "--for"), ("gate", "--mode"), ("gate", "--measured"), ("gate", "--report"),
     ("gate", "--budget"), ("cache", "--engine-cache"), ("doctor", "-o"),
     ("export", "--profile"), ("export", "--triton"), ("export", "--deepstream")],
)  # fmt: skip
def test_an_empty_name_is_none(edge, tiny, monkeypatch, tmp_path, command, flag):
    monkeypatch.chdir(tmp_path)
    needed = {"run": ("--source", "synthetic://"), "gate": ("--for", "jetson-nano"),
              "doctor": ("--device",)}.get(command, ())  # fmt: skip
    bundle = () if command in ("cache", "doctor") else (tiny,)
    code, out, err = edge(command, *bundle, *needed, flag, "")
    assert (code, out) == (2, "")
    assert err.startswith(f"Usage: edge {command} ")
    assert flag in err
    assert "it is empty" in " ".join(err.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["verify", "build", "bench", "export"])
def test_an_empty_bundle_is_not_the_folder_we_are_in(edge, tiny, monkeypatch, command):
    monkeypatch.chdir(tiny)
    code, out, err = edge(command, "")
    assert (code, out, "it is empty" in " ".join(err.split())) == (2, "", True)


def test_frames_past_every_counter_are_wrong_usage(edge, tiny):
    code, _, err = edge("run", tiny, "--source", "synthetic://", "--frames", 2**63)
    assert (code, "is not in the range" in " ".join(err.split())) == (2, True)


@pytest.mark.parametrize("sink", ["out", "link", "descriptor"])
def test_results_and_the_json_of_a_run_are_not_mixed(tiny, tmp_path, sink):
    pytest.importorskip("onnxruntime", reason="runs the emulated engine")
    (tmp_path / "link").symlink_to("out")
    (tmp_path / "descriptor").symlink_to("/proc/self/fd/1")
    command = [sys.executable, "-m", "edge", "run", str(tiny), "--source", "synthetic://?frames=2"]
    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run([*command, "--sink", f"jsonl:{tmp_path / sink}", "--json"],
                              stdout=out, stderr=subprocess.PIPE, text=True,
                              cwd=str(ROOT))  # fmt: skip
    assert (done.returncode, (tmp_path / "out").read_bytes()) == (2, b"")
    assert f"--sink jsonl:{tmp_path / sink}: found where --json prints to" in done.stderr
    other = subprocess.run([*command, "--sink", f"jsonl:{tmp_path}/own", "--json"], cwd=str(ROOT),
                           stdout=subprocess.PIPE)  # fmt: skip
    assert msgspec.json.decode(other.stdout)["run"]["processed"] == 2
