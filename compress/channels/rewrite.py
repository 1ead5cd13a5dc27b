"""Literals of a graph's operations, written anew for what is left of the tensors.

view, reshape, expand, unflatten   sizes; -1 and sizes that follow the batch stay
split, chunk, tensor_split         the new sizes of the parts, one by one
slice, narrow                      new ends; with a step, an explicit list of places
select, index_select, x[:, index]  new places
functional conv and group norm     groups
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.channels.graph import Node
from compress.channels.sizes import Sizes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import fx
    from torch.fx.node import Argument

__all__ = ["rewritten"]


def rewritten(module: fx.GraphModule, node: fx.Node, plain: Node, sizes: Sizes) -> None:
    """Write one node's literals anew, in place; most have none."""
    write = _REWRITES.get(plain.op)
    source = _source(plain)
    if write is not None and (sizes.touched(plain.name) or (source and sizes.touched(source))):
        write(module, node, plain, sizes)


def _source(plain: Node) -> str | None:
    argument = plain.arguments.get("self", plain.arguments.get("input"))
    return getattr(argument, "name", None)


def _set(node: fx.Node, plain: Node, **values: Argument) -> None:
    """Arguments by name, where the schema has them."""
    names = list(plain.arguments)
    given = list(node.args)
    kwargs = dict(node.kwargs)
    for name, value in values.items():
        at = names.index(name)
        if at < len(given):
            given[at] = value
        elif name in kwargs:
            kwargs[name] = value
        else:  # an omitted default, and all between it and what is given
            given += [_literal(plain.arguments[names[k]]) for k in range(len(given), at)]
            given.append(value)
    node.args, node.kwargs = tuple(given), kwargs


def _literal(value: Argument) -> Argument:
    return list(value) if isinstance(value, tuple) else value


def _shape(module: fx.GraphModule, node: fx.Node, plain: Node, sizes: Sizes) -> None:
    name = "shape" if "shape" in plain.arguments else "size"
    old, new = plain.arguments[name], sizes.sizes(plain.name)
    current = node.args[1] if len(node.args) > 1 else node.kwargs[name]
    written = [
        size if isinstance(literal, int) and literal != -1 else keep
        for literal, size, keep in zip(old, new, current, strict=True)  # type: ignore[arg-type]
    ]
    _set(node, plain, **{name: written})


def _unflatten(module: fx.GraphModule, node: fx.Node, plain: Node, sizes: Sizes) -> None:
    old, new = plain.arguments["sizes"], sizes.sizes(plain.name)
    axis = plain.arguments["dim"] % (len(new) - len(old) + 1)
    parts = new[axis : axis + len(old)]
    current = node.args[2]
    _set(node, plain, sizes=[
        size if isinstance(literal, int) and literal != -1 else keep
        for literal, size, keep in zip(old, parts, current, strict=True)  # type: ignore[arg-type]
    ])  # fmt: skip


def _split(module: fx.GraphModule, node: fx.Node, plain: Node, sizes: Sizes) -> None:
    import torch

    axis = plain.arguments["dim"] % len(plain.outputs[0].sizes)
    if plain.outputs[0].dynamic[axis]:
        return
    parts = [sizes.size(plain.name, axis, at) for at in range(len(plain.outputs))]
    node.target = torch.ops.aten.split_with_sizes.default
    node.args, node.kwargs = (node.args[0], parts, axis), {}


def _slice(module: fx.GraphModule, node: fx.Node, plain: Node, sizes: Sizes) -> None:
    source = _source(plain)
    if source is None:
        return
    axis = plain.arguments["dim"] % len(plain.outputs[0].sizes)
    kept = sizes.kept(source, axis)
    if kept.all():
        return
    start, step = plain.arguments["start"] or 0, plain.arguments.get("step", 1)
    start = max(start + len(kept), 0) if start < 0 else start
    old = start + step * _arange(plain.outputs[0].sizes[axis])
    new = _moved(old, kept)
    if step == 1:
        first = int(kept[:start].sum())
        ends = {"length": len(new)} if plain.op == "narrow" else {"end": first + len(new)}
        _set(node, plain, start=first, **ends)
    else:
        _take(module, node, axis, new)


def _select(module: fx.GraphModule, node: fx.Node, plain: Node, sizes: Sizes) -> None:
    source = _source(plain)
    if source is None:
        return
    rank = len(plain.outputs[0].sizes) + 1
    kept = sizes.kept(source, plain.arguments["dim"] % rank)
    index = plain.arguments["index"]
    if isinstance(index, int) and not kept.all():
        _set(node, plain, index=int(kept[: index % len(kept)].sum()))


def _index(module: fx.GraphModule, node: fx.Node, plain: Node, sizes: Sizes) -> None:
    source = _source(plain)
    rank = len(plain.outputs[0].sizes)
    if plain.op == "index_select":
        axis = plain.arguments["dim"] % rank
        reference = node.args[2]
    else:
        axis = next(at for at, item in enumerate(plain.arguments["indices"]) if item is not None)
        reference = node.args[1][axis]  # type: ignore[index]
    kept = sizes.kept(str(source), axis)
    if kept.all():
        return
    while reference.op != "get_attr":  # type: ignore[union-attr]  # a copy torch makes of it
        reference = reference.args[0]  # type: ignore[union-attr]
    owner, _, field = str(reference.target).rpartition(".")  # type: ignore[union-attr]
    values = getattr(module.get_submodule(owner), field)
    old = values.cpu().numpy() % len(kept)
    _take(module, node, axis, _moved(old, kept))


def _take(module: fx.GraphModule, node: fx.Node, axis: int, places: NDArray[np.int64]) -> None:
    """Turn a node into the choice of these places along an axis."""
    import torch

    name = f"_places_{node.name}"
    device = next((item.device for item in module.parameters()), torch.device("cpu"))
    module.register_buffer(name, torch.from_numpy(places).to(device))
    with node.graph.inserting_before(node):
        index = node.graph.get_attr(name)
    node.target = torch.ops.aten.index_select.default
    node.args, node.kwargs = (node.args[0], axis, index), {}


def _moved(old: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Places that stay, counted among those that stay.

    >>> import numpy as np
    >>> _moved(np.array([0, 2, 4]), np.array([True, False, False, True, True])).tolist()
    [0, 2]
    """
    import numpy as np

    ranks = np.cumsum(kept) - 1
    return np.asarray(ranks[old[kept[old]]], np.int64)


def _arange(count: int) -> NDArray[np.int64]:
    import numpy as np

    return np.arange(count, dtype=np.int64)


def _groups(module: fx.GraphModule, node: fx.Node, plain: Node, sizes: Sizes) -> None:
    """A functional convolution: cut by whole groups, the number of groups shrinks."""
    if plain.arguments["groups"] == 1:
        return
    read, weight = plain.arguments["input"].name, node.args[1]
    owner, _, field = str(weight.target).rpartition(".")  # type: ignore[union-attr]
    second = getattr(module.get_submodule(owner), field).shape[1]
    new = sizes.channels(plain.name) if "transpose" in plain.op else sizes.channels(read)
    _set(node, plain, groups=new // second)


def _num_groups(module: fx.GraphModule, node: fx.Node, plain: Node, sizes: Sizes) -> None:
    per_group = plain.outputs[0].sizes[1] // plain.arguments["num_groups"]
    _set(node, plain, num_groups=sizes.channels(plain.name) // per_group)


_REWRITES = {
    **dict.fromkeys(
        ("view", "reshape", "_unsafe_view", "view_copy", "expand", "broadcast_to"), _shape
    ),
    "unflatten": _unflatten,
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "tensor_split"), _split),
    **dict.fromkeys(("slice", "narrow"), _slice),
    "select": _select,
    **dict.fromkeys(("index_select", "index"), _index),
    **{f"conv{n}d": _groups for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _groups for n in (1, 2, 3)},
    "group_norm": _num_groups,
}
