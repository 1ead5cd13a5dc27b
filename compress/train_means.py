"""What a training runs on: a device, and the precision its matrices are multiplied in.

device    cpu, cuda, cuda:1, or auto: cuda where there is one
amp       off    FP32
          bf16   products in bfloat16, weights and sums in FP32
          fp16   products in half precision; the loss is scaled so that small gradients survive
                 (Micikevicius et al., Mixed Precision Training, 2018)
          auto   off on a CPU; on a GPU bf16 where it has it, else fp16
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.train_plan import TrainError, Watch

if TYPE_CHECKING:
    import torch
    from torch import nn

    from compress.train_events import Events

__all__ = ["Means", "Place", "mapped", "place_of", "placed"]

AMP = ("auto", "off", "bf16", "fp16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What surrounds the loop: device, precision, who watches, and who writes down what happens."""

    device: str = "cpu"
    amp: str = "auto"
    watch: Watch | None = None
    events: Events | None = None

    def __post_init__(self) -> None:
        if self.amp not in AMP:
            raise ValueError(f"amp must be one of {', '.join(AMP)}, not {self.amp!r}")


@dataclass(frozen=True, slots=True)
class Place:
    """A device that is there, and the dtype products are taken in; None is FP32."""

    device: torch.device
    dtype: torch.dtype | None

    @property
    def precision(self) -> str:
        """For people: fp32, bf16 or fp16."""
        names = {None: "fp32", "torch.bfloat16": "bf16", "torch.float16": "fp16"}
        return names[None if self.dtype is None else str(self.dtype)]

    @property
    def generators(self) -> tuple[int, ...]:
        """Numbers of the GPUs whose random numbers a training draws."""
        return () if self.device.type != "cuda" else (self.device.index or 0,)


def place_of(means: Means, local_rank: int = 0) -> Place:
    """The device and precision asked for, on this computer; each process has a GPU of its own.

    Raises:
        TrainError: there is no such device, or it does not have that precision.
    """
    import torch

    name = means.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise _no_device(means.device, "a name torch does not know") from error
    if device.type not in ("cpu", "cuda"):
        raise _no_device(means.device, f"a {device.type} device")
    if device.type == "cpu":
        return Place(device, _dtype(means.amp, on_gpu=False, has_bf16=True))
    index = device.index if device.index is not None else local_rank
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        raise _no_device(means.device, f"{count} GPUs, and process {local_rank} needs one")
    # Without it cuBLAS sums in an order of its own, and torch refuses to be deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Place(torch.device("cuda", index), _dtype(means.amp, on_gpu=True, has_bf16=has_bf16))


def _dtype(amp: str, *, on_gpu: bool, has_bf16: bool) -> torch.dtype | None:
    import torch

    if amp == "auto":
        amp = "off" if not on_gpu else "bf16" if has_bf16 else "fp16"
    if amp == "bf16" and not has_bf16:
        raise TrainError("amp", found="bf16, which this GPU does not have", expected="fp16 or off",
                         cure="leave it to auto")  # fmt: skip
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]


def _no_device(name: str, found: str) -> TrainError:
    return TrainError(f"device {name!r}", found=found, expected="a device of this computer",
                      cure="choose cpu, or auto, which takes a GPU where there is one")  # fmt: skip


def mapped(value: object, change: Callable[[torch.Tensor], torch.Tensor]) -> object:
    """What a net takes or returns, each tensor changed, whatever it is nested in."""
    import torch

    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(mapped(item, change) for item in value)
    return value


def placed(net: nn.Module, place: Place) -> nn.Module:
    """`net` as a loss may call it anywhere: inputs go to its device, outputs come in FP32.

    On a CPU in FP32 it is `net` itself. The outputs stay on the device.
    """
    import torch
    from torch import nn

    if place.device.type == "cpu" and place.dtype is None:
        return net

    def wide(value: torch.Tensor) -> torch.Tensor:
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value

    class Placed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, *inputs: torch.Tensor) -> object:
            on = place.dtype is not None
            # The cast weights are not kept: training changes them between two forwards.
            with torch.autocast(place.device.type, place.dtype, on, cache_enabled=False):
                given = self.net(*(item.to(place.device, non_blocking=True) for item in inputs))
            return mapped(given, wide)

    return Placed().train(net.training)
