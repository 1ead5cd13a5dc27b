"""Gst-nvinfer's configuration file: the keys it knows, their types, and how GKeyFile writes them.

Source of the keys and types: "Gst-nvinfer File Configuration Specifications" of NVIDIA's DeepStream
documentation, 6.0 to 9.2. The plugin prints an unknown key and goes on without it, so a typing
error there would change what is computed without stopping anything: here it raises KeyError.

GKeyFile: `key=value`; lists are parted by `;`; a backslash, a line end, a tab and a leading space
are escaped, and so is a `;` inside an element of a list.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Tuple, Union

__all__ = ["CLASS_KEYS", "PROPERTY_KEYS", "Value", "section"]

Value = Union[int, float, bool, str, Tuple[float, ...], Tuple[int, ...], Tuple[str, ...]]

PROPERTY_KEYS: Dict[str, str] = {
    # of the network
    "onnx-file": "path", "model-engine-file": "path", "int8-calib-file": "path",
    "labelfile-path": "path", "network-mode": "int", "network-type": "int", "batch-size": "int",
    "infer-dims": "ints", "output-blob-names": "strings", "num-detected-classes": "int",
    "gie-unique-id": "int", "process-mode": "int", "interval": "int", "gpu-id": "int",
    "workspace-size": "int",
    # of what happens to pixels
    "net-scale-factor": "float", "offsets": "floats", "model-color-format": "int",
    "maintain-aspect-ratio": "bool", "symmetric-padding": "bool", "scaling-filter": "int",
    "scaling-compute-hw": "int", "network-input-order": "int",
    # of where it runs
    "enable-dla": "bool", "use-dla-core": "int",
    # of what becomes of outputs
    "output-tensor-meta": "bool", "cluster-mode": "int", "classifier-threshold": "float",
    "classifier-async-mode": "bool", "custom-lib-path": "path", "parse-bbox-func-name": "string",
    "parse-classifier-func-name": "string",
}  # fmt: skip
CLASS_KEYS: Dict[str, str] = {
    "pre-cluster-threshold": "float", "post-cluster-threshold": "float",
    "nms-iou-threshold": "float", "topk": "int", "roi-top-offset": "int",
    "roi-bottom-offset": "int", "detected-min-w": "int", "detected-min-h": "int",
    "detected-max-w": "int", "detected-max-h": "int",
}  # fmt: skip
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def section(name: str, values: Mapping[str, Value]) -> str:
    """One group of the file; KeyError for a key that nvinfer does not know there.

    >>> print(section("property", {"offsets": (127.5, 0.0), "batch-size": 1}), end="")
    [property]
    offsets=127.5;0.0
    batch-size=1
    """
    known = PROPERTY_KEYS if name == "property" else CLASS_KEYS
    lines = [f"{key}={_written(known[key], value)}" for key, value in values.items()]
    return "\n".join([f"[{name}]", *lines]) + "\n"


def _written(kind: str, value: Value) -> str:
    if isinstance(value, tuple):
        separated = kind == "strings"
        return ";".join(_element(item, separated) for item in value)
    return _element(int(value) if kind == "bool" else value, False)


def _element(value: Union[int, float, str], separated: bool) -> str:
    if not isinstance(value, str):
        return repr(value)
    letters: List[str] = [_ESCAPES.get(letter, letter) for letter in value]
    if letters and letters[0] == " ":
        letters[0] = "\\s"
    if separated:
        letters = ["\\;" if letter == ";" else letter for letter in letters]
    return "".join(letters)
