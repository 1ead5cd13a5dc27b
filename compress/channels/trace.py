"""A PyTorch module, through torch.export, into plain values and into a module of its graph.

Why torch.export: it follows the code instead of guessing from gradients, in terms of some hundred
operators with a schema, literal sizes in sight. It is asked for the graph of the module in eval
mode, which would bake batch norm and dropout as inference; so each operation that is the whole
work of a standard layer (`compress.channels.modules`) becomes a call of that layer again. Then
`.train()` and `.eval()` mean what they always did. A functional dropout or batch norm that asks
`self.training` has no layer and stays as in inference.

The batch axis is left free where the module's code lets it be.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.channels.errors import TraceError
from compress.channels.graph import Graph
from compress.channels.measure import difference, leading
from compress.channels.modules import layer_of, place
from compress.channels.reading import graph_of, named_tensors, stored_names

if TYPE_CHECKING:
    import torch
    from torch import fx, nn
    from torch.export import ExportedProgram
    from torch.fx.node import Argument

__all__ = ["Traced", "rebuilt", "trace"]

_TOLERANCE = 1e-4  # relative to the largest output


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """A module's graph as plain values, and the module that runs it, in eval mode.

    `batch_is_free` says whether it takes any batch size; a forward that asks `len(x)` or writes
    the batch as a literal takes the example's alone.

    `example` are inputs to try it on. `module` shares no tensor with the original; its state dict
    has the original's names, less what the graph never reads (`unused`).
    """

    graph: Graph
    module: fx.GraphModule
    example: tuple[torch.Tensor, ...]
    unused: tuple[str, ...]
    batch_is_free: bool


def trace(module: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> Traced:
    """Follow `module` on these inputs; it is not changed. Raises TraceError."""
    import torch

    example = tuple(example_inputs)
    if not example or not all(isinstance(item, torch.Tensor) for item in example):
        kinds = ", ".join(type(item).__name__ for item in example) or "nothing"
        raise TraceError("example inputs", found=kinds, expected="one or more tensors",
                         cure="wrap the module so that it takes tensors")  # fmt: skip
    if all(item.ndim for item in example) and len({len(item) for item in example}) == 1:
        wide = tuple(torch.cat([item, item]) if len(item) == 1 else item for item in example)
        traced = _free(module, wide)
        if traced is not None:
            return traced
    return _traced(module, example, free=False)


def _free(module: nn.Module, example: tuple[torch.Tensor, ...]) -> Traced | None:
    """With a free batch, tried on one more picture; None when the code does not let it be free."""
    import torch

    try:
        traced = _traced(module, example, free=True)
        longer = tuple(torch.cat([item, item[:1]]) for item in example)
        with torch.no_grad():
            found = traced.module(*_clones(longer))
            wanted = copy.deepcopy(module).eval()(*_clones(longer))
    except (TraceError, RuntimeError, ValueError, AssertionError):
        return None  # the same module is tried again at the example's own batch
    batched = all(size == len(longer[0]) for size in leading(wanted))
    return traced if batched and difference(wanted, found) <= _TOLERANCE else None


def _traced(module: nn.Module, example: tuple[torch.Tensor, ...], *, free: bool) -> Traced:
    import torch

    original = copy.deepcopy(module).eval()
    wanted = _answer(copy.deepcopy(original), example)
    program = _exported(original, example, free)
    program.graph.eliminate_dead_code()
    graph = graph_of(program, original)
    module_again = rebuilt(program, original)
    with torch.no_grad():
        apart = difference(wanted, module_again(*_clones(example)))
    if not apart <= _TOLERANCE:
        raise TraceError(
            type(original).__name__, found=f"a graph whose outputs are {apart:.2g} apart",
            expected=f"at most {_TOLERANCE}", cure="is the module random in eval mode?",
        )  # fmt: skip
    unused = sorted(set(original.state_dict()) - set(module_again.state_dict()))
    return Traced(graph=graph, module=module_again, example=example, unused=tuple(unused),
                  batch_is_free=free)  # fmt: skip


def _exported(module: nn.Module, example: tuple[torch.Tensor, ...], free: bool) -> ExportedProgram:
    import torch

    axes = tuple({0: torch.export.Dim.AUTO} for _ in example) if free else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(module, example, dynamic_shapes=axes, strict=False)
    except Exception as error:  # the user's forward may raise anything
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise TraceError(
            type(module).__name__, found=f"{type(error).__name__}: {first}"[:400],
            expected="a module torch.export can follow",
            cure="take data-dependent branches and other libraries' calls out of forward",
        ) from error  # fmt: skip


def rebuilt(program: ExportedProgram, original: nn.Module) -> fx.GraphModule:
    """The exported graph over the original's layers and tensors, by the original's names."""
    from torch import fx, nn

    root, graph = nn.Module(), fx.Graph()
    made: dict[fx.Node, fx.Node] = {}
    paths = stored_names(program)
    every = {**program.state_dict, **program.constants, **dict(named_tensors(original))}
    tensors = {name: every[path] for name, path in paths.items()}
    for node in program.graph.nodes:
        if node.op == "output":
            outputs = [made[item] for item in node.args[0]]
            graph.output(_structured(program, outputs))
        elif node.name in paths:
            place(root, paths[node.name], tensors[node.name])
            made[node] = graph.create_node("get_attr", paths[node.name], name=node.name)
        elif "_assert" not in str(node.target):
            if node.op == "get_attr":  # the body of a region such as torch.no_grad()
                place(root, node.target, getattr(program.graph_module, node.target))
            found = layer_of(node, tensors, original)
            if found is None:
                made[node] = graph.node_copy(node, made.__getitem__)
                continue
            place(root, *found)
            first = (made[node.args[0]],)
            made[node] = graph.create_node("call_module", found[0], first, name=node.name)
    for node in list(graph.nodes):
        if node.op == "get_attr" and not node.users:
            graph.erase_node(node)
    return fx.GraphModule(root, graph, class_name=type(original).__name__).eval()


def _structured(program: ExportedProgram, outputs: list[fx.Node]) -> Argument:
    """Outputs in the structure the module returned them in, of tuples, lists and dicts."""
    from torch.fx.immutable_collections import immutable_dict, immutable_list
    from torch.utils import _pytree as pytree

    def plain(spec: pytree.TreeSpec) -> bool:
        kinds = (tuple, list, dict, immutable_list, immutable_dict)  # those of a graph
        return spec.is_leaf() or (spec.type in kinds and all(map(plain, spec.children())))

    spec = program.call_spec.out_spec
    if spec is None or not plain(spec):
        raise TraceError("outputs", found=str(spec)[:200],
                         expected="tensors in tuples, lists, dicts",
                         cure="return those from forward")  # fmt: skip
    found: Argument = pytree.tree_unflatten(outputs, spec)
    return found


def _answer(module: nn.Module, example: tuple[torch.Tensor, ...]) -> object:
    """What the module says to the example; its own failure is named as such."""
    import torch

    try:
        with torch.no_grad():
            return module(*_clones(example))
    except Exception as error:  # the user's forward may raise anything
        shapes = ", ".join(str(tuple(item.shape)) for item in example)
        raise TraceError(
            f"{type(module).__name__} on {shapes}", found=f"{type(error).__name__}: {error}"[:400],
            expected="a forward pass", cure="give example inputs the module takes",
        ) from error  # fmt: skip


def _clones(example: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(item.clone() for item in example)
