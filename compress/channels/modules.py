"""Standard layers: which operation is the whole work of which layer, and a layer in new sizes.

A layer is taken back only when nothing is lost: the class is exactly torch's own, the operation
reads exactly the layer's tensors, and nothing else happens in the layer (no padding mode).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import fx, nn

_Layer = Any  # a layer of torch.nn, whose sizes mypy takes for tensors or modules

__all__ = ["layer_of", "place", "resized"]

# operator -> (classes of torch.nn, the tensors it reads by argument place and attribute)
_LAYERS: dict[str, tuple[str, dict[int, str]]] = {
    **{f"conv{n}d": (f"Conv{n}d", {1: "weight", 2: "bias"}) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": (f"ConvTranspose{n}d", {1: "weight", 2: "bias"}) for n in (1, 2, 3)},
    "linear": ("Linear", {1: "weight", 2: "bias"}),
    "batch_norm": ("BatchNorm1d BatchNorm2d BatchNorm3d",
                   {1: "weight", 2: "bias", 3: "running_mean", 4: "running_var"}),
    "instance_norm": ("InstanceNorm1d InstanceNorm2d InstanceNorm3d",
                      {1: "weight", 2: "bias", 3: "running_mean", 4: "running_var"}),
    "group_norm": ("GroupNorm", {2: "weight", 3: "bias"}),
    "layer_norm": ("LayerNorm", {2: "weight", 3: "bias"}),
    "prelu": ("PReLU", {1: "weight"}),
    "dropout": ("Dropout", {}),
    "dropout_": ("Dropout", {}),
    "feature_dropout": ("Dropout1d Dropout2d Dropout3d", {}),
    "feature_dropout_": ("Dropout1d Dropout2d Dropout3d", {}),
}  # fmt: skip


def layer_of(
    node: fx.Node, tensors: Mapping[str, torch.Tensor], original: nn.Module
) -> tuple[str, nn.Module] | None:
    """(path, layer) whose whole work this operation is; None when it is none's.

    `tensors` are the stored tensors by the name of their placeholder.
    """
    packet = getattr(node.target, "overloadpacket", None)
    classes, fields = _LAYERS.get(getattr(packet, "__name__", ""), ("", {}))
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = stack[-1][0].partition("@")[0] if stack else ""
    if not classes or not path:
        return None
    from torch import nn

    layer = original.get_submodule(path)
    if type(layer) not in [getattr(nn, name) for name in classes.split()]:
        return None
    if not _reads_its_own(node, layer, fields, tensors) or not _does_no_more(node, layer):
        return None
    for hooks in (layer._forward_hooks, layer._forward_pre_hooks):
        hooks.clear()  # what they did is in the graph
    return path, layer


def _reads_its_own(
    node: fx.Node, layer: nn.Module, fields: Mapping[int, str], tensors: Mapping[str, torch.Tensor]
) -> bool:
    for place_, field in fields.items():
        argument = node.args[place_] if len(node.args) > place_ else None
        name = getattr(argument, "name", None)
        stored = getattr(layer, field, None)
        read = None if name is None else tensors.get(name)
        if (name is None) != (stored is None) or read is not stored:
            return False
    return True


def _does_no_more(node: fx.Node, layer: nn.Module) -> bool:
    """Nothing beside the operation: no padding of its own, no output size asked for."""
    if getattr(layer, "padding_mode", "zeros") != "zeros" or node.kwargs:
        return False
    asked = getattr(layer, "output_padding", None)
    if asked is not None and "conv_transpose" in str(node.target) and len(node.args) > 5:
        return tuple(node.args[5]) == tuple(asked)  # type: ignore[arg-type]
    return True


def place(root: nn.Module, path: str, item: nn.Module | torch.Tensor) -> None:
    """Put a layer or tensor at a dotted path, making plain modules on the way."""
    import torch
    from torch import nn

    *owners, last = path.split(".")
    for name in owners:
        if not isinstance(getattr(root, name, None), nn.Module):
            root.add_module(name, nn.Module())
        root = getattr(root, name)
    if getattr(root, last, None) is item:
        return
    if isinstance(item, nn.Module):
        root.add_module(last, item)
    elif isinstance(item, torch.nn.Parameter):
        root.register_parameter(last, item)
    else:
        root.register_buffer(last, item)


def resized(layer: _Layer, read: int, made: int) -> None:
    """Write a layer's sizes anew, its tensors already cut: `read` channels in, `made` out."""
    kind = type(layer).__name__
    for prefix, write in _SIZES.items():
        if kind.startswith(prefix):
            write(layer, read, made)
            return


def _convolution(layer: _Layer, read: int, made: int) -> None:
    transposed = type(layer).__name__.startswith("ConvTranspose")
    per_group = layer.weight.shape[1]
    layer.groups = (made if transposed else read) // per_group
    layer.in_channels, layer.out_channels = read, made


def _linear(layer: _Layer, _read: int, _made: int) -> None:
    layer.out_features, layer.in_features = layer.weight.shape


def _per_channel(layer: _Layer, read: int, _made: int) -> None:
    layer.num_features = read


def _grouped(layer: _Layer, read: int, _made: int) -> None:
    per_group = layer.num_channels // layer.num_groups
    layer.num_channels, layer.num_groups = read, read // per_group


def _slopes(layer: _Layer, _read: int, _made: int) -> None:
    layer.num_parameters = layer.weight.numel()


_SIZES: dict[str, Callable[[_Layer, int, int], None]] = {
    "Conv": _convolution,
    "Linear": _linear,
    "BatchNorm": _per_channel,
    "InstanceNorm": _per_channel,
    "GroupNorm": _grouped,
    "PReLU": _slopes,
}
