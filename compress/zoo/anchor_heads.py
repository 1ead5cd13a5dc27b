"""The heads of an SSD: per map a predictor of codes and one of logits, joined over all anchors.

    boxes.L, scores.L     a 3x3 convolution of map L, or 3x3 depthwise and 1x1 when lite

Logits have the background at 0. Rows run as `edge.heads.ssd_anchors` has them: map by map, row by
row, cell by cell.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.zoo.blocks import Conv, normed

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["AnchorHeads", "anchor_heads", "halved"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AnchorHeads:
    """Channels and anchors a cell of each map, finest first; `classes` without the background."""

    widths: tuple[int, ...]
    per_cell: tuple[int, ...]
    classes: int
    lite: bool = False


def anchor_heads(plan: AnchorHeads) -> nn.Module:
    """Maps, finest first -> {"logits": (N, A, 1 + classes), "boxes": (N, A, 4)}, undecoded."""
    return _heads_class()(plan)


def halved(size: int, times: int = 1) -> int:
    """Cells of a side after this many 3x3 convolutions at stride 2 with a pixel of padding.

    >>> halved(300), halved(300, 3), halved(1)
    (150, 38, 1)
    """
    for _ in range(times):
        size = -(-size // 2)
    return size


@functools.cache
def _heads_class() -> type[nn.Module]:
    import torch
    from torch import nn

    class Heads(nn.Module):
        """Two predictors a map."""

        def __init__(self, plan: AnchorHeads) -> None:
            super().__init__()
            self.columns = 1 + plan.classes
            self.boxes, self.scores = nn.ModuleList(), nn.ModuleList()
            for width, count in zip(plan.widths, plan.per_cell, strict=True):
                self.boxes.append(_predictor(width, 4 * count, plan.lite))
                self.scores.append(_predictor(width, self.columns * count, plan.lite))

        def forward(self, maps: list[torch.Tensor]) -> dict[str, torch.Tensor]:
            logits = [
                self.rows(head(x), self.columns) for head, x in zip(self.scores, maps, strict=True)
            ]
            boxes = [self.rows(head(x), 4) for head, x in zip(self.boxes, maps, strict=True)]
            return {"logits": torch.cat(logits, 1), "boxes": torch.cat(boxes, 1)}

        def rows(self, x: torch.Tensor, columns: int) -> torch.Tensor:
            """(N, anchors * columns, H, W) -> (N, H * W * anchors, columns)."""
            return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, columns)

    return Heads


def _predictor(width: int, out: int, lite: bool) -> nn.Module:
    from torch import nn

    if not lite:
        return nn.Sequential(OrderedDict(predict=nn.Conv2d(width, out, 3, padding=1)))
    depthwise = normed(Conv(width=width, out=width, kernel=3, groups=width, act="relu6"))
    return nn.Sequential(OrderedDict(depthwise=depthwise, predict=nn.Conv2d(width, out, 1)))
