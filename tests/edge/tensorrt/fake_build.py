"""What the fake TensorRT does while it builds; `fake` attaches it where the name exists.

A plan is the magic "FTRT", the length of a JSON header, the header, the model, and sha256 of all.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import struct
from typing import Any, ClassVar, Dict, Tuple

MAGIC = b"FTRT"
PHASES = (("Building Engine", None, 2), ("Tactic Timing", "Building Engine", 3))


def host_memory(data: bytes) -> Any:
    """IHostMemory: a buffer with `nbytes`."""
    kind = type("IHostMemory", (ctypes.c_ubyte * len(data),), {"nbytes": len(data)})
    return kind.from_buffer_copy(data)


def log(trt: Any, logger: Any, severity: str, words: str) -> None:
    if not getattr(logger, "_ready", True):
        raise TypeError("tensorrt.ILogger.__init__() must be called when overriding __init__")
    logger.log(getattr(trt.ILogger.Severity, severity), words)


class ILogger:
    def log(self, severity, msg):
        raise NotImplementedError('Tried to call pure virtual function "ILogger::log"')


class Logger:
    def __init__(self, min_severity=None):
        self._min, self._lines = min_severity, []

    def log(self, severity, msg):
        self._lines.append((severity, msg))


class Builder:
    _defaults: ClassVar[Dict[str, Any]] = {"max_DLA_batch_size": 4096, "max_threads": 1}

    def __init__(self, logger):
        self._machine.needs_device("trt.Builder")
        self._machine.takes(logger)
        self._machine.alive.add(self)
        log(self._trt, self._machine.logger, "VERBOSE", "a builder was made")

    def create_network(self, flags=0):
        return self._trt.INetworkDefinition(self, int(flags))

    def create_builder_config(self):
        return self._trt.IBuilderConfig()

    def create_optimization_profile(self):
        return self._trt.IOptimizationProfile()

    def is_network_supported(self, network, config):
        return True

    @property
    def platform_has_fast_fp16(self):
        return self._machine.script.get("fast_fp16", True)

    @property
    def platform_has_fast_int8(self):
        return self._machine.script.get("fast_int8", True)

    @property
    def num_DLA_cores(self):  # noqa: N802
        return self._machine.script.get("dla_cores", 0)

    def build_serialized_network(self, network, config):
        self._machine.builds += 1
        words = _refusal(self._trt, self._machine, network, config)
        if words is None and not _monitored(config):
            words = "Build was cancelled by the progress monitor"
        if words is not None:
            log(self._trt, self._machine.logger, "ERROR", words)
            return None
        if config._calibrated():
            _calibrate(config)
        return host_memory(_plan(self._trt, network, config))


def _refusal(trt: Any, machine: Any, network: Any, config: Any) -> Any:
    if "build_error" in machine.script:
        return machine.script["build_error"]
    if network._model is None:
        return "Network must have at least one output"
    opened = [value for value in network._model.inputs if -1 in value.shape]
    if opened and not config._profiles:
        return ("Error Code 4: API Usage Error (Network has dynamic or shape inputs, but no "
                "optimization profile has been defined.)")  # fmt: skip
    for value in opened:
        if not any(value.name in profile._shapes for profile in config._profiles):
            return f"optimization profile is missing values for input {value.name}"
    quantized = any(node.op == "QuantizeLinear" for node in network._model.nodes)
    if "INT8" in config._flags and not quantized and not config._calibrated():
        return "Calibration failure occurred with no scaling factors detected"
    if quantized and config._on_dla() and "int8_calibrator" in config._names:
        return "Q/DQ layers are not supported on DLA"
    if config._on_dla() and not 0 <= config.DLA_core < machine.script.get("dla_cores", 0):
        return "invalid DLA core"
    refused = [
        n.name for n in network._model.nodes if n.name in machine.script.get("dla_refuses", ())
    ]
    if config._on_dla() and refused and "GPU_FALLBACK" not in config._flags:
        return f"{refused[0]}: not supported on DLA, and GPU fallback is not enabled"
    return None


def _monitored(config: Any) -> bool:
    """Whether the build may go on to its end."""
    monitor = config.progress_monitor if "progress_monitor" in config._names else None
    if monitor is None:
        return True
    for phase, parent, steps in PHASES:
        monitor.phase_start(phase, parent, steps)
    for phase, _, steps in reversed(PHASES):
        if not all(monitor.step_complete(phase, step) for step in range(steps)):
            return False
        monitor.phase_finish(phase)
    return True


def _calibrate(config: Any) -> None:
    calibrator = config.int8_calibrator
    calibrator.get_batch_size()
    cache = calibrator.read_calibration_cache()
    while cache is None and calibrator.get_batch(["images"]):
        pass
    if cache is None:
        calibrator.write_calibration_cache(b"TRT-CALIBRATION")
    config._cache = None if cache is None else bytes(cache).decode()


def _plan(trt: Any, network: Any, config: Any) -> bytes:
    header = {
        "version": trt.__version__,
        "compatible": "VERSION_COMPATIBLE" in config._flags,
        "flags": sorted(config._flags),
        "profiles": [profile._shapes for profile in config._profiles],
        "shared": config._shared(),
        "verbosity": config._verbosity(),
        "dla_core": config.DLA_core if config._on_dla() else None,
        "dla_refuses": list(network._machine.script.get("dla_refuses", ())),
        "workspace_bytes": config._workspace(),
        "calibration": config._cache,
    }
    text = json.dumps(header).encode()
    body = MAGIC + struct.pack("<I", len(text)) + text + network._data
    return body + hashlib.sha256(body).digest()


def opened_plan(data: bytes) -> Tuple[Dict[str, Any], bytes]:
    """Header and model; ValueError for bytes that no builder made."""
    if data[:4] != MAGIC or hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise ValueError("magic tag does not match, or the engine is damaged")
    size = struct.unpack("<I", data[4:8])[0]
    return json.loads(data[8 : 8 + size].decode()), data[8 + size : -32]


class IBuilderConfig:
    _defaults: ClassVar[Dict[str, Any]] = {
        "max_workspace_size": 1 << 20, "progress_monitor": None, "int8_calibrator": None,
        "DLA_core": -1, "profiling_verbosity": None, "default_device_type": None,
        "builder_optimization_level": 3, "avg_timing_iterations": 1, "algorithm_selector": None,
        "engine_capability": None, "hardware_compatibility_level": None, "profile_stream": 0,
    }  # fmt: skip

    def __init__(self):
        self._flags, self._profiles, self._pools, self._previews = set(), [], {}, {}
        self._calibration_profile = None
        self._timing = self._cache = None
        self._device = {}

    def set_preview_feature(self, feature, enable):
        self._previews[feature.name] = enable

    def get_preview_feature(self, feature):
        return self._previews.get(feature.name, False)

    def _shared(self):
        """Whether contexts may share a profile: asked for in 8.6, always from 10 on."""
        major = int(self._trt.__version__.split(".")[0])
        return major >= 10 or self._previews.get("PROFILE_SHARING_0806", False)

    def set_flag(self, flag):
        self._flags.add(flag.name)
        self._machine.flags.append(flag.name)

    def clear_flag(self, flag):
        self._flags.discard(flag.name)

    def get_flag(self, flag):
        return flag.name in self._flags

    def set_memory_pool_limit(self, pool, pool_size):
        self._pools[pool.name] = int(pool_size)

    def get_memory_pool_limit(self, pool):
        return self._pools.get(pool.name, 0)

    def add_optimization_profile(self, profile):
        for least, usual, most in profile._shapes.values():
            if not all(a <= b <= c for a, b, c in zip(least, usual, most)):
                return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    @property
    def num_optimization_profiles(self):
        return len(self._profiles)

    def create_timing_cache(self, serialized_timing_cache):
        cache = self._trt.ITimingCache()
        cache._data = bytes(serialized_timing_cache)
        return cache

    def set_timing_cache(self, cache, ignore_mismatch):
        self._timing = cache
        return True

    def get_timing_cache(self):
        return self._timing

    def can_run_on_DLA(self, layer):  # noqa: N802
        return layer.name not in self._machine.script.get("dla_refuses", ())

    def set_device_type(self, layer, device_type):
        self._device[layer.name] = device_type

    def get_device_type(self, layer):
        return self._device.get(layer.name, self.default_device_type)

    def set_calibration_profile(self, profile):
        self._calibration_profile = profile
        return True

    def reset(self):
        self._flags.clear()

    def _calibrated(self):
        return "int8_calibrator" in self._names and self.int8_calibrator is not None

    def _on_dla(self):
        kind = self.default_device_type
        return kind is not None and kind.name == "DLA"

    def _verbosity(self):
        kind = self.profiling_verbosity
        return "LAYER_NAMES_ONLY" if kind is None else kind.name

    def _workspace(self):
        if "WORKSPACE" in self._pools:
            return self._pools["WORKSPACE"]
        return self.max_workspace_size if "max_workspace_size" in self._names else None


class ITimingCache:
    def __init__(self):
        self._data = b""

    def serialize(self):
        return host_memory(self._data or b"timings of " + self._trt.__version__.encode())

    def combine(self, input_cache, ignore_mismatch):
        return True

    def reset(self):
        return True
