"""Cutting chosen units out of a traced net: smaller tensors, smaller layers, literals rewritten.

What is cut is the graph's own module (`Traced.module`), because there every size that forward had
as a literal (`split([c, c])`, `view(b, g, c // g, h, w)`) is an argument that can be rewritten; no
Python source has to be understood. The result is again a module that trains, evaluates, exports
and can be traced and cut once more; its state dict keeps the original names.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from compress.channels.coupling import Coupling
from compress.channels.errors import CutError, PlanError
from compress.channels.groups import Group, Plan, Unit
from compress.channels.measure import outline
from compress.channels.modules import resized
from compress.channels.rewrite import rewritten
from compress.channels.sizes import Sizes
from compress.channels.trace import Traced
from devices.errors import nearest

if TYPE_CHECKING:
    import torch
    from torch import fx

    State = dict[str, torch.Tensor]

__all__ = ["check_plan", "chosen_units", "cut", "cut_state"]


def cut(traced: Traced, coupling: Coupling, plan: Plan) -> fx.GraphModule:
    """The net without the planned units, in eval mode; `traced` is not changed.

    Raises PlanError for a plan that is not this net's, CutError for channels that must stay.
    """
    check_plan(coupling.groups, plan)
    sizes = Sizes(coupling, plan)
    module = copy.deepcopy(traced.module)
    _cut_tensors(module, chosen_units(coupling.groups, plan))
    nodes = {node.name: node for node in module.graph.nodes}
    for plain in coupling.graph.nodes:
        node = nodes.get(plain.name)
        if node is None:
            continue
        if node.op == "call_module":
            layer = module.get_submodule(str(node.target))
            source = next(iter(plain.arguments.values()))
            resized(layer, sizes.channels(source.name), sizes.channels(plain.name))
        else:
            rewritten(module, node, plain, sizes)
    module.graph.lint()
    module.recompile()
    _check(traced, module)
    return module


def cut_state(state: Mapping[str, torch.Tensor], units: Iterable[Unit]) -> State:
    """A state dict without the indices of these units; other tensors as they are."""
    import torch

    lost: dict[tuple[str, int], set[int]] = {}
    for unit in units:
        for part in unit.parts:
            lost.setdefault((part.tensor, part.axis), set()).update(part.indices)
    found = dict(state)
    for (name, axis), gone in lost.items():
        if name not in found:
            raise PlanError(name, found="no such tensor in the state dict",
                            expected="the net the groups were made of",
                            cure="make the groups of this net")  # fmt: skip
        size = found[name].shape[axis]
        kept = torch.tensor([at for at in range(size) if at not in gone], dtype=torch.long)
        found[name] = found[name].detach().index_select(axis, kept.to(found[name].device))
    return found


def chosen_units(groups: Iterable[Group], plan: Plan) -> list[Unit]:
    """The units a plan names, in the groups' order."""
    return [group.units[at] for group in groups for at in sorted(set(plan.get(group.name, ())))]


def check_plan(groups: Iterable[Group], plan: Plan) -> None:
    """Raise PlanError for unknown groups or units, CutError for units that must stay."""
    by_name = {group.name: group for group in groups}
    for name, chosen in plan.items():
        if name not in by_name:
            raise PlanError(name, found="no such group", expected="a group of this net",
                            cure=nearest(name, tuple(by_name)))  # fmt: skip
        group = by_name[name]
        for at in chosen:
            if not 0 <= at < group.width:
                raise PlanError(name, found=f"unit {at}", expected=f"0 to {group.width - 1}",
                                cure="plan with the groups of this net")  # fmt: skip
            reason = group.units[at].refusal
            if reason is not None:
                raise CutError(f"{name}, unit {at}", found=f"it is kept: {reason}",
                               expected="a unit without a refusal",
                               cure="choose among Group.free")  # fmt: skip


def _cut_tensors(module: fx.GraphModule, units: list[Unit]) -> None:
    """Replace each tensor that loses something, in every place that holds it."""
    import torch

    before: State = dict(module.named_parameters(remove_duplicate=False))
    before |= module.named_buffers(remove_duplicate=False)
    same: dict[int, torch.Tensor] = {}
    parts = [tuple(part for part in unit.parts if part.tensor in before) for unit in units]
    after = cut_state(before, [Unit(parts=found) for found in parts])
    for name, tensor in before.items():
        if after[name] is not tensor:
            new = after[name].clone()
            if isinstance(tensor, torch.nn.Parameter):
                new = torch.nn.Parameter(new, requires_grad=tensor.requires_grad)
            same[id(tensor)] = new
    for name, tensor in before.items():
        if id(tensor) in same:
            owner, _, field = name.rpartition(".")
            setattr(module.get_submodule(owner), field, same[id(tensor)])


def _check(traced: Traced, module: fx.GraphModule) -> None:
    """The cut net runs, and gives what the contract says: the same structure and shapes."""
    import torch

    inputs = [[item.clone() for item in traced.example] for _ in range(2)]
    with torch.no_grad():
        wanted = outline(traced.module(*inputs[0]))
        try:
            found = outline(module(*inputs[1]))
        except (RuntimeError, IndexError, ValueError) as error:
            raise CutError("the cut net", found=f"it does not run: {error}"[:400],
                           expected="a forward pass", cure="report the net; its groups are wrong",
                           ) from error  # fmt: skip
    if wanted != found:
        raise CutError("the cut net", found=f"outputs {found}", expected=f"outputs {wanted}",
                       cure="report the net; its groups are wrong")  # fmt: skip
