"""Self-tests of what is legal: the profile's table against what TensorRT's builder says here."""

from __future__ import annotations

from typing import Tuple

from edge.engines.tensorrt.load import make_builder
from edge.engines.tensorrt.log import logger
from edge.engines.tensorrt.names import Builder
from edge.selftest import Result, Rig, failed, impossible, passed

__all__ = ["dla", "int8"]

VERSIONS = ("8.0.1", "11.4.0")

# TensorRT 10.7 was the last that had DLA, until 11.4.1 brought it back.
NO_DLA_FROM, NO_DLA_UNTIL = (10, 8), (11, 4, 1)


def int8(rig: Rig) -> Result:
    """Whether `platform_has_fast_int8` agrees with the profile."""
    if rig.profile is None:
        return impossible(f"no profile to compare with: {rig.board.reason}")
    builder = _builder(rig)
    if not hasattr(builder, "platform_has_fast_int8"):
        return impossible("this TensorRT no longer says it (11 removed platform_has_fast_int8)")
    says = bool(builder.platform_has_fast_int8)  # trt: until 10.16.1
    legal = "int8" in rig.profile.precisions
    if says is not legal:
        return failed(f"TensorRT says {says}, {rig.profile.name} says {legal}")
    return passed(f"both say {legal}")


def dla(rig: Rig) -> Result:
    """Whether `num_DLA_cores` is the profile's, where this TensorRT has DLA at all."""
    if rig.profile is None:
        return impossible(f"no profile to compare with: {rig.board.reason}")
    cores, known = int(_builder(rig).num_DLA_cores), int(rig.profile.number("dla_cores"))
    version = _version(rig)
    if cores == 0 and known and NO_DLA_FROM <= version < NO_DLA_UNTIL:
        return passed(f"0: TensorRT {'.'.join(map(str, version))} has none; the board has {known}")
    if cores != known:
        return failed(f"TensorRT sees {cores}, {rig.profile.name} says {known}")
    return passed(f"both say {cores}")


def _builder(rig: Rig) -> Builder:
    trt = rig.load("tensorrt")
    return make_builder(trt, rig.probe(), logger(trt))


def _version(rig: Rig) -> Tuple[int, ...]:
    parts = str(rig.load("tensorrt").__version__).split(".")[:3]
    return tuple(int(part) for part in parts if part.isdigit())
