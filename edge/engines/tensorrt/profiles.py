"""Optimisation profiles: which batch sizes an engine takes, for a model whose batch is open.

Before 8.6 a profile serves one context: a second one is refused its shapes. 8.6 shares them when it
is told so at the build, and everything after it does anyway.
"""

from __future__ import annotations

from typing import List, Tuple

from edge.engines.tensorrt.errors import BuildError
from edge.engines.tensorrt.log import Heard
from edge.engines.tensorrt.names import (
    Builder,
    IBuilderConfig,
    INetworkDefinition,
    IOptimizationProfile,
    ITensor,
    TensorRT,
)
from edge.errors import EngineError

__all__ = ["add_batches", "contexts_share", "open_inputs", "share_profiles"]

VERSIONS = ("8.0.1", "11.4.0")
_Shape = Tuple[int, ...]


def open_inputs(
    network: INetworkDefinition, batch: Tuple[int, int, int]
) -> Tuple[Tuple[str, _Shape], ...]:
    """Name and shape of each input whose batch is open (-1).

    Raises EngineError for another size that is open, for a batch asked of a model whose own is
    fixed, and for an input that is a shape.
    """
    found: List[Tuple[str, _Shape]] = []
    for index in range(network.num_inputs):
        tensor: ITensor = network.get_input(index)
        name, shape = str(tensor.name), tuple(int(size) for size in tensor.shape)
        if tensor.is_shape_tensor:
            raise _error(name, "a shape as input", "tensors of pixels or features",
                         "export the model with fixed sizes")  # fmt: skip
        if -1 in shape[1:]:
            raise _error(name, f"shape {_shown(shape)}", "fixed sizes; only the batch may be open",
                         "export the model with a fixed height and width")  # fmt: skip
        if shape[:1] == (-1,):
            found.append((name, shape))
    if not found and batch != (1, 1, 1):
        raise EngineError(
            "the model",
            found="a batch that is fixed in the file",
            expected=f"an open one, for a batch of {batch[0]} to {batch[2]}",
            cure="export the model with an open batch, or build it without a batch",
        )
    return tuple(found)


def add_batches(
    builder: Builder,
    config: IBuilderConfig,
    heard: Heard,
    inputs: Tuple[Tuple[str, _Shape], ...],
    batch: Tuple[int, int, int],
) -> IOptimizationProfile:
    """One profile for all inputs; their batches rise together. It must outlive the build.

    Raises BuildError where TensorRT does not take it.
    """
    profile: IOptimizationProfile = builder.create_optimization_profile()
    for name, shape in inputs:
        least, usual, most = ((frames, *shape[1:]) for frames in batch)
        try:
            profile.set_shape(name, least, usual, most)
        except (TypeError, ValueError, RuntimeError) as error:  # TypeError: past 64 bits
            raise _not_taken(batch, str(error).splitlines()[0]) from error
    if config.add_optimization_profile(profile) < 0:
        raise _not_taken(batch, heard.reason)
    return profile


def contexts_share(trt: TensorRT) -> bool:
    """Whether several contexts of an engine with open sizes may use one profile."""
    if not hasattr(trt.BuilderFlag, "FP16"):
        return True
    if not hasattr(trt, "PreviewFeature"):
        return False
    return hasattr(trt.PreviewFeature, "PROFILE_SHARING_0806")  # trt: from 8.5.2


def share_profiles(trt: TensorRT, config: IBuilderConfig) -> None:
    """Let them, where that must be asked for: in 8.6, which alone has both of these."""
    if not (hasattr(trt, "PreviewFeature") and contexts_share(trt)):
        return
    if hasattr(trt.PreviewFeature, "FASTER_DYNAMIC_SHAPES_0805"):  # trt: from 8.5.2
        shared = trt.PreviewFeature.PROFILE_SHARING_0806  # trt: from 8.6.1 # trt: until 10.16.1
        config.set_preview_feature(shared, True)  # trt: from 8.5.2


def _not_taken(batch: Tuple[int, int, int], why: str) -> BuildError:
    return BuildError(
        f"a batch of {batch[0]} to {batch[2]}, {batch[1]} as a rule",
        found=why,
        expected="least, usual and most, rising, of which the model takes each",
        cure="ask for another batch",
    )


def _error(name: str, found: str, expected: str, cure: str) -> EngineError:
    return EngineError(f"input {name!r}", found=found, expected=expected, cure=cure)


def _shown(shape: _Shape) -> str:
    return "x".join("?" if size < 0 else str(size) for size in shape)
