"""Tidies an exported ONNX graph without changing what it computes: constants, pads, names.

f(constants)                        == a constant
conv(pad(x, p), pads=q)             == conv(x, pads=p + q)     zero padding of H and W
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

__all__ = ["bodies", "fold_constants", "fold_pads", "name_weights", "reads", "state_shapes"]

_NEVER = frozenset({"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike",
                    "Multinomial", "Bernoulli", "If", "Loop", "Scan", "DequantizeLinear",
                    "QuantizeLinear"})  # fmt: skip


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs a node carries: those of If, Loop and Scan."""
    for item in node.attribute:
        yield from ([item.g] if item.HasField("g") else []) + list(item.graphs)


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, its bodies included; their own tensors are among the names."""
    yield from node.input
    for body in bodies(node):
        yield from (value.name for value in body.output)
        for inner in body.node:
            yield from reads(inner)


def fold_constants(model: onnx.ModelProto) -> None:
    """Replace every node whose inputs are all constants by its value, as an initializer."""
    while _fold_nodes(model) or _fold_shapes(model):
        pass
    _drop_unread(model.graph)


def _fold_nodes(model: onnx.ModelProto) -> bool:
    from onnx import numpy_helper

    graph = model.graph
    known = {tensor.name for tensor in graph.initializer}
    folded = []
    for node in graph.node:
        if node.op_type not in _NEVER and all(not name or name in known for name in node.input):
            folded.append(node)
            known.update(node.output)
    for node in folded:
        graph.node.remove(node)
    wanted = {name for node in graph.node for name in reads(node)}
    wanted |= {value.name for value in graph.output}
    names = [name for node in folded for name in node.output if name and name in wanted]
    for name, value in zip(names, _values(model, folded, names), strict=True):
        graph.initializer.append(numpy_helper.from_array(value, name))
    return bool(folded)


def _fold_shapes(model: onnx.ModelProto) -> bool:
    """Replace each `Shape` of a tensor whose shape is static by that shape."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    graph = model.graph
    before = len(graph.node)
    shaped = [node for node in graph.node if node.op_type == "Shape" and not node.attribute]
    inferred = onnx.shape_inference.infer_shapes(model).graph if shaped else graph
    values = [*inferred.input, *inferred.value_info, *inferred.output]
    shapes = {value.name: value.type.tensor_type.shape for value in values}
    for node in shaped:
        shape = shapes.get(node.input[0])
        if shape is not None and all(dim.HasField("dim_value") for dim in shape.dim):
            sizes = np.array([dim.dim_value for dim in shape.dim], np.int64)
            graph.initializer.append(numpy_helper.from_array(sizes, node.output[0]))
            graph.node.remove(node)
    return len(graph.node) < before


def _values(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], names: list[str]
) -> list[NDArray[Any]]:
    """What `nodes`, which read constants only, compute for `names`."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    if not names:
        return []
    read = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in read]
    outputs = [helper.make_empty_tensor_value_info(name) for name in names]
    graph = helper.make_graph(nodes, "constants", [], outputs, constants)
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return list(ReferenceEvaluator(part).run(None, {}))


def fold_pads(graph: onnx.GraphProto) -> None:
    """Give each zero Pad of H and W to the convolutions, when they alone read it."""
    from onnx import numpy_helper

    values = {tensor.name: tensor for tensor in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {value.name: [] for value in graph.output}
    for node in graph.node:
        for name in reads(node):
            readers.setdefault(name, []).append(node)
    ends = {value.name for value in graph.output}
    for pad in [node for node in graph.node if node.op_type == "Pad"]:
        convs = readers.get(pad.output[0], [])
        given = [name for name in pad.input[1:] if name]
        operands = [numpy_helper.to_array(values[name]) for name in given if name in values]
        amounts = _zero_pad(pad, operands) if len(operands) == len(given) else None
        free = pad.output[0] not in ends and all(conv.op_type == "Conv" for conv in convs)
        if amounts is None or not free:
            continue
        for conv in convs:
            _add_pads(conv, amounts)
            conv.input[0] = pad.input[0]
        graph.node.remove(pad)
    _drop_unread(graph)


def _zero_pad(pad: onnx.NodeProto, operands: list[NDArray[Any]]) -> list[int] | None:
    """[top, left, bottom, right] of a constant zero Pad of H and W; None of any other."""
    mode = [attribute.s for attribute in pad.attribute if attribute.name == "mode"]
    if mode not in ([], [b"constant"]) or len(operands) not in (1, 2):
        return None
    if any(operand.any() for operand in operands[1:]):
        return None
    amounts = [int(amount) for amount in operands[0]]
    if len(amounts) != 8 or any(amounts[i] for i in (0, 1, 4, 5)) or min(amounts) < 0:
        return None
    return [amounts[i] for i in (2, 3, 6, 7)]


def _add_pads(conv: onnx.NodeProto, amounts: list[int]) -> None:
    from onnx import helper

    pads = [a for a in conv.attribute if a.name == "pads"]
    before = list(pads[0].ints) if pads else [0, 0, 0, 0]
    for attribute in pads:
        conv.attribute.remove(attribute)
    total = [a + b for a, b in zip(before, amounts, strict=True)]
    conv.attribute.append(helper.make_attribute("pads", total))


def _drop_unread(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in reads(node)}
    read |= {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def state_shapes(model: onnx.ModelProto, *, strict: bool = True) -> None:
    """Give every output the shape that follows from the graph, whatever was stated before.

    Raises onnx's InferenceError where shapes contradict each other and `strict` is wanted; else
    that output stays without.
    """
    import onnx

    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=strict, data_prop=True)
    for value, known in zip(model.graph.output, inferred.graph.output, strict=True):
        value.CopyFrom(known)


def name_weights(graph: onnx.GraphProto) -> None:
    """Name each layer's weights after its module: `blocks.3.expand.conv.weight` and `.bias`.

    The exporter names weights it folded by a counter; a name that says where serves every later
    pass. A weight that several layers share keeps its name.
    """
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    readers = Counter(name for node in graph.node for name in reads(node))
    for node in graph.node:
        path = node.name.rpartition("/")[0].strip("/").replace("/", ".")
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm") or not path:
            continue
        for index, suffix in ((1, "weight"), (2, "bias")):
            old = node.input[index] if index < len(node.input) else ""
            new = f"{path}.{suffix}"
            if old in tensors and readers[old] == 1 and new not in tensors:
                tensors[new] = tensors.pop(old)
                tensors[new].name = node.input[index] = new
