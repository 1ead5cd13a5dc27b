"""The SSD-MobileNetV2 family as data: every channel count of a net, and nothing else.

A pruned net is a new `Arch` with smaller counts and the weights sliced to match.

    ArchError   a JetpressError: the text is not an `Arch`, or its counts cannot be a net
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import msgspec

from devices.errors import JetpressError

__all__ = ["ANCHORS_PER_CELL", "TAP", "Arch", "ArchError", "Block", "Extra", "student_arch",
           "teacher_arch"]  # fmt: skip

ANCHORS_PER_CELL = (3, 6, 6, 6, 6, 6)  # of the six feature maps, finest first
TAP = 13  # the block whose expansion feeds the first head


class ArchError(JetpressError):
    """A description that no net of this family can have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One inverted residual: 1x1 to `expand` (0: none), 3x3 depthwise, 1x1 to `out` channels."""

    expand: int
    out: int
    stride: int = 1
    residual: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Extra:
    """A map at half the size: 1x1 to `squeeze`, 3x3 depthwise at stride 2, 1x1 to `out`."""

    squeeze: int
    out: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Arch:
    """Channel counts of one net. `classes` does not count the background; `size` is in pixels.

    >>> arch = student_arch()
    >>> Arch.from_json(arch.to_json()) == arch
    True
    >>> arch.tap_channels, arch.anchors
    ((576, 1280, 512, 256, 256, 128), 1917)
    """

    family: str = "ssdlite-mobilenetv2"
    size: int = 300
    classes: int
    lite: bool  # heads: depthwise 3x3 + 1x1 when lite, else one 3x3
    stem: int
    blocks: tuple[Block, ...]
    last: int
    extras: tuple[Extra, ...]

    def __post_init__(self) -> None:
        fault = _fault(self)
        if fault:
            found, expected = fault
            raise ArchError(
                "arch",
                found=found,
                expected=expected,
                cure="start from student_arch() and change its counts",
            )

    @property
    def tap_channels(self) -> tuple[int, ...]:
        """Channels of the six maps that feed the heads, finest first."""
        return (self.blocks[TAP].expand, self.last, *(extra.out for extra in self.extras))

    @property
    def tap_sizes(self) -> tuple[int, ...]:
        """Height (= width) in cells of the same six maps."""
        size, sizes = -(-self.size // 2), []
        for index, block in enumerate(self.blocks):
            if index == TAP:
                sizes.append(size)
            size = -(-size // block.stride)
        sizes.append(size)
        for _ in self.extras:
            size = -(-size // 2)
            sizes.append(size)
        return tuple(sizes)

    @property
    def anchors(self) -> int:
        """Boxes per image, 1917 at 300 px."""
        return sum(n * s * s for n, s in zip(ANCHORS_PER_CELL, self.tap_sizes, strict=True))

    def to_json(self) -> str:
        """The same text for the same net, one line per field."""
        text = msgspec.json.encode(dataclasses.asdict(self))
        return msgspec.json.format(text, indent=1).decode() + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Arch:
        """Read what `to_json` wrote; `ArchError` says where another text goes wrong."""
        try:
            return msgspec.json.decode(text, type=cls, strict=True)
        except msgspec.DecodeError as error:
            raise ArchError(
                "arch.json",
                found=f"{error}",
                expected="the fields of an Arch",
                cure="write the file with Arch.to_json",
            ) from error


def student_arch() -> Arch:
    """SSDLite-MobileNetV2 at 300 px, one class (person): 3.05 M parameters."""
    return _full_width(classes=1, lite=True)


def teacher_arch() -> Arch:
    """SSD-MobileNetV2 at 300 px, 90 COCO ids (80 in use; person is 1): 16.8 M parameters."""
    return _full_width(classes=90, lite=False)


def _full_width(*, classes: int, lite: bool) -> Arch:
    rows = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1)]  # fmt: skip  # factor, out, repeats, first stride
    blocks, width = [], 32
    for factor, out, repeats, first in rows:
        for repeat in range(repeats):
            expand = factor * width if factor > 1 else 0
            stride = first if repeat == 0 else 1
            blocks.append(Block(expand=expand, out=out, stride=stride, residual=repeat > 0))
            width = out
    extras = [(256, 512), (128, 256), (128, 256), (64, 128)]
    return Arch(
        classes=classes,
        lite=lite,
        stem=32,
        blocks=tuple(blocks),
        last=1280,
        extras=tuple(Extra(squeeze=squeeze, out=out) for squeeze, out in extras),
    )


def _fault(arch: Arch) -> tuple[str, str] | None:
    """(found, expected) of the first thing no net of the family can have."""
    if len(arch.blocks) != 17 or len(arch.extras) != 4:
        found = f"{len(arch.blocks)} blocks and {len(arch.extras)} extras"
        return found, "17 and 4"
    if arch.classes < 1 or arch.size < 32:
        return f"{arch.classes} classes at {arch.size} px", "at least 1 class and 32 px"
    counts = [arch.stem, arch.last, arch.blocks[TAP].expand]
    counts += [n for extra in arch.extras for n in (extra.squeeze, extra.out)]
    counts += [block.out for block in arch.blocks]
    if min(counts) < 1 or min(block.expand for block in arch.blocks) < 0:
        return "a layer without channels", "at least one channel in every layer"
    return _block_fault(arch)


def _block_fault(arch: Arch) -> tuple[str, str] | None:
    width = arch.stem
    for index, block in enumerate(arch.blocks):
        if block.stride not in (1, 2):
            return f"stride {block.stride} in blocks[{index}]", "1 or 2"
        if block.residual and (block.stride != 1 or block.out != width):
            found = f"a residual from {width} to {block.out} channels in blocks[{index}]"
            return found, "the same count on both sides, at stride 1"
        width = block.out
    return None
