"""What every backend must do, as cases that run on the simulated driver in a process of their own.

`python -m tests.edge.cuda.contract BACKEND` reads a case's name from each line, forks, and answers
with a line. After each case nothing may live on the driver that the case, or close, should have
given back.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import sys
import traceback
from pathlib import Path

from edge.engines.cuda import BACKENDS, open_cuda
from tests.edge.cuda.cases_of_life import CASES

KINDS = ("memory", "pinned", "streams", "events", "modules", "graphs", "executables",
         "contexts", "pushed")  # fmt: skip


class Bench:
    """What a case works with: a backend's name, the knobs of the driver, what lives on it."""

    def __init__(self, backend):
        self.backend = backend
        self._driver = None
        self.image = Path(os.environ["SIM_KERNELS"]).read_bytes()

    def open(self, ordinal=0):
        return open_cuda(self.backend, ordinal)

    def knob(self, **knobs):
        for name, value in knobs.items():
            os.environ[f"SIM_{name.upper()}"] = str(value)

    def fail(self, function, nth, code):
        """From now on, the n-th call of the function, the next one being the first, fails."""
        self.driver.simulated_reset()
        os.environ["SIM_FAIL"] = f"{function}:{nth}:{code}" if function else ""

    def calls(self):
        """How often each function of the driver was called."""
        lines = self.driver.simulated_calls().decode().splitlines()
        return {name: int(count) for name, count in (line.split() for line in lines)}

    def live(self):
        """The kinds of things that live, and how many."""
        counts = {kind: self.driver.simulated_live(kind.encode()) for kind in KINDS}
        if self.backend == "ctypes":  # the runtime keeps the context, and keeps it current
            counts["contexts"] = counts["pushed"] = 0
        return {kind: count for kind, count in counts.items() if count}

    @property
    def driver(self):
        if self._driver is None:
            self._driver = ctypes.CDLL("libcuda.so.1")
            self._driver.simulated_calls.restype = ctypes.c_char_p
        return self._driver

    def apart(self, function, *arguments):
        """What the function answers in a process of its own."""
        answer = forked(lambda: function(self, *arguments))
        assert not answer["failed"], answer["failed"]
        return answer["said"]


def run(backend, name):
    """What the case says; nothing may be left on the driver after it."""
    bench = Bench(backend)
    said = CASES[name](bench)
    left = bench.live()
    assert not left, f"left on the driver: {left}"
    return said


def forked(function):
    """What it answers in a fork of this process, or how it failed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "w") as pipe:
            json.dump(answer_of(function), pipe)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if text else {"failed": f"it ended with status {status}", "said": None}


def answer_of(function):
    try:
        return {"failed": "", "said": function()}
    except BaseException:  # noqa: BLE001  # a fork must not go on as its parent
        return {"failed": traceback.format_exc(), "said": None}


def serve(backend):
    __import__(BACKENDS[backend].partition(":")[0])
    for line in sys.stdin:
        answer = forked(functools.partial(run, backend, line.strip()))
        sys.stdout.write("RESULT " + json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve(sys.argv[1])
