"""What a bundle may hold beside manifest and costs, and which model an engine is built from.

model.onnx          always there: FP32, or Q/DQ for INT8; precision comes from builder flags
model.strong.onnx   the same network with its precision in its types (FP16 casts), for TensorRT
                    11 and later, whose builder has no precision flags
model.float.onnx    the network before Q/DQ: what a DLA takes with a calibration cache (TensorRT
                    up to 10), because it refuses Q/DQ
golden.npz          pictures, and what model.onnx answers to them: `edge.golden`
"""

from __future__ import annotations

from typing import Mapping, Tuple

from edge.manifest import FileEntry

__all__ = ["FLOAT_MODEL", "GOLDEN_FILE", "MODEL", "STRONG_MODEL", "beside"]

MODEL = "model.onnx"
STRONG_MODEL = "model.strong.onnx"
FLOAT_MODEL = "model.float.onnx"
GOLDEN_FILE = "golden.npz"
_WORDS = {
    GOLDEN_FILE: "inputs and the outputs expected of them",
    STRONG_MODEL: "FP16 in its types, for TensorRT 11",
    FLOAT_MODEL: "before Q/DQ, for INT8 on a DLA",
}


def beside(files: Mapping[str, FileEntry]) -> Tuple[str, ...]:
    """What lies beside the model to build and check engines by: a line a file, in words and MB.

    >>> beside({"golden.npz": FileEntry(bytes=634_002, sha256="")})
    ('golden.npz 0.63 MB, inputs and the outputs expected of them',)
    """
    return tuple(
        f"{name} {files[name].bytes / 1e6:.2f} MB, {words}"
        for name, words in _WORDS.items()
        if name in files
    )
