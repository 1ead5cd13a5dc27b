"""fake_tensorrt: a module whose classes have exactly the names that one TensorRT version has.

The names come from api_names.json. A name that the version lacks raises AttributeError, read or
set, as the compiled bindings do; a name without behaviour here says so when it is used. Members of
enums are no integers, and their values differ from version to version. Every call is recorded in
`machine.calls` as "Class.name". What TensorRT would crash on is a `Crash`, which no `except
Exception` catches.
"""

from __future__ import annotations

import enum
import weakref
from types import ModuleType
from typing import Any, Dict, FrozenSet, List, Optional, Tuple

from tests.edge.tensorrt import api, fake_build, fake_network, fake_run

BINDINGS = ("8.0.1", "8.2.1", "8.4.1")
WEAK = ("8.5.2", "8.6.1", "10.3.0", "10.7.0", "10.13.3", "10.16.1")
STRONG = ("11.0.0", "11.4.0")
VERSIONS = BINDINGS + WEAK + STRONG
SUBCLASSED = ("ILogger", "IProfiler", "IProgressMonitor", "IInt8EntropyCalibrator2")
_OWN = ("__dict__", "__weakref__", "__module__", "__doc__")
_NOISE = ("log", "min_severity")  # of the source reader, in Severity


class Crash(BaseException):
    """The process would have ended here with a segmentation fault."""


class Machine:
    """The computer the fakes run on: what is scripted, what happened, what is alive.

    `script` may hold: parser_errors [(node, op, words)], build_error (words), deserialize_error
    (words), context_none_at (number of the context that is refused), enqueue_false_at (number of
    the enqueue that fails), wrong_outputs (what is added to every output), dla_refuses (node
    names), dla_cores, layer_ms {engine layer: ms}.
    """

    def __init__(self, script: Optional[Dict[str, Any]] = None, **cuda_script: Any) -> None:
        self.script = dict(script or {})
        self.cuda_script = cuda_script
        self.cuda: Any = None
        self.probed = False
        self.calls: List[str] = []
        self.flags: List[str] = []
        self.alive: weakref.WeakSet = weakref.WeakSet()
        self.logger: Any = None
        self.contexts = self.enqueues = self.builds = self.retained = 0
        self.infer_ms, self.graph_factor = 2.0, 0.5

    def count(self, call: str) -> int:
        return self.calls.count(call)

    def needs_device(self, what: str) -> None:
        if not self.probed:
            raise Crash(f"{what} before the device was probed")

    def takes(self, logger: Any) -> None:
        """The logger of the first builder or runtime stays while one is alive; others are not."""
        if not any(type(thing).__name__ in ("Builder", "Runtime") for thing in self.alive):
            self.logger = logger

    def context_released(self) -> None:
        """TensorRT's objects free device memory when they go; with the last context they cannot."""
        self.retained -= 1
        if not self.retained and len(self.alive):
            names = sorted(type(thing).__name__ for thing in self.alive)
            raise Crash(f"the CUDA context is gone before {', '.join(names)}")


def fake_tensorrt(version: str, machine: Machine) -> Any:
    """The module; put it into sys.modules under a name and load that."""
    module = ModuleType("fake_tensorrt")
    module.__version__ = version
    _functions(module, api.members(version, ""))
    for name in sorted(api.classes(version)):
        if name and "." not in name and name != "Severity":
            setattr(module, name, _make(name, api.members(version, name), machine, module))
    kinds = _enum("Severity", _severities(version), version)
    module.ILogger.Severity = module.Logger.Severity = kinds
    for member in kinds:
        setattr(module.ILogger, member.name, member)
        setattr(module.Logger, member.name, member)
    return module


def _severities(version: str) -> FrozenSet[str]:
    return api.members(version, "ILogger.Severity") or api.members(version, "Severity")


def _functions(module: ModuleType, names: FrozenSet[str]) -> None:
    if "init_libnvinfer_plugins" in names:
        module.init_libnvinfer_plugins = lambda logger, namespace: True
    if "get_nv_onnx_parser_version" in names:
        module.get_nv_onnx_parser_version = lambda: 0


def _make(name: str, members: FrozenSet[str], machine: Machine, module: Any) -> Any:
    words = [m for m in members if m not in _NOISE]
    if words and name != "Dims" and all(word == word.upper() for word in words):
        return _enum(name, members, module.__version__)
    rooms = (fake_build, fake_network, fake_run)
    source = next((getattr(room, name) for room in rooms if hasattr(room, name)), None)
    body: Dict[str, Any] = {"_trt": module, "_machine": machine, "_names": members}
    body.update((member, _member(name, member, source, machine)) for member in members)
    private = vars(source).items() if source else ()
    body.update((key, value) for key, value in private if key.startswith("_") and key not in _OWN)
    body["__setattr__"] = _strict
    if name in SUBCLASSED:
        body["__init__"] = lambda self: object.__setattr__(self, "_ready", True)
    return type(name, (), body)


def _enum(name: str, members: FrozenSet[str], version: str) -> Any:
    words = [m for m in members if m == m.upper()]
    start = int(version.partition(".")[0]) % 3  # what a number means moves between versions
    made = enum.Enum(name, {word: start + i for i, word in enumerate(sorted(words))})
    made.__int__ = made.__index__ = lambda self: self.value
    return made


def _strict(self: Any, name: str, value: Any) -> None:
    cls = type(self)
    if not name.startswith("_") and "_names" in vars(cls) and name not in cls._names:
        raise AttributeError(f"{cls.__name__!r} object has no attribute {name!r}")
    object.__setattr__(self, name, value)


def _member(owner: str, name: str, source: Any, machine: Machine) -> Any:
    behaviour = vars(source).get(name) if source is not None else None
    if isinstance(behaviour, property):
        return _Property(owner, name, behaviour, machine)
    if callable(behaviour):
        return _recorded(owner, name, behaviour, machine)
    return _Slot(owner, name, getattr(source, "_defaults", {}), machine)


def _recorded(owner: str, name: str, function: Any, machine: Machine) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        machine.calls.append(f"{owner}.{name}")
        return function(self, *args, **kwargs)

    call.__name__ = name
    return call


class _Property:
    """A computed property; read-only unless its behaviour has a setter."""

    def __init__(self, owner: str, name: str, behaviour: property, machine: Machine) -> None:
        self._words, self._behaviour, self._machine = f"{owner}.{name}", behaviour, machine

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return self
        self._machine.calls.append(self._words)
        return self._behaviour.fget(instance)

    def __set__(self, instance: Any, value: Any) -> None:
        if self._behaviour.fset is None:
            raise AttributeError(f"can't set attribute {self._words}")
        self._machine.calls.append(f"{self._words}=")
        self._behaviour.fset(instance, value)


class _Slot:
    """A name of which only that it exists is known: it keeps what is set."""

    def __init__(self, owner: str, name: str, defaults: Dict[str, Any], machine: Machine) -> None:
        self._owner, self._name, self._defaults = owner, name, defaults
        self._machine = machine

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return self
        kept = vars(instance).setdefault("_slots", {})
        if self._name in kept:
            return kept[self._name]
        if self._name in self._defaults:
            return self._defaults[self._name]
        return _Gap(f"{self._owner}.{self._name}")

    def __set__(self, instance: Any, value: Any) -> None:
        self._machine.calls.append(f"{self._owner}.{self._name}=")
        vars(instance).setdefault("_slots", {})[self._name] = value


class _Gap:
    """Exists on the device; what it does is not known here, so using it fails the test."""

    def __init__(self, words: str) -> None:
        self._words = words

    def _fail(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"the fake has no behaviour for {self._words}")

    __call__ = __bool__ = __int__ = __iter__ = __len__ = __str__ = _fail


def made(version: str, **scripts: Any) -> Tuple[Any, Machine]:
    """A fake and its machine, whose device was probed."""
    machine = Machine(**scripts)
    machine.probed = True
    return fake_tensorrt(version, machine), machine
