"""Emulated engine: real outputs from ONNX Runtime on this computer, time from the board's roofline.

Every inference takes the predicted latency on the clock it is given. On a virtual clock that is
exact, whatever the computer; on a real clock it is slept for, and inferences this computer was too
slow for are counted in `host_slower`.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from numpy.typing import NDArray

from devices.budget import Basis, Measurement, Refusal
from devices.errors import MissingExtraError
from devices.roofline import predict
from edge.bundle import Bundle, TensorSpec
from edge.engines import EngineOptions
from edge.errors import EngineError
from edge.gate import COSTS_FILE, read_costs

__all__ = ["EmulatedEngine"]

MODEL = "model.onnx"
FP16_NOTE = "fp16 rounding is not emulated: outputs are those of the fp32 arithmetic"
FAILURES = ("EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel",
            "NoSuchFile", "NotImplemented", "RuntimeException")  # fmt: skip


class EmulatedEngine:
    """One bundle's model under ONNX Runtime, in the time of one board."""

    basis = Basis.EMULATED
    refusals: Tuple[Refusal, ...] = ()

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        self.latency: Optional[Measurement] = _predicted(bundle, options)
        self.inputs = bundle.manifest.inputs
        self.outputs = bundle.manifest.outputs
        self.mode = options.profile.mode(options.mode).name
        self.host_slower = 0
        self.infer_frame = None
        self.notes: Tuple[str, ...] = (FP16_NOTE,) if bundle.manifest.precision == "fp16" else ()
        self._clock = options.clock
        self._latency_s = self.latency.value / 1e3
        self._session, self._failures = _session(str(bundle.path(MODEL)), options.threads)
        _check_names(self._session, self.inputs, self.outputs)
        self._names = [spec.name for spec in self.outputs]

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> Dict[str, NDArray[Any]]:
        """The outputs; returns when the board would have, or later when this computer is slower."""
        done_s = self._clock.now_s() + self._latency_s
        try:
            arrays = self._session.run(self._names, dict(feeds))
        except self._failures as error:
            raise EngineError(
                MODEL,
                found=str(error).splitlines()[0],
                expected=", ".join(f"{s.name} {s.dtype} {s.shape}" for s in self.inputs),
                cure="feed what the manifest's inputs say",
            ) from error
        if self._clock.now_s() > done_s:
            self.host_slower += 1
        self._clock.sleep_until(done_s)
        return dict(zip(self._names, arrays))

    def close(self) -> None:
        """Let the session go."""
        self._session = None


def _predicted(bundle: Bundle, options: EngineOptions) -> Measurement:
    costs = read_costs(bundle)
    if costs is None:
        raise EngineError(
            bundle.manifest.name,
            found=f"no {COSTS_FILE} in the bundle",
            expected="the costs of its kernels, from which the board's time is predicted",
            cure="compress the model again",
        )
    precision = bundle.manifest.precision
    latency = predict(costs, options.profile, precision=precision, mode=options.mode).latency_ms
    if latency.low <= 0:
        raise EngineError(
            bundle.manifest.name,
            found=f"costs of {len(costs.kernels)} kernels that take no time",
            expected="a model that computes something",
            cure="compress the model again",
        )
    return latency


# The session and its exceptions are ONNX Runtime's, which has no types.
def _session(path: str, threads: int) -> Tuple[Any, Tuple[Any, ...]]:
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except ImportError:
        raise MissingExtraError(
            "onnxruntime", extra="emulate", needed_for="the emulated engine"
        ) from None
    failures = tuple(getattr(state, name) for name in FAILURES if hasattr(state, name))
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = threads
    # Threads that spin while waiting take the cores the loop needs for pixels.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Q/DQ executed as written: int8 kernels of this computer's own would round elsewhere.
    settings.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    except failures as error:
        raise EngineError(
            MODEL,
            found=str(error).splitlines()[0],
            expected="a model ONNX Runtime loads",
            cure="check the model with onnx.checker, then compress it again",
        ) from error
    return session, failures


def _check_names(
    session: Any,  # noqa: ANN401  # ONNX Runtime has no types
    inputs: Tuple[TensorSpec, ...],
    outputs: Tuple[TensorSpec, ...],
) -> None:
    for kind, found, specs in (
        ("inputs", session.get_inputs(), inputs), ("outputs", session.get_outputs(), outputs)
    ):  # fmt: skip
        names = [tensor.name for tensor in found]
        if names != [spec.name for spec in specs]:
            raise EngineError(
                MODEL,
                found=f"{kind} {', '.join(names)}",
                expected=", ".join(spec.name for spec in specs) + " as in the manifest",
                cure="compress the model again",
            )
