"""A graph under translation: each operation is recorded, and run at once, so that shapes are known.

`Translation` holds what was made so far; `Step` is one node of the file with what an operator's
translation asks of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.channels.modules import place as placed
from compress.from_onnx.constants import Array, Constant
from compress.from_onnx.doubled import Doubled
from compress.from_onnx.errors import UnsupportedError
from compress.from_onnx.weights import Binding, Names, is_weight

if TYPE_CHECKING:
    import torch
    from onnx import NodeProto
    from torch import fx, nn

__all__ = ["TENSOR_KEY", "Field", "Step", "Translation"]

TENSOR_KEY = "onnx_tensor"  # in a graph node's meta: the tensor of the file that it computes


@dataclass(frozen=True, slots=True)
class Field:
    """A tensor of a layer: the constant it starts as, and the input it was given at."""

    constant: Constant
    place: int


class Translation:
    """The module that grows; it lives for one conversion."""

    def __init__(self, *, opset: int, constants: Mapping[str, Constant],
                 learn_scales: bool = False) -> None:  # fmt: skip
        from torch import fx, nn

        self.opset = opset
        self.learn_scales = learn_scales
        self.constants = dict(constants)
        self.graph = fx.Graph()
        self.root = nn.Module().eval()
        self.values: dict[str, fx.Node] = {}  # tensor of the file -> node that computes it
        self.bindings: list[Binding] = []
        self.weight_inputs: set[tuple[int, int]] = set()
        self.readers: Mapping[str, int] = {}  # tensor of the file -> how many nodes read it
        self._names = Names()
        self._live: dict[fx.Node, Any] = {}  # a tensor, or several
        self._doubled = Doubled()
        self._shapes: dict[fx.Node, tuple[int, ...]] = {}
        self._shared: dict[tuple[object, ...], str] = {}  # what is the same -> its path
        self._scales: dict[fx.Node, Constant] = {}  # levels -> the scale they were made with

    def start(self, name: str, value: torch.Tensor) -> None:
        """An input of the graph, with an example of it."""
        node = self.graph.placeholder(_identifier(name))
        self._doubled.start(node, value)
        self._keep(node, value)
        self.name(name, node)

    def name(self, tensor: str, node: fx.Node) -> None:
        """Say that `node` computes `tensor` of the file."""
        self.values[tensor] = node
        node.meta.setdefault(TENSOR_KEY, tensor)

    def call(self, function: Callable[..., Any], args: tuple[Any, ...],
             kwargs: dict[str, Any]) -> fx.Node:  # fmt: skip
        """Record a call, and run it."""
        from torch import fx

        node = self.graph.call_function(function, args, kwargs)
        given, named = fx.node.map_arg((args, kwargs), self._live.__getitem__)
        self._doubled.call(node, function)
        self._keep(node, function(*given, **named))
        return node

    def call_layer(self, path: str, args: tuple[fx.Node, ...]) -> fx.Node:
        """Record a call of the layer at `path`, and run it."""
        node = self.graph.call_module(path, args)
        self._doubled.call_layer(node, self.root.get_submodule(path))
        self._keep(node, self.root.get_submodule(path)(*[self._live[item] for item in args]))
        return node

    def stored(self, path: str) -> fx.Node:
        """Record the reading of a parameter or buffer."""
        node = self.graph.get_attr(path)
        owner, _, last = path.rpartition(".")
        value = getattr(self.root.get_submodule(owner), last)
        self._doubled.stored(node, value)
        self._keep(node, value)
        return node

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """Of what the node computed; it outlives the value."""
        return self._shapes[node]

    def batch_axis(self, node: fx.Node) -> int | None:
        """The axis that grows with the batch, outermost in it; None where there is none."""
        return self._doubled.batch_axis(node, self._shapes[node])

    def example(self, node: fx.Node) -> Any:  # noqa: ANN401 - a tensor, or several of them
        """What the node computed; raises KeyError once it was forgotten."""
        return self._live[node]

    def forget(self, kept: set[str]) -> None:
        """Drop all values but those of tensors that are still to be read."""
        wanted = {self.values[name] for name in kept if name in self.values}
        self._live = {node: value for node, value in self._live.items() if node in wanted}

    def place_layer(self, layer: nn.Module, fields: Mapping[str, Field], at: int) -> str:
        """The path of a layer with these tensors; one that was placed before is used again.

        Only the same weight with the same settings is the same layer. A norm is never shared: it
        has statistics of its own.
        """
        weight = fields["weight"].constant
        key = (type(layer).__name__, layer.extra_repr(), *(
            (name, _identity(field.constant)) for name, field in fields.items()))  # fmt: skip
        path = self._shared.get(key) if "Norm" not in type(layer).__name__ else None
        if path is None:
            path = self._names.layer(weight.tensor or f"layer_{at}")
            self._shared[key] = path
            placed(self.root, path, layer.eval())
            for name, field in fields.items():
                self._fill(layer, path, name, field.constant)
        for name, field in fields.items():
            self._bind(f"{path}.{name}", field, at)
        return path

    def _fill(self, layer: nn.Module, path: str, name: str, constant: Constant) -> None:
        from torch import nn

        if name.startswith("running_"):
            layer.register_buffer(name, _tensor(constant.value))
            return
        tied = name == "weight" and "Norm" not in type(layer).__name__
        parameter = self._tied(constant) if tied else nn.Parameter(_tensor(constant.value))
        layer.register_parameter(name, parameter)
        if tied:
            self._shared.setdefault(("parameter", *_identity(constant)), f"{path}.{name}")

    def _tied(self, constant: Constant) -> nn.Parameter:
        """One parameter for all readers of the same stored weight in the same layout."""
        from torch import nn

        key = ("parameter", *_identity(constant))
        path = self._shared.get(key, "")
        if not path:
            return nn.Parameter(_tensor(constant.value))
        owner, _, last = path.rpartition(".")
        found = getattr(self.root.get_submodule(owner), last)
        assert isinstance(found, nn.Parameter)
        return found

    def takes_bias(self, node: fx.Node, width: int) -> bool:
        """Whether the node is a Linear of this width without bias, which one reader adds to."""
        from torch import nn

        if node.op != "call_module" or self.readers.get(node.meta.get(TENSOR_KEY, "")) != 1:
            return False
        layer = self.root.get_submodule(str(node.target))
        plain = isinstance(layer, nn.Linear) and layer.bias is None and len(layer.weight) == width
        return plain and sum(item.target == node.target for item in self.graph.nodes) == 1

    def add_bias(self, node: fx.Node, field: Field, at: int) -> fx.Node:
        """Give the layer this bias; the node then computes the tensor behind it."""
        from torch import nn

        path = str(node.target)
        bias = nn.Parameter(_tensor(field.constant.value))
        self.root.get_submodule(path).register_parameter("bias", bias)
        self._bind(f"{path}.bias", field, at)
        self._shared = {key: there for key, there in self._shared.items()
                        if there != path}  # without a bias it is another layer # fmt: skip
        self._keep(node, self._live[node] + bias)
        del node.meta[TENSOR_KEY]
        return node

    def parameter(self, field: Field, at: int, *, quantized: bool = False) -> fx.Node:
        """Record the reading of a weight outside any layer."""
        from torch import nn

        key = ("parameter", *_identity(field.constant))
        path = self._shared.get(key)
        if path is None:
            path = self._names.tensor(field.constant.tensor or f"weight_{at}_{field.place}")
            placed(self.root, path, nn.Parameter(_tensor(field.constant.value)))
            self._shared[key] = path
        self._bind(path, field, at, quantized)
        return self.stored(path)

    def made_with(self, levels: fx.Node, scale: Constant | None) -> None:
        """Remember which scale made these levels."""
        if scale is not None:
            self._scales[levels] = scale

    def scale(self, field: Field, at: int, levels: fx.Node | None) -> fx.Node:
        """Record the reading of a scale, learned or not.

        A pair whose two nodes store the same scale twice has one: that which made the `levels`.
        """
        made = None if levels is None else self._scales.get(levels)
        one = field.constant
        if made is not None and made.value.tobytes() == one.value.tobytes():
            one = made
        name = one.tensor or f"scale_{at}"
        if self.learn_scales:
            key = ("parameter", *_identity(one))
            if key not in self._shared:
                self.parameter(Field(one, field.place), at)
                self.bindings.pop()
            path = self._shared[key]
        else:
            path = str(self.buffer(one, name).target)
        self._bind(path, field, at)
        return self.stored(path)

    def buffer(self, constant: Constant, name: str) -> fx.Node:
        """Record the reading of a constant that is not trained."""
        key = ("buffer", *_identity(constant))
        path = self._shared.get(key)
        if path is None:
            path = self._shared[key] = self._names.tensor(name)
            placed(self.root, path, _tensor(constant.value))
        return self.stored(path)

    def _bind(self, path: str, field: Field, at: int, quantized: bool = False) -> None:
        constant = field.constant
        self.bindings.append(
            Binding(parameter=path, node=at, place=field.place, tensor=constant.tensor,
                    moves=constant.moves, quantized=quantized)
        )  # fmt: skip

    def _keep(self, node: fx.Node, value: Any) -> None:  # noqa: ANN401 - a tensor, or several
        self._live[node] = value
        self._shapes[node] = tuple(getattr(value, "shape", ()))


def _identity(constant: Constant) -> tuple[object, ...]:
    """What makes two constants the same weight; a computed one is like no other."""
    return (constant.tensor, constant.moves) if constant.tensor else (object(),)


def _tensor(value: Array) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.array(value))


def _identifier(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One node of the file; `inputs[i]` is a constant, a computed value, or None when left out."""

    node: NodeProto
    at: int  # its number in the file
    into: Translation
    inputs: tuple[Constant | fx.Node | None, ...]

    @property
    def opset(self) -> int:
        """Of the file."""
        return self.into.opset

    @property
    def kind(self) -> str:
        """The operator's name."""
        return str(self.node.op_type)

    def attribute(self, name: str, default: Any) -> Any:  # noqa: ANN401 - what ONNX stores there
        """The attribute, text as `str`, or `default` where the node has none."""
        from onnx import helper

        for item in self.node.attribute:
            if item.name == name:
                value = helper.get_attribute_value(item)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def has(self, place: int) -> bool:
        """Whether the node was given an input there."""
        return place < len(self.inputs) and self.inputs[place] is not None

    def constant(self, place: int) -> Constant | None:
        """The input where it is a constant."""
        found = self.inputs[place] if place < len(self.inputs) else None
        return found if isinstance(found, Constant) else None

    def known(self, place: int, what: str) -> Array:
        """The value of an input that has to be constant; raises UnsupportedError."""
        found = self.constant(place)
        if found is None:
            raise self.refusal(f"{what} that the data decides", f"constant {what}",
                               "export with fixed sizes")  # fmt: skip
        return found.value

    def ints(self, name: str, place: int) -> tuple[int, ...] | None:
        """Whole numbers given as an attribute (older opsets) or as an input (newer ones)."""
        if self.has(place):
            return tuple(int(value) for value in self.known(place, name).reshape(-1))
        found = self.attribute(name, None)
        return None if found is None else tuple(int(value) for value in np.atleast_1d(found))

    def number(self, name: str, place: int) -> float | None:
        """One number given as an attribute or as an input."""
        if self.has(place):
            return float(self.known(place, name).reshape(-1)[0])
        found = self.attribute(name, None)
        return None if found is None else float(found)

    def value(self, place: int) -> fx.Node:
        """The input as a node of the graph: a weight, a buffer, or what was computed."""
        found = self.inputs[place]
        if isinstance(found, Constant):
            if is_weight(found) and (self.at, place) in self.into.weight_inputs:
                return self.into.parameter(Field(found, place), self.at)
            name = found.tensor or f"constant_{self.at}_{place}"
            return self.into.buffer(found, name)
        assert found is not None  # callers ask `has` about optional inputs
        return found

    def weight(self, place: int) -> fx.Node:
        """Like `value`, of an input that is a weight wherever it is a float constant."""
        found = self.constant(place)
        if found is not None and found.value.dtype.kind == "f":
            return self.into.parameter(Field(found, place), self.at)
        return self.value(place)

    def operand(self, place: int, rank: int) -> Any:  # noqa: ANN401 - a graph node or a number
        """Like `value`, but one element that does not raise the rank is a number."""
        found = self.constant(place)
        if found is not None and found.value.size == 1 and found.value.ndim <= rank:
            return found.value.reshape(-1)[0].item()
        return self.value(place)

    def rank(self, place: int) -> int:
        """The input's number of axes."""
        return len(self.shape(place))

    def shape(self, place: int) -> tuple[int, ...]:
        """The input's sizes."""
        found = self.inputs[place]
        if isinstance(found, Constant):
            return tuple(found.value.shape)
        assert found is not None
        return self.into.shape(found)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:  # noqa: ANN401 - what a torch function takes
        """Record a call of a torch function."""
        return self.into.call(function, args, kwargs)

    def layer(self, layer: nn.Module, fields: Mapping[str, Field], *args: fx.Node) -> fx.Node:
        """Record a call of a layer of torch.nn that has these tensors."""
        return self.into.call_layer(self.into.place_layer(layer, fields, self.at), args)

    def buffer(self, value: Array) -> fx.Node:
        """A constant this step made up."""
        return self.into.buffer(
            Constant(np.asarray(value)), f"constant_{self.at}_{self.kind.lower()}"
        )

    @property
    def where(self) -> str:
        """How errors call this node."""
        return f"{self.kind} {self.node.name or self.node.output[0]!r}"

    def refusal(self, found: str, expected: str, cure: str) -> UnsupportedError:
        """An error about this node, to be raised."""
        return UnsupportedError(self.where, found=found, expected=expected, cure=cure)
