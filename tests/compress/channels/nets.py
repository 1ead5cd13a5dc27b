"""The corpus: one small net for each way in which channels hang together.

Every net takes (N, 3, 16, 16). They need torch and nothing else, so that a peer's environment can
load them too. All of `NETS` can be cut; `KEPT` keep the groups they name.
"""

from __future__ import annotations

from tests.compress.channels import kept_nets, layer_nets, part_nets
from tests.compress.channels.blocks import made

__all__ = ["KEPT", "NETS", "made"]

NETS = {
    net.__name__: net
    for net in (
        layer_nets.Plain,
        layer_nets.Residual,
        layer_nets.PaddedShortcut,
        layer_nets.InvertedResidual,
        layer_nets.Multiplier,
        layer_nets.Grouped,
        layer_nets.SqueezeExcite,
        layer_nets.Pyramid,
        layer_nets.Transposed,
        layer_nets.PixelShuffle,
        layer_nets.Flatten,
        layer_nets.Shared,
        layer_nets.Detector,
        layer_nets.Norms,
        layer_nets.Functional,
        layer_nets.Expanded,
        layer_nets.Mixed,
        part_nets.C2f,
        part_nets.C2fSplit,
        part_nets.C3k2,
        part_nets.Shuffle,
        part_nets.Unbind,
        part_nets.Slices,
        part_nets.Picked,
    )
}
# net -> the groups that are kept, each with a word of its reason
KEPT = {
    "Attention": (kept_nets.Attention, {"qkv": "attention"}),
    "Fused": (kept_nets.Fused, {"stem.0": "layer_norm", "qkv": "attention"}),
    "Unknown": (kept_nets.Unknown, {"a.0": "no rule for aten.cumprod"}),
    "Computed": (kept_nets.Computed, {}),
    "SoftChannels": (kept_nets.SoftChannels, {"a.0": "softmax over the channels",
                                    "b.0": "mean over the channels"}),
}  # fmt: skip
