"""What the fake TensorRT does when it runs: engines, contexts, inference, inspection.

ONNX Runtime does the arithmetic. Inputs are read from the addresses that were set, outputs are
written to theirs, both when the stream is synchronized.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar, Dict, List, NamedTuple, Tuple

import numpy as np

from tests.edge.tensorrt.fake_build import host_memory, log, opened_plan
from tests.edge.tensorrt.fake_cuda import Op
from tests.edge.tensorrt.fake_onnx import Model, read_model

NUMPY = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32",
         "INT64": "int64", "BOOL": "bool", "UINT8": "uint8"}  # fmt: skip
WORDS = {"FLOAT": "FP32", "HALF": "FP16", "INT8": "Int8", "INT32": "Int32", "INT64": "Int64",
         "BOOL": "Bool", "UINT8": "UInt8"}  # fmt: skip
REFORMAT = "Reformatting CopyNode for Input Tensor 0 to "
_SESSIONS: Dict[str, Any] = {}


class Layer(NamedTuple):
    name: str
    kind: str
    nodes: Tuple[str, ...]


def session(model: bytes) -> Any:
    """ONNX Runtime with this model, as the tests' own expected outputs use it."""
    import onnxruntime

    key = hashlib.sha256(model).hexdigest()
    if key not in _SESSIONS:
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        settings.intra_op_num_threads = 1
        settings.add_session_config_entry("session.disable_quant_qdq", "1")
        _SESSIONS[key] = onnxruntime.InferenceSession(
            model, settings, providers=["CPUExecutionProvider"]
        )
    return _SESSIONS[key]


def engine_layers(model: Model, header: Dict[str, Any]) -> List[Layer]:
    """Each convolution with all that follows it, after a copy; on a DLA one node for all of it."""
    groups: List[List[Any]] = []
    for node in model.nodes:
        if node.op == "Conv" or not groups:
            groups.append([])
        groups[-1].append(node)
    layers = []
    for group in groups:
        names = tuple(node.name for node in group)
        on_dla = header["dla_core"] is not None and not set(names) & set(header["dla_refuses"])
        if on_dla:
            layers.append(Layer(f"{{ForeignNode[{names[0]}...{names[-1]}]}}", "DLA", names))
        else:
            layers.append(Layer(REFORMAT + " + ".join(names), "Reformat", ()))
            layers.append(Layer(" + ".join(names), "CaskConvolution", names))
    return layers


class Runtime:
    _defaults: ClassVar[Dict[str, Any]] = {"DLA_core": -1, "engine_host_code_allowed": False,
                                 "max_threads": 1, "gpu_allocator": None}  # fmt: skip

    def __init__(self, logger):
        self._machine.needs_device("trt.Runtime")
        self._machine.takes(logger)
        self._machine.alive.add(self)

    @property
    def num_DLA_cores(self):  # noqa: N802
        return self._machine.script.get("dla_cores", 0)

    def deserialize_cuda_engine(self, serialized_engine):
        words = self._machine.script.get("deserialize_error")
        try:
            header, model = opened_plan(bytes(serialized_engine))
        except ValueError as error:
            words = str(error)
        else:
            words = words or self._foreign(header)
        if words:
            log(self._trt, self._machine.logger, "ERROR", words)
            return None
        core = self.DLA_core if header["dla_core"] is not None else None
        return self._trt.ICudaEngine(header, model, core)

    def _foreign(self, header):
        here = self._trt.__version__
        if header["dla_core"] is not None and self.DLA_core < 0:
            return "the engine was built for a DLA, and the runtime has no DLA core"
        if header["compatible"]:
            return None if self.engine_host_code_allowed else "host code is not allowed"
        if header["version"] != here:
            return f"the engine was built by TensorRT {header['version']}, this is {here}"
        return None


class ICudaEngine:
    _defaults: ClassVar[Dict[str, Any]] = {
        "device_memory_size": 1 << 20, "device_memory_size_v2": 1 << 20, "name": "network",
        "refittable": False, "has_implicit_batch_dimension": False, "error_recorder": None,
    }  # fmt: skip

    def __init__(self, header, model, dla_core):
        self._machine.alive.add(self)
        self._header, self._data, self._dla_core = header, model, dla_core
        self._used: Dict[str, bool] = {}  # what contexts have taken
        self._model = read_model(model)
        self._values = (*self._model.inputs, *self._model.outputs)
        self._layers = engine_layers(self._model, header)

    @property
    def num_layers(self):
        return len(self._layers)

    @property
    def num_optimization_profiles(self):
        return max(1, len(self._header["profiles"]))

    @property
    def num_bindings(self):
        return len(self._values) * self.num_optimization_profiles

    @property
    def num_io_tensors(self):
        return len(self._values)

    def get_binding_name(self, index):
        value = self._values[index % len(self._values)]
        profile = index // len(self._values)
        return value.name + (f" [profile {profile}]" if profile else "")

    def get_binding_index(self, name):
        return [value.name for value in self._values].index(name)

    def binding_is_input(self, index):
        return self._values[index % len(self._values)] in self._model.inputs

    def get_binding_shape(self, index):
        return self._trt.Dims(self._values[index % len(self._values)].shape)

    def get_binding_dtype(self, index):
        return getattr(self._trt.DataType, self._values[index % len(self._values)].dtype)

    def get_profile_shape(self, profile_index, binding):
        name = binding if isinstance(binding, str) else self._values[binding].name
        return self._header["profiles"][profile_index][name]

    def get_tensor_name(self, index):
        return self._values[index].name

    def get_tensor_mode(self, name):
        return getattr(self._trt.TensorIOMode, "INPUT" if self._is_input(name) else "OUTPUT")

    def get_tensor_shape(self, name):
        return self._trt.Dims(self._named(name).shape)

    def get_tensor_dtype(self, name):
        return getattr(self._trt.DataType, self._named(name).dtype)

    def get_tensor_profile_shape(self, name, profile_index):
        return self._header["profiles"][profile_index][name]

    def create_execution_context(self, *strategy):
        number, self._machine.contexts = self._machine.contexts, self._machine.contexts + 1
        if number == self._machine.script.get("context_none_at"):
            return None
        return self._trt.IExecutionContext(self)

    def create_engine_inspector(self):
        return self._trt.EngineInspector(self)

    def serialize(self):
        return host_memory(b"")

    def _named(self, name):
        return {value.name: value for value in self._values}[name]

    def _is_input(self, name):
        return name in [value.name for value in self._model.inputs]


class IExecutionContext:
    _defaults: ClassVar[Dict[str, Any]] = {
        "profiler": None, "enqueue_emits_profile": True, "name": "", "debug_sync": False,
        "active_optimization_profile": 0,
    }  # fmt: skip

    def __init__(self, engine):
        self._machine.alive.add(self)
        self._engine, self._times = engine, []
        header = engine._header
        alone = header["profiles"] and not header["shared"]
        self._has_profile = not (alone and engine._used.get("profile", False))
        engine._used["profile"] = True
        self._addresses: Dict[str, int] = {}
        self._shapes = {value.name: value.shape for value in engine._model.inputs}

    @property
    def engine(self):
        return self._engine

    def set_binding_shape(self, binding, shape):
        return self._set_shape(self._engine._values[binding].name, shape)

    def get_binding_shape(self, binding):
        return self._trt.Dims(self._shape(self._engine._values[binding].name))

    def set_input_shape(self, name, shape):
        return self._set_shape(name, shape)

    def get_tensor_shape(self, name):
        return self._trt.Dims(self._shape(name))

    def set_tensor_address(self, name, memory):
        self._engine._named(name)
        self._addresses[name] = int(memory)
        return True

    def get_tensor_address(self, name):
        return self._addresses.get(name, 0)

    def infer_shapes(self):
        return []

    def execute_async_v2(self, bindings, stream_handle):
        if len(bindings) != self._engine.num_bindings:
            raise TypeError(f"{len(bindings)} bindings, the engine has them all to be given")
        names = [value.name for value in self._engine._values]
        return self._enqueue(dict(zip(names, bindings)), stream_handle)

    def execute_async_v3(self, stream_handle):
        return self._enqueue(dict(self._addresses), stream_handle)

    def report_to_profiler(self):
        times, self._times = self._times, []
        for name, ms in times:
            self.profiler.report_layer_time(name, ms)
        return bool(times)

    def _set_shape(self, name, shape):
        if not self._has_profile:  # before 8.6 a profile is of the first context that takes it
            return False
        stated, wanted = self._engine._named(name).shape, tuple(map(int, shape))
        limits = [p[name] for p in self._engine._header["profiles"] if name in p]
        low, high = (limits[0][0], limits[0][2]) if limits else (stated, stated)
        if len(wanted) != len(stated):
            return False
        if not all(a <= size <= b for a, size, b in zip(low, wanted, high)):
            return False
        self._shapes[name] = wanted
        return True

    def _shape(self, name):
        if name in self._shapes:
            return self._shapes[name]
        shape = self._engine._named(name).shape
        batches = [given[0] for given in self._shapes.values() if given]
        return (batches[0], *shape[1:]) if shape[:1] == (-1,) else shape

    def _enqueue(self, addresses, stream):
        machine = self._machine
        number, machine.enqueues = machine.enqueues, machine.enqueues + 1
        if number == machine.script.get("enqueue_false_at"):
            log(self._trt, machine.logger, "ERROR", "enqueue: an illegal memory access")
            return False
        names = [value.name for value in self._engine._values]
        shapes = {name: self._shape(name) for name in names}
        if any(-1 in shape for shape in shapes.values()):
            return False  # an input's shape was never set
        if not all(addresses.get(name) for name in names):
            return False
        batch = next(iter(shapes.values()))[0]
        run = _Run(self, addresses, shapes)
        machine.cuda.queue(stream, Op(run, machine.infer_ms * batch))
        return True


class _Run:
    """One inference, with the addresses and shapes of the moment it was queued."""

    def __init__(self, context: Any, addresses: Dict[str, int], shapes: Dict[str, Any]) -> None:
        self._data, self._machine = context._engine._data, context._machine
        self._addresses, self._shapes = addresses, shapes
        self._values = context._engine._values
        self._report = _reporter(context)

    def __call__(self) -> None:
        net = session(self._data)
        feeds = {tensor.name: self._at(tensor.name).copy() for tensor in net.get_inputs()}
        names = [tensor.name for tensor in net.get_outputs()]
        for name, array in zip(names, net.run(names, feeds)):
            off = self._machine.script.get("wrong_outputs", 0)
            self._at(name)[...] = array + np.asarray(off, array.dtype)
        self._report()

    def _at(self, name: str) -> np.ndarray:
        dtype = np.dtype(NUMPY[{value.name: value.dtype for value in self._values}[name]])
        shape = tuple(self._shapes[name])
        size = int(np.prod(shape)) * dtype.itemsize
        return self._machine.cuda.at(self._addresses[name], size).view(dtype).reshape(shape)


def _reporter(context: Any) -> Any:
    """Gives each layer's time to the profiler, or keeps it until it is asked for."""
    profiler = context.profiler
    if profiler is None:
        return lambda: None
    layers, machine = context._engine._layers, context._machine
    told = machine.script.get("layer_ms", {})
    times = [(layer.name, told.get(layer.name, machine.infer_ms / len(layers))) for layer in layers]
    kept = context._times
    if "enqueue_emits_profile" in context._names and not context.enqueue_emits_profile:
        return lambda: kept.extend(times)
    return lambda: [profiler.report_layer_time(name, ms) for name, ms in times]


class EngineInspector:
    _defaults: ClassVar[Dict[str, Any]] = {"execution_context": None}

    def __init__(self, engine):
        self._engine = engine

    def get_engine_information(self, format):
        assert format.name == "JSON"
        return json.dumps(information(self._trt.__version__, self._engine))


def information(version: str, engine: Any) -> Dict[str, Any]:
    """The inspector's JSON: TensorRT 11 has another schema than all before it."""
    new = int(version.partition(".")[0]) >= 11
    detailed = engine._header["verbosity"] == "DETAILED"
    layers = [_layer(new, layer) if detailed else layer.name for layer in engine._layers]
    if not new:
        return {"Layers": layers, "Bindings": [value.name for value in engine._values]}
    tensors = [
        {"Name": value.name, "IOMode": "Input" if engine._is_input(value.name) else "Output",
         "DataType": WORDS[value.dtype], "Dimensions": list(value.shape), "Location": "Device",
         "IsShapeInferenceIO": False}
        for value in engine._values
    ]  # fmt: skip
    return {"Layers": layers, "I/O Tensors": tensors}


def _layer(new: bool, layer: Layer) -> Dict[str, Any]:
    form = "Row major linear FP32 format"
    kind = {"Format": f"{form} (kLINEAR)", "DataType": "FP32"} if new else {"Format/Datatype": form}
    tensor = {"Name": "t", "Location": "Device", "Dimensions": [1, 3, 48, 64], **kind}
    return {
        "Name": layer.name, "LayerType": layer.kind, "Inputs": [tensor], "Outputs": [tensor],
        "ParameterType": "Convolution", "TacticName": f"tactic_{len(layer.nodes)}", "StreamId": 0,
        "Metadata": "\u001f".join(f"[ONNX Layer: {node}]" for node in layer.nodes),
    }  # fmt: skip
