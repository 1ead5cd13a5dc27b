"""Parse: an ONNX file into a TensorRT network, or each node that is refused, and what to do.

The cures are ours; the parser's own words are kept beside them. Parsers before 10.0 give a node's
number alone, so its name and operator are looked up in the file.
"""

from __future__ import annotations

import re
from typing import Callable, Tuple

from edge.engines.tensorrt.errors import Fault
from edge.engines.tensorrt.log import Heard
from edge.engines.tensorrt.names import (
    ILogger,
    INetworkDefinition,
    ITensor,
    OnnxParser,
    ParserError,
    TensorRT,
)
from edge.engines.tensorrt.onnx_index import OnnxNode, onnx_nodes
from edge.engines.tensorrt.settings import BuildSettings

__all__ = ["cure_for", "make_parser", "parse"]

VERSIONS = ("8.0.1", "11.4.0")
_DAMAGED = "get the model again, or export it again: these bytes are not a whole ONNX file"
_UNFIT = (
    "get the model again, or export it again: its nodes or their sizes do not fit together, or a "
    "node takes what none before it gives"
)
_UNKNOWN = (
    "leave this operator out of the model, or export it so that it becomes ones TensorRT knows "
    "(post-processing belongs into the head, not into the model)"
)
_PLUGIN = (
    "this operator is no part of ONNX: export the model without it, or install the TensorRT plugin "
    "that provides it on the board"
)
_SYMMETRIC = "quantize activations and weights to symmetric int8, with every zero point 0"
_NO_TEXT = "\ufffd"  # in place of a byte that is no text, which only damage leaves in a name
_CURES = (  # in what the parser says: the first that is found counts
    (r"ParseFromCodedStream|Failed to parse the ONNX model|MODEL_DESERIALIZE", _DAMAGED),
    (r"Failed to open|external data|Failed to import initializer",
     "save the model with its weights in one file: onnx.save(model, path)"),
    (r"zero.?point is not supported|shiftIsAllZeros", _SYMMETRIC),
    (r"type Int32 but must|int32 zero.?point|INT32.*(bias|Dequantize)",
     "leave biases in float: no Q/DQ on them"),
    (r"was not registered|reshape changes volume|failed to broadcast|Shape Error", _UNFIT),
    (r"opset", "export at an opset that this TensorRT reads: 13 is read by all of them"),
    (r"DYNAMIC|[Dd]ynamic(?!Quant)|IShapeTensor|not.*build-?time constant",
     "export with fixed sizes; only the batch, the first one, may stay open"),
    (r"DATATYPE|INT64|UINT8|uint8|double|DOUBLE|unsupported (data ?)?type|dat[ae] type|UFLOAT",
     "export with float32, float16, int32 or int64 tensors at this node"),
)  # fmt: skip
_QUANTIZES = ("QuantizeLinear", "DequantizeLinear")
_MISSING = re.compile(r"No importer registered|[Pp]lugin")


def make_parser(
    trt: TensorRT, network: INetworkDefinition, log: ILogger, settings: BuildSettings
) -> OnnxParser:
    """A parser into `network`. It owns the weights, so it must live until the engine is built."""
    parser: OnnxParser = trt.OnnxParser(network, log)
    if settings.version_compatible and hasattr(trt, "OnnxParserFlag"):
        # Its instance normalization as a plugin would tie the engine to this version.
        parser.set_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)  # trt: from 8.6.1
    if settings.dla_core is not None and hasattr(trt, "OnnxParserFlag"):
        _adjust_for_dla(trt, parser)
    return parser


def _adjust_for_dla(trt: TensorRT, parser: OnnxParser) -> None:
    """Where the types are the file's, the parser can choose forms that a DLA takes."""
    if hasattr(trt.OnnxParserFlag, "ADJUST_FOR_DLA"):  # trt: from 8.6.1
        parser.set_flag(trt.OnnxParserFlag.ADJUST_FOR_DLA)  # trt: from 10.16.1


def parse(
    parser: OnnxParser, network: INetworkDefinition, heard: Heard, model: bytes
) -> Tuple[Fault, ...]:
    """Fill the network from the file's bytes; what is refused, empty when all went well."""
    nodes = onnx_nodes(model)
    faults = [_no_output(index, node) for index, node in enumerate(nodes) if not node.outputs]
    if faults:
        return tuple(faults)
    parsed = bool(parser.parse(model))
    for index in range(parser.num_errors):
        error: ParserError = parser.get_error(index)
        faults.append(_fault(error, nodes))
    if not parsed and not faults:
        faults.append(_file_fault(heard.reason))
    if parsed and not network.num_outputs:
        faults.append(_file_fault("a file without a graph, of which nothing was read"))
    names = [name for name in _io_names(network) if _NO_TEXT in name] if parsed else []
    faults += [_file_fault(f"an input or output whose name is no text: {name!r}") for name in names]
    return tuple(faults)


def cure_for(text: str, operator: str, domain: str = "") -> str:
    """What to do about what the parser said of a node.

    >>> cure_for("Non-zero zero point is not supported.", "QuantizeLinear")
    'quantize activations and weights to symmetric int8, with every zero point 0'
    """
    if operator == "DequantizeLinear" and re.search(r"[Ii]nt32|INT32", text):
        return "leave biases in float: no Q/DQ on them"
    if operator in _QUANTIZES and re.search(r"UINT8|uint8", text):
        return _SYMMETRIC
    for pattern, cure in _CURES:
        if re.search(pattern, text):
            return cure
    if domain:
        return _PLUGIN
    if _MISSING.search(text) or operator:
        return _UNKNOWN
    return "export the model again at opset 13 with fixed sizes"


def _no_output(index: int, node: OnnxNode) -> Fault:
    """NVIDIA's parser is not asked about such a node: it ends the process."""
    text = f"node number {index} gives nothing"
    return Fault(node=node.name, operator=node.operator, text=text, cure=_UNFIT)


def _fault(error: ParserError, nodes: Tuple[OnnxNode, ...]) -> Fault:
    number = int(error.node())
    known = nodes[number] if 0 <= number < len(nodes) else None
    name, operator = (known.name, known.operator) if known else ("", "")
    if hasattr(error, "node_name"):
        name = _text(error.node_name) or name  # trt: from 10.0.1
        operator = _text(error.node_operator) or operator  # trt: from 10.0.1
    code, text = str(error.code()).rpartition(".")[2], _text(error.desc)
    if len(text.split()) < 2:  # a bare condition, "false": its code says more
        text = f"{code}: {text}"
    # A node of a body has a number too, but in its own graph: then the number says nothing.
    domain = known.domain if known is not None and known.operator == operator else ""
    no_text = _NO_TEXT in f"{name}{operator}{text}"
    cure = _DAMAGED if no_text else cure_for(f"{code} {text}", operator, domain)
    return Fault(node=name, operator=operator, text=text, cure=cure, code=code)


def _io_names(network: INetworkDefinition) -> Tuple[str, ...]:
    inputs = [_io_name(network.get_input(index)) for index in range(network.num_inputs)]
    return (*inputs, *(_io_name(network.get_output(i)) for i in range(network.num_outputs)))


def _io_name(tensor: ITensor) -> str:
    return _text(lambda: tensor.name)


def _text(say: Callable[[], str]) -> str:
    """What it says; in a damaged file a name may be bytes that are no text."""
    try:
        return str(say())
    except UnicodeDecodeError as error:
        return error.object.decode("utf-8", "replace")


def _file_fault(text: str) -> Fault:
    return Fault(node="", operator="", text=text, cure=_DAMAGED)
