"""Manifest: what a bundle says about itself, as plain values that survive JSON byte for byte."""

from __future__ import annotations

import json
from typing import Any, Dict, Optional, Tuple

import msgspec

from calib.preprocess import Preprocess
from devices.budget import Refusal
from devices.jsonfile import decoded
from edge.errors import BundleError, EngineError
from edge.heads import Head, RawHead

__all__ = ["FORMAT", "FileEntry", "Manifest", "Step", "TensorSpec", "class_name", "inputs_text",
           "manifest_bytes", "manifest_from_bytes"]  # fmt: skip

FORMAT = 1
PRECISIONS = ("fp32", "fp16", "int8")


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An input or output of the model: NumPy's name for its type, and its static shape."""

    name: str
    shape: Tuple[int, ...]
    dtype: str = "float32"


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file's size in bytes and the sha256 of its content, 64 hexadecimal digits."""

    bytes: int
    sha256: str


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One pass of the lineage: its name, its cache key, and what it started from.

    `params` holds JSON values only: they are the pass's own business.
    """

    name: str
    key: str
    params: Dict[str, Any] = {}
    input_sha256: str = ""
    note: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model is, what it eats, what its outputs mean, how it came to be, and every file.

    `preprocess` is None of a net that takes no pictures: it is fed arrays, and its head is raw.
    `files` maps a relative POSIX path to its FileEntry; `seal` fills it in.
    """

    format: int = FORMAT
    name: str
    task: str
    profile: Optional[str] = None
    precision: str
    preprocess: Optional[Preprocess] = None
    head: Head
    classes: Tuple[str, ...] = ()
    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    opset: int
    lineage: Tuple[Step, ...] = ()
    refusals: Tuple[Refusal, ...] = ()
    calibration_sha256: Optional[str] = None
    files: Dict[str, FileEntry] = {}

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format {self.format} is not {FORMAT}, the one this version reads")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if self.preprocess is None and not isinstance(self.head, RawHead):
            raise ValueError("a head other than raw, and no preprocess to take pictures by")

    @property
    def pixels(self) -> Preprocess:
        """How a frame becomes the input. Raises EngineError for a net that takes no pictures."""
        if self.preprocess is not None:
            return self.preprocess
        raise EngineError(
            self.name,
            found=f"a model that takes no pictures: {inputs_text(self.inputs)}",
            expected="one that a frame of a camera or a file goes into",
            cure="feed it arrays: open_engine of edge.engines gives an engine that takes them, and "
            "`edge export --triton` serves any inputs",
        )


_DECODER = msgspec.json.Decoder(Manifest)


def inputs_text(specs: Tuple[TensorSpec, ...]) -> str:
    """Names, types and shapes, for a message.

    >>> inputs_text((TensorSpec(name="ids", shape=(1, 4), dtype="int64"),))
    'ids int64 (1, 4)'
    """
    return ", ".join(f"{spec.name} {spec.dtype} {spec.shape}" for spec in specs) or "no inputs"


def class_name(classes: Tuple[str, ...], class_id: int) -> str:
    """The class's name, or `class 7` where it has none.

    >>> class_name(("person",), 0), class_name(("person",), 7)
    ('person', 'class 7')
    """
    return classes[class_id] if class_id < len(classes) else f"class {class_id}"


def manifest_bytes(manifest: Manifest) -> bytes:
    """The one way a manifest is written: UTF-8 JSON, keys sorted, a newline at the end."""
    plain = msgspec.to_builtins(manifest)
    return (json.dumps(plain, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def manifest_from_bytes(data: bytes, where: str) -> Manifest:
    """The manifest that was written; BundleError names the field that does not fit."""

    def fault(found: str) -> BundleError:
        return BundleError(
            where,
            found=found,
            expected=f"a manifest of format {FORMAT}",
            cure="compress the model with this version of jetpress, or run the version that did",
        )

    return decoded(data, _DECODER, fault)
