"""Engines built by TensorRT on the board: the only place that names it."""
