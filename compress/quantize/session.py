"""ONNX Runtime as a ruler: one session that executes a graph exactly as it is written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from devices.errors import MissingExtraError

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["open_session", "with_outputs"]


def open_session(model: ModelProto, threads: int = 2) -> Any:  # noqa: ANN401  # onnxruntime has no types
    """An InferenceSession with every graph optimization off: each Q/DQ pair really rounds."""
    try:
        import onnxruntime as ort
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "onnxruntime", extra="compress", needed_for="running a model on the host"
        ) from error
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    data = model.SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def with_outputs(model: ModelProto, names: Iterable[str]) -> ModelProto:
    """A copy that also outputs these float tensors; the model's own outputs come first."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    known = {value.name for value in made.graph.output}
    for name in names:
        if name not in known:
            value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            made.graph.output.append(value)
    return made
