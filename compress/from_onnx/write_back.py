"""Trained weights into the ONNX file they came from: same graph, same names, new values.

For a net whose structure is the file's own; a cut net is exported anew
(`compress.export.export_onnx`). Weights that the file stores as integers are rounded to levels of
their (trained) scale, as the module rounds them.

    level = clamp(round_half_even(weight / scale) + zero_point)

A tensor that several layers read, but whose copies were trained apart (batch norms often share
one), keeps the first reader's value; each further value gets a tensor of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from compress.channels.measure import difference
from compress.from_onnx.constants import Array, stored_constants
from compress.from_onnx.convert import translated
from compress.from_onnx.errors import WriteBackError
from compress.from_onnx.prove import random_feeds
from compress.from_onnx.weights import Binding

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto
    from torch import nn

__all__ = ["write_weights"]

_TOLERANCE = 1e-4  # of the written file's module against the trained one, relative to the largest


def write_weights(
    model: ModelProto, module: nn.Module, *, feeds: Mapping[str, Array] | None = None
) -> ModelProto:
    """A copy of `model` with the weights of `module`, which was converted from it and trained.

    Learned scales are written too. Proven: the file's module, converted again, gives in eval mode
    what `module` gives on `feeds` (else on random ones). Raises WriteBackError for a net whose
    structure is not the file's, for a weight that the file computes from others, or for a scale
    that is not above zero.
    """
    import onnx

    feeds = random_feeds(model) if feeds is None else feeds
    before = translated(model, feeds)
    trained, first = _values(module), _values(before.module)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    writer = _Writer(made)
    for binding in before.bindings:
        value = _value_of(binding, trained, first)
        if not binding.tensor:
            _check_kept(binding, value, first)
            continue
        writer.write(binding, _stored(binding, value, writer, before.bindings, trained))
    _check(made, module, feeds)
    return made


def _values(module: nn.Module) -> dict[str, Array]:
    named = [*module.named_parameters(remove_duplicate=False),
             *module.named_buffers(remove_duplicate=False)]  # fmt: skip
    return {name: tensor.detach().cpu().numpy() for name, tensor in named}


def _value_of(binding: Binding, trained: Mapping[str, Array], first: Mapping[str, Array]) -> Array:
    found = trained.get(binding.parameter)
    wanted = first[binding.parameter].shape
    if found is None or found.shape != wanted:
        size = "none" if found is None else "x".join(map(str, found.shape)) or "one number"
        raise WriteBackError(
            binding.parameter,
            found=f"{size} of that name in the module",
            expected="x".join(map(str, wanted)) or "one number",
            cure="a net that was cut or changed is exported: compress.export.export_onnx",
        )
    return found


def _check_kept(binding: Binding, value: Array, first: Mapping[str, Array]) -> None:
    """A weight without a place in the file may stay as it was."""
    if not np.array_equal(value, first[binding.parameter]):
        raise WriteBackError(
            binding.parameter, found="a trained weight that the file computes from other tensors",
            expected="one that it stores", cure="export the module: compress.export.export_onnx",
        )  # fmt: skip


def _stored(
    binding: Binding,
    value: Array,
    writer: _Writer,
    bindings: tuple[Binding, ...],
    trained: Mapping[str, Array],
) -> Array:
    """The value in the file's layout and type."""
    node = writer.model.graph.node[binding.node]
    if node.op_type in ("QuantizeLinear", "DequantizeLinear") and binding.place == 1:
        _check_scale(binding, value)
    if binding.quantized:
        at = [item.parameter for item in bindings
              if (item.node, item.place) == (binding.node, 1)]  # fmt: skip
        scale = trained[at[0]] if at else writer.constants[node.input[1]].value
        value = _levels(node, value, scale, writer)
    for move in reversed(binding.moves):
        value = move.undone(value)
    return np.ascontiguousarray(value).reshape(value.shape)


def _check_scale(binding: Binding, value: Array) -> None:
    if not (np.isfinite(value).all() and (value > 0).all()):
        raise WriteBackError(
            binding.parameter, found=f"a scale of {value.min():g}", expected="scales above 0",
            cure="train with a smaller step for scales, or clamp them after each step",
        )  # fmt: skip


def _levels(node: NodeProto, value: Array, scale: Array, writer: _Writer) -> Array:
    """As ONNX Runtime's QuantizeLinear rounds."""
    stored = writer.constants
    zero = stored[node.input[2]].value if len(node.input) > 2 and node.input[2] else None
    dtype = stored[node.input[0]].value.dtype if zero is None else zero.dtype
    axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
    if scale.size > 1:
        scale = scale.reshape([-1 if at == axis % value.ndim else 1 for at in range(value.ndim)])
    shift = 0 if zero is None else zero.astype(np.int64)
    if np.size(shift) > 1:
        shift = np.reshape(shift, scale.shape)
    rounded = np.rint(value / scale).astype(np.int64) + shift
    info = np.iinfo(dtype)
    made: Array = np.clip(rounded, info.min, info.max).astype(dtype)
    return made


class _Writer:
    """The copy that is written to; it lives for one call."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.constants = stored_constants(model)
        self._written: dict[str, list[tuple[str, Array]]] = {}  # tensor -> names and their values
        self._names = {name for node in model.graph.node for name in (*node.input, *node.output)}
        self._names |= set(self.constants)

    def write(self, binding: Binding, value: Array) -> None:
        """Into the tensor, or where it holds another reader's value into one more."""
        done = self._written.setdefault(binding.tensor, [])
        for name, there in done:
            if np.array_equal(there, value):
                self._read(binding, name)
                return
        name = binding.tensor if not done else self._fresh(binding.tensor)
        done.append((name, value))
        self._put(name, value)
        self._read(binding, name)

    def _read(self, binding: Binding, name: str) -> None:
        """Make the node read `name`, when that is not what it reads already."""
        if name == binding.tensor:
            return
        node = self.model.graph.node[binding.node]
        if node.input[binding.place] != binding.tensor:
            raise WriteBackError(
                binding.parameter,
                found=f"{binding.tensor!r}, which several layers read by way of other nodes",
                expected="one value for all of them",
                cure="export the module: compress.export.export_onnx",
            )
        node.input[binding.place] = name

    def _fresh(self, tensor: str) -> str:
        count = 2
        while f"{tensor}_{count}" in self._names:
            count += 1
        self._names.add(f"{tensor}_{count}")
        return f"{tensor}_{count}"

    def _put(self, name: str, value: Array) -> None:
        from onnx import helper, numpy_helper

        made = numpy_helper.from_array(value, name)
        for tensor in self.model.graph.initializer:
            if tensor.name == name:
                tensor.CopyFrom(made)
                return
        for node in self.model.graph.node:
            if node.op_type == "Constant" and node.output[0] == name:
                del node.attribute[:]
                node.attribute.append(helper.make_attribute("value", made))
                return
        self.model.graph.initializer.append(made)


def _check(made: ModelProto, module: nn.Module, feeds: Mapping[str, Array]) -> None:
    import copy

    import torch

    again = translated(made, feeds).module
    inputs = [torch.from_numpy(np.array(value)) for value in feeds.values()]
    with torch.no_grad():
        apart = difference(copy.deepcopy(module).eval()(*inputs), again(*inputs))
    if not apart <= _TOLERANCE:
        raise WriteBackError(
            "the written file", found=f"outputs {apart:.2g} from the module's, of the largest",
            expected=f"at most {_TOLERANCE:g}",
            cure="is the module the file's own? a changed one is exported: "
                 "compress.export.export_onnx",
        )  # fmt: skip
