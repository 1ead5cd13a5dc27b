"""Normalisation: BatchNormalization, InstanceNormalization, LayerNormalization, GroupNormalization.

ONNX's momentum is what the running statistics keep, torch's what they take: torch's = 1 - ONNX's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.from_onnx.translation import Field, Step

if TYPE_CHECKING:
    from torch import fx

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm"]

_BATCH = ("weight", "bias", "running_mean", "running_var")


def batch_norm(step: Step) -> fx.Node:
    """By its running statistics; in training mode by those of the batch, as in torch."""
    import torch
    from torch import nn

    if step.attribute("training_mode", 0) or step.attribute("spatial", 1) != 1:
        raise step.refusal("a batch norm in training mode", "one for inference",
                           "export the model in evaluation mode")  # fmt: skip
    fields: dict[str, Field] = {}
    for place, name in enumerate(_BATCH, start=1):
        constant = step.constant(place)
        if constant is None:
            raise step.refusal(f"a computed {name}", "constants", "export in evaluation mode")
        fields[name] = Field(constant, place)
    kind = getattr(nn, f"BatchNorm{max(1, step.rank(0) - 2)}d")
    layer = kind(len(fields["weight"].constant.value), eps=step.attribute("epsilon", 1e-5),
                 momentum=1 - step.attribute("momentum", 0.9), device="meta")  # fmt: skip
    layer.num_batches_tracked = torch.tensor(0)
    return step.layer(layer, fields, step.value(0))


def instance_norm(step: Step) -> fx.Node:
    """X (N, C, ...): each channel of each sample by its own mean and variance."""
    from torch import nn
    from torch.nn import functional

    weight, bias = step.constant(1), step.constant(2)
    eps = step.attribute("epsilon", 1e-5)
    if weight is None or bias is None:
        return step.call(functional.instance_norm, step.value(0), None, None, step.weight(1),
                         step.weight(2), True, 0.1, eps)  # fmt: skip
    kind = getattr(nn, f"InstanceNorm{max(1, step.rank(0) - 2)}d")
    layer = kind(len(weight.value), eps=eps, affine=True, device="meta")
    return step.layer(layer, {"weight": Field(weight, 1), "bias": Field(bias, 2)}, step.value(0))


def layer_norm(step: Step) -> fx.Node:
    """Over the axes from `axis` on; the mean and deviation as outputs are not given."""
    from torch import nn
    from torch.nn import functional

    axis = step.attribute("axis", -1) % step.rank(0)
    shape = step.shape(0)[axis:]
    eps = step.attribute("epsilon", 1e-5)
    weight, bias = step.constant(1), step.constant(2)
    fits = weight is not None and weight.value.shape == shape
    fits = fits and (not step.has(2) or (bias is not None and bias.value.shape == shape))
    if fits and weight is not None:
        fields = {"weight": Field(weight, 1)}
        if bias is not None:
            fields["bias"] = Field(bias, 2)
        layer = nn.LayerNorm(shape, eps=eps, bias=bias is not None, device="meta")
        return step.layer(layer, fields, step.value(0))
    import operator

    plain = step.call(functional.layer_norm, step.value(0), shape, None, None, eps)
    made = step.call(operator.mul, plain, step.weight(1))
    return step.call(operator.add, made, step.weight(2)) if step.has(2) else made


def group_norm(step: Step) -> fx.Node:
    """X (N, C, ...); scale and bias per channel from opset 21 on, per group before."""
    import torch
    from torch import nn
    from torch.nn import functional

    groups, channels = int(step.attribute("num_groups", 1)), step.shape(0)[1]
    eps = step.attribute("epsilon", 1e-5)
    weight, bias = step.constant(1), step.constant(2)
    if weight is not None and bias is not None and weight.value.shape == (channels,):
        layer = nn.GroupNorm(groups, channels, eps=eps, device="meta")
        fields = {"weight": Field(weight, 1), "bias": Field(bias, 2)}
        return step.layer(layer, fields, step.value(0))
    scale, shift = (
        step.weight(place) if step.shape(place) == (channels,)
        else step.call(torch.repeat_interleave, step.weight(place), channels // groups)
        for place in (1, 2)
    )  # fmt: skip
    return step.call(functional.group_norm, step.value(0), groups, scale, shift, eps)
