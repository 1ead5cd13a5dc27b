"""Precision by builder flags, as every TensorRT up to 10.16 takes it."""

from __future__ import annotations

from edge.engines.tensorrt.names import IBuilderConfig, TensorRT

__all__ = ["FLAGS", "set_precision"]

VERSIONS = ("8.0.1", "10.16.1")
FLAGS = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8", "FP16")}  # names in trt.BuilderFlag


def set_precision(trt: TensorRT, config: IBuilderConfig, precision: str) -> None:
    """Allow the precision; INT8 allows FP16 beside it, for the layers without Q/DQ."""
    for name in FLAGS[precision]:
        config.set_flag(getattr(trt.BuilderFlag, name))
