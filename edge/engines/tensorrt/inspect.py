"""What is in a built engine, layer by layer: both inspector schemas of TensorRT, and its profiler.

    TensorRT 8.2 to 10   {"Layers": [...], "Bindings": [names]}; tensors have "Format/Datatype"
    TensorRT 11          {"Layers": [...], "I/O Tensors": [...]}; tensors have "Format", "DataType"

In both a layer is an object when the engine was built with detailed verbosity, else its bare name.
8.0 has no inspector: there the names come from the profiler alone. Which ONNX nodes a layer holds
is in its "Metadata" ("[ONNX Layer: conv1]", several with control characters between them) or, where
that is missing, in its name: "conv1 + relu1", "PWN(sigmoid, mul)", "{ForeignNode[first...last]}".

EngineError
 '- InspectError   an inspector's answer that is neither schema
"""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter, defaultdict
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple

import msgspec

from edge.engines.tensorrt.names import (
    EngineInspector,
    ICudaEngine,
    IExecutionContext,
    TensorRT,
)
from edge.errors import EngineError

__all__ = ["EngineLayer", "InspectError", "layer_times", "layers_from_json", "nodes_from_name",
           "read_layers", "with_times"]  # fmt: skip

VERSIONS = ("8.0.1", "11.4.0")
LayerRun = List[Tuple[str, float]]  # one inference: each layer's name and ms, in order
_COPY = "Reformatting CopyNode"
_FOREIGN = re.compile(r"\{ForeignNode\[(?P<first>.+?)\.\.\.(?P<last>.+)\]\}")
_ALONE = re.compile(r"\{ForeignNode\[(?P<only>.+)\]\}")
_JOINTS = re.compile(r" \+ | \|\| |, ")
_METADATA = re.compile(r"\[ONNX Layer: ([^\x1e\x1f]*?)\]")
# In both schemas' words, the first that is found decides: BF16 holds FP16's letters, UInt8 Int8's.
_TYPES = (
    ("bf16", re.compile(r"bf16|bfloat16", re.I)),
    ("fp16", re.compile(r"fp16|float16|half", re.I)),
    ("fp8", re.compile(r"fp8|float8", re.I)),
    ("fp32", re.compile(r"fp32|float", re.I)),
    ("uint8", re.compile(r"uint8", re.I)),
    ("int8", re.compile(r"int8", re.I)),
    ("int32", re.compile(r"int32", re.I)),
    ("int64", re.compile(r"int64", re.I)),
    ("bool", re.compile(r"bool", re.I)),
)
_NARROW = ("int8", "fp8", "fp16", "bf16", "fp32")  # narrowest first; the others are no arithmetic


class InspectError(EngineError):
    """The inspector's answer is not JSON, or JSON of neither schema."""


class EngineLayer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of a built engine; what the engine does not tell is empty.

    `nodes` are names of ONNX nodes; with `is_span` only the first and the last of a run of them.
    `reads` and `writes` are the types of its tensors. `ms` is the median over the profiled
    inferences, None when none was.
    """

    name: str
    kind: str = ""  # "CaskConvolution"
    nodes: Tuple[str, ...] = ()
    is_span: bool = False
    reads: Tuple[str, ...] = ()
    writes: Tuple[str, ...] = ()
    tactic: str = ""
    device: str = ""  # "GPU" or "DLA"
    ms: Optional[float] = None

    @property
    def precision(self) -> str:
        """What it computes in: the narrowest type it reads; "" when it is not told.

        >>> EngineLayer(name="conv", reads=("int8", "fp16"), writes=("fp16",)).precision
        'int8'
        """
        found = self.reads or self.writes
        return next((name for name in _NARROW if name in found), "")


def layers_from_json(text: str) -> Tuple[EngineLayer, ...]:
    """The layers in an inspector's answer, in the order they run. Raises InspectError."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError) as error:
        _refuse(f"no JSON ({error})")
    layers = answer.get("Layers") if isinstance(answer, dict) else None
    if not isinstance(layers, list):
        _refuse('no list "Layers"')
    return tuple(_layer(index, layer) for index, layer in enumerate(layers))


def read_layers(trt: TensorRT, engine: ICudaEngine) -> Tuple[EngineLayer, ...]:
    """What the engine's inspector tells; empty where there is none (TensorRT 8.0)."""
    if not hasattr(engine, "create_engine_inspector"):
        return ()
    inspector: EngineInspector = engine.create_engine_inspector()  # trt: from 8.2.1
    form = trt.LayerInformationFormat.JSON  # trt: from 8.2.1
    return layers_from_json(inspector.get_engine_information(form))  # trt: from 8.2.1


def layer_times(
    trt: TensorRT, context: IExecutionContext, infer: Callable[[], object], runs: int
) -> List[LayerRun]:
    """Each layer's time in `runs` inferences; `infer` runs one in this context, without a graph.

    A profiled inference is slower than another, so the sum is not the latency.
    """
    profiler = _profiler(trt)
    deferred = hasattr(context, "report_to_profiler")
    context.profiler = profiler
    if deferred:  # else the enqueue itself waits for the GPU after every layer
        context.enqueue_emits_profile = False  # trt: from 8.2.1
    found: List[LayerRun] = []
    try:
        for _ in range(runs):
            infer()
            if deferred:
                context.report_to_profiler()  # trt: from 8.2.1
            found.append(list(profiler.times))
            profiler.times.clear()
    finally:
        context.profiler = None
    return found


def with_times(
    layers: Sequence[EngineLayer], runs: Sequence[Sequence[Tuple[str, float]]]
) -> Tuple[EngineLayer, ...]:
    """The layers with the median of their times; a name that is there twice is told by its turn.

    Layers only the profiler knows are added at the end, so the times add up to what it told.
    """
    told = _medians(runs)
    turns: Counter[str] = Counter()
    timed = []
    for layer in layers:
        key = (layer.name, turns[layer.name])
        turns[layer.name] += 1
        timed.append(msgspec.structs.replace(layer, ms=told.pop(key, None)))
    return (*timed, *(_named(name, ms) for (name, _), ms in told.items()))


def nodes_from_name(name: str) -> Tuple[Tuple[str, ...], bool]:
    """The ONNX nodes in a layer's name, and whether they are only the first and last of a run.

    >>> nodes_from_name("conv1 + PWN(sigmoid1, mul1)")
    (('conv1', 'sigmoid1', 'mul1'), False)
    >>> nodes_from_name("{ForeignNode[conv1...softmax9]}")
    (('conv1', 'softmax9'), True)
    >>> nodes_from_name("Reformatting CopyNode for Input Tensor 0 to conv1")
    ((), False)
    """
    if name.startswith(_COPY):
        return (), False
    run = _FOREIGN.fullmatch(name)
    if run is not None:
        return (run["first"], run["last"]), True
    alone = _ALONE.fullmatch(name)
    parts = _JOINTS.split(alone["only"] if alone else name)
    nodes = (part.replace("PWN(", "").rstrip(")") if "PWN(" in name else part for part in parts)
    return tuple(node for node in nodes if node), False


def _medians(
    runs: Sequence[Sequence[Tuple[str, float]]],
) -> Dict[Tuple[str, int], float]:
    samples: Dict[Tuple[str, int], List[float]] = defaultdict(list)
    for run in runs:
        turns: Counter[str] = Counter()
        for name, ms in run:
            samples[(name, turns[name])].append(ms)
            turns[name] += 1
    return {key: statistics.median(times) for key, times in samples.items()}


def _named(name: str, ms: Optional[float] = None) -> EngineLayer:
    nodes, is_span = nodes_from_name(name)
    return EngineLayer(name=name, nodes=nodes, is_span=is_span, ms=ms)


def _layer(index: int, told: object) -> EngineLayer:
    if isinstance(told, str):
        return _named(told)
    if not isinstance(told, dict) or not isinstance(told.get("Name"), str):
        _refuse(f"layer {index} without a name")
    kind = _text(told, "LayerType")
    nodes: Tuple[str, ...] = tuple(dict.fromkeys(_METADATA.findall(_text(told, "Metadata"))))
    is_span = False
    if not nodes:
        nodes, is_span = nodes_from_name(told["Name"])
    return EngineLayer(
        name=told["Name"],
        kind=kind,
        nodes=nodes,
        is_span=is_span,
        reads=_types(told, "Inputs"),
        writes=_types(told, "Outputs"),
        tactic=_text(told, "TacticName") or _text(told, "TacticValue"),
        device="" if not kind else "DLA" if "dla" in kind.lower() else "GPU",
    )


def _types(layer: Mapping[str, Any], key: str) -> Tuple[str, ...]:
    tensors = layer.get(key) or []
    if not isinstance(tensors, list) or not all(isinstance(tensor, dict) for tensor in tensors):
        _refuse(f"layer {layer['Name']!r} with {key} that are no list of tensors")
    # The new schema's layers spell the key both ways.
    words = (
        _text(tensor, "DataType") or _text(tensor, "Datatype") or _text(tensor, "Format/Datatype")
        for tensor in tensors
    )
    return tuple(_type(word) for word in words)


def _type(words: str) -> str:
    return next((name for name, pattern in _TYPES if pattern.search(words)), "")


def _text(told: Mapping[str, Any], key: str) -> str:
    value = told.get(key, "")
    return value if isinstance(value, str) else ""


def _profiler(trt: TensorRT) -> Any:  # noqa: ANN401  # a subclass of a class without types
    """A profiler that keeps what it is told; its class needs TensorRT's, so it is made here."""

    class Profiler(trt.IProfiler):  # type: ignore[misc, name-defined]  # TensorRT has no types
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times: LayerRun = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times.append((layer_name, ms))

    return Profiler()


def _refuse(found: str) -> NoReturn:
    raise InspectError(
        "TensorRT's engine inspector",
        found=found,
        expected='{"Layers": [...]} as TensorRT 8.2 to 11 writes it',
        cure="run `edge bench` without layers, and report the version of TensorRT",
    )
