"""Public networks as plain graphs, written from their papers: shapes only, no weights, no torch."""

from __future__ import annotations

from functools import partial

from edge.graph import Constant, Graph, Node, elements

__all__ = ["NETS", "Builder", "build"]


class Builder:
    """Adds nodes one by one and keeps every shape; batch is 1, layout NCHW."""

    def __init__(self, size: int, channels: int = 3) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, Constant] = {}
        self.shapes: dict[str, tuple[int, ...]] = {"images": (1, channels, size, size)}

    def add(self, op: str, inputs: list[str], shape: tuple[int, ...], **attributes: object) -> str:
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(
            Node(name=name, op=op, inputs=tuple(inputs), outputs=(name,), attributes=attributes)
        )
        self.shapes[name] = shape
        return name

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.constants)}"
        self.shapes[name] = shape
        self.constants[name] = Constant(
            elems=elements(shape), is_weight=True, quantized=False, root=name
        )
        return name

    def channels(self, x: str) -> int:
        return self.shapes[x][1]

    def conv(self, x: str, out: int, k: int = 1, s: int = 1, *, g: int = 1, act: str = "Relu",
             pad: int | None = None) -> str:  # fmt: skip
        """Convolution, folded batch norm, activation ("" for none)."""
        _, c, h, w = self.shapes[x]
        p = k // 2 if pad is None else pad
        shape = (1, out, (h + 2 * p - k) // s + 1, (w + 2 * p - k) // s + 1)
        y = self.add("Conv", [x, self.weight(out, c // g, k, k), self.weight(out)], shape, group=g)
        return self.act(y, act)

    def act(self, x: str, kind: str) -> str:
        if not kind:
            return x
        if kind == "Swish":
            gate = self.add("Sigmoid", [x], self.shapes[x])
            return self.add("Mul", [x, gate], self.shapes[x])
        return self.add(kind, [x], self.shapes[x])

    def plus(self, a: str, b: str, act: str = "") -> str:
        return self.act(self.add("Add", [a, b], self.shapes[a]), act)

    def pool(self, x: str, k: int, s: int, pad: int = 0, *, ceil: bool = False) -> str:
        _, c, h, w = self.shapes[x]
        up = s - 1 if ceil else 0
        shape = (1, c, (h + 2 * pad - k + up) // s + 1, (w + 2 * pad - k + up) // s + 1)
        return self.add("MaxPool", [x], shape)

    def mean(self, x: str) -> str:
        return self.add("GlobalAveragePool", [x], (1, self.channels(x), 1, 1))

    def cat(self, parts: list[str]) -> str:
        _, _, h, w = self.shapes[parts[0]]
        return self.add("Concat", parts, (1, sum(map(self.channels, parts)), h, w), axis=1)

    def halves(self, x: str) -> list[str]:
        _, c, h, w = self.shapes[x]
        return [self.add("Slice", [x], (1, c // 2, h, w)) for _ in range(2)]

    def up(self, x: str) -> str:
        _, c, h, w = self.shapes[x]
        return self.add("Resize", [x], (1, c, 2 * h, 2 * w))

    def fc(self, x: str, out: int, act: str = "") -> str:
        depth = elements(self.shapes[x])
        flat = self.add("Flatten", [x], (1, depth))
        y = self.add("Gemm", [flat, self.weight(depth, out), self.weight(out)], (1, out))
        return self.act(y, act)

    def graph(self, *outputs: str) -> Graph:
        return Graph(nodes=tuple(self.nodes), shapes=self.shapes, constants=self.constants,
                     inputs=("images",), outputs=outputs, opset=13)  # fmt: skip


def _alexnet(size: int) -> Graph:
    b = Builder(size)
    x = b.pool(b.conv("images", 64, 11, 4, pad=2), 3, 2)
    x = b.pool(b.conv(x, 192, 5), 3, 2)
    x = b.pool(b.conv(b.conv(b.conv(x, 384, 3), 256, 3), 256, 3), 3, 2)
    return b.graph(b.fc(b.fc(b.fc(x, 4096, "Relu"), 4096, "Relu"), 1000))


def _vgg(plan: tuple[int, ...], size: int) -> Graph:
    b, x = Builder(size), "images"
    for width, count in zip((64, 128, 256, 512, 512), plan, strict=True):
        for _ in range(count):
            x = b.conv(x, width, 3)
        x = b.pool(x, 2, 2)
    return b.graph(b.fc(b.fc(b.fc(x, 4096, "Relu"), 4096, "Relu"), 1000))


def _resnet(plan: tuple[int, ...], bottleneck: bool, size: int) -> Graph:
    b = Builder(size)
    x = b.pool(b.conv("images", 64, 7, 2), 3, 2, 1)
    for stage, count in enumerate(plan):
        width, out = 64 << stage, (256 if bottleneck else 64) << stage
        for i in range(count):
            s = 2 if stage and not i else 1
            if bottleneck:
                y = b.conv(b.conv(b.conv(x, width), width, 3, s), out, act="")
            else:
                y = b.conv(b.conv(x, out, 3, s), out, 3, act="")
            skip = x if s == 1 and b.channels(x) == out else b.conv(x, out, 1, s, act="")
            x = b.plus(y, skip, "Relu")
    return b.graph(b.fc(b.mean(x), 1000))


def _squeezenet(version: str, size: int) -> Graph:
    b = Builder(size)

    def fire(x: str, squeeze: int, expand: int) -> str:
        s = b.conv(x, squeeze)
        return b.cat([b.conv(s, expand), b.conv(s, expand, 3)])

    x = b.conv("images", 96, 7, 2, pad=0) if version == "1_0" else b.conv("images", 64, 3, 2, pad=0)
    after = (0, 3, 7) if version == "1_0" else (0, 2, 4)
    widths = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
    for i, (squeeze, expand) in enumerate(widths):
        x = fire(b.pool(x, 3, 2, ceil=True) if i in after else x, squeeze, expand)
    return b.graph(b.mean(b.conv(x, 1000)))


def _inverted(b: Builder, x: str, mid: int, out: int, k: int, s: int, act: str, se: int) -> str:
    y = b.conv(x, mid, act=act) if mid != b.channels(x) else x
    y = b.conv(y, mid, k, s, g=mid, act=act)
    if se:
        gate = b.conv(b.conv(b.mean(y), se), mid, act="HardSigmoid")
        y = b.add("Mul", [y, gate], b.shapes[y])
    y = b.conv(y, out, act="")
    return b.plus(x, y) if s == 1 and b.channels(x) == out else y


def _mobilenet_v2(size: int) -> Graph:
    b = Builder(size)
    x = b.conv("images", 32, 3, 2, act="Clip")
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
             (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip
    for t, c, n, s in table:
        for i in range(n):
            x = _inverted(b, x, t * b.channels(x), c, 3, s if not i else 1, "Clip", 0)
    return b.graph(b.fc(b.mean(b.conv(x, 1280, act="Clip")), 1000))


def _ssd_mobilenet_v1(size: int) -> Graph:
    b = Builder(size)
    x, maps = b.conv("images", 32, 3, 2, act="Clip"), []
    table = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5)
    for c, s in table:
        x = b.conv(b.conv(x, b.channels(x), 3, s, g=b.channels(x), act="Clip"), c, act="Clip")
    maps.append(x)
    for c, s in ((1024, 2), (1024, 1)):
        x = b.conv(b.conv(x, b.channels(x), 3, s, g=b.channels(x), act="Clip"), c, act="Clip")
    maps.append(x)
    for c in (512, 256, 256, 128):
        x = b.conv(b.conv(x, c // 2, act="Clip"), c, 3, 2, act="Clip")
        maps.append(x)
    outputs = []
    for x, anchors in zip(maps, (3, 6, 6, 6, 6, 6), strict=True):
        for width in (4 * anchors, 91 * anchors):
            y = b.conv(x, width, act="")
            _, c, h, w = b.shapes[y]
            outputs.append(b.add("Transpose", [y], (1, h, w, c), perm=[0, 2, 3, 1]))
    return b.graph(b.add("EfficientNMS_TRT", outputs, (1, 100, 7)))


_V3_LARGE = (
    (3, 16, 16, 0, 0, 1),
    (3, 64, 24, 0, 0, 2),
    (3, 72, 24, 0, 0, 1),
    (5, 72, 40, 24, 0, 2),
    (5, 120, 40, 32, 0, 1),
    (5, 120, 40, 32, 0, 1),
    (3, 240, 80, 0, 1, 2),
    (3, 200, 80, 0, 1, 1),
    (3, 184, 80, 0, 1, 1),
    (3, 184, 80, 0, 1, 1),
    (3, 480, 112, 120, 1, 1),
    (3, 672, 112, 168, 1, 1),
    (5, 672, 160, 168, 1, 2),
    (5, 960, 160, 240, 1, 1),
    (5, 960, 160, 240, 1, 1),
)
_V3_SMALL = (
    (3, 16, 16, 8, 0, 2),
    (3, 72, 24, 0, 0, 2),
    (3, 88, 24, 0, 0, 1),
    (5, 96, 40, 24, 1, 2),
    (5, 240, 40, 64, 1, 1),
    (5, 240, 40, 64, 1, 1),
    (5, 120, 48, 32, 1, 1),
    (5, 144, 48, 40, 1, 1),
    (5, 288, 96, 72, 1, 2),
    (5, 576, 96, 144, 1, 1),
    (5, 576, 96, 144, 1, 1),
)


def _mobilenet_v3(table: tuple[tuple[int, ...], ...], last: int, size: int) -> Graph:
    b = Builder(size)
    x = b.conv("images", 16, 3, 2, act="HardSwish")
    for k, mid, out, se, hard, s in table:
        x = _inverted(b, x, mid, out, k, s, "HardSwish" if hard else "Relu", se)
    x = b.conv(x, 6 * b.channels(x), act="HardSwish")
    return b.graph(b.fc(b.fc(b.mean(x), last, "HardSwish"), 1000))


def _mnasnet(alpha: float, size: int) -> Graph:
    b = Builder(size)

    def width(c: float) -> int:
        new = max(8, int(c * alpha + 4) // 8 * 8)
        return new if new >= 0.9 * c * alpha else new + 8

    x = b.conv("images", width(32), 3, 2)
    x = b.conv(b.conv(x, b.channels(x), 3, g=b.channels(x)), width(16), act="")
    table = ((3, 24, 3, 3, 2), (5, 40, 3, 3, 2), (5, 80, 6, 3, 2), (3, 96, 6, 2, 1),
             (5, 192, 6, 4, 2), (3, 320, 6, 1, 1))  # fmt: skip
    for k, c, t, n, s in table:
        for i in range(n):
            x = _inverted(b, x, t * b.channels(x), width(c), k, s if not i else 1, "Relu", 0)
    return b.graph(b.fc(b.mean(b.conv(x, 1280)), 1000))


def _densenet(growth: int, plan: tuple[int, ...], first: int, size: int) -> Graph:
    b = Builder(size)

    def normed(x: str) -> str:
        c = b.channels(x)
        y = b.add("BatchNormalization", [x, b.weight(c), b.weight(c)], b.shapes[x])
        return b.act(y, "Relu")

    x = b.pool(b.conv("images", first, 7, 2), 3, 2, 1)
    for block, count in enumerate(plan):
        parts = [x]
        for _ in range(count):
            joined = b.cat(parts) if len(parts) > 1 else parts[0]
            parts.append(b.conv(b.conv(normed(joined), 4 * growth), growth, 3, act=""))
        x = b.cat(parts)
        if block < len(plan) - 1:
            y = b.conv(normed(x), b.channels(x) // 2, act="")
            _, c, h, w = b.shapes[y]
            x = b.add("AveragePool", [y], (1, c, h // 2, w // 2))
    return b.graph(b.fc(b.mean(normed(x)), 1000))


def _heads(b: Builder, levels: list[tuple[str, ...]]) -> str:
    """YOLO outputs: each level's maps joined, flattened to anchors, all levels joined."""
    flat = []
    for parts in levels:
        x = b.cat(list(parts))
        _, c, h, w = b.shapes[x]
        flat.append(b.add("Reshape", [x], (1, c, h * w)))
    total = sum(b.shapes[x][2] for x in flat)
    return b.add("Concat", flat, (1, b.shapes[flat[0]][1], total), axis=2)


def _yolox(depth: float, width: float, depthwise: bool, size: int) -> Graph:
    b = Builder(size)
    base, deep = int(width * 64), max(round(depth * 3), 1)

    def cbs(x: str, c: int, k: int = 1, s: int = 1) -> str:
        if depthwise and k > 1:
            return b.conv(
                b.conv(x, b.channels(x), k, s, g=b.channels(x), act="Swish"), c, act="Swish"
            )
        return b.conv(x, c, k, s, act="Swish")

    def csp(x: str, c: int, n: int, add: bool = True) -> str:
        left, right = b.conv(x, c // 2, act="Swish"), b.conv(x, c // 2, act="Swish")
        for _ in range(n):
            y = cbs(b.conv(left, c // 2, act="Swish"), c // 2, 3)
            left = b.plus(y, left) if add else y
        return b.conv(b.cat([left, right]), c, act="Swish")

    focus = [b.add("Slice", ["images"], (1, 3, size // 2, size // 2)) for _ in range(4)]
    x = b.conv(b.cat(focus), base, 3, act="Swish")
    x = csp(cbs(x, base * 2, 3, 2), base * 2, deep)
    c3 = csp(cbs(x, base * 4, 3, 2), base * 4, deep * 3)
    c4 = csp(cbs(c3, base * 8, 3, 2), base * 8, deep * 3)
    x = b.conv(cbs(c4, base * 16, 3, 2), base * 8, act="Swish")
    x = b.conv(b.cat([x] + [b.pool(x, k, 1, k // 2) for k in (5, 9, 13)]), base * 16, act="Swish")
    c5 = csp(x, base * 16, deep, add=False)
    f5 = b.conv(c5, base * 8, act="Swish")
    p4 = csp(b.cat([b.up(f5), c4]), base * 8, deep, add=False)
    f4 = b.conv(p4, base * 4, act="Swish")
    p3 = csp(b.cat([b.up(f4), c3]), base * 4, deep, add=False)
    n4 = csp(b.cat([cbs(p3, base * 4, 3, 2), f4]), base * 8, deep, add=False)
    n5 = csp(b.cat([cbs(n4, base * 8, 3, 2), f5]), base * 16, deep, add=False)
    levels = []
    for level in (p3, n4, n5):
        stem = b.conv(level, base * 4, act="Swish")
        cls = cbs(cbs(stem, base * 4, 3), base * 4, 3)
        reg = cbs(cbs(stem, base * 4, 3), base * 4, 3)
        parts = (
            b.conv(reg, 4, act=""),
            b.conv(reg, 1, act="Sigmoid"),
            b.conv(cls, 80, act="Sigmoid"),
        )
        levels.append(parts)
    return b.graph(_heads(b, levels))


def build(name: str, size: int) -> Graph:
    """The network of that name for a square image of `size` pixels."""
    return NETS[name](size=size)


NETS = {
    "alexnet": _alexnet,
    **{
        f"vgg{n}": partial(_vgg, p)
        for n, p in (
            ("11", (1, 1, 2, 2, 2)),
            ("13", (2,) * 5),
            ("16", (2, 2, 3, 3, 3)),
            ("19", (2, 2, 4, 4, 4)),
        )
    },
    **{
        f"resnet{n}": partial(_resnet, p, n >= 50)
        for n, p in (
            (18, (2, 2, 2, 2)),
            (34, (3, 4, 6, 3)),
            (50, (3, 4, 6, 3)),
            (101, (3, 4, 23, 3)),
            (152, (3, 8, 36, 3)),
        )
    },
    "squeezenet1_0": partial(_squeezenet, "1_0"),
    "squeezenet1_1": partial(_squeezenet, "1_1"),
    "ssd_mobilenet_v1": _ssd_mobilenet_v1,
    "mobilenet_v2": _mobilenet_v2,
    "mobilenet_v3_large": partial(_mobilenet_v3, _V3_LARGE, 1280),
    "mobilenet_v3_small": partial(_mobilenet_v3, _V3_SMALL, 1024),
    **{
        f"mnasnet{a}": partial(_mnasnet, float(a.replace("_", ".")))
        for a in ("0_5", "0_75", "1_0", "1_3")
    },
    "densenet121": partial(_densenet, 32, (6, 12, 24, 16), 64),
    "densenet169": partial(_densenet, 32, (6, 12, 32, 32), 64),
    "densenet201": partial(_densenet, 32, (6, 12, 48, 32), 64),
    "densenet161": partial(_densenet, 48, (6, 12, 36, 24), 96),
    "yolox_n": partial(_yolox, 0.33, 0.25, True),
    "yolox_t": partial(_yolox, 0.33, 0.375, False),
    "yolox_s": partial(_yolox, 0.33, 0.5, False),
    "yolox_m": partial(_yolox, 0.67, 0.75, False),
    "yolox_l": partial(_yolox, 1.0, 1.0, False),
}
