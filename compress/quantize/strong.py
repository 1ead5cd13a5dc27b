"""The strongly typed twin: the same network with FP16 in its types, for TensorRT 11 and later.

TensorRT 11 has no FP16 or INT8 flag: a layer computes in the type its tensors have. So model.onnx,
float32 with or without Q/DQ, gets a twin beside it:

    y = f(x; W), all FP32   ->   y = cast32(f16(cast16(x); W16))     inputs and outputs stay FP32

A node computes in FP16 when ONNX's own schema lets its operands be float16, and in FP32 otherwise;
one Cast a tensor stands exactly where the two meet. FP32 remain, counted in refusals:

- what overflowed 65504 on the frames that were looked at, and weights too small for FP16;
- operators without a float16 form, and nodes with bodies (If, Loop, Scan) with the makers of what a
  body reads. A Cast stays as it is: an integer above 2048 has no exact FP16.

In a model with Q/DQ, FP16 goes to layers with float weights and to what follows only those; Q, DQ
and all that lies between them stay FP32. A Cast there would stand between a DQ and its layer, and
FP16 scales (opset 19) gain nothing: NVIDIA's builder warns that it converts each of them back, and
rounding them moved the packaged net's boxes to 29 dB from model.onnx; this form repeats it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.onnx_clean import bodies, reads
from compress.quantize.errors import QuantizeError
from compress.quantize.fp16 import fp16_troubles
from compress.quantize.graph import MATRIX_OPS, QdqGraph, attribute
from compress.quantize.prepare import opset_of
from devices.budget import Refusal

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["StrongTwin", "strong_twin"]

_NORMAL_MIN = 2.0**-14  # below it FP16 has fewer than 11 significant bits
_QDQ = ("QuantizeLinear", "DequantizeLinear")
_FLOAT, _HALF = "tensor(float)", "tensor(float16)"


@dataclass(frozen=True, slots=True, kw_only=True)
class StrongTwin:
    """The twin; how many nodes of the source compute in FP16, and why others do not.

    With `half_nodes` 0 the source itself is what a strongly typed builder needs.
    """

    model: ModelProto
    half_nodes: int
    refusals: tuple[Refusal, ...]


def strong_twin(model: ModelProto, feeds: Iterable[Mapping[str, NDArray[Any]]]) -> StrongTwin:
    """`model` with FP16 types inside; `feeds` show which layers overflow.

    Names of nodes, inputs and outputs are the source's. The same arguments give the same bytes.
    """
    source = _constants_stored(model)
    graph = QdqGraph(source)
    floats = _float_tensors(source)
    unfit = _unfit_nodes(source, graph, floats)
    if _chosen(graph, floats, unfit):  # else nothing could overflow, and no frame need be run
        unfit = {**_troubled_nodes(source, graph, feeds), **unfit}
    half = _chosen(graph, floats, unfit)
    halved = {name for node in half.values() for name in node.output if name in floats}
    _Typist(graph, floats, half, halved).retype()
    made = graph.model()
    _check(made, source)
    counted = Counter(unfit.values())
    return StrongTwin(
        model=made,
        half_nodes=len(half),
        refusals=tuple(
            Refusal(what="FP16 types for layers", reason=why, count=count, instead="FP32")
            for why, count in sorted(counted.items())
            if why
        ),
    )


def _constants_stored(model: ModelProto) -> ModelProto:
    """Constant nodes become initializers, and constant weights behind Q their integers."""
    import onnx

    graph = QdqGraph(model)
    for node in graph.by_type("Constant"):
        value = attribute(node, "value", None)
        if value is not None:
            graph.set_constant(node.output[0], onnx.numpy_helper.to_array(value))
            graph.remove(node)
    for pair in graph.pairs():
        stored = graph.constant(pair.source)
        if stored is not None and pair.dequantize:
            _store_integers(graph, pair.quantize, stored)
    return graph.model()


def _store_integers(graph: QdqGraph, quantize: NodeProto, weights: NDArray[np.float32]) -> None:
    """Q of a constant is a constant: the very integers, at a quarter of the bytes."""
    scale = graph.constant(quantize.input[1])
    zero = graph.constant(quantize.input[2]) if len(quantize.input) > 2 else None
    if scale is None or zero is None or zero.dtype != np.int8 or zero.any():
        return
    shape = [1] * weights.ndim
    if scale.ndim:
        shape[attribute(quantize, "axis", 1)] = -1
    levels = np.rint(weights / np.asarray(scale, np.float32).reshape(shape))
    made = quantize.output[0]
    graph.remove(quantize)
    graph.set_constant(made, np.clip(levels, -128, 127).astype(np.int8))


def _float_tensors(model: ModelProto) -> set[str]:
    """Every float32 tensor, computed or stored."""
    import onnx

    return {name for name, kind in _types(model).items() if kind == onnx.TensorProto.FLOAT}


def _unfit_nodes(model: ModelProto, graph: QdqGraph, floats: set[str]) -> dict[int, str]:
    """Node id -> why it has no FP16 form; "" where nothing is lost by it."""
    in_bodies = {name for node in graph.nodes for body in bodies(node) for name in _read_by(body)}
    unfit: dict[int, str] = {}
    for node in graph.nodes:
        why = _unfit(node, opset_of(model), floats)
        if why is None and in_bodies.intersection(node.output):
            why = "what they make is read inside If, Loop or Scan"
        if why is not None:
            unfit[id(node)] = why
    return unfit


def _troubled_nodes(
    model: ModelProto, graph: QdqGraph, feeds: Iterable[Mapping[str, NDArray[Any]]]
) -> dict[int, str]:
    """Node id -> why FP16 does not hold what it reads or makes."""
    troubled = _troubled(model, feeds)
    found: dict[int, str] = {}
    for node in graph.nodes:
        why = next((troubled[n] for n in (*node.output, *node.input) if n in troubled), None)
        if why is not None:
            found[id(node)] = why
    return found


def _chosen(graph: QdqGraph, floats: set[str], unfit: dict[int, str]) -> dict[int, NodeProto]:
    """The nodes that compute in FP16, by id."""
    fit = [node for node in graph.nodes if id(node) not in unfit]
    if not graph.by_type(*_QDQ):
        return {id(node): node for node in fit}
    chosen: dict[int, NodeProto] = {}
    made: set[str] = set()
    for node in fit:  # a file's nodes are in order, so the makers of its operands were seen
        computed = [n for n in node.input if n in floats and graph.constant(n) is None]
        behind = {maker.op_type for maker in map(graph.producer, node.input) if maker is not None}
        by_weights = node.op_type in MATRIX_OPS and graph.weight_dequantize(node) is None
        if by_weights or (computed and made.issuperset(computed) and not behind & set(_QDQ)):
            chosen[id(node)] = node
            made.update(node.output)
    return chosen


def _read_by(body: Any) -> set[str]:  # noqa: ANN401 - a GraphProto; onnx has no types here
    return {name for node in body.node for name in reads(node)} | {v.name for v in body.output}


def _troubled(model: ModelProto, feeds: Iterable[Mapping[str, NDArray[Any]]]) -> dict[str, str]:
    """Tensor -> why FP16 does not hold it."""
    found = {}
    for trouble in fp16_troubles(model, feeds):
        if trouble.overflowed:
            found[trouble.tensor] = "values beyond 65504, which FP16 does not hold"
        elif trouble.is_weight and trouble.largest < _NORMAL_MIN:
            found[trouble.tensor] = "weights all below 2^-14, which FP16 rounds coarsely or to 0"
    return found


def _unfit(node: NodeProto, opset: int, floats: set[str]) -> str | None:
    """Why a node cannot compute in FP16; None when it can."""
    import onnx

    touched = [name for name in (*reads(node), *node.output) if name in floats]
    if not touched:
        return ""
    if any(True for _ in bodies(node)):
        return "If, Loop and Scan"
    if node.op_type in ("Cast", "CastLike", *_QDQ):
        return ""
    if not onnx.defs.has(node.op_type, node.domain) or node.domain not in ("", "ai.onnx"):
        return "operators outside ONNX"
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    halves = {formal.type_str for _, formal in _operands(node, schema, floats)}
    made = [_formal(schema.outputs, i) for i, n in enumerate(node.output) if n in floats]
    if halves and all(formal.type_str in halves for formal in made):
        return None
    return "operators without a float16 form" if any(n in floats for n in node.input) else ""


def _operands(node: NodeProto, schema: Any, floats: set[str]) -> list[tuple[int, Any]]:  # noqa: ANN401
    """(index, formal parameter) of each float input that may be float16."""
    formals = [(i, _formal(schema.inputs, i)) for i, name in enumerate(node.input)
               if name in floats]  # fmt: skip
    return [(i, formal) for i, formal in formals if {_FLOAT, _HALF} <= set(formal.types)]


def _formal(formals: Any, index: int) -> Any:  # noqa: ANN401 - onnx has no types here
    return formals[min(index, len(formals) - 1)]  # the last one may be variadic


class _Typist:
    """Gives half nodes FP16 operands; where types meet, one shared Cast a tensor."""

    def __init__(
        self, graph: QdqGraph, floats: set[str], half: dict[int, NodeProto], halved: set[str]
    ) -> None:
        self._graph, self._floats, self._half = graph, floats, half
        self._halved = halved  # tensors that half nodes make
        self._casts: dict[tuple[str, bool], str] = {}

    def retype(self) -> None:
        import onnx

        opset, nodes = opset_of(self._graph.model()), list(self._graph.nodes)
        for name in [name for name in self._graph.outputs if name in self._halved]:
            self._widen_output(name)
        for node in nodes:
            wanted: set[int] = set()
            if id(node) in self._half:
                schema = onnx.defs.get_schema(node.op_type, opset, "")
                wanted = {index for index, _ in _operands(node, schema, self._floats)}
            for index, name in enumerate(node.input):
                if name in self._floats:
                    self._graph.set_input(node, index, self._as(name, index in wanted))

    def _as(self, name: str, half: bool) -> str:
        """The tensor in FP16 or FP32, whichever is wanted."""
        if (name in self._halved) == half:
            return name
        known = self._casts.get((name, half))
        if known is None:
            known = self._casts[name, half] = self._cast(name, half)
        return known

    def _cast(self, name: str, half: bool) -> str:
        stored = self._graph.constant(name)
        if stored is not None and half:
            return self._graph.add_constant(f"{name}_fp16", stored.astype(np.float16))
        made = self._graph.fresh(f"{name}_fp16" if half else f"{name}_fp32")
        self._add_cast(name, made, half)
        return made

    def _add_cast(self, name: str, made: str, half: bool) -> None:
        import onnx

        kind = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
        self._graph.add_node(
            onnx.helper.make_node("Cast", [name], [made], name=f"cast_{made}", to=kind)
        )

    def _widen_output(self, name: str) -> None:
        """The graph's output keeps its name and type; readers go on in FP16."""
        inner = self._graph.fresh(f"{name}_fp16")
        self._graph.rename_made(name, inner)
        self._graph.redirect(name, inner)
        self._floats.add(inner)
        self._halved.discard(name)
        self._halved.add(inner)
        self._add_cast(inner, name, half=False)


def _check(made: ModelProto, source: ModelProto) -> None:
    """What a reader relies on, looked up in the twin itself. Raises QuantizeError."""
    import onnx

    try:
        onnx.checker.check_model(made, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise _fault(f"a model that onnx's checker refuses ({error})") from error
    if [*made.graph.input, *made.graph.output] != [*source.graph.input, *source.graph.output]:
        raise _fault("other inputs or outputs than the model's")
    lost = {node.name for node in source.graph.node} - {node.name for node in made.graph.node}
    if lost:
        raise _fault(f"no node {sorted(lost)[0]!r}")
    types = _types(made)
    if onnx.TensorProto.DOUBLE in set(types.values()) - set(_types(source).values()):
        raise _fault("a float64 tensor")
    old = {node.output[0] for node in source.graph.node if node.op_type == "Cast"}
    both = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}
    for node in made.graph.node:
        ends = {types.get(node.input[0]), types.get(node.output[0])} if node.input else both
        if node.op_type == "Cast" and node.output[0] not in old and ends != both:
            raise _fault(f"a Cast that changes nothing, {node.name}")


def _types(model: ModelProto) -> dict[str, int]:
    """Tensor -> its ONNX element type, as far as inference tells."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    known = {value.name: value.type.tensor_type.elem_type for value in values}
    return {**known, **{tensor.name: tensor.data_type for tensor in graph.initializer}}


def _fault(found: str) -> QuantizeError:
    return QuantizeError(
        "model.strong.onnx",
        found=found,
        expected="the model's own network, with FP16 types inside",
        cure="report this with the run's folder",
    )
