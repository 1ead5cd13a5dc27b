"""DLA: put the layers it can run on it, and name each that it cannot.

What the DLA refuses goes to the GPU, and TensorRT does so without a word. So every layer is asked
about first, and each that stays on the GPU is a refusal in the report. The core is set here for the
build and again in `load.make_runtime`: an engine loaded without it runs on core 0.
"""

from __future__ import annotations

from typing import List, Tuple

from devices.budget import Refusal
from edge.engines.tensorrt.names import (
    Builder,
    IBuilderConfig,
    ILayer,
    INetworkDefinition,
    TensorRT,
)
from edge.engines.tensorrt.settings import BuildSettings
from edge.errors import EngineError

__all__ = ["place_on_dla", "require_dla"]

VERSIONS = ("8.0.1", "11.4.0")


def require_dla(trt: TensorRT, builder: Builder, settings: BuildSettings) -> None:
    """Raises EngineError when there is no such core, or a DLA cannot run what is asked."""
    core, cores = settings.dla_core, int(builder.num_DLA_cores)
    if not cores:
        raise _error(
            f"none with TensorRT {trt.__version__}",
            f"core {core}",
            "build for the GPU; DLAs are in Xavier, Orin NX and AGX Orin, under TensorRT up to "
            "10.7 and from 11.4.1 on",
        )
    if core is None or core >= cores:
        raise _error(f"cores 0 to {cores - 1}", f"core {core}", "name a core that is there")
    if settings.precision == "fp32":
        raise _error("precision fp32", "fp16 or int8: a DLA has nothing else", "compress to fp16")
    least, _, most = settings.batch
    if least != most:
        raise _error(
            f"a batch of {least} to {most}",
            "one batch size: a DLA has no dynamic shapes",
            f"ask for a batch of {most} alone",
        )
    if most > int(builder.max_DLA_batch_size):
        raise _error(
            f"a batch of {most}",
            f"{builder.max_DLA_batch_size} at most",
            "ask for a smaller batch",
        )


def place_on_dla(
    trt: TensorRT, config: IBuilderConfig, network: INetworkDefinition, core: int
) -> Tuple[Refusal, ...]:
    """Everything on that core but what it cannot run; those layers, one refusal each.

    Precision must be set before: the answer depends on it. Raises EngineError when nothing is left.
    """
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    refusals: List[Refusal] = []
    working = 0
    for index in range(network.num_layers):
        layer: ILayer = network.get_layer(index)
        if layer.type == trt.LayerType.CONSTANT:
            continue  # weights: they are not computed
        working += 1
        if not config.can_run_on_DLA(layer):
            refusals.append(
                Refusal(
                    what=f"{layer.name} on DLA core {core}",
                    reason=f"TensorRT says a DLA cannot run this {layer.type.name}",
                    instead="it runs on the GPU",
                )
            )
    if working and len(refusals) == working:
        raise _error(
            f"not one of {working} layers that it can run",
            "a model of which some of it runs there",
            "build for the GPU",
        )
    return tuple(refusals)


def _error(found: str, expected: str, cure: str) -> EngineError:
    return EngineError("the DLA", found=found, expected=expected, cure=cure)
