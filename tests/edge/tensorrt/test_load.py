"""TensorRT is loaded, or one error says what is missing; nothing is made without a device."""

from __future__ import annotations

import itertools
import sys

import pytest

from devices.errors import MissingExtraError
from edge.engines.tensorrt.load import HostOnly, load_tensorrt, make_builder, make_runtime
from edge.errors import EngineError
from tests.edge.tensorrt.fake import VERSIONS, made
from tests.edge.tensorrt.fake_cuda import ORIN

_NUMBERS = itertools.count()
APT = "sudo apt install python3-libnvinfer"
COMPATIBLE = VERSIONS[VERSIONS.index("8.6.1") :]


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Makes a package of a name of its own, of these lines; that name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(*lines):
        name = f"no_tensorrt_{next(_NUMBERS)}"
        (tmp_path / name).mkdir()
        if lines:
            (tmp_path / name / "__init__.py").write_text("\n".join(lines))
        return name

    yield make
    for name in [name for name in sys.modules if name.startswith("no_tensorrt_")]:
        del sys.modules[name]


def refusal(name):
    with pytest.raises(EngineError) as caught:
        load_tensorrt(name)
    assert caught.value.where == f"TensorRT (import {name})"
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_module_with_a_builder_is_tensorrt(module):
    trt = load_tensorrt(module("class Builder: pass", "__version__ = '10.3.0'"))
    assert trt.__version__ == "10.3.0"


def test_it_is_called_tensorrt_unless_another_name_is_given(monkeypatch):
    trt, _ = made("8.2.1")
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    assert load_tensorrt() is trt


def test_no_tensorrt_is_one_error_that_says_where_it_comes_from(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    error = refusal("tensorrt")
    assert error.found == "no module 'tensorrt'"
    assert APT in error.cure
    assert "--system-site-packages" in error.cure


def test_a_module_for_another_python_is_told_apart_from_a_missing_one(module):
    name = module("from .tensorrt import *")
    error = refusal(name)
    assert error.found.startswith(f"a {name} without its compiled part for Python {_python()}")
    assert error.cure.startswith("run the system's Python")


def _python():
    return ".".join(map(str, sys.version_info[:2]))


def test_a_package_that_tensorrt_needs_is_named(module):
    error = refusal(module("import a_package_that_nobody_has"))
    assert "no package 'a_package_that_nobody_has'" in error.found
    assert error.cure == "run: pip install a_package_that_nobody_has"


@pytest.mark.parametrize(
    ("raised", "found"),
    [
        ("ImportError('libnvinfer.so.8: cannot open shared object file')",
         "libnvinfer.so.8: cannot open shared object file"),
        ("OSError('libcudnn.so.8: wrong ELF class: ELFCLASS32')",
         "libcudnn.so.8: wrong ELF class: ELFCLASS32"),
        ("ImportError('a first line\\nand a second')", "a first line"),
        ("ImportError", "ImportError without a word"),
        ("ImportError('')", "ImportError without a word"),
        ("OSError()", "OSError without a word"),
    ],
)  # fmt: skip
def test_libraries_that_cannot_be_loaded_are_told_in_one_line(raised, found, module):
    error = refusal(module(f"raise {raised}"))
    assert error.found == found
    assert "reinstall" in error.cure
    assert isinstance(error.__cause__, (ImportError, OSError))


def test_something_else_of_that_name_is_told_with_its_place(module):
    name = module("answer = 42")
    error = refusal(name)
    assert error.found.endswith("__init__.py without a Builder")
    assert error.cure.startswith("rename what is called so here")
    folder = refusal(module())  # a folder without an __init__.py
    assert folder.found == "a folder of that name without a Builder"


def test_for_tensorrt_rtx_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'jetpress\[check\]'"):
        load_tensorrt("tensorrt_rtx")


@pytest.mark.parametrize("make", [make_builder, make_runtime])
def test_without_a_device_nothing_is_made_but_by_tensorrt_rtx(make):
    trt, machine = made("11.4.0")
    log = trt.Logger()
    with pytest.raises(EngineError, match="no CUDA device that was asked for first") as caught:
        make(trt, HostOnly(), log)
    assert "tensorrt_rtx" in caught.value.cure
    assert machine.calls == []
    trt.ComputeCapability = object
    kind = trt.Builder if make is make_builder else trt.Runtime
    assert isinstance(make(trt, HostOnly(), log), kind)


@pytest.mark.parametrize(("make", "name"), [(make_builder, "Builder"), (make_runtime, "Runtime")])
def test_a_factory_that_gives_nothing_is_told_in_one_line(make, name):
    trt, _ = made("10.3.0")

    def nothing(log):
        raise TypeError("pybind11::init(): factory function returned nullptr\nInvoked with: ...")

    setattr(trt, name, nothing)
    with pytest.raises(EngineError) as caught:
        make(trt, ORIN, trt.Logger())
    assert caught.value.where == f"TensorRT's {name.lower()}"
    assert caught.value.found == "pybind11::init(): factory function returned nullptr"
    assert "edge doctor" in caught.value.cure


@pytest.mark.parametrize("version", VERSIONS)
def test_the_runtime_runs_on_the_core_that_is_asked_for(version):
    trt, machine = made(version)
    assert make_runtime(trt, ORIN, trt.Logger(), dla_core=1).DLA_core == 1
    machine.calls.clear()
    make_runtime(trt, ORIN, trt.Logger())
    assert "Runtime.DLA_core=" not in machine.calls
    make_runtime(trt, ORIN, trt.Logger(), dla_core=0)  # 0 is a core, not the lack of one
    assert "Runtime.DLA_core=" in machine.calls


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_with_a_runtime_of_its_own_is_let_run_it_where_that_exists(version):
    trt, _ = made(version)
    if version in COMPATIBLE:
        runtime = make_runtime(trt, ORIN, trt.Logger(), host_code=True)
        assert runtime.engine_host_code_allowed is True
    else:
        with pytest.raises(EngineError, match=r"expected TensorRT 8\.6 or later"):
            make_runtime(trt, ORIN, trt.Logger(), host_code=True)
