"""A rig for the self-test on a host: a board's tree, fake CUDA, modules that were handed over."""

from __future__ import annotations

import types

import numpy as np

from devices.profile import load_profile
from edge.board import identify
from edge.engines.cuda import NoDeviceError
from edge.selftest import TESTS, Rig, run_tests
from tests.edge.boards.trees import build
from tests.edge.tensorrt.fake import Machine
from tests.edge.tensorrt.fake_cuda import ORIN, FakeCuda

__all__ = ["Loader", "gone", "make_rig", "only", "outcome"]

NO_DEVICE = NoDeviceError("CUDA", found="no libcuda.so.1", expected="a driver", cure="a board")


class Loader:
    """Imports what it was given, and NumPy."""

    def __init__(self, **modules):
        self.modules = {"numpy": np, **modules}

    def __call__(self, name):
        found = self.modules.get(name.replace(".", "_"))
        if found is None:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return found


def gone():
    raise NO_DEVICE


def no_engine(bundle, options):
    raise AssertionError("no test here opens an engine")


def make_rig(folder, **changes):
    """A Rig on an Orin Nano below `folder`, or on the tree that `root` names."""
    root = changes.get("root", folder / "root")
    if root == folder / "root" and not root.exists():
        build("jetson-orin-nano", root)
    board = identify(root)
    settings = {
        "root": root, "board": board, "work": folder / "work", "date": "2026-01-01",
        "profile": None if board.profile is None else load_profile(board.profile),
        "probe": lambda: ORIN, "load": Loader(pycuda_driver=types.ModuleType("pycuda.driver")),
        "open_cuda": lambda name: FakeCuda(Machine()), "engine": no_engine,
    }  # fmt: skip
    return Rig(**{**settings, **changes})


def only(*names):
    return {name: TESTS[name] for name in names}


def outcome(rig, name):
    (result,) = run_tests(rig, only(name)).results
    return result
