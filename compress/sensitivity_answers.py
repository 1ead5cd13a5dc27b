"""The answers of a traced PyTorch net, and the noise in them: the measure of `compress.quantize`.

What an answer is, how answers weigh and what noise is says `compress.quantize.sensitivity`, for
ONNX files; here it is asked of a graph of torch, so that both halves of a sensitivity table speak
of one thing (a test holds the two against each other).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.channels.coupling import Coupling
from compress.channels.groups import Plan
from compress.channels.proof import masked
from compress.channels.trace import Traced

if TYPE_CHECKING:
    import torch
    from torch import fx

    Values = Sequence[NDArray[Any]]  # one array an answer
    Batch = tuple[torch.Tensor, ...]

__all__ = ["PRODUCTS", "Shown", "Truth", "answering", "lost_db"]

PRODUCTS = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
            "conv_transpose3d", "linear", "matmul", "mm", "bmm", "addmm", "baddbmm")  # fmt: skip
_AT_ONCE = 4  # frames, where the net takes several
_NORMS = ("batch_norm",)  # right behind a product they are part of it, as in a file


def answering(traced: Traced) -> Traced:
    """The same net, giving its answers: what the last products before each output make.

    A net without a product answers with its outputs.
    """
    kinds = {node.name: node.op for node in traced.graph.nodes}
    module = copy.deepcopy(traced.module)
    (output,) = (node for node in module.graph.nodes if node.op == "output")
    answers = _answers_before(output, kinds)
    output.args = (tuple(answers or output.all_input_nodes),)
    if not any(node.in_place for node in traced.graph.nodes):
        module.graph.eliminate_dead_code()
    module.recompile()
    return dataclasses.replace(traced, module=module)


def lost_db(noise: Sequence[float]) -> float:
    """How far the share of the whole net's answers in what comes out has fallen, dB.

    10 log10(1 + noise over signal), the mean over frames: 0 where nothing changed, 3 where noise
    is as strong as signal, and for little noise the losses of several cuts add up.

    >>> round(lost_db([0.0]), 3), round(lost_db([1.0, 1.0]), 2)
    (0.0, 3.01)
    """
    return float(np.mean(10 * np.log10(1 + np.asarray(noise, np.float64))))


class Truth:
    """What the whole net answers on some frames, one list of arrays a frame, batch axis 1."""

    def __init__(self, frames: Sequence[Values]) -> None:
        self._frames = [[np.array(value, np.float64) for value in values] for values in frames]
        stacked = [np.stack(values) for values in zip(*self._frames, strict=True)]
        weights = [_weight(values) for values in stacked]
        heard = (_root_positions(value) for value, weight in
                 zip(self._frames[0], weights, strict=True) if weight > 0)  # fmt: skip
        share = max(sum(heard), 1e-30)
        self.weights = tuple(weight / share for weight in weights)

    def noise(self, frames: Sequence[Values]) -> NDArray[np.float64]:
        """Noise over signal of each frame, (frames,); infinite for answers that are no numbers."""
        found = [
            sum(
                weight * float(((np.asarray(made, np.float64) - truth) ** 2).sum())
                for weight, made, truth in zip(self.weights, values, exact, strict=True)
            )
            for values, exact in zip(frames, self._frames, strict=True)
        ]
        return np.nan_to_num(np.asarray(found, np.float64), nan=np.inf)

    def questions(self, batches: Sequence[Batch]) -> Iterator[tuple[Batch, Any]]:
        """For `compress.channels.reads.taylor`: its scores are then first-order noise.

        With r of random signs, E_r (d/dz sum_k w_k^(1/2) r y_k)^2 = sum_k w_k |dy_k/dz|^2, which is
        noise over signal where z takes a unit away (Hutchinson's estimator).
        """
        import torch

        for number, batch in enumerate(batches):
            signs = torch.Generator().manual_seed(number)

            def loss(answers: object, signs: torch.Generator = signs) -> torch.Tensor:
                total = torch.zeros(())
                assert isinstance(answers, tuple | list)
                for weight, value in zip(self.weights, answers, strict=True):
                    if value.is_floating_point() and weight > 0:
                        sign = torch.randint(0, 2, value.shape, generator=signs) * 2 - 1
                        total = total + weight**0.5 * (sign * value).sum()
                return total

            yield batch, loss


class Shown:
    """The whole net's answers on some frames, and those of it with channels at zero."""

    def __init__(self, traced: Traced, coupling: Coupling, batches: Sequence[Batch]) -> None:
        import torch

        self.net, self._coupling = answering(traced), coupling
        self._batches, self._count = list(batches), len(batches)
        if traced.batch_is_free:
            joined = [batches[at : at + _AT_ONCE] for at in range(0, len(batches), _AT_ONCE)]
            wide = [tuple(map(torch.cat, zip(*part, strict=True))) for part in joined]
            if all(self._frame_by_frame(batch) for batch in wide):
                self._batches = wide
        self.truth = Truth(self._answers({}))

    def __len__(self) -> int:
        return self._count

    def noise(self, plan: Plan) -> tuple[float, ...]:
        """Noise over signal of each frame when the units of a plan are at zero."""
        return tuple(float(value) for value in self.truth.noise(self._answers(plan)))

    def _answers(self, plan: Plan) -> list[list[NDArray[Any]]]:
        found: list[list[NDArray[Any]]] = []
        for batch in self._batches:
            made = masked(self.net, self._coupling, plan, batch)
            assert isinstance(made, tuple | list)
            arrays = [value.numpy() for value in made]
            frames = len(batch[0]) if len(self._batches) < self._count else 1
            if frames == 1:
                found.append(arrays)
                continue
            found += [[array[at : at + 1] for array in arrays] for at in range(frames)]
        return found

    def _frame_by_frame(self, batch: Batch) -> bool:
        """Whether the first axis of each answer counts frames."""
        import torch

        with torch.no_grad():
            made = self.net.module(*(item.clone() for item in batch))
        return all(value.ndim and len(value) == len(batch[0]) for value in made)


def _answers_before(output: fx.Node, kinds: dict[str, str]) -> list[fx.Node]:
    found: dict[fx.Node, None] = {}
    todo = list(output.all_input_nodes)
    seen = set(todo)
    while todo:
        node = todo.pop(0)
        kind = kinds.get(node.name, "")
        first = node.all_input_nodes[0].name if node.all_input_nodes else ""
        if kind in PRODUCTS or (kind in _NORMS and kinds.get(first) in PRODUCTS):
            found[node] = None
            continue
        fresh = [source for source in node.all_input_nodes if source not in seen]
        seen.update(fresh)
        todo.extend(fresh)
    return list(found)


def _root_positions(value: NDArray[Any]) -> float:
    """The root of the number of positions of (1, C, ...) or of rows of (..., C)."""
    channels = value.shape[1] if value.ndim == 4 else value.shape[-1] if value.ndim else 1
    return float(np.sqrt(value.size / max(channels, 1)))


def _weight(values: NDArray[np.float64]) -> float:
    """What a squared error counts in an answer (frames, 1, C, ...); 0 where it is all 0."""
    axis = 2 if values.ndim == 5 else values.ndim - 1
    others = tuple(i for i in range(values.ndim) if i != axis)
    power = float((values**2).sum())
    spread = float(((values - values.mean(others, keepdims=True)) ** 2).sum())
    signal = spread if spread > 1e-6 * power else power  # one frame of one position: no spread
    return _root_positions(values[0]) * len(values) / signal if signal > 0 else 0.0
