"""A Graph -> Costs: one Kernel per fused group, weights stored once, peak of what is alive.

Convolution, x (N, C, H, W), w (M, C/groups, kH, kW), y (N, M, H', W'):
    macs = N * M * H' * W' * C / groups * kH * kW
Transposed convolution, w (C, M/groups, kH, kW): every input element meets every weight of its row:
    macs = N * C * H * W * M / groups * kH * kW
Product of (..., M, K) and (..., K, N):
    macs = elements of the result * K
Bias, batch norm and activations are not counted: they ride in the epilogue.
"""

from __future__ import annotations

from typing import Callable, Dict, Tuple

import msgspec

from devices.roofline import Costs, Kernel
from edge.fusion import Group, Plan, plan
from edge.graph import Graph, Node, elements

__all__ = ["costs_from_graph", "kernel_from_group", "params_of", "weights_of"]

_NOT_WEIGHTS = frozenset(
    ("Clip", "Resize", "Upsample", "Pad", "Slice", "Expand", "Tile", "TopK", "NonMaxSuppression")
)


class _Product(msgspec.Struct, frozen=True, kw_only=True):
    """The arithmetic of a group's anchor."""

    macs: int = 0
    in_channels: int = 0
    out_channels: int = 0
    groups: int = 1
    kernel_size: Tuple[int, int] = (1, 1)
    out_hw: Tuple[int, int] = (1, 1)
    op: str = ""


def costs_from_graph(graph: Graph) -> Costs:
    """Costs of a network given as plain values."""
    planned = plan(graph)
    kernels = tuple(kernel_from_group(group, graph, planned) for group in planned.groups)
    first = graph.shapes[graph.inputs[0]] if graph.inputs else ()
    return Costs(
        kernels=kernels,
        params=params_of(graph, planned),
        macs=sum(kernel.macs for kernel in kernels),
        peak_live_elems=_peak_live_elems(planned, graph),
        input_elems=sum(graph.elems(name) for name in graph.inputs),
        output_elems=sum(graph.elems(name) for name in graph.outputs),
        unknown_ops=graph.unknown_ops,
        batch=first[0] if first else 1,
        opset=graph.opset,
        batch_open=graph.batch_open,
    )


def _peak_live_elems(planned: Plan, graph: Graph) -> int:
    """Most elements alive during any kernel; inputs and outputs have bindings of their own."""
    owner = _owners(planned)
    born: Dict[str, int] = {}
    dies: Dict[str, int] = {}
    for index, group in enumerate(planned.groups):
        for root in _written(group):
            born.setdefault(owner(root), index)
            dies[owner(root)] = index
        for name in group.reads:
            dies[owner(planned.views.root.get(name, name))] = index
    bound = {owner(root) for root in (*planned.views.outputs, *graph.inputs)}
    change = [0] * (len(planned.groups) + 1)
    for root, index in born.items():
        if root not in bound:
            change[index] += graph.elems(root)
            change[dies[root] + 1] -= graph.elems(root)
    live = peak = 0
    for step in change:
        live += step
        peak = max(peak, live)
    return peak


def _written(group: Group) -> Tuple[str, ...]:
    if len(group.nodes) > 1:
        return (group.out,)
    return tuple(name for name in group.anchor.outputs if name)


def _owners(planned: Plan) -> Callable[[str], str]:
    def owner(root: str) -> str:
        while root in planned.storage:
            root = planned.storage[root]
        return root

    return owner


def kernel_from_group(group: Group, graph: Graph, planned: Plan) -> Kernel:
    """What the group costs, whatever the board."""
    anchor = group.anchor
    product = _product(group, graph)
    weights = {}
    for node in group.nodes:
        weights.update(weights_of(node, graph))
    return Kernel(
        name=anchor.name or anchor.outputs[0],
        op=product.op or group.op,
        nodes=tuple(node.name or node.outputs[0] for node in group.nodes),
        macs=product.macs,
        in_channels=product.in_channels,
        out_channels=product.out_channels,
        groups=product.groups,
        kernel_size=product.kernel_size,
        out_hw=product.out_hw,
        read_elems=_read_elems(group, graph),
        write_elems=_write_elems(group, graph),
        weight_elems=0 if group.reformat else sum(weights.values()),
        int8=_is_int8(group, graph, planned),
        writes_int8=group.reformat or group.writes_int8,
    )


def weights_of(node: Node, graph: Graph) -> Dict[str, int]:
    """Stored weights of one node, root name -> elements; scalars and Q/DQ scales are none."""
    if node.op in _NOT_WEIGHTS:
        return {}
    names = node.inputs[1:3] if node.op == "BatchNormalization" else node.inputs
    found = {}
    for name in names:
        constant = graph.constants.get(name)
        if constant is not None and constant.is_weight and constant.elems > 1:
            found[constant.root] = constant.elems
    return found


def params_of(graph: Graph, planned: Plan) -> int:
    """Weights stored once each, over the whole network."""
    found: Dict[str, int] = {}
    for node in planned.views.nodes:
        found.update(weights_of(node, graph))
    return sum(found.values())


def _product(group: Group, graph: Graph) -> _Product:
    node = group.anchor
    if group.reformat:
        return _plain(graph.shapes[group.reads[0]])
    if node.op == "Conv":
        return _conv(node, graph)
    if node.op == "ConvTranspose":
        return _deconv(node, graph)
    if node.op in ("Gemm", "MatMul", "Einsum"):
        return _matmul(node, graph)
    if node.op in ("LSTM", "GRU", "RNN"):
        steps = graph.shapes[node.inputs[0]][0] * graph.shapes[node.inputs[0]][1]
        return _Product(macs=steps * sum(weights_of(node, graph).values()))
    return _plain(graph.shapes[node.outputs[0]])


def _plain(shape: Tuple[int, ...]) -> _Product:
    channels = shape[1] if len(shape) > 1 else 1
    return _Product(in_channels=channels, out_channels=channels, out_hw=_plane(shape[2:]))


def _plane(spatial: Tuple[int, ...]) -> Tuple[int, int]:
    """Any number of spatial sizes as two: (1, 1), (1, W), (H, W), (D * H, W)."""
    if not spatial:
        return (1, 1)
    return (elements(spatial[:-1]), spatial[-1])


def _conv(node: Node, graph: Graph) -> _Product:
    w, y = graph.shapes[node.inputs[1]], graph.shapes[node.outputs[0]]
    groups = int(node.attributes.get("group", 1))
    op = "conv"
    if groups > 1:
        op = "dwconv" if w[1] == 1 else "gconv"
    return _Product(
        macs=elements(y) * elements(w[1:]),
        in_channels=w[1] * groups,
        out_channels=w[0],
        groups=groups,
        kernel_size=_plane(w[2:]),
        out_hw=_plane(y[2:]),
        op=op,
    )


def _deconv(node: Node, graph: Graph) -> _Product:
    x, w, y = (graph.shapes[n] for n in (node.inputs[0], node.inputs[1], node.outputs[0]))
    return _Product(
        macs=elements(x) * elements(w[1:]),
        in_channels=w[0],
        out_channels=y[1],
        groups=int(node.attributes.get("group", 1)),
        kernel_size=_plane(w[2:]),
        out_hw=_plane(y[2:]),
    )


def _matmul(node: Node, graph: Graph) -> _Product:
    a, y = graph.shapes[node.inputs[0]], graph.shapes[node.outputs[0]]
    depth = a[0] if node.op == "Gemm" and node.attributes.get("transA") else a[-1]
    columns = y[-1] if y else 1
    both_computed = len(graph.data_inputs(node)) > 1 and node.op != "Gemm"
    return _Product(
        macs=elements(y) * depth,
        in_channels=depth,
        out_channels=columns,
        out_hw=(elements(y) // max(1, columns), 1),
        op="attention" if both_computed else "gemm",
    )


def _read_elems(group: Group, graph: Graph) -> int:
    if group.copies:
        return group.copies
    read = sum(graph.elems(name) for name in group.reads)
    if group.op == "copy":  # a gather or slice reads what it writes
        return min(read, sum(graph.elems(name) for name in group.anchor.outputs if name))
    return read


def _write_elems(group: Group, graph: Graph) -> int:
    if group.copies:
        return group.copies
    if len(group.nodes) == 1:
        return sum(graph.elems(name) for name in group.anchor.outputs if name)
    return graph.elems(group.out)


def _is_int8(group: Group, graph: Graph, planned: Plan) -> bool:
    """Do the anchor's tensors (and its weight, if it has one) come through Q/DQ?"""
    if group.reformat:
        return False
    data = graph.data_inputs(group.anchor)
    if not data or not all(name in planned.views.quantized for name in data):
        return False
    if group.op in ("conv", "deconv", "gemm") and len(group.anchor.inputs) > 1:
        weight = graph.constants.get(group.anchor.inputs[1])
        return weight is None or weight.quantized
    return True
