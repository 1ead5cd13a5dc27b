"""The door: any ONNX file of convolutions, heads and simple attention as a module that trains.

The result is a torch.fx graph in eval mode: layers of torch.nn where the file has constant
weights, plain operations elsewhere, shape arithmetic folded to literals. Inputs and outputs come in
the file's order; one output is a tensor, several a tuple. Shapes are those of the file, except that
a batch of 1 is free where the file's own reshapes let it be. The random state of torch is left
alone, and the same file gives the same names and weights.

Each conversion is proven on the spot (`compress.from_onnx.prove`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.from_onnx.constants import (
    Array,
    Constant,
    constant_names,
    evaluated,
    stored_constants,
)
from compress.from_onnx.errors import UnsupportedError
from compress.from_onnx.operators import OPERATORS, translator_of
from compress.from_onnx.prove import prove, random_feeds
from compress.from_onnx.translation import Step, Translation
from compress.from_onnx.weights import Binding, weight_inputs

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto
    from torch import fx

__all__ = ["OPSETS", "Converted", "module_from_onnx", "translated"]

OPSETS = range(9, 22)

_KEPT = ("QuantizeLinear", "DequantizeLinear")  # of constants too: they round what is trained
_CURES = {
    "NonMaxSuppression": "NMS picks by data: export up to the raw outputs before it",
    "If": "export without branches that the data decides, or fold them with a simplifier",
    "Loop": "export without loops, with fixed sizes",
    "Scan": "export without loops, with fixed sizes",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A module, and where each of its weights is in the file."""

    module: fx.GraphModule
    bindings: tuple[Binding, ...]


def module_from_onnx(
    model: ModelProto | Path,
    *,
    feeds: Mapping[str, Array] | None = None,
    learn_scales: bool = False,
) -> fx.GraphModule:
    """The file as a module in eval mode, proven on `feeds` (else on random ones).

    Q/DQ nodes become fake quantization with straight-through gradients
    (`compress.from_onnx.ops_quant`); their scales are buffers, or with `learn_scales` parameters.

    Opsets 9 to 21, static shapes (`compress.onnx_source.fixed_shapes` fixes open ones). Raises
    UnsupportedError, which lists every operator that is not translated, or UnprovenError.
    """
    read = _read(model)
    feeds = random_feeds(read) if feeds is None else feeds
    module = translated(read, feeds, learn_scales=learn_scales).module
    prove(read, module, feeds)
    return module


def _read(model: ModelProto | Path) -> ModelProto:
    if isinstance(model, Path):
        from compress.onnx_source import load_onnx

        return load_onnx(model)
    return model


def translated(
    model: ModelProto, feeds: Mapping[str, Array], *, learn_scales: bool = False
) -> Converted:
    """The module, not yet proven, and its bindings. Raises UnsupportedError."""
    import torch
    from torch import fx

    opset = _checked_opset(model)
    known = constant_names(model)
    _check_operators(model, known)
    constants = stored_constants(model)
    into = Translation(opset=opset, constants=constants, learn_scales=learn_scales)
    into.weight_inputs = weight_inputs(model, known)
    into.readers = _readers(model)
    into.constants[""] = Constant(np.zeros(0))
    with torch.no_grad():
        for value in _inputs(model):
            into.start(value, torch.from_numpy(np.array(feeds[value])))
        _walk(model, into)
    outputs = [_output(into, value.name) for value in model.graph.output]
    into.graph.output(outputs[0] if len(outputs) == 1 else tuple(outputs))
    for node in reversed(into.graph.nodes):
        if not node.users and node.op not in ("placeholder", "output"):
            into.graph.erase_node(node)
    module = fx.GraphModule(into.root, into.graph, class_name=_class_name(model)).eval()
    present = {name for name, _ in (*module.named_parameters(remove_duplicate=False),
                                    *module.named_buffers(remove_duplicate=False))}  # fmt: skip
    kept = tuple(item for item in into.bindings if item.parameter in present)
    return Converted(module=module, bindings=kept)


def _class_name(model: ModelProto) -> str:
    name = "".join(letter for letter in model.graph.name if letter.isascii() and letter.isalnum())
    return name if name[:1].isalpha() else "FromOnnx"


def _checked_opset(model: ModelProto) -> int:
    opset = max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")),
                default=0)  # fmt: skip
    if opset not in OPSETS:
        raise UnsupportedError("the model", found=f"opset {opset}",
                               expected=f"{OPSETS.start} to {OPSETS.stop - 1}",
                               cure="export the model at opset 13 or 17")  # fmt: skip
    return int(opset)


def _check_operators(model: ModelProto, known: set[str]) -> None:
    """Every operator that is not in the table and not folded away, in one message."""
    unknown: Counter[str] = Counter()
    for node in model.graph.node:
        own = node.domain in ("", "ai.onnx")
        if own and (node.op_type in OPERATORS or known.issuperset(node.output)):
            continue
        unknown[node.op_type if own else f"{node.domain}.{node.op_type}"] += 1
    if unknown:
        listed = ", ".join(f"{name} x{count}" for name, count in sorted(unknown.items()))
        cures = [_CURES[name] for name in sorted(unknown) if name in _CURES]
        raise UnsupportedError(
            "the model", found=f"operators without a translation: {listed}",
            expected=f"the {len(OPERATORS)} of compress.from_onnx.operators",
            cure="; ".join(dict.fromkeys(cures)) or "export with standard operators of ONNX",
        )  # fmt: skip


def _readers(model: ModelProto) -> Counter[str]:
    read = Counter(name for node in model.graph.node for name in node.input)
    return read + Counter(value.name for value in model.graph.output)


def _inputs(model: ModelProto) -> list[str]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value.name for value in model.graph.input if value.name not in weights]


def _walk(model: ModelProto, into: Translation) -> None:
    """Translate node after node; a value is dropped behind its last reader."""
    nodes = list(model.graph.node)
    last = {name: at for at, node in enumerate(nodes) for name in node.input}
    last |= {value.name: len(nodes) for value in model.graph.output}
    alive: set[str] = set(into.values)
    for at, node in enumerate(nodes):
        _translate(node, at, into)
        alive.update(node.output)
        alive = {name for name in alive if last.get(name, -1) > at}
        into.forget(alive)


def _translate(node: NodeProto, at: int, into: Translation) -> None:
    inputs = tuple(_input(into, name) for name in node.input)
    step = Step(node=node, at=at, into=into, inputs=inputs)
    if node.op_type in ("Shape", "Size") and inputs[0] is not None:
        into.constants[node.output[0]] = Constant(_shape_of(step))
        return
    constants = [item for item in inputs if isinstance(item, Constant) or item is None]
    if len(constants) == len(inputs) and node.op_type not in _KEPT:
        _fold(step, constants)
        return
    try:
        made = translator_of(node.op_type)(step)
    except (RuntimeError, ValueError, IndexError, TypeError, KeyError) as error:
        first = str(error).strip().splitlines() or [""]
        raise step.refusal(f"{type(error).__name__}: {first[0][:200]}", "a node torch can run",
                           "check the file with onnx.checker, or export it again",
                           ) from error  # fmt: skip
    for name, value in zip(node.output, made if isinstance(made, list) else [made], strict=False):
        if name:
            into.name(name, value)


def _input(into: Translation, name: str) -> Any:  # noqa: ANN401 - Constant | fx.Node | None
    if not name:
        return None
    return into.constants[name] if name in into.constants else into.values[name]


def _shape_of(step: Step) -> Array:
    shape = step.shape(0)
    if step.kind == "Size":
        return np.array(int(np.prod(shape, dtype=np.int64)), np.int64)
    part = slice(step.attribute("start", 0), step.attribute("end", None))
    return np.array(shape[part], np.int64)


def _fold(step: Step, constants: list[Constant | None]) -> None:
    from onnx.reference.op_run import RuntimeImplementationError, RuntimeTypeError

    if step.kind == "Constant":
        found = [Constant(value.value, step.node.output[0])
                 for value in evaluated(step.node, [], step.opset)]  # fmt: skip
    else:
        try:
            found = evaluated(step.node, constants, step.opset)
        except (RuntimeImplementationError, RuntimeTypeError, NotImplementedError) as error:
            raise step.refusal("constants that onnx itself cannot work out",
                               "an operator its reference has", "export it folded",
                               ) from error  # fmt: skip
    names = [name for name in step.node.output if name]
    step.into.constants.update(zip(names, found, strict=True))


def _output(into: Translation, name: str) -> fx.Node:
    if name in into.values:
        return into.values[name]
    return into.buffer(into.constants[name], name)
