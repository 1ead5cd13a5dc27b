"""The JetPack table is ordered, complete, and names a dialect that fits its TensorRT."""

import pytest

from devices.jetpack import JetPackError, jetpack_line, jetpack_lines
from devices.profile import load_profile, profile_names


def test_newer_lines_bring_newer_tensorrt_and_no_lower_opset():
    lines = jetpack_lines()
    assert len(lines) == 9
    for older, newer in zip(lines, lines[1:]):
        assert older.tensorrt_version < newer.tensorrt_version
        assert older.opset_max <= newer.opset_max


def test_the_dialect_follows_from_the_tensorrt_version():
    for line in jetpack_lines():
        version = line.tensorrt_version
        expected = "tensors-strong" if version >= (11,) else "tensors-weak"
        assert line.dialect == ("bindings" if version < (8, 5) else expected)


def test_every_board_is_in_a_line_and_every_line_names_real_boards():
    for name in profile_names():
        assert load_profile(name).jetpacks
    for line in jetpack_lines():
        assert set(line.boards) <= set(profile_names())


def test_nano_and_tx2_stop_at_jetpack_4_and_thor_starts_at_7():
    for name in ("jetson-nano", "jetson-nano-2gb", "jetson-tx2"):
        assert {line.name[0] for line in load_profile(name).jetpacks} == {"4"}
    assert {line.name[0] for line in load_profile("jetson-agx-thor").jetpacks} == {"7"}


def test_an_unknown_line_suggests_one():
    with pytest.raises(JetPackError, match=r"did you mean '4\.6"):
        jetpack_line("4.6.")
