"""What the fake TensorRT does while it parses: networks, tensors, layers, profiles, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Dict

from tests.edge.tensorrt.fake_onnx import Node, NotOnnxError, Value, read_model


class IOptimizationProfile:
    _defaults: ClassVar[Dict[str, Any]] = {"extra_memory_target": 1.0}

    def __init__(self):
        self._shapes = {}

    def set_shape(self, input, min, opt, max):
        self._shapes[input] = [list(map(int, shape)) for shape in (min, opt, max)]

    def get_shape(self, input):
        return self._shapes.get(input, [])


class INetworkDefinition:
    _defaults: ClassVar[Dict[str, Any]] = {"name": "network", "has_implicit_batch_dimension": False}

    def __init__(self, builder, flags):
        self._machine.alive.add(self)
        self._builder, self._bits = builder, flags
        self._model, self._data = None, b""

    @property
    def num_inputs(self):
        return len(self._model.inputs)

    @property
    def num_outputs(self):
        return len(self._model.outputs)

    @property
    def num_layers(self):
        return len(self._model.nodes)

    def get_input(self, index):
        return _tensor(self._trt, self._model.inputs[index])

    def get_output(self, index):
        return _tensor(self._trt, self._model.outputs[index])

    def get_layer(self, index):
        return self._trt.ILayer(self._model.nodes[index], self._model.types)

    def _explicit(self):
        kinds = self._trt.NetworkDefinitionCreationFlag
        if not self._trt.__version__.startswith("8."):
            return True
        return bool(self._bits >> int(kinds.EXPLICIT_BATCH) & 1)


def _tensor(trt: Any, value: Value) -> Any:
    return trt.ITensor(value)


class ITensor:
    _defaults: ClassVar[Dict[str, Any]] = {"is_shape_tensor": False, "location": None}

    def __init__(self, value):
        self._value = value

    @property
    def name(self):
        return self._value.name

    @property
    def shape(self):
        return self._trt.Dims(self._value.shape)

    @property
    def dtype(self):
        return getattr(self._trt.DataType, self._value.dtype)

    @property
    def is_network_input(self):
        return True


class ILayer:
    _defaults: ClassVar[Dict[str, Any]] = {"metadata": ""}

    def __init__(self, node: Node, types: Dict[str, str]):
        self._node, self._types = node, types

    def get_output(self, index):
        name = self._node.outputs[index]
        return self._trt.ITensor(Value(name, self._types[name], ()))

    @property
    def name(self):
        return self._node.name

    @property
    def type(self):
        kinds = {"Conv": "CONVOLUTION", "QuantizeLinear": "QUANTIZE"}
        return getattr(self._trt.LayerType, kinds.get(self._node.op, "SHUFFLE"))

    @property
    def num_inputs(self):
        return 1

    @property
    def num_outputs(self):
        return len(self._node.outputs)


class Dims:
    def __init__(self, shape):
        self._shape = tuple(shape)

    def __len__(self):
        return len(self._shape)

    def __getitem__(self, index):
        return self._shape[index]


class OnnxParser:
    _defaults: ClassVar[Dict[str, Any]] = {"flags": 0}

    def __init__(self, network, logger):
        self._machine.alive.add(self)
        self._network, self._errors = network, []

    def parse(self, model, path=None):
        script = self._machine.script
        self._errors = []
        try:
            self._network._model = read_model(bytes(model))
            nodes = [node.name for node in self._network._model.nodes]
            for node, op, words in script.get("parser_errors", ()):
                number = nodes.index(node) if node in nodes else -1
                self._errors.append(self._trt.ParserError(node, op, words, number))
        except NotOnnxError:
            self._errors = [self._trt.ParserError("", "", "Failed to parse the ONNX model")]
        if not self._network._explicit():
            self._errors = [self._trt.ParserError("", "", "network must be explicit batch")]
        self._network._data = bytes(model)
        return not self._errors

    def parse_from_file(self, model):
        return self.parse(Path(model).read_bytes())

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        return self._errors[index]

    def clear_errors(self):
        self._errors = []

    def set_flag(self, flag):
        self._machine.flags.append(flag.name)

    def clear_flag(self, flag):
        pass

    def supports_operator(self, op_name):
        return op_name not in self._machine.script.get("unsupported", ())


class ParserError:
    def __init__(self, node, op, words, number=-1):
        self._parts, self._number = (node, op, words), number

    def code(self):
        return self._trt.ErrorCode.UNSUPPORTED_NODE

    def desc(self):
        return self._parts[2]

    def node(self):
        return self._number

    def node_name(self):
        return self._parts[0]

    def node_operator(self):
        return self._parts[1]

    def file(self):
        return "importer.cpp"

    def func(self):
        return "importNode"

    def line(self):
        return 7
