"""A CUDA context, opened and closed in a process of its own: a driver that crashes ends that alone.

The driver may name a device and still give no context: for want of memory, of a node below /dev, or
of a library. Whatever a context leaks or breaks goes with the process.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from typing import Any, Callable

import msgspec

from devices.errors import JetpressError
from edge.engines.cuda import open_cuda

__all__ = ["Context", "open_apart", "tell"]

TIMEOUT_S = 30.0  # some seconds on a Nano; Dockerfile.jetson's health check waits for 60
CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from edge.doctor_context import tell; tell(sys.stdout.write)"
)
RESTART = "restart the board, then look at `sudo dmesg | grep -i -e nvgpu -e nvmap`"


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """The way in and the device's memory while it was open; `fault` and `cure` where it was not."""

    backend: str = ""
    free_bytes: int = 0
    total_bytes: int = 0
    fault: str = ""
    cure: str = ""


def open_apart(run: Callable[..., Any] = subprocess.run) -> Context:
    """What a process of its own says of a context; never raises for what the driver does to it.

    `run` starts a program, as subprocess.run does.
    """
    command = [sys.executable, "-c", CHILD, json.dumps(sys.path)]
    try:
        done = run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                   stderr=subprocess.PIPE, timeout=TIMEOUT_S)  # fmt: skip
    except subprocess.TimeoutExpired:
        return Context(fault=f"no answer in {TIMEOUT_S:g} s", cure=RESTART)
    except OSError as error:
        return Context(fault=f"no process for it: {error.strerror}", cure="close programs")
    if done.returncode < 0:
        name = signal.strsignal(-done.returncode) or f"signal {-done.returncode}"
        return Context(fault=f"opening it ended the process: {name}", cure=RESTART)
    try:
        return msgspec.json.decode(_last_line(done.stdout), type=Context)
    except msgspec.DecodeError:
        words = _last_line(done.stderr).decode("utf-8", "replace") or f"exit {done.returncode}"
        return Context(fault=words, cure="edge doctor --device -o report.json, and read it")


def tell(write: Callable[[str], object], opened: Callable[[], Any] = open_cuda) -> None:
    """Open a context, close it, and write what was found as a line of JSON."""
    try:
        with contextlib.closing(opened()) as cuda:
            free_bytes, total_bytes = cuda.memory()
            context = Context(backend=cuda.backend, free_bytes=free_bytes, total_bytes=total_bytes)
    except JetpressError as error:
        context = Context(fault=f"{error.where}: {error.found}", cure=error.cure)
    write(f"\n{msgspec.json.encode(context).decode()}\n")


def _last_line(said: bytes) -> bytes:
    """The driver and what it loads may write before it."""
    return (said.strip().splitlines() or [b""])[-1]
