"""Models and builds for the tests on NVIDIA's own builder; also run as a process of its own.

python -m tests.edge.tensorrt.rtx_cases damage FILE SEED COUNT | interrupt FILE
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path

import numpy as np

import edge.engines.tensorrt.build as building
from edge.engines.tensorrt import monitor
from edge.engines.tensorrt.build import BuildJob, build
from edge.engines.tensorrt.load import HostOnly, load_tensorrt
from edge.engines.tensorrt.settings import BuildSettings
from edge.errors import EngineError

MISSING = "needs NVIDIA's parser: pip install 'jetpress[check]'"
NEEDS_ONNX = "makes the models: pip install 'jetpress[compress]'"
FOLDER = Path(__file__).parent
WIDTH = 256  # of the matrix in `matrix_model`
SCALE = 0.03


def built(model, batch=(1, 1, 1), precision="fp32", workspace_mb=256.0, tell=None):
    """Our builder on tensorrt_rtx, with no device."""
    settings = BuildSettings(precision=precision, workspace_mb=workspace_mb, batch=batch)
    job = BuildJob(proof=HostOnly(), tell=tell or (lambda line: None))
    return build(load_tensorrt("tensorrt_rtx"), model, settings, job)


def variant(name):
    """tiny.onnx for "", else tiny_batch.onnx, tiny_strong.onnx or tiny_qdq.onnx."""
    path = FOLDER / f"tiny_{name}.onnx" if name else FOLDER.parent / "tiny.onnx"
    return path.read_bytes()


def model_of(nodes, inputs, outputs, constants=(), domains=()):
    """Bytes of a model; `nodes` are (operator, inputs, output, attributes), named by their output.

    `inputs` and `outputs` are {name: shape} in float32; `constants` are pairs of name and array.
    """
    from onnx import TensorProto, helper, numpy_helper

    made = [
        helper.make_node(operator, reads, [gives], name=f"node_of_{gives}", **attributes)
        for operator, reads, gives, attributes in nodes
    ]
    graph = helper.make_graph(
        made, "case",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 13), *(helper.make_opsetid(name, 1) for name in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=7).SerializeToString()


def matrix(precision):
    """WIDTH x WIDTH weights as a file in that precision holds them."""
    weights = np.random.default_rng(0).normal(size=(WIDTH, WIDTH)).astype(np.float32)
    if precision == "int8":
        return np.clip(np.round(weights / SCALE), -127, 127).astype(np.int8)
    return weights.astype({"fp32": np.float32, "fp16": np.float16}[precision])


def matrix_model(precision):
    """One product with `matrix(precision)`, typed in the file: casts for FP16, Q/DQ for INT8."""
    constants = [("w", matrix(precision))]
    if precision == "fp32":
        nodes = [("MatMul", ["x", "w"], "y", {})]
    elif precision == "fp16":
        nodes = [("Cast", ["x"], "x_h", {"to": 10}), ("MatMul", ["x_h", "w"], "y_h", {}),
                 ("Cast", ["y_h"], "y", {"to": 1})]  # fmt: skip
    else:
        constants += [("s", np.float32(SCALE)), ("z", np.int8(0))]
        nodes = [
            ("QuantizeLinear", ["x", "s", "z"], "x_q", {}),
            ("DequantizeLinear", ["x_q", "s", "z"], "x_d", {}),
            ("DequantizeLinear", ["w", "s", "z"], "w_d", {}),
            ("MatMul", ["x_d", "w_d"], "y", {}),
        ]
    return model_of(nodes, {"x": [1, WIDTH]}, {"y": [1, WIDTH]}, constants)


class Recorded(monitor._Phases):
    """Phases that also keep each call of TensorRT in `events`; set `events` before a build."""

    events: list = []  # noqa: RUF012  # one for all: the builder makes the object, a test reads it

    def begin(self, name, steps):
        super().begin(name, steps)
        self.events.append(("begin", name, steps, self.text()))

    def step(self, name, step):
        goes_on = super().step(name, step)
        self.events.append(("step", name, step, self.text()))
        return goes_on

    def end(self, name):
        super().end(name)
        self.events.append(("end", name, None, self.text()))


def damaged(data, seed, count):
    """Files that are not what was written: ends cut off, one bit or four flipped."""
    rng = random.Random(seed)
    for number in range(count):
        if number % 4 == 0:
            yield "cut", data[: rng.randrange(len(data))]
            continue
        changed = bytearray(data)
        for _ in range(4 if number % 4 == 3 else 1):
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        yield "flipped", bytes(changed)


def say_what_damage_does(path, seed, count):
    """A line of JSON for each damaged file: the kind of damage, and the four parts of the error."""
    for kind, data in damaged(path.read_bytes(), seed, count):
        parts = None
        try:
            built(data)
        except EngineError as error:
            parts = [type(error).__name__, error.where, error.found, error.expected, error.cure]
        say([kind, parts])


def say_what_interrupts_do(path):
    """A line of JSON for each Ctrl-C: when it came, what came out, how many steps were done."""
    monitor._Phases = Recorded
    model = path.read_bytes()
    ways = [("never", {}), ("in a callback", {"begin": 1}), ("while parsing", {"parse": True})]
    ways += [(f"at line {number}", {"line": number}) for number in (1, 2, 3, 4) for _ in range(4)]
    for name, way in ways:
        Recorded.events = []
        say([name, *_interrupted(model, **way), signal.getsignal(signal.SIGINT).__name__])


def _interrupted(model, begin=0, line=0, parse=False):
    lines, real_begin, real_parse = [], Recorded.begin, building.parse

    def tell(text):  # from a thread of its own: Python sees the signal wherever it runs next
        lines.append(text)
        if len(lines) == line:
            os.kill(os.getpid(), signal.SIGINT)

    def begin_and_interrupt(phases, phase, steps):
        real_begin(phases, phase, steps)
        if len(Recorded.events) == begin:
            os.kill(os.getpid(), signal.SIGINT)

    def parse_and_interrupt(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return real_parse(*arguments)

    Recorded.begin = begin_and_interrupt
    building.parse = parse_and_interrupt if parse else real_parse
    outcome = "built"
    try:
        built(model, tell=tell)
    except (KeyboardInterrupt, EngineError) as error:
        outcome = type(error).__name__
    finally:
        Recorded.begin, building.parse = real_begin, real_parse
    return outcome, sum(event[0] == "step" for event in Recorded.events)


def say(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1] == "damage":
        say_what_damage_does(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        say_what_interrupts_do(Path(sys.argv[2]))
