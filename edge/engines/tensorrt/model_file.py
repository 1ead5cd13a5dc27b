"""Which of a bundle's model files an engine is built from: precision decides, and the dialect.

    precision   builder has flags           types in the file (TensorRT 11)
    fp32        model.onnx                  model.onnx
    fp16        model.onnx                  model.strong.onnx
    int8        model.onnx (Q/DQ)           model.strong.onnx, else model.onnx, its rest in FP32
    on a DLA    int8: model.float.onnx      model.strong.onnx
                and ranges.json

A bundle in INT8 that is to be built in another precision needs model.float.onnx.
"""

from __future__ import annotations

from typing import Optional, Tuple

from calib.ranges import Ranges
from edge.bundle import Bundle
from edge.engines.tensorrt.dialect import Dialect
from edge.engines.tensorrt.settings import BuildSettings
from edge.errors import EngineError
from edge.models import FLOAT_MODEL, MODEL, STRONG_MODEL

__all__ = ["RANGES", "model_for", "ranges_for"]

RANGES = "ranges.json"


def model_for(bundle: Bundle, dialect: Dialect, settings: BuildSettings) -> Tuple[str, bytes]:
    """The file's name, and its bytes as they were sealed.

    Raises EngineError when the bundle has no file for it, BundleError when that one is damaged.
    """
    name = _name(bundle, dialect, settings)
    if name not in bundle:
        raise EngineError(
            f"{bundle.manifest.name}: {name}",
            found="no such file in the bundle",
            expected=_reason(name, settings),
            cure="compress the model again with this version of jetpress",
        )
    return name, bundle.read(name)


def ranges_for(bundle: Bundle, dialect: Dialect, settings: BuildSettings) -> Optional[Ranges]:
    """The scales that an INT8 build on a DLA calibrates by; None where nothing calibrates."""
    if not _calibrates(dialect, settings):
        return None
    if RANGES not in bundle:
        raise EngineError(
            f"{bundle.manifest.name}: {RANGES}",
            found="no such file in the bundle",
            expected="the scales of its tensors: a DLA takes INT8 by calibration alone",
            cure="compress the model to INT8 again, or build for the GPU",
        )
    return Ranges.from_json(bundle.read(RANGES), RANGES)


def _name(bundle: Bundle, dialect: Dialect, settings: BuildSettings) -> str:
    if _calibrates(dialect, settings):
        return FLOAT_MODEL
    if bundle.manifest.precision == "int8" and settings.precision != "int8":
        if dialect.PRECISION_BY_FLAGS or settings.precision == "fp32":
            return FLOAT_MODEL
        raise EngineError(
            bundle.manifest.name,
            found=f"a bundle in int8 for a build in {settings.precision}",
            expected=f"a bundle in {settings.precision}: {dialect.NAME} takes types from the file",
            cure=f"compress the model to {settings.precision}, or build it in int8",
        )
    if dialect.PRECISION_BY_FLAGS or settings.precision == "fp32":
        return MODEL
    if settings.precision == "int8" and STRONG_MODEL not in bundle:
        return MODEL
    return STRONG_MODEL


def _calibrates(dialect: Dialect, settings: BuildSettings) -> bool:
    on_dla = settings.dla_core is not None
    return on_dla and settings.precision == "int8" and dialect.PRECISION_BY_FLAGS


def _reason(name: str, settings: BuildSettings) -> str:
    if name == STRONG_MODEL:
        return f"{settings.precision} in the file's types: TensorRT 11 has no flags for it"
    if name == FLOAT_MODEL and settings.precision == "int8":
        return "the model before Q/DQ, which a DLA refuses"
    return f"the model before Q/DQ, to build it in {settings.precision}"
