"""Which Jetson a computer is: every generation is told, and damage is a reason, never a crash."""

import random
import shutil

import msgspec
import pytest

from devices.profile import load_profile
from edge.board import Board, identify, jetpack_name
from tests.edge.boards.trees import BOARDS, build, write


@pytest.fixture(params=sorted(set(BOARDS) - {"unknown"}))
def known(request, tmp_path):
    return request.param, build(request.param, tmp_path)


def test_every_board_is_the_profile_whose_module_it_is(known):
    name, root = known
    board = identify(root)
    assert (board.profile, board.reason) == (name, "")
    assert board.is_jetson
    assert board.part_number in load_profile(name).part_numbers


@pytest.mark.parametrize(
    ("name", "part", "l4t", "jetpack", "mode", "profile_mode"),
    [
        ("jetson-nano", "p3448-0000", "32.7.1", "4.6", "MAXN", "MAXN"),
        ("jetson-tx2", "p3310-1000", "32.7.6", "4.6", "MAXP_CORE_ARM", "MAXP"),
        ("jetson-xavier-nx", "p3668-0001", "35.4.1", "5.1", "MODE_20W_6CORE", "20W"),
        ("jetson-agx-xavier", "p2888-0001", "35.5.0", "5.1", "MAXN", "MAXN"),
        ("jetson-orin-nano", "p3767-0005", "36.4.0", "6.2", "15W", "15W"),
        ("jetson-orin-nano-super", "p3767-0005", "36.4.7", "6.2", "MAXN_SUPER", "MAXN_SUPER"),
        ("jetson-orin-nx", "p3767-0000", "36.5.0", "6.2", "40W", "SUPER_40W"),
        ("jetson-agx-orin", "p3701-0005", "35.4.1", "5.1", "MODE_50W", "50W"),
        ("jetson-agx-thor", "p3834-0008", "38.4.0", "7.1", "120W", None),
    ],
)
def test_module_software_and_power_mode_are_read(
    tmp_path, name, part, l4t, jetpack, mode, profile_mode
):
    board = identify(build(name, tmp_path))
    assert (board.part_number, board.l4t, board.jetpack) == (part, l4t, jetpack)
    assert (board.power_mode, board.mode) == (mode, profile_mode)
    assert board.power_mode in board.power_modes


def test_one_module_is_two_boards_by_the_table_that_is_linked(tmp_path):
    """The bootloader's name says super; the table somebody linked does not, and it decides."""
    root = build("jetson-orin-nano-super", tmp_path)
    write(root, {"/etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >"})
    assert identify(root).profile == "jetson-orin-nano"
    (root / "etc/nvpmodel.conf").unlink()
    assert identify(root).profile == "jetson-orin-nano-super"
    (root / "etc/nvpmodel").mkdir()
    write(root, {"/etc/nvpmodel/nvpmodel_p3767_0003_super.conf": "< POWER_MODEL ID=0 NAME=15W >"})
    (root / "etc/nvpmodel.conf").symlink_to("nvpmodel/nvpmodel_p3767_0003_super.conf")
    assert identify(root).nvpmodel_table == "super"


def test_a_model_name_decides_nothing(tmp_path):
    root = build("jetson-nano", tmp_path)
    write(root, {"/proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit"})
    board = identify(root)
    assert (board.profile, board.model) == ("jetson-nano", "NVIDIA Jetson AGX Orin Developer Kit")


def test_two_places_that_disagree_are_said(tmp_path):
    root = build("jetson-orin-nano", tmp_path)
    write(root, {"/etc/nv_boot_control.conf": "TNSPEC 3767-300-0000-M.3-1-1-x-"})
    board = identify(root)
    assert board.part_number == "p3767-0005"
    assert board.reason == (
        "the device tree says p3767-0005, /etc/nv_boot_control.conf says p3767-0000"
    )


def test_a_container_without_a_device_tree_is_known_by_its_boot_configuration(tmp_path):
    root = build("jetson-orin-nano", tmp_path)
    shutil.rmtree(root / "proc/device-tree")
    board = identify(root)
    assert (board.part_number, board.profile) == ("p3767-0005", "jetson-orin-nano")


@pytest.mark.parametrize(
    ("place", "content"),
    [
        ("/proc/device-tree/nvidia,dtsfilename", b"tegra210-p3448-0002-p3449-0000-b00.dts\0"),
        ("/proc/device-tree/nvidia,boardids", b"3448:0002:400\0"),
    ],
)
def test_an_old_device_tree_names_the_module_elsewhere(tmp_path, place, content):
    write(tmp_path, {"/proc/device-tree/compatible": b"nvidia,tegra210\0", place: content})
    board = identify(tmp_path)
    assert (board.part_number, board.profile) == ("p3448-0002", "jetson-nano")


def test_a_jetson_nobody_knows_says_so(tmp_path):
    board = identify(build("unknown", tmp_path))
    assert (board.l4t, board.jetpack, board.profile) == ("99.9", None, None)
    assert "module is not named" in board.reason
    write(tmp_path, {"/proc/device-tree/compatible": b"nvidia,p3701-0008\0nvidia,tegra234\0"})
    board = identify(tmp_path)
    assert board.part_number == "p3701-0008"
    assert board.reason == "part number 'p3701-0008': no board with that number"


def test_a_container_that_hides_everything_is_still_a_jetson_by_its_kernel(tmp_path):
    write(tmp_path, {"/proc/sys/kernel/osrelease": "5.15.148-tegra"})
    board = identify(tmp_path)
    assert (board.is_jetson, board.soc, board.profile) == (True, "tegra", None)
    assert "/etc/nv_boot_control.conf could be read" in board.reason


@pytest.mark.parametrize("files", [{}, {"/proc/device-tree/model": "Raspberry Pi 4\0"}])
def test_a_computer_that_is_no_jetson_has_nothing_but_a_reason(tmp_path, files):
    write(tmp_path, files)
    board = identify(tmp_path)
    assert board.reason.startswith("not a Jetson")
    assert not board.is_jetson
    assert msgspec.structs.replace(board, reason="") == Board()


def test_a_mode_that_the_table_does_not_have_is_not_guessed(tmp_path):
    root = build("jetson-nano", tmp_path)
    write(root, {"/var/lib/nvpmodel/status": "pmode:0007"})
    assert identify(root).power_mode is None
    (root / "var/lib/nvpmodel/status").unlink()
    assert identify(root).power_mode is None


def test_damaged_files_never_raise(tmp_path):
    """400 boards, each with one or two of its files cut, flipped, emptied or made a folder."""
    rng, seen = random.Random(7), set()
    for number in range(400):
        root = tmp_path / str(number)
        files = BOARDS[rng.choice(sorted(BOARDS))]()
        write(root, {name: _damaged(rng, files, name) for name in files if _matters(name)})
        victim = rng.choice([path for path in root.rglob("*") if path.is_file()])
        if rng.random() < 0.1:
            victim.unlink()
            victim.mkdir()
        board = identify(root)
        assert isinstance(board, Board)
        assert board.profile or board.reason
        seen.add(board.profile)
        shutil.rmtree(root)
    assert None in seen
    assert len(seen) > 3


def _matters(name):
    return name.startswith(("/etc", "/proc/device-tree", "/var"))


def _damaged(rng, files, name):
    content = files[name]
    data = bytearray(content if isinstance(content, bytes) else str(content).encode())
    if rng.random() < 0.7 or not data:
        return bytes(data)
    if rng.random() < 0.5:
        return bytes(data[: rng.randrange(len(data))])
    data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


@pytest.mark.parametrize(
    ("l4t", "line"),
    [("32.4.4", "4.4"), ("32.6.1", "4.6.0"), ("35.1.0", "5.0"), ("36.3.0", "6.0"),
     ("36.5.0", "6.2"), ("38.2", "7.1"), ("39.2.1", "7.2"), ("36.6.0", None), ("", None)],
)  # fmt: skip
def test_an_l4t_release_belongs_to_one_jetpack_line(l4t, line):
    assert jetpack_name(l4t) == line
