"""Which model files a bundle may hold, and which of them an engine is built from.

model.onnx          always there: FP32, or Q/DQ for INT8; precision comes from builder flags
model.strong.onnx   the same network with its precision in its types (FP16 casts), for TensorRT
11 and later, whose builder has no precision flags
model.float.onnx    the network before Q/DQ: what a DLA takes with a calibration cache (TensorRT
up to 10), because it refuses Q/DQ
"""

from __future__ import annotations

__all__ = ["FLOAT_MODEL", "MODEL", "STRONG_MODEL"]

MODEL = "model.onnx"
STRONG_MODEL = "model.strong.onnx"
FLOAT_MODEL = "model.float.onnx"
