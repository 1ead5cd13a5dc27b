"""The lint rules, one a file; `compress.rules.table` lists them.

Each file opens with the rule in one sentence and ends with its `RULE`: name, severity, what it
looks at, where it is written, what comes of breaking it, and the cure. An *error* is refused by
TensorRT, or read as other numbers than the file says; a *warning* is taken and right, but slower or
less exact than it could be.

Sources: "parser" is onnx-tensorrt's importer (`builtin_op_importers.cpp` at 8.2 and 8.6,
`onnxOpImporters.cpp` at 10.1); "docs" NVIDIA's "Working with Quantized Types"; "Model-Optimizer"
NVIDIA's quantizer, `graph_utils.py`; "run" TensorRT-RTX's parser and builder.
"""
