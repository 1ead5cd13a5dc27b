"""What each operation does to channels: a table from its name to the rule that knows.

An operation that is not in the table keeps whole whatever it touches, and says its name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from compress.channels.graph import Node
from compress.channels.grids import Grid
from compress.channels.walk import Walk

__all__ = ["RULES", "Rule", "rule_for"]

Rule = Callable[[Walk, Node], "tuple[Grid, ...]"]

_BY_RULE = {
    "layers:convolution": "conv1d conv2d conv3d",
    "layers:transposed": "conv_transpose1d conv_transpose2d conv_transpose3d",
    "layers:linear": "linear",
    "layers:embedding": "embedding",
    "norms:per_channel": "batch_norm instance_norm",
    "norms:grouped": "group_norm",
    "norms:over_last": "layer_norm rms_norm",
    "norms:slope": "prelu",
    "elementwise:elementwise": (
        "abs add alias ceil celu clamp clamp_max clamp_min clone contiguous copy detach detach_ "
        "div dropout elu exp expm1 feature_dropout alpha_dropout fill floor gelu hardsigmoid "
        "hardswish hardtanh leaky_relu lerp lift_fresh_copy log log1p log_sigmoid logical_not "
        "maximum minimum mish mul neg ones_like zeros_like full_like empty_like rand_like "
        "randn_like pow reciprocal relu relu6 remainder round rsqrt rsub selu sigmoid sign silu "
        "softplus softsign sqrt square sub tanh threshold to _to_copy type_as where eq ne lt gt "
        "le ge logical_and logical_or isnan"
    ),
    "spatial:spatial_1d": (
        "avg_pool1d adaptive_avg_pool1d max_pool1d max_pool1d_with_indices adaptive_max_pool1d "
        "upsample_nearest1d upsample_linear1d _upsample_nearest_exact1d"
    ),
    "spatial:spatial_2d": (
        "avg_pool2d adaptive_avg_pool2d max_pool2d max_pool2d_with_indices adaptive_max_pool2d "
        "upsample_nearest2d upsample_bilinear2d upsample_bicubic2d _upsample_nearest_exact2d "
        "_upsample_bilinear2d_aa _upsample_bicubic2d_aa reflection_pad2d replication_pad2d"
    ),
    "spatial:spatial_3d": (
        "avg_pool3d adaptive_avg_pool3d max_pool3d upsample_nearest3d upsample_trilinear3d"
    ),
    "spatial:pixel_shuffle": "pixel_shuffle",
    "spatial:pixel_unshuffle": "pixel_unshuffle",
    "spatial:padded": "pad constant_pad_nd",
    "reduce:summed": "sum",
    "reduce:reduced": (
        "mean amax amin max min var std var_mean std_mean prod argmax argmin norm "
        "linalg_vector_norm logsumexp softmax log_softmax _softmax cumsum sort topk all any"
    ),
    "moves:same_order": (
        "view reshape _unsafe_view view_copy flatten unflatten squeeze unsqueeze"
    ),
    "moves:permuted": "permute transpose swapaxes movedim moveaxis t numpy_T mT",
    "moves:expanded": "expand repeat tile broadcast_to",
    "moves:flipped": "flip",
    "moves:joined": "cat concat concatenate stack",
    "moves:glued": "glu",
    "parts:sliced": "slice narrow",
    "parts:selected": "select",
    "parts:divided": "split split_with_sizes chunk tensor_split unbind",
    "parts:indexed": "index_select index",
    "parts:item": "getitem",
    "whole:attention": (
        "matmul bmm mm baddbmm scaled_dot_product_attention _native_multi_head_attention einsum "
        "multi_head_attention_forward"
    ),
}  # fmt: skip

RULES = {op: rule for rule, ops in _BY_RULE.items() for op in ops.split()}


def rule_for(op: str) -> Rule:
    """The rule of an operation; `unknown`, which refuses, for one that is not in the table.

    >>> rule_for("relu").__name__, rule_for("deformable_conv").__name__
    ('elementwise', 'unknown')
    """
    module, _, name = RULES.get(op, "whole:unknown").partition(":")
    rule: Rule = getattr(importlib.import_module(f"compress.channels.rules.{module}"), name)
    return rule
