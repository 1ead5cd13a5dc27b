"""INT8 and FP16 for TensorRT: calibrate with NNCF, then write the graph TensorRT reads rightly."""
