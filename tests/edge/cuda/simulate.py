"""A CUDA driver simulated on the host: compile it, and run code on it in processes of their own.

`Simulation(folder)` compiles sim/*.c to libcuda.so.1, libcudart.so.11.0 and a "cubin". `run` gives
Python code a process that finds them. `Worker` is one such process in which everything is imported
once; each case runs in a fork of it, so a crash is one case's, and environment is each case's own.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
FAKE_PYCUDA = HERE / "fake_pycuda"
SOURCES = {
    "libcuda.so.1": "libcuda.c",
    "libcudart.so.11.0": "libcudart.c",
    "kernels.so": "kernels.c",
}


class Simulation:
    """`cuda10` leaves out what came with CUDA 11.4."""

    def __init__(self, folder, cuda10=False):
        self.folder = folder
        for target, source in SOURCES.items():
            libraries = ["-L", str(folder), "-l:libcuda.so.1"] if "cudart" in target else ["-ldl"]
            flags = ["-DSIM_CUDA_10"] if cuda10 else []
            code = [str(HERE / "sim" / source)]
            if target == "libcuda.so.1":
                code.append(str(self._rest()))
            self._compile(folder / target, [*flags, *code, *libraries])

    @property
    def image(self):
        return (self.folder / "kernels.so").read_bytes()

    def environment(self, path=(), **knobs):
        """`path`: folders of Python packages before all others."""
        inherited = [folder for folder in [os.environ.get("PYTHONPATH")] if folder]
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("SIM_")},
            "LD_LIBRARY_PATH": str(self.folder),
            "PYTHONPATH": os.pathsep.join([*map(str, path), str(ROOT), *inherited]),
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "SIM_KERNELS": str(self.folder / "kernels.so"),
            **knobs,
        }

    def run(self, code, path=(), **knobs):
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=str(ROOT),
            env=self.environment(path, **knobs),
        )  # fmt: skip

    def _rest(self):
        """What the real pycuda links beside what is simulated: each says NOT_SUPPORTED."""
        rest = self.folder / "rest.c"
        simulated = (HERE / "sim" / "libcuda.c").read_text()
        names = [name for name in linked_by_pycuda() if f" {name}(" not in simulated]
        rest.write_text("".join(f"int {name}(void) {{ return 801; }}\n" for name in names) or "\n")
        return rest

    def _compile(self, target, arguments):
        flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        command = [compiler(), *flags, f"-Wl,-soname,{target.name}", "-o", str(target), *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


class Worker:
    """A process that runs cases of tests.edge.cuda.contract, each in a fork."""

    def __init__(self, simulation, backend, path=()):
        self.backend = backend
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.edge.cuda.contract", backend], cwd=str(ROOT),
            env=simulation.environment(path), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, case):
        """What the case says of itself; fails the test with its traceback when it fails."""
        with contextlib.suppress(BrokenPipeError):  # it died: its last words come below
            self._process.stdin.write(case + "\n")
            self._process.stdin.flush()
        heard = []
        for line in self._process.stdout:
            if line.startswith("RESULT "):
                answer = json.loads(line[7:])
                if answer["failed"]:
                    pytest.fail(answer["failed"] + "".join(heard), pytrace=False)
                return answer["said"]
            heard.append(line)
        return pytest.fail("the worker ended: " + "".join(heard), pytrace=False)

    def close(self):
        self._process.stdin.close()
        self._process.stdout.read()
        self._process.stdout.close()
        self._process.wait()


def compiler():
    found = shutil.which("cc")
    if found is None:
        pytest.skip("no C compiler (cc) on this computer: nothing can compile the driver")
    return found


def linked_by_pycuda():
    """The functions of libcuda that the real pycuda here links; none without it."""
    spec = importlib.util.find_spec("pycuda")
    if spec is None or shutil.which("nm") is None:
        return []
    names = []
    for folder in spec.submodule_search_locations:
        for library in sorted(Path(folder).glob("_driver*.so")):
            listing = subprocess.check_output(["nm", "-D", "--undefined-only", str(library)])
            names += [line.split()[-1] for line in listing.decode().splitlines()]
    return [name for name in names if name.startswith("cu")]
