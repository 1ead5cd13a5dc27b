"""The timing cache: used where TensorRT takes it, else told and begun anew; never an error."""

from __future__ import annotations

import pytest

from edge.engines.tensorrt.build import BuildJob, build
from edge.engines.tensorrt.cache import EngineCache
from edge.engines.tensorrt.log import Heard
from edge.engines.tensorrt.settings import BuildSettings
from edge.engines.tensorrt.timings import keep_timings, timings_of
from tests.edge.tensorrt.cache_cases import PLACE
from tests.edge.tensorrt.fake import VERSIONS, made
from tests.edge.tensorrt.fake_cuda import ORIN
from tests.edge.tensorrt.onnx_bytes import model, node

STORED = b"times of an earlier build"
USED = "timings of an earlier build on this device are used (25 bytes)"
ANEW = "the timing cache is of another device or damaged; timed anew"
RELU = model(node("Relu", "x", "y"))
FP32 = BuildSettings(precision="fp32", workspace_mb=16)


def no_object(config, heard):
    """Damaged: TensorRT makes nothing of it."""
    make = config.create_timing_cache
    config._own("create_timing_cache", lambda data: make(data) if data == b"" else None)


def not_set(config, heard):
    """Of another device: it is read and not taken."""
    take = config.set_timing_cache
    config._own("set_timing_cache",
                lambda cache, ignore: cache._data == b"" and take(cache, ignore))  # fmt: skip


def only_logged(config, heard):
    """Of another version: it is taken, and the log says that nothing in it is used."""
    take = config.set_timing_cache

    def told(cache, ignore):
        if cache._data:
            heard.error("timing cache: version mismatch")
        return take(cache, ignore)

    config._own("set_timing_cache", told)


def configured(version):
    """A module and a configuration of which a test may replace methods by `_own`."""
    trt, _ = made(version)
    config = trt.IBuilderConfig()
    config._own = lambda name, call: vars(config).__setitem__(name, call)
    return trt, config


@pytest.mark.parametrize("version", VERSIONS)
def test_an_earlier_builds_times_are_used_and_handed_on(version):
    trt, config = configured(version)
    heard = Heard()
    assert keep_timings(trt, config, STORED, heard) == USED
    assert timings_of(trt, config) == STORED
    assert heard.errors == heard.warnings == ()


@pytest.mark.parametrize("version", VERSIONS)
def test_without_earlier_times_nothing_is_said_and_an_empty_cache_collects_them(version):
    trt, config = configured(version)
    assert keep_timings(trt, config, b"", Heard()) is None
    assert config.get_timing_cache() is not None  # without one TensorRT keeps none for later
    assert timings_of(trt, config) == f"timings of {version}".encode()


@pytest.mark.parametrize("refuse", [no_object, not_set, only_logged])
@pytest.mark.parametrize("version", ["8.0.1", "8.6.1", "10.3.0", "11.4.0"])
def test_times_that_tensorrt_does_not_take_are_told_and_measured_anew(version, refuse):
    trt, config = configured(version)
    heard = Heard()
    refuse(config, heard)
    assert keep_timings(trt, config, STORED, heard) == ANEW
    assert config.get_timing_cache()._data == b""
    assert timings_of(trt, config) == f"timings of {version}".encode()


def test_what_tensorrt_logged_of_a_foreign_cache_explains_no_later_failure():
    trt, config = configured("8.2.1")
    heard = Heard()
    only_logged(config, heard)
    keep_timings(trt, config, STORED, heard)
    assert heard.errors == ()
    assert heard.warnings == ("timing cache: version mismatch",)


def test_a_mismatch_is_never_ignored():
    asked = []
    trt, config = configured("10.3.0")
    config._own("set_timing_cache", lambda cache, ignore: asked.append(ignore) or True)
    keep_timings(trt, config, STORED, Heard())
    keep_timings(trt, config, b"", Heard())
    assert asked == [False, False]


def test_a_configuration_without_a_cache_has_no_times():
    trt, config = configured("10.3.0")
    assert config.get_timing_cache() is None
    assert timings_of(trt, config) == b""


def test_tensorrt_rtx_which_times_nothing_is_not_asked():
    trt, config = configured("11.4.0")
    trt.ComputeCapability = object
    calls = []
    for name in ("create_timing_cache", "set_timing_cache", "get_timing_cache"):
        config._own(name, lambda *given: calls.append(given))
    assert keep_timings(trt, config, STORED, Heard()) is None
    assert timings_of(trt, config) == b""
    assert calls == []


@pytest.mark.parametrize("version", ["8.2.1", "10.3.0", "11.4.0"])
def test_a_build_says_whether_it_used_them_and_leaves_its_own(version):
    trt, _ = made(version)
    first = build(trt, RELU, FP32, BuildJob(proof=ORIN))
    assert first.notes == ()
    assert first.timing_cache == f"timings of {version}".encode()
    second = build(trt, RELU, FP32, BuildJob(proof=ORIN, timing_cache=first.timing_cache))
    size_bytes = len(first.timing_cache)
    assert second.notes == (
        f"timings of an earlier build on this device are used ({size_bytes} bytes)",
    )
    assert second.timing_cache == first.timing_cache


def test_times_that_cannot_be_written_are_lost_and_nothing_else(tmp_path):
    """A file where the folder should be stops even root, who writes into any folder."""
    (tmp_path / "engines").write_bytes(b"in the way")
    cache = EngineCache(tmp_path / "engines")
    cache.store_timing(PLACE, STORED)
    assert cache.timing(PLACE) is None
    assert (tmp_path / "engines").read_bytes() == b"in the way"
