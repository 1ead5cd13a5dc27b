"""A Q/DQ graph with an index: who makes a tensor, who reads it, which pairs quantize what.

Words used in this room. A *pair* is one QuantizeLinear with the DequantizeLinear nodes that read
it. An *activation pair* quantizes a computed tensor or a graph input, a *weight pair* a constant.
A *matrix op* multiplies by weights: Conv, ConvTranspose, Gemm, MatMul.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.onnx_clean import bodies, reads

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

__all__ = ["MATRIX_OPS", "Pair", "QdqGraph", "attribute", "weight_axis"]

MATRIX_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_Q, _DQ = "QuantizeLinear", "DequantizeLinear"


def attribute(node: NodeProto, name: str, default: Any) -> Any:  # noqa: ANN401  # what ONNX stores there
    """An attribute's value, or `default` where the node does not carry it."""
    import onnx

    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default


def weight_axis(node: NodeProto) -> int:
    """The axis of a matrix op's weights that counts its output channels.

    Conv (M, C/g, kH, kW): 0. ConvTranspose (C, M/g, kH, kW): 1. Gemm (K, N): 1, or 0 with transB.
    MatMul (..., K, N): the last, given as -1.
    """
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return 1 if node.op_type == "ConvTranspose" else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One QuantizeLinear and the DequantizeLinear nodes behind it (none in a broken graph)."""

    quantize: NodeProto
    dequantize: tuple[NodeProto, ...]

    @property
    def source(self) -> str:
        """The tensor that is quantized."""
        return str(self.quantize.input[0])

    @property
    def nodes(self) -> tuple[NodeProto, ...]:
        return (self.quantize, *self.dequantize)


class QdqGraph:
    """A private copy of a model's graph, with an index that is kept while it is edited.

    The caller's model is never written to; `model()` returns the edited one, nodes in order.
    """

    def __init__(self, model: ModelProto) -> None:
        import onnx

        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        graph = self._model.graph
        self.nodes: list[NodeProto] = list(graph.node)
        self.inputs = tuple(value.name for value in graph.input)
        self.outputs = tuple(value.name for value in graph.output)
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._producer = {name: node for node in self.nodes for name in node.output}
        self._readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in reads(node):
                self._readers[name].append(node)
        self._names = {*self._producer, *self.initializers, *self.inputs}
        self._names.update(node.name for node in self.nodes)

    # reading

    def producer(self, tensor: str) -> NodeProto | None:
        """The node that makes `tensor`; None for graph inputs and constants."""
        return self._producer.get(tensor)

    def readers(self, tensor: str) -> tuple[NodeProto, ...]:
        """The nodes that read `tensor`, one entry per input that does, or read in a body."""
        return tuple(self._readers.get(tensor, ()))

    def by_type(self, *ops: str) -> tuple[NodeProto, ...]:
        """Nodes of these types, in graph order."""
        return tuple(node for node in self.nodes if node.op_type in ops)

    def constant(self, tensor: str) -> NDArray[Any] | None:
        """The value of an initializer, also through Identity and Constant nodes; None otherwise."""
        import onnx

        node = self._producer.get(tensor)
        while node is not None and node.op_type == "Identity":
            tensor = node.input[0]
            node = self._producer.get(tensor)
        if node is not None and node.op_type == "Constant":
            value = attribute(node, "value", None)
            return None if value is None else onnx.numpy_helper.to_array(value)
        stored = self.initializers.get(tensor)
        return None if stored is None else onnx.numpy_helper.to_array(stored)

    def pairs(self) -> tuple[Pair, ...]:
        """Every QuantizeLinear with its readers of type DequantizeLinear, in graph order."""
        return tuple(
            Pair(
                quantize=node,
                dequantize=tuple(r for r in self.readers(node.output[0]) if r.op_type == _DQ),
            )
            for node in self.by_type(_Q)
        )

    def activation_pairs(self) -> tuple[Pair, ...]:
        return tuple(pair for pair in self.pairs() if self.constant(pair.source) is None)

    def weight_dequantize(self, node: NodeProto) -> NodeProto | None:
        """The DequantizeLinear on a matrix op's constant weights; None when they are float."""
        if node.op_type not in MATRIX_OPS or len(node.input) < 2:
            return None
        found = self._producer.get(node.input[1])
        if found is None or found.op_type != _DQ:
            return None
        before = self._producer.get(found.input[0])
        stored = before.input[0] if before is not None and before.op_type == _Q else found.input[0]
        return None if self.constant(stored) is None else found

    def pair_behind(self, tensor: str) -> Pair | None:
        """The activation pair whose DequantizeLinear makes `tensor`."""
        found = self._producer.get(tensor)
        if found is None or found.op_type != _DQ:
            return None
        first = self._producer.get(found.input[0])
        if first is None or first.op_type != _Q or self.constant(first.input[0]) is not None:
            return None
        others = tuple(r for r in self.readers(first.output[0]) if r.op_type == _DQ)
        return Pair(quantize=first, dequantize=others)

    def scale(self, pair: Pair) -> NDArray[np.float32]:
        """The pair's scale, () or (channels,)."""
        value = self.constant(pair.quantize.input[1])
        if value is None:
            raise ValueError(f"{pair.quantize.name}: the scale is not a constant")
        return np.asarray(value, np.float32)

    def depth(self) -> dict[str, int]:
        """Tensor -> the number of nodes on the longest way to it from a graph input."""
        depths: dict[str, int] = {}
        for node in _ordered(self.nodes):
            here = 1 + max((depths.get(name, 0) for name in reads(node)), default=0)
            depths.update(dict.fromkeys(node.output, here))
        return depths

    # editing

    def fresh(self, stem: str) -> str:
        """A name nobody uses yet: `stem`, else `stem_2`, `stem_3`, ..."""
        name, count = stem, 1
        while name in self._names:
            count += 1
            name = f"{stem}_{count}"
        self._names.add(name)
        return name

    def add_constant(self, stem: str, value: NDArray[Any]) -> str:
        """A new initializer; returns its name."""
        name = self.fresh(stem)
        self.set_constant(name, value)
        return name

    def set_constant(self, name: str, value: NDArray[Any]) -> None:
        """Replace an initializer's value; every reader sees it."""
        import onnx

        stored = onnx.numpy_helper.from_array(np.array(value, order="C"), name)
        self.initializers[name] = stored

    def add_node(self, node: NodeProto) -> None:
        self.nodes.append(node)
        self._producer.update((name, node) for name in node.output)
        for name in reads(node):
            self._readers[name].append(node)

    def set_input(self, node: NodeProto, index: int, tensor: str) -> None:
        """Let one input of one node read another tensor."""
        old = self._readers[node.input[index]]
        old.pop(next(i for i, reader in enumerate(old) if reader is node))
        node.input[index] = tensor
        self._readers[tensor].append(node)

    def append_input(self, node: NodeProto, tensor: str) -> None:
        node.input.append(tensor)
        self._readers[tensor].append(node)

    def drop_attribute(self, node: NodeProto, name: str) -> None:
        kept = [item for item in node.attribute if item.name != name]
        node.ClearField("attribute")
        node.attribute.extend(kept)

    def redirect(self, old: str, new: str) -> None:
        """Let every reader of `old` read `new`; graph outputs keep their names."""
        for node in self.readers(old):
            for index, name in enumerate(node.input):
                if name == old:
                    self.set_input(node, index, new)
            for body in bodies(node):
                _rename_reads(body, old, new)
        self._readers[new] += self._readers.pop(old, [])  # what is left was read in a body

    def remove(self, node: NodeProto) -> None:
        """Take a node out; nobody may read it any more."""
        self.nodes.pop(next(i for i, other in enumerate(self.nodes) if other is node))
        for name in node.output:
            self._producer.pop(name, None)
        for name in reads(node):
            readers = self._readers[name]
            readers[:] = [reader for reader in readers if reader is not node]

    def bypass(self, node: NodeProto, tensor: str) -> None:
        """Take a node out whose only output equals `tensor` from now on."""
        made = node.output[0]
        self.redirect(made, tensor)
        self.remove(node)
        if made in self.outputs:
            self._rename_output(tensor, made)

    def remove_pair(self, pair: Pair) -> None:
        """Take Q and its DQs out: whoever read a DQ reads the float tensor again."""
        for node in pair.dequantize:
            self.bypass(node, pair.source)
        if not self.readers(pair.quantize.output[0]):
            self.remove(pair.quantize)

    def _rename_output(self, tensor: str, output: str) -> None:
        maker = self.producer(tensor)
        if maker is None or tensor in self.outputs:
            import onnx

            self.add_node(
                onnx.helper.make_node("Identity", [tensor], [output], name=self.fresh(output))
            )
            return
        self.rename_made(tensor, output)
        self.redirect(tensor, output)

    def rename_made(self, old: str, new: str) -> None:
        """Rename what a node makes; readers keep the old name and must be redirected."""
        maker = self._producer.pop(old)
        maker.output[list(maker.output).index(old)] = new
        self._producer[new] = maker

    def model(self) -> ModelProto:
        """The edited model: live nodes in order, live initializers, no stale shape notes."""
        import onnx

        made = onnx.ModelProto()
        made.CopyFrom(self._model)
        graph = made.graph
        alive = _alive(_ordered(self.nodes), self.outputs)
        used = {name for node in alive for name in reads(node)} | set(self.outputs)
        for field in ("node", "initializer", "value_info"):
            graph.ClearField(field)
        graph.node.extend(alive)
        graph.initializer.extend(t for name, t in self.initializers.items() if name in used)
        constants = {tensor.name for tensor in graph.initializer} | set(self.initializers)
        inputs = [value for value in graph.input if value.name not in constants]
        graph.ClearField("input")
        graph.input.extend(inputs)
        return made


def _alive(nodes: list[NodeProto], outputs: Iterable[str]) -> list[NodeProto]:
    needed, alive = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            alive.append(node)
            needed.update(reads(node))
    return alive[::-1]


def _rename_reads(body: GraphProto, old: str, new: str) -> None:
    for value in body.output:
        value.name = new if value.name == old else value.name
    for node in body.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
        for inner in bodies(node):
            _rename_reads(inner, old, new)


def _ordered(nodes: list[NodeProto]) -> list[NodeProto]:
    """The nodes in an order where makers precede readers; otherwise as they came."""
    maker = {name: i for i, node in enumerate(nodes) for name in node.output}
    ordered: list[NodeProto] = []
    done: set[int] = set()
    for start in range(len(nodes)):
        stack = [start]
        while stack:
            top = stack[-1]
            waiting = [maker[n] for n in reads(nodes[top]) if n in maker and maker[n] not in done]
            if top in done or not waiting:
                stack.pop()
                if top not in done:
                    done.add(top)
                    ordered.append(nodes[top])
            else:
                stack.extend(reversed(waiting))
    return ordered
