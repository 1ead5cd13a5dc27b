"""Names of TensorRT's classes for annotations: they have no types, so each is `Any` to mypy.

A test reads them: where a variable is annotated `engine: ICudaEngine`, every attribute used on it
must exist on that class in every TensorRT version between the module's VERSIONS. A line that serves
only some of them says so at its end, and the name must really be missing outside:

    # trt: from 8.4.1      not before
    # trt: until 8.2.1     not after
    # trt: not in rtx      TensorRT-RTX lacks it
    # trt: only in rtx     nothing but TensorRT-RTX has it
"""

from __future__ import annotations

from typing import Any

__all__ = ["Builder", "EngineInspector", "IBuilderConfig", "ICudaEngine", "IExecutionContext",
           "IHostMemory", "IInt8EntropyCalibrator2", "ILayer", "ILogger", "INetworkDefinition",
           "IOptimizationProfile", "IProfiler", "IProgressMonitor", "ITensor", "ITimingCache",
           "OnnxParser", "ParserError", "Runtime", "TensorRT"]  # fmt: skip

TensorRT = Any  # the imported module
Builder = Any
EngineInspector = Any
IBuilderConfig = Any
ICudaEngine = Any
IExecutionContext = Any
IHostMemory = Any
IInt8EntropyCalibrator2 = Any
ILayer = Any
ILogger = Any
INetworkDefinition = Any
IOptimizationProfile = Any
IProfiler = Any
IProgressMonitor = Any
ITensor = Any
ITimingCache = Any
OnnxParser = Any
ParserError = Any
Runtime = Any
