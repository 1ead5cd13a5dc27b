"""YOLO11 as plain graphs, written from its public model description."""

from __future__ import annotations

import math
from functools import partial

from edge.graph import Graph
from tests.bench.predictor.nets import Builder

__all__ = ["YOLO11"]

_SCALES = {"n": (0.5, 0.25, 1024), "s": (0.5, 0.5, 1024), "m": (0.5, 1.0, 512),
           "l": (1.0, 1.0, 512), "x": (1.0, 1.5, 512)}  # fmt: skip
_CLASSES, _BINS = 80, 16


def _bottleneck(b: Builder, x: str, c: int, e: float) -> str:
    return b.plus(x, b.conv(b.conv(x, int(c * e), 3, act="Swish"), c, 3, act="Swish"))


def _c3k(b: Builder, x: str, c: int) -> str:
    left, right = b.conv(x, c // 2, act="Swish"), b.conv(x, c // 2, act="Swish")
    for _ in range(2):
        left = _bottleneck(b, left, c // 2, 1.0)
    return b.conv(b.cat([left, right]), c, act="Swish")


def _c3k2(b: Builder, x: str, out: int, n: int, *, c3k: bool, e: float = 0.5) -> str:
    c = int(out * e)
    parts = b.halves(b.conv(x, 2 * c, act="Swish"))
    for _ in range(n):
        parts.append(_c3k(b, parts[-1], c) if c3k else _bottleneck(b, parts[-1], c, 0.5))
    return b.conv(b.cat(parts), out, act="Swish")


def _sppf(b: Builder, x: str) -> str:
    c = b.channels(x)
    parts = [b.conv(x, c // 2, act="Swish")]
    for _ in range(3):
        parts.append(b.pool(parts[-1], 5, 1, 2))
    return b.conv(b.cat(parts), c, act="Swish")


def _attention(b: Builder, x: str) -> str:
    _, c, h, w = b.shapes[x]
    heads, cells = c // 64, h * w
    qkv = b.add("Reshape", [b.conv(x, 2 * c, act="")], (1, heads, 128, cells))
    q = b.add("Slice", [qkv], (1, heads, 32, cells))
    k = b.add("Slice", [qkv], (1, heads, 32, cells))
    v = b.add("Slice", [qkv], (1, heads, 64, cells))
    turned = b.add("Transpose", [q], (1, heads, cells, 32), perm=[0, 1, 3, 2])
    scores = b.add("MatMul", [turned, k], (1, heads, cells, cells))
    scores = b.add("Softmax", [scores], (1, heads, cells, cells))
    scores = b.add("Transpose", [scores], (1, heads, cells, cells), perm=[0, 1, 3, 2])
    mixed = b.add("Reshape", [b.add("MatMul", [v, scores], (1, heads, 64, cells))], (1, c, h, w))
    places = b.conv(b.add("Reshape", [v], (1, c, h, w)), c, 3, g=c, act="")
    return b.conv(b.plus(mixed, places), c, act="")


def _c2psa(b: Builder, x: str, n: int) -> str:
    full = b.channels(x)
    left, right = b.halves(b.conv(x, full, act="Swish"))
    for _ in range(n):
        right = b.plus(right, _attention(b, right))
        c = b.channels(right)
        right = b.plus(right, b.conv(b.conv(right, 2 * c, act="Swish"), c, act=""))
    return b.conv(b.cat([left, right]), full, act="Swish")


def _detect(b: Builder, levels: list[str]) -> str:
    first = b.channels(levels[0])
    box_width, class_width = max(16, first // 4, 4 * _BINS), max(first, min(_CLASSES, 100))
    flat = []
    for x in levels:
        c = b.channels(x)
        box = b.conv(b.conv(x, box_width, 3, act="Swish"), box_width, 3, act="Swish")
        y = b.conv(b.conv(x, c, 3, g=c, act="Swish"), class_width, act="Swish")
        y = b.conv(b.conv(y, class_width, 3, g=class_width, act="Swish"), class_width, act="Swish")
        joined = b.cat([b.conv(box, 4 * _BINS, act=""), b.conv(y, _CLASSES, act="")])
        _, c, h, w = b.shapes[joined]
        flat.append(b.add("Reshape", [joined], (1, c, h * w)))
    total = sum(b.shapes[x][2] for x in flat)
    joined = b.add("Concat", flat, (1, 4 * _BINS + _CLASSES, total), axis=2)
    box = b.add("Slice", [joined], (1, 4 * _BINS, total))
    scores = b.act(b.add("Slice", [joined], (1, _CLASSES, total)), "Sigmoid")
    bins = b.add("Reshape", [box], (1, 4, _BINS, total))
    bins = b.add("Transpose", [bins], (1, _BINS, 4, total), perm=[0, 2, 1, 3])
    sides = b.conv(b.add("Softmax", [bins], (1, _BINS, 4, total)), 1, act="")
    sides = b.add("Reshape", [sides], (1, 4, total))
    corners = b.add("Mul", [sides, b.weight(4, total)], (1, 4, total))
    return b.add("Concat", [corners, scores], (1, 4 + _CLASSES, total), axis=1)


def _yolo11(scale: str, size: int) -> Graph:
    depth, width, most = _SCALES[scale]
    b, big, n = Builder(size), scale in "mlx", max(round(2 * depth), 1)

    def c(channels: int) -> int:
        return math.ceil(min(channels, most) * width / 8) * 8

    def down(x: str, channels: int) -> str:
        return b.conv(x, c(channels), 3, 2, act="Swish")

    x = down(down("images", 64), 128)
    x = _c3k2(b, x, c(256), n, c3k=big, e=0.25)
    c3 = _c3k2(b, down(x, 256), c(512), n, c3k=big, e=0.25)
    c4 = _c3k2(b, down(c3, 512), c(512), n, c3k=True)
    c5 = _c2psa(b, _sppf(b, _c3k2(b, down(c4, 1024), c(1024), n, c3k=True)), n)
    f4 = _c3k2(b, b.cat([b.up(c5), c4]), c(512), n, c3k=big)
    p3 = _c3k2(b, b.cat([b.up(f4), c3]), c(256), n, c3k=big)
    p4 = _c3k2(b, b.cat([down(p3, 256), f4]), c(512), n, c3k=big)
    p5 = _c3k2(b, b.cat([down(p4, 512), c5]), c(1024), n, c3k=True)
    return b.graph(_detect(b, [p3, p4, p5]))


YOLO11 = {f"yolo11{scale}": partial(_yolo11, scale) for scale in _SCALES}
