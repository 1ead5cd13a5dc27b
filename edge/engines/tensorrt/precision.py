"""Does the network hold the precision that is asked for? Asked before minutes of building."""

from __future__ import annotations

from typing import Set, Tuple

from devices.budget import Refusal
from edge.engines.tensorrt.dialect import Dialect
from edge.engines.tensorrt.names import ILayer, INetworkDefinition, ITensor, TensorRT
from edge.engines.tensorrt.settings import BuildSettings
from edge.errors import EngineError

__all__ = ["check_precision"]

VERSIONS = ("8.0.1", "11.4.0")


def check_precision(
    trt: TensorRT, dialect: Dialect, network: INetworkDefinition, settings: BuildSettings
) -> Tuple[Refusal, ...]:
    """What of the precision will not be had, as refusals.

    Raises EngineError where all of it is missing, or where Q/DQ meets who cannot have it.
    """
    if dialect.PRECISION_BY_FLAGS:
        _check_quantized(trt, network, settings)
        return ()
    types = _types(network)
    wanted = {"fp32": "FLOAT", "fp16": "HALF", "int8": "INT8"}[settings.precision]
    if settings.precision != "fp32" and wanted not in types:
        raise EngineError(
            "the model",
            found=f"types {', '.join(sorted(types))}",
            expected=f"{wanted} in it, for {settings.precision}: TensorRT {trt.__version__} takes "
            "precision from the file alone",
            cure=f"compress the model to {settings.precision} with this version of jetpress",
        )
    if settings.precision == "int8" and "HALF" not in types:
        return (
            Refusal(
                what="FP16 for what is not in INT8",
                reason=f"TensorRT {trt.__version__} takes types from the file, and it has no FP16",
                instead="that part runs in FP32; compress again for a bundle with both",
            ),
        )
    return ()


def _check_quantized(trt: TensorRT, network: INetworkDefinition, settings: BuildSettings) -> None:
    quantized = False
    for index in range(network.num_layers):
        layer: ILayer = network.get_layer(index)
        quantized = quantized or layer.type in (trt.LayerType.QUANTIZE, trt.LayerType.DEQUANTIZE)
    on_dla = settings.dla_core is not None
    if quantized and on_dla:
        raise _wrong(
            "Q/DQ",
            "a model without: a DLA takes INT8 by calibration alone",
            "build model.float.onnx with the ranges of the bundle, or for the GPU",
        )
    if quantized and settings.precision != "int8":
        raise _wrong("Q/DQ", f"a model without, for {settings.precision}",
                     "build it in int8, or build model.float.onnx")  # fmt: skip
    if not quantized and not on_dla and settings.precision == "int8":
        raise _wrong("no Q/DQ", "Q/DQ for int8: nothing else says the scales",
                     "compress the model to int8, or build it in fp16")  # fmt: skip


def _types(network: INetworkDefinition) -> Set[str]:
    """Names of the types of all tensors that layers give out."""
    found = set()
    for index in range(network.num_layers):
        layer: ILayer = network.get_layer(index)
        for output in range(layer.num_outputs):
            tensor: ITensor = layer.get_output(output)
            if tensor is not None:
                found.add(str(tensor.dtype.name))
    return found


def _wrong(found: str, expected: str, cure: str) -> EngineError:
    return EngineError("the model", found=found, expected=expected, cure=cure)
