"""An exported program as a `Graph`: operators by name, arguments by the names of their schemas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from compress.channels.graph import Graph, Node, Ref, Shape, Stored

if TYPE_CHECKING:
    import torch
    from torch import fx, nn
    from torch.export import ExportedProgram

__all__ = ["aliases", "graph_of", "named_tensors", "stored_names"]

_INDEX_ENTRIES_MAX = 1 << 16  # of an integer constant whose values are kept


def stored_names(program: ExportedProgram) -> dict[str, str]:
    """Placeholder -> state-dict name of each parameter, buffer and constant, in order."""
    return {
        spec.arg.name: spec.target
        for spec in program.graph_signature.input_specs
        if spec.target is not None and spec.arg.name in _tensors_in(program)
    }


def graph_of(program: ExportedProgram, original: nn.Module) -> Graph:
    """The program's graph as plain values; `original` is what was exported."""
    paths = stored_names(program)
    same = aliases(original)
    tensors = {**program.state_dict, **program.constants}
    inputs: dict[str, Shape] = {}
    stored: dict[str, Stored] = {}
    nodes: list[Node] = []
    outputs: tuple[str, ...] = ()
    for node in program.graph.nodes:
        if node.name in paths:
            path = paths[node.name]
            if node.users:
                stored[node.name] = _stored(node.name, path, tensors[path], same)
        elif node.op == "placeholder":
            inputs.update({node.name: _shape(node.meta["val"])})
        elif node.op == "output":
            outputs = tuple(item.name for item in node.all_input_nodes)
        elif node.op == "call_function" and "_assert" not in str(node.target):
            nodes.append(_node(node))
    return Graph(inputs=inputs, stored=stored, nodes=tuple(nodes), outputs=outputs)


def named_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter and buffer under every name it has."""
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def aliases(module: nn.Module) -> dict[str, tuple[str, ...]]:
    """Name -> the other names of the same tensor, for tied ones."""
    names: dict[int, list[str]] = {}
    for name, tensor in named_tensors(module):
        names.setdefault(id(tensor), []).append(name)
    return {
        name: tuple(other for other in shared if other != name)
        for shared in names.values() if len(shared) > 1 for name in shared
    }  # fmt: skip


def _tensors_in(program: ExportedProgram) -> set[str]:
    import torch

    return {
        node.name
        for node in program.graph.nodes
        if node.op == "placeholder" and isinstance(node.meta.get("val"), torch.Tensor)
    }


def _stored(
    name: str, path: str, tensor: torch.Tensor, same: Mapping[str, tuple[str, ...]]
) -> Stored:
    kinds = ("torch.int64", "torch.int32")
    small = str(tensor.dtype) in kinds and tensor.numel() <= _INDEX_ENTRIES_MAX
    return Stored(
        name=name,
        path=path,
        shape=_shape(tensor),
        aliases=same.get(path, ()),
        values=tuple(tensor.reshape(-1).tolist()) if small else None,
    )


def _node(node: fx.Node) -> Node:
    value = node.meta.get("val")
    several = isinstance(value, tuple | list)
    items = value if isinstance(value, tuple | list) else (value,)
    shapes = [_shape(item) for item in items if _is_tensor(item)]
    packet = getattr(node.target, "overloadpacket", None)
    own = str(getattr(node.target, "namespace", "aten")) == "aten"
    name = str(getattr(packet or node.target, "__name__", node.target))
    op = name.rstrip("_") if own and not name.startswith("__") else str(node.target)
    return Node(
        name=node.name,
        op=op,
        target=str(node.target) if packet is not None else name,
        arguments=_arguments(node),
        outputs=tuple(shapes),
        several=several,
    )


def _arguments(node: fx.Node) -> Mapping[str, Any]:
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        names = ("self", "index") if getattr(node.target, "__name__", "") == "getitem" else ()
        given = {
            (names[at] if at < len(names) else f"argument_{at}"): _plain(value)
            for at, value in enumerate(node.args)
        }
        return {**given, **{key: _plain(value) for key, value in node.kwargs.items()}}
    found = {}
    for at, argument in enumerate(schema.arguments):
        if at < len(node.args):
            value = node.args[at]
        else:
            value = node.kwargs.get(
                argument.name, argument.default_value if argument.has_default_value() else None
            )
        found[argument.name] = _plain(value)
    return found


def _plain(value: object) -> object:
    from torch import fx

    if isinstance(value, fx.Node):
        return Ref(value.name)
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _is_tensor(value: object) -> TypeGuard[torch.Tensor]:
    import torch

    return isinstance(value, torch.Tensor)


def _shape(tensor: torch.Tensor) -> Shape:
    """Sizes; of a size that follows the batch, the one it has in the example."""
    import torch

    free = tuple(isinstance(size, torch.SymInt) for size in tensor.shape)
    sizes = tuple(
        int(size.node.hint) if isinstance(size, torch.SymInt) else int(size)
        for size in tensor.shape
    )
    return Shape(sizes=sizes, dynamic=free)
