"""EngineKey: all that decides whether a built engine is the one that is wanted.

The bundle's hash and the settings say what was built and how; `BuiltOn` says where. TensorRT
refuses an engine of another version or compute capability. But one of another board, of another
power mode or with another number of SMs on it loads, and is slow or wrong without a word, for its
kernels were chosen by timing them there. So those are in the key as well.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Iterator, Optional, Tuple

import msgspec

from edge.engines.tensorrt.settings import BuildSettings

__all__ = ["BuiltOn", "EngineKey", "bundle_part", "differences", "serves"]

_WORDS = {
    "tensorrt": "TensorRT",
    "device": "GPU",
    "compute_capability": "compute capability",
    "cuda": "CUDA",
    "power_mode": "power mode",
    "sm_count": "SMs",
    "module": "TensorRT's module",
    "workspace_mb": "workspace MB",
    "dla_core": "DLA core",
    "version_compatible": "version compatible",
}
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_NAME_MAX = 60  # characters of a bundle's name in a file's name


class BuiltOn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The place of a build. `power_mode` is nvpmodel's name for it; None where it is not known."""

    board: str  # the profile's name: "jetson-orin-nano"
    device: str  # the GPU as CUDA names it: "Orin"
    compute_capability: str  # "8.7"
    tensorrt: str  # "10.3.0"
    cuda: str  # the version the driver speaks: "12.6"
    power_mode: Optional[str] = None  # "15W"
    sm_count: Optional[int] = None  # of that mode
    module: str = "tensorrt"  # the Python module that is TensorRT

    @property
    def digest(self) -> str:
        """64 hexadecimal digits; a timing cache is worth something only where this is the same."""
        return hashlib.sha256(_canonical(self)).hexdigest()


class EngineKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was built, how, and where."""

    bundle: str  # its name, for people
    bundle_sha256: str
    model: str  # the file of the bundle it is built from
    settings: BuildSettings
    built_on: BuiltOn

    @property
    def digest(self) -> str:
        """64 hexadecimal digits; the same for whatever may serve for this key."""
        place = self.built_on
        if self.settings.version_compatible:
            place = msgspec.structs.replace(place, tensorrt=_major(place.tensorrt), cuda="")
        return hashlib.sha256(_canonical(msgspec.structs.replace(self, built_on=place))).hexdigest()

    @property
    def file_stem(self) -> str:
        """The file's name without its ending: the bundle's name, made safe, and the digest's start.

        >>> from edge.engines.tensorrt.settings import BuildSettings
        >>> place = BuiltOn(board="jetson-nano", device="X1", compute_capability="5.3",
        ...                 tensorrt="8.2.1", cuda="10.2")
        >>> EngineKey(bundle="../a b", bundle_sha256="0", model="model.onnx", built_on=place,
        ...           settings=BuildSettings(precision="fp16", workspace_mb=1)).file_stem[:5]
        '_a_b-'
        """
        return f"{bundle_part(self.bundle)}-{self.digest[:20]}"


def bundle_part(name: str) -> str:
    """The bundle's name as file names carry it: no separators, no dots in front, not too long."""
    return _UNSAFE.sub("_", name).lstrip(".")[:_NAME_MAX] or "_"


def serves(built: EngineKey, wanted: EngineKey) -> bool:
    """Whether an engine of one key may be used for the other.

    They are the same, or it was built to run on later TensorRTs of its major version and nothing
    here is older than where it was built: neither TensorRT nor the driver.
    """
    if built == wanted:
        return True
    if not wanted.settings.version_compatible or built.digest != wanted.digest:
        return False
    before, here = built.built_on, wanted.built_on
    return _numbers(before.tensorrt) <= _numbers(here.tensorrt) and _numbers(
        before.cuda
    ) <= _numbers(here.cuda)


def differences(old: EngineKey, new: EngineKey) -> Tuple[str, ...]:
    """Each thing that is not the same, in words: "TensorRT 10.3.0 -> 10.7.0"."""
    return tuple(_differences(old, new))


def _differences(old: EngineKey, new: EngineKey) -> Iterator[str]:
    if old.bundle_sha256 != new.bundle_sha256:
        yield f"the bundle changed: {old.bundle_sha256[:8]}… -> {new.bundle_sha256[:8]}…"
    if old.model != new.model:
        yield f"built from {old.model}, this is {new.model}"
    if old.built_on.board != new.built_on.board:
        yield f"built on {old.built_on.board}, this is {new.built_on.board}"
    for before, after in ((old.built_on, new.built_on), (old.settings, new.settings)):
        for field in after.__struct_fields__:
            was, now = getattr(before, field), getattr(after, field)
            if was != now and field != "board":
                yield f"{_WORDS.get(field, field)} {_shown(was)} -> {_shown(now)}"


def _shown(value: Any) -> str:  # noqa: ANN401  # of any field
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return "..".join(map(str, value))
    return "none" if value is None else str(value)


def _canonical(value: Any) -> bytes:  # noqa: ANN401  # any Struct
    return json.dumps(msgspec.to_builtins(value), sort_keys=True, allow_nan=False).encode()


def _major(version: str) -> str:
    return version.partition(".")[0]


def _numbers(version: str) -> Tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
