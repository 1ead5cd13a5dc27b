"""What a traced net's kernels cost as a function of widths, from one export of the whole net.

Every operation of the graph is exported under its own name, so each tensor of the ONNX graph is
known to be some output (or weight) of it; its channel axis is then a `Form` of the widths. Kernels
are those of the whole net (`edge.fusion`), priced with the shapes the widths give:

    shapes(widths) -> kernel_from_group -> Kernel -> milliseconds, or multiply-adds

Each (kernel, widths it depends on) is priced once and remembered. What this leaves out is only
what a cut changes beside sizes; `exact_costs` exports the cut net itself and is the last word.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from compress.channels.coupling import Coupling
from compress.channels.graph import refs_in
from compress.channels.scoped import operation_of, scoped
from compress.channels.strands import Form, Strands
from compress.channels.trace import Traced
from compress.kernel_widths import Pricing, as_if_int8

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import fx, nn

    from devices.roofline import Costs, Kernel
    from edge.fusion import Group, Plan
    from edge.graph import Graph

    Widths = Mapping[str, int]  # strand -> units kept

__all__ = ["KernelCosts", "exact_costs", "kernel_costs", "macs_of", "ms_on"]

Price = Callable[["Kernel"], float]


def macs_of(kernel: Kernel) -> float:
    """Multiply-adds of one kernel."""
    return float(kernel.macs)


def ms_on(pricing: Pricing, costs: Costs) -> Price:
    """Predicted milliseconds of one kernel of `costs` on a board."""
    from devices.roofline import predict

    def price(kernel: Kernel) -> float:
        alone = msgspec.structs.replace(costs, kernels=(kernel,))
        where = pricing
        timed = predict(alone, where.profile, precision=where.precision, mode=where.mode)
        return timed.latency_ms.value

    return price


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCosts:
    """Kernels by widths, and their price; `costs` are the whole net's."""

    costs: Costs
    graph: Graph
    planned: Plan
    forms: Mapping[str, tuple[Form, ...]]  # ONNX tensor -> axes that follow widths
    depends: tuple[tuple[str, ...], ...]  # kernel -> strands
    full: Mapping[str, int]
    price: Price
    known: dict[tuple[int, tuple[int, ...]], float] = field(default_factory=dict)  # a memory

    def total(self, widths: Widths) -> float:
        """Price of the net; strands that are not named are whole."""
        after = {**self.full, **widths}
        return sum(self._price(at, after) for at in range(len(self.costs.kernels)))

    def saved(self, widths: Widths, name: str, width: int) -> float:
        """What is won when one strand is narrowed further, the others as they are."""
        before = {**self.full, **widths}
        after = {**before, name: width}
        return sum(
            self._price(at, before) - self._price(at, after)
            for at, strands in enumerate(self.depends)
            if name in strands
        )

    def priced(self, price: Price) -> KernelCosts:
        """The same kernels by another price."""
        return KernelCosts(
            costs=self.costs, graph=self.graph, planned=self.planned, forms=self.forms,
            depends=self.depends, full=self.full, price=price,
        )  # fmt: skip

    def _price(self, at: int, widths: Widths) -> float:
        key = (at, tuple(widths[name] for name in self.depends[at]))
        if key not in self.known:
            self.known[key] = self.price(self._kernel(at, widths))
        return self.known[key]

    def _kernel(self, at: int, widths: Widths) -> Kernel:
        from edge.pricing import kernel_from_group

        group, whole = self.planned.groups[at], self.costs.kernels[at]
        shapes = dict(self.graph.shapes)
        constants = dict(self.graph.constants)
        for name in _tensors(group):
            for form in self.forms.get(name, ()):
                shape = list(shapes[name])
                shape[form.axis] = form.size(widths)
                shapes[name] = tuple(shape)
                if name in constants:
                    old, before = constants[name], self.graph.shapes[name][form.axis]
                    elems = old.elems // before * shape[form.axis]
                    constants[name] = msgspec.structs.replace(old, elems=elems)
        graph = msgspec.structs.replace(self.graph, shapes=shapes, constants=constants)
        copies = sum(graph.elems(name) for name in group.reads) if group.copies else 0
        kernel = kernel_from_group(
            msgspec.structs.replace(group, copies=copies), graph, self.planned
        )
        kernel = msgspec.structs.replace(kernel, int8=whole.int8, writes_int8=whole.writes_int8)
        return _regrouped(kernel, group, graph)


def kernel_costs(
    traced: Traced, coupling: Coupling, strands: Strands, pricing: Pricing | None, *, opset: int
) -> KernelCosts:
    """Export the whole net once; priced in milliseconds with `pricing`, else in multiply-adds.

    Raises ExportError for what ONNX cannot express, CostError for what cannot be priced.
    """
    from edge.cost import read_graph
    from edge.fusion import plan
    from edge.pricing import costs_from_graph

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.onnx")
        _export(scoped(traced.module), traced, path, opset)
        graph = read_graph(path)
    costs = costs_from_graph(graph)
    if pricing is not None and pricing.precision == "int8":
        costs = as_if_int8(costs)
    planned = plan(graph)
    forms = _forms(graph, coupling, strands)
    depends = tuple(
        tuple(sorted({name for tensor in _tensors(group) for form in forms.get(tensor, ())
                      for name, _ in form.terms}))
        for group in planned.groups
    )  # fmt: skip
    return KernelCosts(
        costs=costs, graph=graph, planned=planned, forms=forms, depends=depends,
        full=strands.full(), price=macs_of if pricing is None else ms_on(pricing, costs),
    )  # fmt: skip


def exact_costs(module: fx.GraphModule, traced: Traced, *, opset: int) -> Costs:
    """Costs of a cut net, exported itself; slow, and right whatever the cut did."""
    from edge.cost import costs_from_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "cut.onnx")
        _export(scoped(module), traced, path, opset)
        return costs_from_onnx(path)


def _export(module: nn.Module, traced: Traced, path: Path, opset: int) -> None:
    from compress.export import Names, export_onnx

    inputs = tuple(traced.graph.inputs)
    example = tuple(item[:1] if traced.batch_is_free else item for item in traced.example)
    outputs = tuple(f"output_{at}" for at in range(len(traced.graph.outputs)))
    export_onnx(module, example, path, names=Names(inputs=inputs, outputs=outputs), opset=opset)


def _tensors(group: Group) -> list[str]:
    names = [name for node in group.nodes for name in (*node.inputs, *node.outputs) if name]
    return list(dict.fromkeys([*names, *group.reads, group.out]))


def _regrouped(kernel: Kernel, group: Group, graph: Graph) -> Kernel:
    """The number of groups that is left: the channels read over those of one group."""
    if kernel.groups <= 1:
        return kernel
    read = graph.shapes[group.anchor.inputs[0]][1]
    weight = graph.shapes[group.anchor.inputs[1]]
    if group.anchor.op == "ConvTranspose":
        return msgspec.structs.replace(kernel, groups=kernel.out_channels // weight[1])
    return msgspec.structs.replace(kernel, in_channels=read, groups=read // weight[1])


def _forms(graph: Graph, coupling: Coupling, strands: Strands) -> dict[str, tuple[Form, ...]]:
    """The axes of the ONNX graph's tensors that follow widths."""
    nodes = {node.name: node for node in coupling.graph.nodes}
    found: dict[str, tuple[Form, ...]] = {}
    used: dict[str, int] = {}
    for node in graph.nodes:
        plain = nodes.get(operation_of(node.name))
        if plain is None or not plain.outputs:
            continue
        for name in node.outputs:
            shape = graph.shapes.get(name, ())
            at = min(used.get(plain.name, 0), len(plain.outputs) - 1)
            used[plain.name] = at + 1
            roots = coupling.roots[plain.name][at]
            found[name] = _fitting(shape, roots, strands)
        weights = [coupling.stored[ref.name] for ref in refs_in(tuple(plain.arguments.values()))
                   if ref.name in coupling.stored]  # fmt: skip
        for name in set(node.inputs) & graph.constants.keys():
            shape = graph.shapes.get(name, ())
            fitting = _fitting(shape, coupling.roots[plain.name][0], strands)
            found[name] = _stored(shape, weights, strands) or fitting
    return found


def _fitting(
    shape: tuple[int, ...], roots: NDArray[np.int64], strands: Strands
) -> tuple[Form, ...]:
    """The form of a grid's channels at an axis of that size, its own place first."""
    axes = [axis for axis, size in enumerate(roots.shape) if size > 1]
    if not axes:
        return ()
    axis, size = axes[0], roots.shape[axes[0]]
    places = [axis, *range(len(shape) - 1, -1, -1)]
    fitting = [at for at in places if at < len(shape) and shape[at] == size]
    return (strands.form(fitting[0], roots.reshape(-1)),) if fitting else ()


def _stored(
    shape: tuple[int, ...], weights: list[tuple[NDArray[np.int64], ...]], strands: Strands
) -> tuple[Form, ...]:
    """The forms of a constant that is one of an operation's weights, or that turned round."""
    for axes in weights:
        for turned in (axes, axes[::-1]):
            if len(shape) > 1 and shape == tuple(len(labels) for labels in turned):
                return tuple(strands.form(at, labels) for at, labels in enumerate(turned))
    return ()
