"""ONNX graph -> fused kernels with operations and elements moved; the only file that reads ONNX.

Constants are folded, functions inlined; every shape must be static, but for a batch left open: that
is taken to be 1. Weights kept beside the file
are not read: only shapes matter. The numbers are those of the graph, not of a board:
`devices.roofline` prices them. An operation nobody can price is a kernel of class "other" and is
named in `unknown_ops`. `onnx` is imported inside functions and only on a host.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

import msgspec

from devices.errors import JetpressError, MissingExtraError
from devices.roofline import Costs
from edge.fusion import FUSED_OPS
from edge.graph import VIEW_OPS, Constant, Graph, Node, elements
from edge.pricing import costs_from_graph

__all__ = ["CostError", "costs_from_onnx", "read_graph"]

_Proto = Any  # an onnx protobuf message: the package is not imported at module level

_SHAPE_OPS = frozenset(("Constant", "Shape", "Size"))
_DATA_SIZED = frozenset(("NonMaxSuppression", "NonZero", "Unique", "Compress"))
_SHAPE_ARITHMETIC = (
    "Add Cast Ceil Concat Constant ConstantOfShape Div Equal Floor Gather Identity Max Min Mod Mul "
    "Neg ReduceProd Reshape Slice Squeeze Sub Unsqueeze Where"
)
_SMALL_ELEMS = 64  # a shape has a handful; more is a weight and stays unread
_ROUNDS_MAX = 20  # reshapes whose target depends on the reshape before
# What a damaged file makes of names, shapes and attributes; checking each beforehand would repeat
# onnx.checker, which refuses graphs that TensorRT takes.
_CONTRADICTIONS = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
_GUESSED_SIZE = 100  # of a dimension that only the data decides
_FREE_OPS = frozenset(("QuantizeLinear", "DequantizeLinear")) | VIEW_OPS
_PLUGINS = frozenset(op for op in FUSED_OPS if op.endswith("_TRT"))  # in TensorRT's own domain
_STANDARD_DOMAINS = ("", "ai.onnx")


class CostError(JetpressError):
    """The network cannot be priced: unreadable, dynamic, or of unknown shape."""


def costs_from_onnx(path: Path) -> Costs:
    """Costs of the network in an ONNX file, batch as exported, or 1 where the file leaves it open.

    Raises:
        CostError: the file is missing, unreadable or empty, or a shape is not static.
        MissingExtraError: the package `onnx` is not installed.
    """
    try:
        return costs_from_graph(read_graph(Path(path)))
    except _CONTRADICTIONS as problem:
        raise CostError(
            str(path),
            found=f"a graph that contradicts itself ({type(problem).__name__}: {problem})"[:300],
            expected="a graph that onnx.checker accepts",
            cure="export it again; onnx.checker.check_model says more",
        ) from problem


def read_graph(path: Path) -> Graph:
    """The network in an ONNX file as plain values.

    Raises:
        CostError: the file is missing, unreadable or empty, or a shape is not static.
        MissingExtraError: the package `onnx` is not installed.
    """
    model = _load(path)
    _require_static_inputs(model, path)
    opened = _close_batch(model)
    model = _with_shapes(model, path)
    return msgspec.structs.replace(_Reader(model, path).read(), batch_open=opened)


class _Reader:
    """State of one reading: what is constant, which shapes are known, what was guessed."""

    def __init__(self, model: _Proto, path: Path) -> None:
        self.model = model
        self.path = path
        self.shapes: Dict[str, Tuple[int, ...]] = {}
        self.unknown_dims: Set[str] = set()
        self.constants: Dict[str, Constant] = {}
        self.guessed: Set[str] = set()
        self.unknown_ops: List[str] = []
        graph = model.graph
        for info in (*graph.input, *graph.value_info, *graph.output):
            self._note_shape(info)
        for tensor in graph.initializer:
            self._store(tensor.name, tuple(tensor.dims), tensor.data_type)

    def read(self) -> Graph:
        nodes = []
        for node in _needed(self.model.graph):
            if self._fold(node):
                continue
            self._complete_shapes(node)
            nodes.append(node)
        graph = self.model.graph
        return Graph(
            nodes=tuple(nodes),
            shapes=self.shapes,
            constants=self.constants,
            inputs=tuple(info.name for info in graph.input if info.name not in self.constants),
            outputs=tuple(info.name for info in graph.output),
            opset=_opset(self.model),
            unknown_ops=tuple(self.unknown_ops),
        )

    def _note_shape(self, info: _Proto) -> None:
        if not info.type.tensor_type.HasField("shape"):
            return
        dims = info.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            self.shapes[info.name] = tuple(dim.dim_value for dim in dims)
        else:
            self.unknown_dims.add(info.name)
            self.shapes[info.name] = tuple(dim.dim_value or _GUESSED_SIZE for dim in dims)

    def _store(self, name: str, shape: Tuple[int, ...], data_type: int) -> None:
        self.shapes[name] = shape
        self.constants[name] = Constant(
            elems=elements(shape), is_weight=_is_weight_type(data_type), quantized=False, root=name
        )

    def _fold(self, node: Node) -> bool:
        """Is the node's result known before the network runs?"""
        if node.op in _SHAPE_OPS:
            for name in node.outputs:
                value = node.attributes.get("value")
                if value is not None and hasattr(value, "dims"):
                    self._store(name, tuple(value.dims), value.data_type)
                else:
                    self._store(name, self.shapes.get(name, (1,)), 7)  # int64
            return True
        inputs = [name for name in node.inputs if name]
        if not inputs or not all(name in self.constants for name in inputs):
            return False
        source = self.constants[inputs[0]]
        for name in node.outputs:
            shape = self.shapes.setdefault(name, self.shapes[inputs[0]])
            quantized = source.quantized or node.op in ("QuantizeLinear", "DequantizeLinear")
            self.constants[name] = Constant(
                elems=elements(shape),
                is_weight=source.is_weight,
                quantized=quantized,
                root=source.root,
            )
        return True

    def _complete_shapes(self, node: Node) -> None:
        known = node.op in FUSED_OPS or node.op in _FREE_OPS
        if (not known or node.op in _DATA_SIZED) and node.op not in self.unknown_ops:
            self.unknown_ops.append(node.op)
        data = [name for name in node.inputs if name and name not in self.constants]
        guess = not known or node.op in _DATA_SIZED or any(name in self.guessed for name in data)
        for name in node.outputs:
            if not name:
                continue
            if guess:
                self.guessed.add(name)
                like = self.shapes.get(data[0], (1,)) if data else (1,)
                self.shapes.setdefault(name, like)
            elif name not in self.shapes or name in self.unknown_dims:
                raise CostError(
                    f"{self.path}: tensor {name!r} of {node.op} {node.name!r}",
                    found="a shape that cannot be inferred",
                    expected="static shapes throughout",
                    cure="export with fixed sizes, or simplify the graph with onnxsim first",
                )


def _load(path: Path) -> _Proto:
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs
    except ImportError:
        raise MissingExtraError("onnx", extra="compress", needed_for=str(path)) from None
    cure = "give a file written by an ONNX exporter"
    try:
        model = onnx.load(str(path), load_external_data=False)
    except FileNotFoundError:
        raise CostError(
            str(path), found="no such file", expected="an ONNX file", cure="check the path"
        ) from None
    except OSError as problem:
        raise CostError(
            str(path), found=str(problem), expected="a readable ONNX file", cure="check the path"
        ) from problem
    except (DecodeError, ValueError) as problem:
        raise CostError(
            str(path), found="bytes that are not ONNX", expected="an ONNX file", cure=cure
        ) from problem
    if not model.graph.node or not model.opset_import:
        raise CostError(str(path), found="no network in it", expected="an ONNX file", cure=cure)
    return model


def _close_batch(model: _Proto) -> bool:
    """Put 1 wherever an input's first size is left open; True when one was."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [info for info in model.graph.input if info.name not in stored]
    first = [info.type.tensor_type.shape.dim[:1] for info in inputs]
    opened = [dim for dims in first for dim in dims if dim.dim_value < 1]
    names = {dim.dim_param for dim in opened} - {""}
    for info in (*model.graph.value_info, *model.graph.output):
        dims = info.type.tensor_type.shape.dim
        opened += [dim for dim in dims if dim.dim_param in names]
    for dim in opened:
        dim.dim_value = 1
    return bool(opened)


def _require_static_inputs(model: _Proto, path: Path) -> None:
    stored = {tensor.name for tensor in model.graph.initializer}
    for info in model.graph.input:
        dims = info.type.tensor_type.shape.dim
        if info.name in stored or all(dim.dim_value > 0 for dim in dims[1:]):
            continue
        shown = ", ".join(str(dim.dim_value or dim.dim_param or "?") for dim in dims)
        raise CostError(
            f"{path}: input {info.name!r}",
            found=f"dynamic shape ({shown})",
            expected="every size a number, but for the batch",
            cure="export with a fixed size (torch.onnx.export without dynamic_axes), or "
            "run: python -m onnxruntime.tools.make_dynamic_shape_fixed",
        )


def _with_shapes(model: _Proto, path: Path) -> _Proto:
    import onnx
    from onnx.inliner import inline_local_functions

    if model.functions:
        model = inline_local_functions(model)
    try:
        for _ in range(_ROUNDS_MAX):
            model = onnx.shape_inference.infer_shapes(model, data_prop=True)
            if not _fold_shape_arithmetic(model):
                break
        return model
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as problem:
        raise CostError(
            str(path),
            found=f"a graph whose shapes contradict each other ({str(problem)[:200]})",
            expected="a graph that onnx.shape_inference accepts",
            cure="export it again",
        ) from problem


def _fold_shape_arithmetic(model: _Proto) -> bool:
    """Compute small integers (a reshape's target) once their shapes are known; False when done.

    ONNX's own propagation gives up at a -1, which most exporters write.
    """
    import onnx
    from onnx.reference import ReferenceEvaluator

    known = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer if _is_small(t)}
    shapes, arithmetic = _static_shapes(model), _SHAPE_ARITHMETIC.split()
    found = {}
    for node in model.graph.node:
        if node.op_type == "Shape" and node.input[0] in shapes and not node.attribute:
            value = onnx.numpy_helper.to_array(
                onnx.helper.make_tensor(
                    "", onnx.TensorProto.INT64, [len(shapes[node.input[0]])], shapes[node.input[0]]
                )
            )
            found[node.output[0]] = known[node.output[0]] = value
        elif node.op_type in arithmetic and all(name in known for name in node.input if name):
            feeds = {name: known[name] for name in node.input if name}
            if node.op_type == "ConstantOfShape" and feeds[node.input[0]].prod() > _SMALL_ELEMS:
                continue
            run = ReferenceEvaluator(_alone(node, model)).run(None, feeds)
            found[node.output[0]] = known[node.output[0]] = run[0]
    kept = [node for node in model.graph.node if node.output[0] not in found]
    if not found:
        return False
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name) for name, value in found.items()
    )
    return True


def _alone(node: _Proto, model: _Proto) -> _Proto:
    """A model of one node, its types left open."""
    import onnx

    inputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.input if name]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = onnx.helper.make_graph([node], "one", inputs, outputs)
    return onnx.helper.make_model(graph, opset_imports=model.opset_import)


def _static_shapes(model: _Proto) -> Dict[str, List[int]]:
    shapes = {}
    for info in (*model.graph.input, *model.graph.value_info):
        kind = info.type.tensor_type
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim):
            shapes[info.name] = [dim.dim_value for dim in kind.shape.dim]
    return shapes


def _is_small(tensor: _Proto) -> bool:
    return elements(tuple(tensor.dims)) <= _SMALL_ELEMS and not tensor.external_data


def _needed(graph: _Proto) -> List[Node]:
    """The nodes that some output depends on, in order."""
    wanted = {info.name for info in graph.output}
    kept = []
    for proto in reversed(graph.node):
        if wanted.intersection(proto.output):
            kept.append(_node_from_proto(proto))
            wanted.update(name for name in proto.input if name)
    return kept[::-1]


def _node_from_proto(proto: _Proto) -> Node:
    import onnx

    standard = proto.domain in _STANDARD_DOMAINS
    plain = standard or proto.op_type in _PLUGINS
    values = {
        a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute if not a.ref_attr_name
    }
    attributes = {
        key: value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        for key, value in values.items()
    }
    return Node(
        name=proto.name,
        op=proto.op_type if plain else f"{proto.domain}::{proto.op_type}",
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes=attributes,
    )


def _opset(model: _Proto) -> int:
    versions = [e.version for e in model.opset_import if e.domain in _STANDARD_DOMAINS]
    return int(versions[0]) if versions else 0


def _is_weight_type(data_type: int) -> bool:
    """Float, double, half, bfloat16, int8, uint8 and the 8- and 4-bit floats."""
    return data_type in (1, 2, 3, 10, 11, 16, 17, 18, 19, 20, 21, 22, 23)
