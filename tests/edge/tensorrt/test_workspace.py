"""Scratch for a tactic follows from the board's memory, and reaches TensorRT by the API it has."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

import devices
from devices.memory import process_floor_mb
from devices.profile import load_profile
from edge.engines.tensorrt.dialect import dialect_of
from edge.engines.tensorrt.workspace import (
    LEAST_MB,
    MOST_MB,
    STEP_MB,
    require_workspace,
    workspace_mb,
)
from edge.errors import EngineError
from tests.edge.tensorrt.fake import VERSIONS, made
from tests.edge.tensorrt.flow import make, place

BOARDS = sorted(path.stem for path in (Path(devices.__file__).parent / "profiles").glob("*.toml"))
MIB_MB = 1.048576


def with_memory(name, visible_mb):
    """That board, showing so much memory to CUDA."""
    profile = load_profile(name)
    fact = msgspec.structs.replace(profile.facts["cuda_visible_mib"], value=visible_mb / MIB_MB)
    return msgspec.structs.replace(profile, facts={**profile.facts, "cuda_visible_mib": fact})


@pytest.mark.parametrize(
    ("board", "expected_mb"),
    [
        ("jetson-nano-2gb", 64.0),  # (2067 - 900) / 16 = 72.9
        ("jetson-nano", 192.0),  # (4148 - 900) / 16 = 203
        ("jetson-tx2", 448.0),  # (8223 - 900) / 16 = 457
        ("jetson-orin-nano-4gb", 208.0),  # (3693 - 300) / 16 = 212
        ("jetson-orin-nano", 480.0),  # (7988 - 300) / 16 = 480.5
        ("jetson-xavier-nx", 480.0),  # (8141 - 450) / 16 = 480.7
        ("jetson-orin-nx", 976.0),  # (16135 - 300) / 16 = 989
        ("jetson-agx-orin", 1024.0),  # the most
    ],
)
def test_a_board_is_allowed_a_sixteenth_of_what_its_processes_leave(board, expected_mb):
    assert workspace_mb(load_profile(board)) == expected_mb


@pytest.mark.parametrize("board", BOARDS)
def test_every_board_has_a_whole_number_of_steps_within_the_bounds_and_its_memory(board):
    profile = load_profile(board)
    allowed_mb = workspace_mb(profile)
    assert LEAST_MB <= allowed_mb <= MOST_MB
    assert allowed_mb % STEP_MB == 0
    assert allowed_mb <= (profile.cuda_visible_mb - process_floor_mb(profile)[-1]) / 16
    assert workspace_mb(load_profile(board)) == allowed_mb  # the same board, the same engine key


@pytest.mark.parametrize(
    ("room_mb", "expected_mb"),
    [(-500.0, 16.0), (0.0, 16.0), (511.0, 16.0), (513.0, 32.0), (16.0 * 1024 - 1.0, 1008.0),
     (16.0 * 1024 + 1.0, 1024.0), (1e6, 1024.0)],
)  # fmt: skip
def test_bounds_and_steps(room_mb, expected_mb):
    floor_mb = process_floor_mb(load_profile("jetson-nano"))[-1]
    assert workspace_mb(with_memory("jetson-nano", floor_mb + room_mb)) == expected_mb


@pytest.mark.parametrize("version", VERSIONS)
def test_the_limit_reaches_tensorrt_by_the_api_it_has(version):
    trt, machine = made(version)
    config = trt.IBuilderConfig()
    dialect_of(trt).set_workspace(trt, config, 208_000_000)
    if version in ("8.0.1", "8.2.1"):
        assert config.max_workspace_size == 208_000_000
        assert machine.calls == ["IBuilderConfig.max_workspace_size="]
    else:
        assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 208_000_000
        assert config._pools == {"WORKSPACE": 208_000_000}
        assert "IBuilderConfig.max_workspace_size=" not in machine.calls


@pytest.mark.parametrize("asked_mb", [None, 1.0, 480.0, 4148.0])
def test_scratch_that_the_board_can_have_is_not_refused(asked_mb):
    require_workspace(load_profile("jetson-nano"), asked_mb)


@pytest.mark.parametrize("asked_mb", [0.0, 0.99, -480.0, 4149.0, 1e300, math.inf, math.nan])
def test_scratch_that_no_board_can_have_is_refused_with_its_own(asked_mb):
    with pytest.raises(EngineError, match="found no amount of scratch") as caught:
        require_workspace(load_profile("jetson-nano"), asked_mb)
    assert caught.value.where == f"--workspace-mb {asked_mb:g}"
    assert caught.value.expected == "1 to 4148 MB, what jetson-nano shows to CUDA"
    assert "192 MB then" in caught.value.cure


@pytest.mark.parametrize("asked_mb", [math.nan, 9000.0])
def test_whoever_opens_an_engine_is_refused_before_anything_is_made(asked_mb, tmp_path):
    """Not `edge build` alone: `edge run` and `edge bench` build too."""
    here = place("10.3.0")
    with pytest.raises(EngineError, match="1 to 7988 MB"):
        here.open(make(tmp_path / "b"), tmp_path / "cache", workspace_mb=asked_mb)
    assert here.machine.calls == []
