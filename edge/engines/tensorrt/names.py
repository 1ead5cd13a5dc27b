"""Names of TensorRT's classes for annotations: they have no types, so each is `Any` to mypy.

A test reads them: where a variable is annotated `engine: ICudaEngine`, every attribute used on it
must exist on that class in every TensorRT version between the module's VERSIONS. A line that serves
only some of them says so at its end: `# trt: from 8.4.1` or `# trt: until 8.2.1`.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Builder", "EngineInspector", "IBuilderConfig", "ICudaEngine", "IExecutionContext",
           "IHostMemory", "ILayer", "INetworkDefinition", "IOptimizationProfile", "ITensor",
           "ITimingCache", "OnnxParser", "ParserError", "Runtime", "TensorRT"]  # fmt: skip

TensorRT = Any  # the imported module
Builder = Any
EngineInspector = Any
IBuilderConfig = Any
ICudaEngine = Any
IExecutionContext = Any
IHostMemory = Any
ILayer = Any
INetworkDefinition = Any
IOptimizationProfile = Any
ITensor = Any
ITimingCache = Any
OnnxParser = Any
ParserError = Any
Runtime = Any
