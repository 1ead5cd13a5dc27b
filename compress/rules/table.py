"""Every lint rule, in the order they are asked."""

from __future__ import annotations

from compress.rules import (
    channel_alignment,
    computed_scale,
    concat_scales,
    conv_qdq_add,
    custom_op,
    data_dependent_shape,
    data_type,
    dynamic_shape,
    float_input,
    idle_qdq,
    int8_not_legal,
    int8_weights_stored,
    int32_bias,
    moved_input,
    moved_weights,
    no_importer,
    nonzero_zero_point,
    operator_restriction,
    opset_ceiling,
    per_channel_activation,
    quantized_type,
    scale_not_positive,
    small_gemm,
    uint8_zero_point,
    unchecked_body,
    unfolded_norm,
    weight_per_tensor,
    weight_scale_axis,
    weights_not_finite,
)
from compress.rules.finding import Rule

__all__ = ["RULES"]

RULES: tuple[Rule, ...] = (
    # the file
    opset_ceiling.RULE,
    custom_op.RULE,
    no_importer.RULE,
    operator_restriction.RULE,
    data_type.RULE,
    dynamic_shape.RULE,
    data_dependent_shape.RULE,
    weights_not_finite.RULE,
    unchecked_body.RULE,
    # the numbers of Q/DQ
    int8_not_legal.RULE,
    uint8_zero_point.RULE,
    nonzero_zero_point.RULE,
    quantized_type.RULE,
    int32_bias.RULE,
    computed_scale.RULE,
    scale_not_positive.RULE,
    per_channel_activation.RULE,
    weight_scale_axis.RULE,
    weight_per_tensor.RULE,
    int8_weights_stored.RULE,
    # where Q/DQ stands
    conv_qdq_add.RULE,
    idle_qdq.RULE,
    small_gemm.RULE,
    float_input.RULE,
    concat_scales.RULE,
    moved_input.RULE,
    moved_weights.RULE,
    unfolded_norm.RULE,
    # speed
    channel_alignment.RULE,
)
