"""Sensors of every generation: the numbers, and one reason for each that is not there."""

import errno
import random
import shutil
import threading
from pathlib import Path

import pytest

from edge.rails import find_rails
from edge.telemetry import Clock, Reading, Telemetry, Watch, summary
from tests.edge.boards.trees import BOARDS, build, write


def read(name, root):
    return Telemetry(build(name, root)).read()


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_every_board_is_read_and_what_is_not_there_is_named_once(tmp_path, name):
    reading = read(name, tmp_path)
    for what, value in (
        ("temperatures", reading.temperatures_c),
        ("rails", reading.rails_mw),
        ("gpu clock", reading.gpu.now_mhz),
        ("emc clock", reading.emc.now_mhz),
        ("cpu clock", reading.cpu.now_mhz),
        ("gpu load", reading.gpu_load_percent),
        ("over-current", reading.over_current),
        ("fan", reading.fan_percent),
        ("memory", reading.memory_mb),
        ("power mode", reading.power_mode),
    ):
        absent = value is None or value == {}
        assert (what in reading.missing) == absent, what
    assert all(reading.missing.values())


@pytest.mark.parametrize(
    ("name", "rails"),
    [
        ("jetson-nano", {"POM_5V_IN": 900, "POM_5V_GPU": 40, "POM_5V_CPU": 123}),
        ("jetson-tx2", {"VDD_SYS_GPU": 152, "VDD_SYS_SOC": 400, "VDD_IN": 2003,
                        "VDD_SYS_CPU": 320, "VDD_SYS_DDR": 240}),
        ("jetson-xavier-nx", {"VDD_IN": 5765, "VDD_CPU_GPU_CV": 1550, "VDD_SOC": 1500}),
        ("jetson-orin-nano", {"VDD_IN": 9250.304, "VDD_CPU_GPU_CV": 1993.6, "VDD_SOC": 1495.2}),
        ("jetson-agx-orin", {"VDD_GPU_SOC": 4788, "VDD_CPU_CV": 798, "VIN_SYS_5V0": 3840,
                             "VDDQ_VDD2_1V8AO": 705}),
        ("jetson-agx-thor", {"VDD_GPU": 0, "VDD_CPU_SOC_MSS": 4164, "VIN_SYS_5V0": 4125,
                             "VIN": 16802}),
        ("jetson-nano-2gb", {}),
    ],
)  # fmt: skip
def test_rails_are_named_and_in_milliwatts(tmp_path, name, rails):
    assert read(name, tmp_path).rails_mw == pytest.approx(rails)


@pytest.mark.parametrize(
    ("name", "gpu", "locked", "load", "emc"),
    [
        ("jetson-nano", (76.8, 76.8, 921.6), False, 0.0, None),
        ("jetson-tx2", (114.75, 114.75, 1122.0), False, 25.0, None),
        ("jetson-xavier-nx", (1109.25, 1109.25, 1109.25), True, 99.0, None),
        ("jetson-orin-nano", (306.0, 306.0, 1020.0), False, 50.0, None),
        ("jetson-agx-thor", (1575.0, 1575.0, 1575.0), True, None, 4266.0),
        ("unknown", (None, None, None), None, None, None),
    ],
)
def test_clocks_load_and_whether_they_are_locked(tmp_path, name, gpu, locked, load, emc):
    reading = read(name, tmp_path)
    assert (reading.gpu.now_mhz, reading.gpu.min_mhz, reading.gpu.max_mhz) == gpu
    assert (reading.clocks_locked, reading.gpu_load_percent) == (locked, load)
    assert reading.emc.now_mhz == emc


def test_the_fastest_core_speaks_for_the_cpu(tmp_path):
    assert read("jetson-orin-nano", tmp_path).cpu == Clock(
        now_mhz=1510.4, min_mhz=115.2, max_mhz=1728.0
    )


def test_constants_and_switched_off_sensors_are_no_temperatures(tmp_path):
    nano = read("jetson-nano", tmp_path / "nano")
    assert nano.temperatures_c == {"ao": 46.0, "cpu": 40.5, "gpu": 41.0, "pll": 39.0}
    assert nano.hottest_c == 46.0
    orin = read("jetson-orin-nano", tmp_path / "orin")
    assert "cv0" not in orin.temperatures_c
    assert orin.missing["temperature cv0"] == "the sensor is switched off"


def test_throttling_over_current_fan_and_memory(tmp_path):
    reading = read("jetson-orin-nano", tmp_path)
    assert reading.over_current == {"oc1_event_cnt": 0, "oc2_event_cnt": 15, "oc3_event_cnt": 37}
    assert reading.throttling == ("gpu-throttle-alert",)
    assert (reading.fan_percent, reading.fan_rpm) == (40.0, 2140.0)
    assert reading.memory_mb == pytest.approx(7_803_000 * 1024 / 1e6)
    assert reading.memory_available_mb == pytest.approx(6144.0)
    assert reading.swap_mb == reading.swap_free_mb == pytest.approx(3993.6)
    assert read("jetson-xavier-nx", tmp_path / "nx").throttling == ()


def test_the_emc_clock_of_the_debug_file_system(tmp_path):
    write(tmp_path, {f"/sys/kernel/debug/bpmp/debug/clk/emc/{name}": value
                     for name, value in (("rate", 2_133_000_000), ("min_rate", 204_000_000),
                                         ("max_rate", 2_133_000_000))})  # fmt: skip
    assert read("jetson-orin-nano", tmp_path).emc == Clock(
        now_mhz=2133.0, min_mhz=204.0, max_mhz=2133.0
    )


def test_a_file_for_root_alone_says_so(tmp_path, monkeypatch):
    telemetry = Telemetry(build("jetson-nano", tmp_path))
    opened = Path.open

    def closed(path, *args):
        if path.name == "load":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args)

    monkeypatch.setattr(Path, "open", closed)
    reading = telemetry.read()
    assert (reading.gpu_load_percent, reading.rails_mw["POM_5V_IN"]) == (None, 900)
    assert reading.missing["gpu load"] == "only root may read it"


def test_numbers_are_read_anew_and_a_sensor_that_goes_is_named(tmp_path):
    root = build("jetson-nano", tmp_path)
    telemetry = Telemetry(root)
    assert telemetry.read().rails_mw["POM_5V_IN"] == 900
    rail = "/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input"
    write(root, {rail: 2500, "/var/lib/nvpmodel/status": "pmode:0001"})
    second = telemetry.read()
    assert (second.rails_mw["POM_5V_IN"], second.power_mode) == (2500, "5W")
    write(root, {rail: "what?"})
    third = telemetry.read()
    assert "POM_5V_IN" not in third.rails_mw
    assert third.missing["rail POM_5V_IN"] == "in_power0_input: not a number: 'what?'"


def test_damaged_sensors_never_raise(tmp_path):
    rng = random.Random(11)
    for number in range(60):
        root = build(rng.choice(sorted(BOARDS)), tmp_path / str(number))
        files = [path for path in sorted(root.rglob("*")) if path.is_file()]
        for victim in rng.sample(files, min(len(files), 8)):
            choice = rng.randrange(3)
            victim.write_bytes(rng.choice((b"", b"\xff\xfe", b"-1", b"1e9", b"9" * 400)))
            if choice == 0:
                victim.unlink()
                victim.mkdir()
        assert isinstance(Telemetry(root).read(), Reading)
        shutil.rmtree(root)


def test_a_summary_has_least_mean_and_most_of_every_rail_and_zone():
    readings = [
        Reading(rails_mw={"VDD_IN": value}, temperatures_c={"cpu": value / 100})
        for value in (4000.0, 5000.0, 9000.0)
    ] + [Reading(rails_mw={"VDD_SOC": 1.0})]
    rail, other, zone = summary(readings)
    assert (rail.name, rail.unit, rail.low, rail.mean, rail.high, rail.samples) == (
        "VDD_IN", "mW", 4000.0, 6000.0, 9000.0, 3)  # fmt: skip
    assert (other.name, other.samples) == ("VDD_SOC", 1)
    assert (zone.name, zone.unit, zone.mean) == ("cpu", "degC", 60.0)
    assert summary([]) == ()


def test_a_watch_reads_until_it_is_left(tmp_path):
    enough, rests = threading.Event(), []

    def rest(stop, period_s):
        rests.append(period_s)
        if len(rests) == 5:
            enough.set()
            stop.wait()
        return stop.is_set()

    with Watch(Telemetry(build("jetson-nano", tmp_path)), period_s=0.5, rest=rest) as watch:
        assert enough.wait(10)
    assert len(watch.readings) == 5
    assert rests == [0.5] * 5
    assert summary(watch.readings)[0].samples == 5


def test_a_channel_wired_to_nothing_and_the_sum_of_shunts_are_no_rails(tmp_path):
    rails = [rail.name for rail in find_rails(build("jetson-agx-orin", tmp_path))]
    assert rails == ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"]
