"""Quantization-aware distillation: a Q/DQ file is trained as it stands, pair for pair.

The file itself becomes the module (`compress.from_onnx`): every QuantizeLinear rounds in the
forward pass and lets gradients through (Bengio et al., 2013), so what is trained is what TensorRT
runs, by the same placement and the same scales as the exporter's. Its teacher is the float network
it was made from, not the one inside it, whose weights were fitted to INT8. What is brought down is
the noise of the net's answers, the measure of `compress.quantize.sensitivity`: with answers x_k of
the teacher and q_k of the student

    noise = sum_k w_k |q_k - x_k|^2 / S_k,   S_k = |x_k - mean_c x_k|^2,   loss = ln noise

the mean of `loss` over frames: in decibels, so that a frame far outside the ranges, which no weight
can bring back, does not drown the others; mean_c by channel over frames and positions, w_k the root
of the number of positions, summing to 1. Weights learn, in units of a level; biases, scales and
graph stay, so the file's ranges and its legality do, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from compress.distill import Run
from compress.per_frame import takes_batches
from compress.train import Schedule, TrainLog, deterministic, train
from devices.errors import JetpressError

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto
    from torch import nn

    Feed = Mapping[str, NDArray[Any]]

__all__ = ["TuneError", "TuneOptions", "tuned"]

_FLOOR = 1e-9  # of noise over signal: 90 dB
_SPREAD_FRAMES = 8  # looked at for the answers' spread


class TuneError(JetpressError):
    """A file that cannot be trained with its Q/DQ in place."""


class TuneOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how hard; `lr_max` is in INT8 levels of a weight's output channel."""

    steps: int = 100
    batch: int = 4
    lr_max: float = 0.03

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or not self.lr_max > 0:
            raise ValueError("steps and batch must be 1 or more, lr_max above 0")


def tuned(
    models: tuple[ModelProto, ModelProto],
    feeds: Sequence[Feed],
    batch_at: Callable[[int], NDArray[np.float32]],
    options: TuneOptions,
    run: Run,
) -> tuple[ModelProto, TrainLog]:
    """A copy of a Q/DQ model whose weights were trained, and the noise of each step.

    Args:
        models: the Q/DQ one, as TensorRT reads it, and the float one it was made from; one image
            input, the same names for what the last layers make (`compress.quantize.prepare`).
        feeds: frames as the net takes them, for the spread of the answers; 8 are looked at.
        batch_at: step -> (N, 3, H, W), as the net takes them.
        options: how long.
        run: seed, threads, progress, checkpoint.

    Raises:
        TuneError: the file holds no Q/DQ, or the teacher is another net or not finite.
        UnsupportedError, UnprovenError: it cannot become a module.
    """
    from compress.from_onnx.write_back import write_weights

    model, exact = models
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise TuneError("the model", found="no Q/DQ", expected="a file in INT8",
                        cure="quantize it first")  # fmt: skip
    with deterministic(seed=run.seed, threads=run.threads):
        names = _answers(exact)
        _check_same(model, names)
        student, teacher = (_answering(item, names) for item in (model, exact))
        examples = _tensors(feeds[0])
        several, taught = (takes_batches(net, examples) for net in (student, teacher))
        weights = _weights(taught, feeds)

        def loss_at(net: nn.Module, step: int) -> torch.Tensor:
            return _noise(net, taught, batch_at(step), weights)

        schedule = Schedule(steps=options.steps, lr_max=options.lr_max, weight_decay=0.0,
                            clip_norm=0.0, seed=run.seed)  # fmt: skip
        with _in_levels(student):
            log = train(several, loss_at, schedule, tick=run.tick, checkpoint=run.checkpoint)
        made = write_weights(_with_answers(model, names), student)
    return _without(made, model), log


@contextlib.contextmanager
def _in_levels(net: nn.Module) -> Iterator[None]:
    """Meanwhile weights are learnt in units of an INT8 level of their output channel.

    Evened-out channels differ by orders of magnitude, and one learning rate has to fit all. What
    has one axis stays as it is: fitting found its place.
    """
    import torch
    from torch import nn
    from torch.nn.utils import parametrize

    class Levels(nn.Module):
        def __init__(self, unit: torch.Tensor) -> None:
            super().__init__()
            self.unit = (unit,)  # in a tuple: it is no part of the state

        def forward(self, levels: torch.Tensor) -> torch.Tensor:
            return levels * self.unit[0]

        def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
            return weight / self.unit[0]

    held: list[tuple[nn.Module, str]] = []
    for name, tensor in list(net.named_parameters()):
        if tensor.ndim < 2:
            tensor.requires_grad_(False)
            continue
        owner, _, attribute = name.rpartition(".")
        most = tensor.detach().abs().amax(tuple(range(1, tensor.ndim)), keepdim=True)
        layer = net.get_submodule(owner)
        parametrize.register_parametrization(
            layer, attribute, Levels(torch.where(most > 0, most / 127, 1.0)), unsafe=True
        )
        held.append((layer, attribute))
    try:
        yield
    finally:
        for layer, attribute in held:
            parametrize.remove_parametrizations(layer, attribute)


def _answers(model: ModelProto) -> tuple[str, ...]:
    from compress.quantize.sensitivity import answers_of

    return answers_of(model)


def _check_same(model: ModelProto, names: tuple[str, ...]) -> None:
    made = {name for node in model.graph.node for name in node.output}
    if not made.issuperset(names):
        raise TuneError("the float network", found=f"answers {', '.join(names)}",
                        expected="those of the Q/DQ file", cure="give the file it was made from",
                        )  # fmt: skip


def _with_answers(model: ModelProto, names: tuple[str, ...]) -> ModelProto:
    """The model with its answers, and nothing else, as outputs."""
    from compress.quantize.session import with_outputs

    made = with_outputs(model, names)
    kept = [value for value in made.graph.output if value.name in names]
    del made.graph.output[:]
    made.graph.output.extend(sorted(kept, key=lambda value: names.index(value.name)))
    return made


def _without(made: ModelProto, model: ModelProto) -> ModelProto:
    """The trained file with the outputs it had."""
    del made.graph.output[:]
    made.graph.output.extend(model.graph.output)
    return made


def _answering(model: ModelProto, names: tuple[str, ...]) -> nn.Module:
    from compress.from_onnx.convert import module_from_onnx

    return module_from_onnx(_with_answers(model, names))


def _tensors(feed: Feed) -> tuple[torch.Tensor, ...]:
    import torch

    return tuple(torch.from_numpy(np.array(value)) for value in feed.values())


def _listed(outputs: object) -> list[torch.Tensor]:
    return list(outputs) if isinstance(outputs, tuple | list) else [outputs]  # type: ignore[list-item]  # one tensor


def _weights(teacher: nn.Module, feeds: Sequence[Feed]) -> list[float]:
    """What a squared error of one frame counts in each answer."""
    import torch

    step = max(1, len(feeds) // _SPREAD_FRAMES)
    with torch.no_grad():
        rows = [_listed(teacher(*_tensors(feed))) for feed in feeds[::step][:_SPREAD_FRAMES]]
    found = []
    for values in zip(*rows, strict=True):
        stacked = torch.cat(values).double()
        if not bool(torch.isfinite(stacked).all()):
            raise TuneError("the float network", found="answers that are not finite",
                            expected="numbers", cure="look for NaN in its weights")  # fmt: skip
        axis = 1 if stacked.ndim == 4 else stacked.ndim - 1
        others = [at for at in range(stacked.ndim) if at != axis]
        power = float(stacked.square().sum())
        spread = float((stacked - stacked.mean(others, keepdim=True)).square().sum())
        signal = spread if spread > 1e-6 * power else power
        positions = values[0].numel() / stacked.shape[axis]
        found.append((positions**0.5, positions**0.5 * len(values) / signal if signal else 0.0))
    whole = sum(root for root, weight in found if weight) or 1.0
    return [weight / whole for _, weight in found]


def _noise(
    net: nn.Module, teacher: nn.Module, batch: NDArray[np.float32], weights: list[float]
) -> torch.Tensor:
    import torch

    images = torch.from_numpy(batch)
    with torch.no_grad():
        wanted = _listed(teacher(images))
    total = torch.zeros(len(images))
    for given, exact, weight in zip(_listed(net(images)), wanted, weights, strict=True):
        total = total + weight * (given - exact).square().flatten(1).sum(1)
    return (total + _FLOOR).log().mean()
