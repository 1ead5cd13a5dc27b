"""Every board loads, says where each fact was read, and refuses what it cannot do, with why."""

import errno
import math
from pathlib import Path

import pytest

from devices.budget import LIMITS
from devices.profile import (
    PrecisionError,
    ProfileError,
    load_profile,
    profile_for,
    profile_names,
    read_profile,
    unit_of,
)

BOARDS = [
    "jetson-nano", "jetson-nano-2gb", "jetson-tx2", "jetson-xavier-nx", "jetson-agx-xavier",
    "jetson-orin-nano-4gb", "jetson-orin-nano", "jetson-orin-nano-super", "jetson-orin-nx-8gb",
    "jetson-orin-nx", "jetson-agx-orin-32gb", "jetson-agx-orin", "jetson-agx-thor",
]  # fmt: skip
FOLDER = Path(__file__).parents[2] / "devices" / "profiles"


def test_the_thirteen_boards_are_there():
    assert sorted(profile_names()) == sorted(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_every_fact_has_a_unit_a_status_and_a_source_that_is_spelled_out(name):
    board = load_profile(name)
    for key, fact in board.facts.items():
        assert board.sources[fact.source], key
        assert fact.status in ("stated", "derived", "from memory, unverified")
    assert set(board.sources) == {fact.source for fact in board.facts.values()} | {
        mode.source for mode in board.power_modes
    }
    for key in ("gpu_mhz_max", "l2_kib", "memory_gb", "dram_gb_per_s", "cuda_visible_mib"):
        assert unit_of(key)


@pytest.mark.parametrize("name", BOARDS)
def test_bandwidth_follows_from_the_bus_and_the_memory_clock(name):
    board = load_profile(name)
    fastest = max(board.power_modes, key=lambda mode: mode.emc_mhz)
    assert math.isclose(board.dram_gb_per_s(fastest), board.number("dram_gb_per_s"), rel_tol=0.002)
    assert board.mode().gpu_mhz <= max(mode.gpu_mhz for mode in board.power_modes)


@pytest.mark.parametrize("name", BOARDS)
def test_default_limits_are_complete_reasoned_and_below_what_cuda_sees(name):
    board = load_profile(name)
    assert set(board.limits) == set(LIMITS)
    assert all(len(line.reason) > 20 for line in board.limits.values())
    assert board.budget.memory_mb_max < board.number("cuda_visible_mib") * 1.048576
    assert board.budget.accuracy_drop_max == 1.0


@pytest.mark.parametrize(
    ("name", "jetpack", "tensorrt", "opset"),
    [
        ("jetson-nano", "4.6.1 to 4.6.6", "8.2.1", 13),
        ("jetson-tx2", "4.6.1 to 4.6.6", "8.2.1", 13),
        ("jetson-xavier-nx", "5.1 to 5.1.6", "8.5.2", 17),
        ("jetson-orin-nano", "6.1 to 6.2.2", "10.3.0", 20),
        ("jetson-agx-thor", "7.0 and 7.1", "10.13.3", 24),
    ],
)
def test_the_default_software_line_sets_the_opset(name, jetpack, tensorrt, opset):
    board = load_profile(name)
    assert (board.jetpack.versions, board.jetpack.tensorrt, board.opset_max) == (
        jetpack,
        tensorrt,
        opset,
    )
    assert board.jetpack in board.jetpacks


@pytest.mark.parametrize("name", ["jetson-nano", "jetson-nano-2gb", "jetson-tx2"])
def test_int8_is_refused_with_the_reason_the_need_and_the_alternative(name):
    board = load_profile(name)
    refusal = board.refuse("int8")
    assert board.precisions == ("fp32", "fp16")
    assert refusal is not None
    assert board.sm in refusal.reason
    for part in ("no fast INT8", "3399", "SM 6.1, 7.2 or newer", "jetson-orin-nano"):
        assert part in refusal.reason
    assert refusal.instead == "prune, distil and run in fp16"


@pytest.mark.parametrize("name", ["jetson-nano", "jetson-tx2"])
def test_a_reason_is_no_sentence_so_that_it_fits_into_one(name):
    refusal = load_profile(name).refuse("int8")
    assert not refusal.reason.endswith(".")
    assert ". " not in refusal.reason
    assert "; it would have needed SM 6.1" in refusal.reason


def test_what_is_legal_is_not_refused():
    for name in BOARDS:
        board = load_profile(name)
        assert all(board.refuse(precision) is None for precision in board.precisions)
        assert ("int8" in board.precisions) == (float(board.sm) >= 7.2)


def test_an_unknown_precision_is_an_error_not_a_refusal():
    with pytest.raises(PrecisionError, match=r"did you mean 'int8'"):
        load_profile("jetson-nano").refuse("int4")


@pytest.mark.parametrize("asked", ["jetson-nan", "orin-nano", "jetson_nano"])
def test_an_unknown_board_suggests_the_nearest(asked):
    with pytest.raises(ProfileError, match=r"did you mean 'jetson-"):
        load_profile(asked)


def test_the_two_nanos_mention_each_other():
    for name, other in (("jetson-nano", "jetson-orin-nano"), ("jetson-orin-nano", "jetson-nano")):
        confused = {entry.name: entry.difference for entry in load_profile(name).confused_with}
        assert "INT8" in confused[other]


@pytest.mark.parametrize("name", BOARDS)
def test_the_fastest_mode_is_what_the_fact_says(name):
    board = load_profile(name)
    fastest = max(board.power_modes, key=lambda mode: mode.gpu_mhz)
    assert fastest.gpu_mhz == board.number("gpu_mhz_max")


def test_every_part_number_finds_its_board():
    for board in map(load_profile, BOARDS):
        for number in board.part_numbers:
            assert profile_for(number, board.nvpmodel_table) is board
    assert profile_for("P3767-0000").name == "jetson-orin-nx"


def test_one_module_in_two_states_is_told_apart_by_its_table():
    names = [profile_for("p3767-0003", table).name for table in ("plain", "super")]
    assert names == ["jetson-orin-nano", "jetson-orin-nano-super"]
    with pytest.raises(ProfileError, match=r"say plain for .* or super for") as said:
        profile_for("p3767-0003")
    assert "2 boards" in said.value.found


def test_an_unknown_part_number_suggests_the_nearest():
    with pytest.raises(ProfileError, match=r"did you mean 'p3767-000"):
        profile_for("p3767-003")


@pytest.mark.parametrize("name", BOARDS)
def test_boards_are_only_told_apart_from_boards_that_exist(name):
    for entry in load_profile(name).confused_with:
        assert entry.name in BOARDS
        assert entry.name != name


def test_modes_are_found_whatever_the_case_and_unknown_ones_listed():
    board = load_profile("jetson-orin-nano")
    assert board.mode().name == "15W"
    assert board.mode("7w").sm_count == 4
    with pytest.raises(ProfileError, match="known: 15W, 7W"):
        board.mode("MAXN")


def changed(tmp_path, old, new):
    text = (FOLDER / "jetson-nano.toml").read_text()
    assert old in text
    path = tmp_path / "jetson-nano.toml"
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gpu_mhz = 640", 'gpu_mhz = "fast"', r"\$\.power_modes\[1\]\.gpu_mhz: found `str`"),
        ("gpu_mhz = 640", "gpu_mhz = -1", r"\$\.power_modes\[1\]\.gpu_mhz: found -1"),
        ("gpu_mhz = 640", "gpu_mhz = inf", r"\$\.power_modes\[1\]\.gpu_mhz: found inf"),
        ("gpu_mhz = 640\n", "", r"\$\.power_modes\[1\]\.gpu_mhz: found nothing"),
        ("sm_count = 1\ngpu_mhz = 640", "sm_count = 9\ngpu_mhz = 640", r"\.sm_count: found 9"),
        ("gpu_mhz = 640", "gpu_mhz = 922", r"modes\[1\]\.gpu_mhz: found 922\.0; .* most, 921"),
        ('default_mode = "MAXN"', 'default_mode = "10W"', r"\$\.default_mode: found '10W'"),
        ('sm = "5.3"', 'sm = "5.3"\ncolour = "green"', r"colour"),
        ('name = "jetson-nano"\n', 'name = "jetson-mano"\n', r"\$\.name: found jetson-mano"),
        ("l2_kib = ", "l2_mb = ", r"\$\.facts\.l2_kib: found nothing"),
        ('value = 256, status = "stated"', 'value = 256, status = "sure"', r"\$\.facts"),
        ("fps_min", "fps_least", r"\$\.limits\.fps_least: found an unknown limit"),
        ('source = "devicequery"', 'source = "hearsay"', r"\.source: found 'hearsay'"),
        ('name = "5W"', 'name = "MAXN"', r"\$\.power_modes: found a mode named twice"),
        ("[facts]", "[facts", r"jetson-nano.toml: found .*; expected valid TOML"),
    ],
)  # fmt: skip
def test_a_fault_in_a_file_is_reported_with_its_address(tmp_path, old, new, message):
    with pytest.raises(ProfileError, match=message) as said:
        read_profile(changed(tmp_path, old, new))
    assert said.value.cure.startswith("correct")


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(ProfileError, match="no such file"):
        read_profile(tmp_path / "jetson-none.toml")


def test_a_folder_and_a_file_without_leave_ask_for_another_not_for_corrections(
    tmp_path, monkeypatch
):
    message = r"found a folder, no plain file; .*; name a file"
    with pytest.raises(ProfileError, match=message) as said:
        read_profile(tmp_path)
    assert str(said.value).startswith(f"{tmp_path}: ")
    path = changed(tmp_path, "x", "x")

    def closed(path, flags):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("devices.plainfile.os.open", closed)
    with pytest.raises(ProfileError, match=r"found Permission denied; .* that you may read"):
        read_profile(path)
