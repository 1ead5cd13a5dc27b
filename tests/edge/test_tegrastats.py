"""tegrastats: its line in every generation, and its log where sysfs says nothing."""

import os
import random
import shutil
from pathlib import Path

import pytest

from edge.reading import Reading
from edge.tegrastats import AGE_MAX_S, LOG, reading_from_line
from edge.telemetry import Telemetry
from tests.edge.boards.trees import build, write

NOW_S = 1_790_000_000.0
LINES = {  # ours, in the format of each generation
    "Nano, JetPack 4": (
        "RAM 613/3964MB (lfb 634x4MB) SWAP 10/1982MB (cached 0MB) CPU [2%@102,1%@1479,0%@102,off]"
        " EMC_FREQ 0% GR3D_FREQ 3% PLL@39C CPU@40.5C PMIC@100C GPU@41C AO@46C thermal@41C"
        " POM_5V_IN 900/943 POM_5V_GPU 40/40 POM_5V_CPU 123/123"
    ),
    "AGX Xavier, JetPack 4": (
        "RAM 1903/15692MB (lfb 3251x4MB) CPU [1%@1190,off] EMC_FREQ 5%@2133 GR3D_FREQ 3%@318"
        " APE 150 MTS fg 0% bg 0% AO@32.5C GPU@41C Tboard@32C CPU@33.5C PMIC@100C"
        " GPU 310/310 CPU 216/216 SOC 864/864 CV 0/0 VDDRQ 144/144 SYS5V 1889/1889"
    ),
    "Xavier NX, JetPack 5": (
        "10-16-2023 10:59:22 RAM 2840/6860MB (lfb 512x4MB) SWAP 0/3430MB (cached 0MB) CPU"
        " [25%@1420,off,off,20%@1907] EMC_FREQ 1%@1600 GR3D_FREQ 3%@1109 VIC_FREQ 115 APE 150"
        " CV0@-256C AUX@41C CPU@42.5C thermal@41.65C AO@42.5C GPU@41C"
        " VDD_IN 5765mW/5700mW VDD_CPU_GPU_CV 1548mW/1500mW VDD_SOC 1497mW/1497mW"
    ),
    "Orin Nano, JetPack 6": (
        "05-15-2025 18:30:28 RAM 6982/7620MB (lfb 5x1MB) SWAP 2640/16384MB (cached 202MB) CPU"
        " [97%@1984,93%@247] EMC_FREQ 18%@3199 GR3D_FREQ 3%@[713] NVENC 1%@115 NVDEC 40%@115"
        " NVJPG off VIC 31%@115 OFA off APE 174 cv0@63.031C cpu@65.562C gpu@41.0C tj@65.562C"
        " VDD_IN 17946mW/15710mW VDD_CPU_GPU_CV 8896mW/7585mW VDD_SOC 3923mW/3515mW"
    ),
    "AGX Orin, JetPack 7": (
        "07-17-2026 15:15:27 RAM 8179/62817MB (lfb 1x4MB) CPU [35%@729,32%@1113] GR3D_FREQ 3%"
        " cpu@51.968C/52.0C gpu@41C/47.125C tj@51.968C/51.968C VDD_GPU_SOC 4385mW/3787mW/4385mW"
        " VDD_CPU_CV 1196mW/897mW/1196mW VIN_SYS_5V0 5552mW/5274mW/5552mW"
    ),
    "Thor, JetPack 7.1": (
        "05-17-2026 10:00:32 RAM 4208/125773MB (lfb 31x4MB) SWAP 0/2048MB (cached 0MB) CPU"
        " [1%@972,0%@2601] EMC_FREQ 0%@665 GR3D_FREQ @[1575,0,0] NVENC0_FREQ @0 NVDEC0_FREQ @0"
        " VIC off OFA_FREQ @0 APE 300 cpu@34.468C tj@34.5C soc012@33.781C gpu@41C"
        " VDD_GPU 0mW/0mW VDD_CPU_SOC_MSS 4165mW/4165mW VIN_SYS_5V0 4126mW/4126mW"
    ),
    "Thor, JetPack 7.2": (
        "07-02-2026 13:45:44 RAM 36529/125749MB (lfb 12x4MB) SWAP 11/4096MB (cached 9MB) CPU"
        " [2%@972,1%@972] cpu@60.406C tj@63.281C soc012@58.468C gpu@41C soc345@63.281C"
        " VDD_GPU 37528mW/37528mW/37528mW VDD_CPU_SOC_MSS 18961mW/18961mW/18961mW"
        " VIN_SYS_5V0 18331mW/18331mW/18331mW VIN 87426mW/43713mW/87426mW"
    ),
}  # fmt: skip
RAILS = {
    "Nano, JetPack 4": {"POM_5V_IN": 900, "POM_5V_GPU": 40, "POM_5V_CPU": 123},
    "AGX Xavier, JetPack 4": {"GPU": 310, "CPU": 216, "SOC": 864, "CV": 0, "VDDRQ": 144,
                              "SYS5V": 1889},
    "Xavier NX, JetPack 5": {"VDD_IN": 5765, "VDD_CPU_GPU_CV": 1548, "VDD_SOC": 1497},
    "Orin Nano, JetPack 6": {"VDD_IN": 17946, "VDD_CPU_GPU_CV": 8896, "VDD_SOC": 3923},
    "AGX Orin, JetPack 7": {"VDD_GPU_SOC": 4385, "VDD_CPU_CV": 1196, "VIN_SYS_5V0": 5552},
    "Thor, JetPack 7.1": {"VDD_GPU": 0, "VDD_CPU_SOC_MSS": 4165, "VIN_SYS_5V0": 4126},
    "Thor, JetPack 7.2": {"VDD_GPU": 37528, "VDD_CPU_SOC_MSS": 18961, "VIN_SYS_5V0": 18331,
                          "VIN": 87426},
}  # fmt: skip
CLOCKS = {  # GPU MHz, EMC MHz, fastest core MHz, GPU load %
    "Nano, JetPack 4": (None, None, 1479, 3),
    "AGX Xavier, JetPack 4": (318, 2133, 1190, 3),
    "Xavier NX, JetPack 5": (1109, 1600, 1907, 3),
    "Orin Nano, JetPack 6": (713, 3199, 1984, 3),
    "AGX Orin, JetPack 7": (None, None, 1113, 3),
    "Thor, JetPack 7.1": (1575, 665, 2601, None),
    "Thor, JetPack 7.2": (None, None, 972, None),
}


@pytest.mark.parametrize("name", LINES)
def test_a_tegrastats_line_of_every_generation_is_read(name):
    reading = reading_from_line(LINES[name])
    assert reading.rails_mw == RAILS[name]
    clocks = (reading.gpu.now_mhz, reading.emc.now_mhz, reading.cpu.now_mhz,
              reading.gpu_load_percent)  # fmt: skip
    assert clocks == CLOCKS[name]
    assert reading.temperatures_c["gpu"] == 41.0
    assert not {"pmic", "cv0"} & set(reading.temperatures_c) - {"cv0"}
    assert min(reading.temperatures_c.values()) > 0
    assert reading.clocks_locked is None
    for what, value in zip(("gpu clock", "emc clock", "", "gpu load"), clocks):
        assert (what in reading.missing) == (value is None)


def test_memory_of_a_line_is_in_units_of_1e6_bytes():
    reading = reading_from_line(LINES["Orin Nano, JetPack 6"])
    assert reading.memory_mb == pytest.approx(7620 * 1.048576)
    assert reading.memory_available_mb == pytest.approx(638 * 1.048576)
    assert reading.swap_free_mb == pytest.approx(13744 * 1.048576)
    assert "swap" in reading_from_line(LINES["AGX Orin, JetPack 7"]).missing


@pytest.mark.parametrize("line", ["", "tegrastats: not found", "GR3D_FREQ 3%"])
def test_another_line_is_no_reading(line):
    assert reading_from_line(line) is None


def test_cut_and_shuffled_lines_never_raise():
    rng = random.Random(3)
    for line in LINES.values():
        for _ in range(60):
            words = line.split(" ")
            rng.shuffle(words)
            cut = " ".join(words) if rng.random() < 0.5 else line[: rng.randrange(len(line))]
            reading = reading_from_line(cut)
            assert reading is None or isinstance(reading, Reading)


def log_of(root, *lines, age_s=1.0, end="\n"):
    """The tool's log below `root`, last written `age_s` before NOW_S."""
    path = root / LOG.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + end)
    os.utime(path, (NOW_S - age_s, NOW_S - age_s))
    return path


def read(root):
    return Telemetry(root, now_s=lambda: NOW_S).read()


OLD, NEW = LINES["Xavier NX, JetPack 5"], LINES["Orin Nano, JetPack 6"]


def test_what_sysfs_does_not_say_comes_from_the_logs_last_line(tmp_path):
    """A container whose sysfs shows nothing of the board."""
    log_of(tmp_path, *[OLD] * 40, NEW)
    reading = read(tmp_path)
    assert reading.rails_mw == RAILS["Orin Nano, JetPack 6"]
    assert (reading.gpu.now_mhz, reading.emc.now_mhz, reading.cpu.now_mhz) == (713, 3199, 1984)
    assert reading.gpu_load_percent == 3
    assert reading.temperatures_c["tj"] == 65.562
    assert reading.from_tegrastats == (
        "temperatures_c", "rails_mw", "gpu", "emc", "cpu", "gpu_load_percent")  # fmt: skip
    assert not {"temperatures", "rails", "gpu clock", "emc clock", "cpu clock", "gpu load"} & set(
        reading.missing
    )
    assert "fan" in reading.missing  # which the tool does not tell


def test_what_sysfs_says_is_never_replaced(tmp_path):
    """An Orin Nano shows all but its memory's clock, which only root reads."""
    before = read(build("jetson-orin-nano", tmp_path))
    log_of(tmp_path, NEW)
    after = read(tmp_path)
    assert (before.emc.now_mhz, after.emc.now_mhz) == (None, 3199)
    assert after.from_tegrastats == ("emc",)
    assert (after.rails_mw, after.gpu, after.temperatures_c) == (
        before.rails_mw, before.gpu, before.temperatures_c)  # fmt: skip
    assert set(before.missing) - set(after.missing) == {"emc clock"}


def test_bounds_of_a_clock_are_kept_where_only_its_value_was_missing(tmp_path):
    root = build("jetson-orin-nano", tmp_path)
    (root / "sys/class/devfreq/17000000.ga10b/cur_freq").unlink()
    log_of(root, NEW)
    gpu = read(root).gpu
    assert (gpu.now_mhz, gpu.min_mhz, gpu.max_mhz) == (713, 306, 1020)


def test_rails_that_may_not_be_read_come_from_the_log_and_are_no_longer_missing(tmp_path):
    root = build("jetson-nano", tmp_path)
    shutil.rmtree(root / "sys/bus")
    chip = "/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    write(root, {f"{chip}/rail_name_0": "POM_5V_IN", f"{chip}/in_power0_input": "?"})
    assert "rail POM_5V_IN" in read(root).missing
    log_of(root, LINES["Nano, JetPack 4"])
    reading = read(root)
    assert reading.rails_mw == RAILS["Nano, JetPack 4"]
    assert not [what for what in reading.missing if what.startswith("rail")]


@pytest.mark.parametrize("age_s", [AGE_MAX_S + 1, 86400.0, -60.0])
def test_a_log_of_another_time_is_said_and_not_used(tmp_path, age_s):
    log_of(tmp_path, NEW, age_s=age_s)
    reading = read(tmp_path)
    assert (reading.rails_mw, reading.from_tegrastats) == ({}, ())
    assert reading.missing["tegrastats"] == f"{LOG}: last written {abs(age_s):.0f} s ago"
    assert "rails" in reading.missing


def test_a_line_that_is_being_written_is_not_read(tmp_path):
    log_of(tmp_path, OLD, NEW[:200], end="")
    assert read(tmp_path).rails_mw == RAILS["Xavier NX, JetPack 5"]


@pytest.mark.parametrize("said", ["", "tegrastats: not found\n", NEW, "\n\n"])
def test_a_log_without_a_whole_line_is_said(tmp_path, said):
    log_of(tmp_path, said, end="")
    reading = read(tmp_path)
    assert reading.missing["tegrastats"] == f"{LOG}: its last line is not of tegrastats"
    assert reading.from_tegrastats == ()


def test_without_a_log_nothing_is_said_of_it_and_a_folder_in_its_place_is(tmp_path):
    assert "tegrastats" not in read(tmp_path).missing
    Path(tmp_path / LOG.lstrip("/")).mkdir(parents=True)
    assert read(tmp_path).missing["tegrastats"].endswith("Is a directory")
