"""What a matrix op multiplies its weights with, as rows: one for each output position looked at.

For a convolution in G groups of kernel k and C channels, a row is the window of C / G * k values
that one output position reads in one group; its weights are then a matrix of one row for each
output channel, and the output is their product. Products are convolutions with a window of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compress.quantize.graph import attribute, weight_axis

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["fits", "from_matrix", "to_matrix", "windows"]


def fits(node: NodeProto, weights: NDArray[np.float32]) -> bool:
    """Whether rows can be told: a 2-D convolution with explicit pads, or a plain product.

    A Gemm that scales or transposes what it reads is none, nor is a transposed convolution.
    """
    if node.op_type == "Conv":
        pads = attribute(node, "auto_pad", b"NOTSET") in (b"NOTSET", b"VALID", "NOTSET", "VALID")
        return bool(weights.ndim == 4 and pads)
    if node.op_type == "Gemm":
        plain = attribute(node, "alpha", 1.0) == 1.0 and attribute(node, "beta", 1.0) == 1.0
        return bool(plain and not attribute(node, "transA", 0))
    return node.op_type == "MatMul" and weights.ndim == 2


def to_matrix(node: NodeProto, weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """Weights as (groups, outputs of a group, operands), in the order of `windows`."""
    if node.op_type == "Conv":
        groups = int(attribute(node, "group", 1))
        return weights.reshape(groups, weights.shape[0] // groups, -1).astype(np.float64)
    turned = weights if weight_axis(node) == 0 else weights.T
    return turned[None].astype(np.float64)


def from_matrix(
    node: NodeProto, matrix: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """`to_matrix` undone."""
    if node.op_type == "Conv":
        return matrix.reshape(shape).astype(np.float32)
    flat = matrix[0] if weight_axis(node) == 0 else matrix[0].T
    return np.ascontiguousarray(flat, np.float32)


def windows(
    value: NDArray[np.float32],
    node: NodeProto,
    shape: tuple[int, ...],
    pick: tuple[np.random.Generator, int],
) -> NDArray[np.float32]:
    """(groups, positions, operands) of a node's input; `shape` is that of its weights.

    Of a feature map (N, C, H, W) the first item of the batch is read. `pick`: the generator that
    draws output positions, without repeats, and how many at most.
    """
    rng, count = pick
    if node.op_type != "Conv":
        rows = value.reshape(-1, value.shape[-1])
        return rows[_drawn(len(rows), rng, count)][None]
    groups, kernel = int(attribute(node, "group", 1)), shape[2:]
    stride = attribute(node, "strides", (1, 1))
    dilation = attribute(node, "dilations", (1, 1))
    top, left, bottom, right = attribute(node, "pads", (0, 0, 0, 0))
    padded = np.pad(value[0], ((0, 0), (top, bottom), (left, right)))
    height, width = (
        (size - d * (k - 1) - 1) // s + 1
        for size, d, k, s in zip(padded.shape[1:], dilation, kernel, stride, strict=True)
    )
    at = _drawn(height * width, rng, count)
    rows = (at // width * stride[0])[:, None, None] + np.arange(kernel[0])[:, None] * dilation[0]
    columns = (at % width * stride[1])[:, None, None] + np.arange(kernel[1]) * dilation[1]
    read = padded[:, rows, columns]  # (C, positions, kH, kW)
    channels = read.shape[0] // groups
    grouped = read.reshape(groups, channels, len(at), *kernel).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(grouped.reshape(groups, len(at), -1))


def _drawn(total: int, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    if total <= count:
        return np.arange(total)
    return np.sort(rng.choice(total, count, replace=False))
