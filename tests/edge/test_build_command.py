"""`edge build` and its forecast: on fakes of a board, and on a computer that is none."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from devices.profile import load_profile
from edge.build_forecast import render_forecast
from edge.building import build_engine, look, render_report
from edge.bundle import open_bundle
from edge.cli import cli
from edge.clock import RealClock
from edge.engines import BoardOptions, EngineOptions
from edge.engines.cuda import NoDeviceError
from edge.engines.tensorrt.cache import CacheError, EngineCache
from edge.engines.tensorrt.ground import Doors
from edge.errors import EngineError
from edge.room import Room, read_room, swap_recipe
from tests.edge.tensorrt.flow import place

GB = 1_000_000  # kB


def no_device():
    raise NoDeviceError("this computer", found="no CUDA driver", expected="a device",
                        cure="run it on the board")  # fmt: skip


HOST = Doors(probe=no_device)


def computer(folder, free_kb=6 * GB, swap_kb=0, zram_kb=0):
    """A /proc that has this much memory free."""
    proc = folder / "root" / "proc"
    proc.mkdir(parents=True, exist_ok=True)
    (proc / "meminfo").write_text(f"MemTotal: {8 * GB} kB\nMemAvailable: {free_kb} kB\n")
    lines = ["Filename\t\t\t\tType\t\tSize\tUsed\tPriority"]
    lines += [f"/mnt/4GB.swap file {swap_kb} 0 -2"] if swap_kb else []
    lines += [f"/dev/zram{core} partition {zram_kb // 4} 0 5" for core in range(4) if zram_kb]
    (proc / "swaps").write_text("\n".join(lines) + "\n")
    return folder / "root"


class Desk:
    """One computer, board or not, whose engines lie in one folder."""

    def __init__(self, tmp_path, tiny, **memory):
        self.tmp_path, self.bundle = tmp_path, open_bundle(tiny)
        self.root = computer(tmp_path, **memory)
        self.told = []

    def options(self, profile="jetson-orin-nano", mode=None, **board):
        return EngineOptions(
            profile=load_profile(profile),
            clock=RealClock(),
            mode=mode,
            board=BoardOptions(cache=self.tmp_path / "engines", root=self.root,
                               tell=self.told.append, **board),
        )  # fmt: skip

    def entries(self):
        return EngineCache(self.tmp_path / "engines").entries()


@pytest.fixture
def desk(tmp_path, tiny):
    return Desk(tmp_path, tiny)


def words(text):
    """Line name -> its lines' words."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        found.setdefault(name, []).append(rest.strip())
    return found


def test_a_build_on_the_board_is_kept_and_says_what_came(desk):
    here = place("10.3.0")
    report = build_engine(desk.bundle, desk.options(), here.doors())
    said = words(render_report(report))
    (entry,) = desk.entries()
    assert report.built_now
    assert report.file == str(entry.path)
    assert report.engine_mb == entry.header.plan_bytes / 1e6
    assert said["build"] == [f"built in {report.build_s:.0f} s on this board: "
                             "no engine of this bundle yet"]  # fmt: skip
    assert said["file"] == [str(entry.path)]
    assert any("building an engine of tiny" in line for line in desk.told)
    assert here.machine.builds == 1


def test_a_second_build_builds_nothing_and_says_so_and_rebuild_builds(desk):
    here = place("10.3.0")
    build_engine(desk.bundle, desk.options(), here.doors())
    again = build_engine(desk.bundle, desk.options(), here.doors())
    assert not again.built_now
    assert words(render_report(again))["build"][0].startswith("was there already")
    assert here.machine.builds == 1
    asked = build_engine(desk.bundle, desk.options(rebuild=True), here.doors())
    assert (asked.built_now, asked.why) == (True, "it was asked for")
    assert here.machine.builds == 2


def test_a_new_tensorrt_is_the_reason_that_is_given(desk):
    build_engine(desk.bundle, desk.options(), place("10.3.0").doors())
    report = build_engine(desk.bundle, desk.options(), place("10.7.0").doors())
    assert (report.built_now, report.why) == (True, "TensorRT 10.3.0 -> 10.7.0")


def test_a_damaged_engine_is_built_again_and_never_deserialized(desk):
    here, rng = place("10.3.0"), random.Random(4)
    path = Path(build_engine(desk.bundle, desk.options(), here.doors()).file)
    whole = path.read_bytes()
    for opened in range(2, 22):
        damaged = bytearray(path.read_bytes())
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(damaged))
        report = build_engine(desk.bundle, desk.options(), here.doors())
        assert report.built_now
        assert report.why.startswith("the one there was refused: ")
        assert here.machine.builds == opened
        assert here.machine.count("Runtime.deserialize_cuda_engine") == opened
    assert len(path.read_bytes()) == pytest.approx(len(whole), abs=400)


def test_a_dry_run_on_the_board_builds_nothing_and_reads_what_is_free(desk):
    here = place("10.3.0")
    forecast = look(desk.bundle, desk.options(), here.doors())
    said = words(render_forecast(forecast))
    assert here.machine.builds == 0
    assert desk.entries() == ()
    assert said["TensorRT"] == ["10.3.0, read here"]
    assert said["free"] == ["6144 MB free, 0 MB of swap on a disk free, read here"]
    assert said["cache"][0].startswith("would be built: no engine of this bundle yet")
    assert said["time"] == ["38 s [8 .. 121] predicted"]
    assert said["memory"] == ["1395 MB [1180 .. 1931] predicted, at its peak"]
    assert said["disk"][0].startswith("3.0 MB [2.0 .. 4.0] predicted; ")
    assert not forecast.refusals
    build_engine(desk.bundle, desk.options(), here.doors())
    (entry,) = desk.entries()
    after = words(render_forecast(look(desk.bundle, desk.options(), here.doors())))
    assert after["cache"] == [f"already built: {entry.path}"]
    assert "time" not in after


def test_a_dry_run_elsewhere_predicts_and_says_so(desk):
    forecast = look(desk.bundle, desk.options("jetson-nano"), HOST)
    text = render_forecast(forecast)
    said = words(text)
    assert said["build"] == ["tiny, fp16, from model.onnx, for jetson-nano in MAXN"]
    assert said["TensorRT"][0].startswith("8.2.1, taken for granted from JetPack 4.6")
    assert said["free"] == ["of the board: not known, this computer is not it"]
    assert said["note"][0] == ("predicted, nothing was run: it cannot be built here "
                               "(this computer: no CUDA driver)")  # fmt: skip
    assert "measured" not in text
    assert "read here" not in text
    assert forecast.room is None


def test_an_engine_that_was_copied_here_is_seen_elsewhere(desk):
    build_engine(desk.bundle, desk.options(), place("10.3.0").doors())
    (entry,) = desk.entries()
    assert look(desk.bundle, desk.options(), HOST).cache.built == str(entry.path)
    other = look(desk.bundle, desk.options(workspace_mb=16.0), HOST).cache
    assert other.built is None
    assert other.why == "workspace MB 480 -> 16"
    nano = look(desk.bundle, desk.options("jetson-nano"), HOST).cache
    assert "built on jetson-orin-nano, this is jetson-nano" in nano.why


def test_the_model_file_is_the_one_the_boards_tensorrt_builds_from(desk):
    assert look(desk.bundle, desk.options(), HOST).model == "model.onnx"


@pytest.mark.parametrize(
    ("memory", "reason"),
    [
        ({"free_kb": 800_000}, "it needs 1180 MB at least (predicted), and there are 819 MB free, "
                               "0 MB of swap on a disk free: the kernel would kill it"),
        ({"free_kb": 500_000, "swap_kb": 200_000, "zram_kb": 300_000},
         "it needs 1180 MB at least (predicted), and there are 512 MB free, 205 MB of swap on a "
         "disk free, 307 MB of zram: the kernel would kill it"),
    ],
)  # fmt: skip
def test_a_build_that_would_be_killed_is_refused_with_the_recipe(tmp_path, tiny, memory, reason):
    desk, here = Desk(tmp_path, tiny, **memory), place("10.3.0")
    forecast = look(desk.bundle, desk.options(), here.doors())
    (refusal,) = forecast.refusals
    assert refusal.what == "building tiny on jetson-orin-nano"
    assert refusal.reason == reason
    said = words(render_forecast(forecast))["swap"]
    assert said == list(swap_recipe(0))
    with pytest.raises(EngineError) as error:
        build_engine(desk.bundle, desk.options(), here.doors())
    assert reason in str(error.value)
    assert "--workspace-mb" in str(error.value)
    assert here.machine.builds == 0


def test_a_build_that_may_be_killed_is_warned_of_and_built(tmp_path, tiny):
    desk, here = Desk(tmp_path, tiny, free_kb=1_300_000), place("10.3.0")
    forecast = look(desk.bundle, desk.options(), here.doors())
    assert not forecast.refusals
    assert any(note.startswith("it may be killed for memory, with ") for note in forecast.notes)
    assert forecast.swap == swap_recipe(0)
    assert build_engine(desk.bundle, desk.options(), here.doors()).built_now
    assert any("note: it may be killed" in line for line in desk.told)


def test_swap_on_a_disk_takes_the_warning_away_and_zram_does_not(tmp_path, tiny):
    def warned(**memory):
        desk = Desk(tmp_path, tiny, free_kb=1_300_000, **memory)
        return bool(look(desk.bundle, desk.options(), place("10.3.0").doors()).swap)

    assert warned()
    assert warned(zram_kb=4 * GB)
    assert not warned(swap_kb=4 * GB)


def test_what_the_gpu_holds_is_not_helped_by_swap(tmp_path, tiny, monkeypatch):
    from edge import build_forecast

    real = build_forecast.predict_build
    monkeypatch.setattr(build_forecast, "predict_build", lambda *args: msgspec.structs.replace(
        real(*args), gpu_mb=1500.0))  # fmt: skip
    desk = Desk(tmp_path, tiny, free_kb=1_300_000, swap_kb=8 * GB)
    (refusal,) = look(desk.bundle, desk.options(), place("10.3.0").doors()).refusals
    assert "the GPU alone needs 1500 MB at least (predicted), which no swap holds" in refusal.reason


def test_less_scratch_needs_less_memory_and_is_another_engine(desk):
    usual = look(desk.bundle, desk.options(), HOST)
    little = look(desk.bundle, desk.options(workspace_mb=16.0), HOST)
    assert usual.settings.workspace_mb == 480.0
    assert usual.cost.memory_mb.high - little.cost.memory_mb.high == pytest.approx(464.0)
    assert little.settings.workspace_mb == 16.0


def test_a_nano_is_warned_even_off_the_board_of_a_large_net(desk, monkeypatch):
    """YOLOv4 was killed on the 4 GB Nano again and again."""
    from edge import build_forecast

    costs = build_forecast.read_costs(desk.bundle)
    large = msgspec.structs.replace(costs, params=64_000_000, peak_live_elems=22_000_000)
    monkeypatch.setattr(build_forecast, "read_costs", lambda bundle: large)
    forecast = look(desk.bundle, desk.options("jetson-nano-2gb", workspace_mb=1000.0), HOST)
    assert forecast.cost.memory_mb.low > 1200
    assert any("even with all of jetson-nano-2gb's memory free" in note for note in forecast.notes)
    assert forecast.swap[1] == "sudo fallocate -l 4G /mnt/4GB.swap"


def test_a_bundle_without_costs_has_no_basis(tmp_path, tiny_copy, maker):
    from edge.bundle import seal

    (tiny_copy / "costs.json").unlink()
    for name in ("manifest.json", "bundle.sha256"):
        (tiny_copy / name).unlink()
    seal(tiny_copy, maker.tiny_manifest())
    desk = Desk(tmp_path, tiny_copy)
    forecast = look(desk.bundle, desk.options(), HOST)
    assert forecast.cost is None
    assert "there is no basis for time, memory or size" in forecast.notes[-1]
    assert "predicted" not in " ".join(words(render_forecast(forecast)).get("memory", []))


@pytest.mark.parametrize("make", [look, build_engine])
def test_int8_on_a_board_without_it_is_refused_before_anything(tmp_path, maker, make):
    maker.make_bundle(tmp_path / "int8", "int8")
    desk = Desk(tmp_path, tmp_path / "int8")
    with pytest.raises(EngineError) as error:
        make(desk.bundle, desk.options("jetson-nano"), HOST)
    assert "int8 on jetson-nano" in str(error.value)


@pytest.mark.parametrize(
    ("profile", "asked", "words_of_it"),
    [
        ("jetson-nano", {"dla_core": 0}, "found 0 DLA cores on jetson-nano; expected a board with"),
        ("jetson-orin-nx", {"dla_core": 2}, "found 2 DLA cores on jetson-orin-nx; expected a core "
                                            "from 0 to 1"),
        ("jetson-nano", {"batch_max": 4}, "--batch-max 4: found a batch that is fixed"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("make", [look, build_engine])
def test_what_board_and_model_lack_is_refused_before_anything(
    desk, make, profile, asked, words_of_it
):
    with pytest.raises(EngineError, match=words_of_it):
        make(desk.bundle, desk.options(profile, **asked), HOST)


@pytest.mark.parametrize("asked_mb", [float("nan"), float("inf"), 0.5, -1.0, 5000.0])
def test_scratch_that_no_board_has_is_refused(desk, asked_mb):
    with pytest.raises(EngineError, match="expected 1 to 4148 MB, what jetson-nano shows to CUDA"):
        look(desk.bundle, desk.options("jetson-nano", workspace_mb=asked_mb), HOST)


def test_a_file_in_the_place_of_the_cache_is_an_error_of_a_dry_run_too(desk):
    (desk.tmp_path / "engines").write_text("a file")
    for doors in (HOST, place("10.3.0").doors()):
        with pytest.raises(CacheError, match="Not a directory"):
            look(desk.bundle, desk.options(), doors)


def test_an_old_tensorrt_is_known_to_have_no_version_compatible_engines(desk):
    for board, newest in (("jetson-nano", "8.2.1"), ("jetson-xavier-nx", "8.5.2")):
        with pytest.raises(EngineError, match=f"TensorRT up to {newest}, which every JetPack of"):
            look(desk.bundle, desk.options(board, version_compatible=True), HOST)
    orin = look(desk.bundle, desk.options(version_compatible=True), HOST)
    assert not any("version-comp" in note for note in orin.notes)


def test_how_long_a_dla_takes_has_no_basis(desk):
    said = words(
        render_forecast(look(desk.bundle, desk.options("jetson-orin-nx", dla_core=1), HOST))
    )
    assert said["time"] == ["no basis"]
    assert said["settings"][0].startswith("on DLA core 1, ")


def test_another_board_than_the_bundle_is_for_is_refused(desk):
    with pytest.raises(EngineError, match="a jetson-orin-nano"):
        build_engine(desk.bundle, desk.options("jetson-orin-nx"), place("10.3.0").doors())


def test_the_free_memory_of_a_computer_is_read_apart_from_its_zram(tmp_path):
    room = read_room(computer(tmp_path, free_kb=2 * GB, swap_kb=GB, zram_kb=2 * GB))
    assert (room.available_mb, room.swap_mb, room.zram_mb) == (2048.0, 1024.0, 2048.0)
    assert room.most_mb == 5120.0
    assert read_room(tmp_path / "nothing") is None
    assert Room(available_mb=1.0).text() == "1 MB free, 0 MB of swap on a disk free"


def test_the_swap_recipe_is_as_large_as_what_is_missing():
    for missing_mb, size in ((-500.0, 4), (3999.0, 4), (4001.0, 5)):
        commands = "\n".join(swap_recipe(missing_mb))
        assert f"sudo fallocate -l {size}G /mnt/{size}GB.swap" in commands
        assert commands.count(f"/mnt/{size}GB.swap") == 5
        assert "nvzramconfig" in commands


def run(*arguments, **environ):
    return CliRunner().invoke(cli, ["build", *map(str, arguments)], env=environ)


def test_the_command_prints_a_dry_run_and_leaves_the_folder_alone(tiny, tmp_path):
    result = run(tiny, "--profile", "jetson-orin-nano", "--dry-run", "--workspace-mb", "64",
                 JETPRESS_CACHE=str(tmp_path / "cache"))  # fmt: skip
    assert result.exit_code == 0, result.output
    said = words(result.output)
    assert said["build"] == ["tiny, fp16, from model.onnx, for jetson-orin-nano in 15W"]
    assert said["settings"] == ["on the GPU, batch 1..1..1, 64 MB of scratch at most"]
    assert str(tmp_path / "cache" / "engines") in said["cache"][0]
    assert list(tmp_path.iterdir()) == []


def test_the_command_gives_a_dry_run_as_json_with_units_and_basis(tiny, tmp_path):
    result = run(tiny, "--dry-run", "--json", "--engine-cache", tmp_path)
    fields = json.loads(result.output)
    assert fields["board"] == "jetson-nano"
    assert fields["cost"]["seconds"]["basis"] == "predicted"
    assert fields["cost"]["memory_mb"]["unit"] == "MB"
    assert fields["cache"]["built"] is None


def test_a_build_on_a_computer_without_a_gpu_is_one_error(tiny, tmp_path):
    """Or on one with a GPU that is not the board's."""
    result = run(tiny, "--engine-cache", tmp_path / "engines")
    assert isinstance(result.exception, EngineError), result.exception
    assert re.fullmatch(r"[^\n]+: found .+; expected .+; .+", str(result.exception))
    assert result.output == ""
    assert not (tmp_path / "engines").exists()


def test_a_cache_that_may_not_be_looked_into_is_one_error(tiny, tmp_path):
    result = run(tiny, "--dry-run", "--engine-cache", tmp_path / ("x" * 300))
    assert isinstance(result.exception, CacheError), result.exception
    assert "found File name too long" in str(result.exception)
