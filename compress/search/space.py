"""Which candidates there are: one tuple of choices an axis, as data, in TOML too.

    prune = [1.0, 0.65, 0.48]        # shares of the predicted latency to keep; 1 cuts nothing
    images = ["", "256x256"]         # "" is the model's own size
    precisions = ["fp16", "int8"]
    float_layers = ["auto", "none"]  # of INT8: those that hurt stay out of it, or none does
    steps = [80, 160, 240]           # of distillation

Choices that this model, board or set of frames does not allow are taken out beforehand, each with
its reason. Choices are few and ordered, so every candidate can be asked for its predicted cost.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from calib.preprocess import SIZE_MAX
from compress.kernel_widths import as_if_int8
from compress.passes import PASSES, pass_from_name
from compress.search.candidate import WHOLE, Candidate, SearchError
from compress.workshop import plans_of
from devices.budget import Refusal
from devices.forecast import forecast
from devices.tomlfile import read_toml, wrong
from edge.gate import read_costs

if TYPE_CHECKING:
    from compress.material import Material

__all__ = ["Allowed", "Space", "aimed", "allowed", "load_space"]

_SHARES = (0.875, 0.75, 0.625)  # of the model's own image size
_GRIDS = (32, 8)  # image sizes come in multiples of this; small models take the second
_IMAGE_SMALL = 128
_SHARE_MIN = 0.1  # of the latency; less is left of no net that still answers


class Space(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The choices of every axis, best accuracy first; `images` None: some below the model's own."""

    prune: tuple[float, ...] = (WHOLE, 0.8, 0.65, 0.48, 0.35, 0.25)
    images: tuple[str, ...] | None = None
    precisions: tuple[Literal["fp16", "int8"], ...] = ("fp16", "int8")
    float_layers: tuple[Literal["auto", "none"], ...] = ("auto", "none")
    steps: tuple[int, ...] = (80, 160, 240, 480)

    def __post_init__(self) -> None:
        for name in ("prune", "precisions", "float_layers", "steps"):
            _check_axis(name, getattr(self, name))
        for value in self.prune:
            if not 0.0 < value <= WHOLE:
                raise wrong("prune", value, "shares of the latency, above 0 and at most 1")
        if min(self.steps) < 0:
            raise wrong("steps", min(self.steps), "0 or more")
        if self.images is not None:
            _check_axis("images", self.images)
            for text in filter(None, self.images):
                parts = text.split("x")
                sides = [int(part) for part in parts if part.isdigit() and len(part) < 9]
                if (
                    len(parts) != 2
                    or len(sides) != 2
                    or not 0 < min(sides) <= max(sides) <= SIZE_MAX
                ):
                    expected = f'"HEIGHTxWIDTH", 1 to {SIZE_MAX} px a side, or ""'
                    raise wrong("images", repr(text), expected)

    def candidates(self, *, whole_is_taught: bool = True) -> tuple[Candidate, ...]:
        """Every candidate once, in a fixed order; a whole net may have nobody to learn from."""
        found = (
            candidate
            if whole_is_taught or candidate.prune < WHOLE
            else msgspec.structs.replace(candidate, steps=0)
            for candidate in self._all()
        )
        return tuple(dict.fromkeys(found))

    def _all(self) -> Iterator[Candidate]:
        axes = (self.precisions, self.float_layers, self.images or ("",), self.prune, self.steps)
        for precision, floats, image, prune, steps in itertools.product(*axes):
            yield Candidate(
                prune=prune,
                image=image,
                precision=precision,
                float_layers=floats if precision == "int8" else "auto",
                steps=steps,
            )

    def lines(self) -> tuple[tuple[str, str], ...]:
        """(axis, choices) for people."""
        return (
            ("latency kept by cutting", ", ".join(f"{value:g}" for value in self.prune)),
            ("image size", ", ".join(image or "its own" for image in self.images or ("",))),
            ("precision", ", ".join(self.precisions)),
            ("layers left out of INT8", ", ".join(
                {"auto": "those that hurt", "none": "none"}[name] for name in self.float_layers)),
            ("distillation steps", ", ".join(map(str, self.steps))),
        )  # fmt: skip


def load_space(path: Path) -> Space:
    """Read a space; raises SearchError with the address of what is wrong."""
    return read_toml(path, Space, SearchError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The part of a space that a run allows, and why not the rest."""

    space: Space
    whole_is_taught: bool = True
    refusals: tuple[Refusal, ...] = ()

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every candidate once, in a fixed order."""
        return self.space.candidates(whole_is_taught=self.whole_is_taught)


def allowed(space: Space, material: Material) -> Allowed:
    """The choices that this model, board and set of frames allow, and why others do not.

    Raises SearchError when an axis is left without any.
    """
    found = [
        *_precisions(space, material),
        *_images(space, material),
        *_trained(space, material),
    ]
    refusals = [refusal for _, refusal in found if refusal is not None]
    for change, _ in found:
        space = msgspec.structs.replace(space, **change)
    taught = pass_from_name("distil")().requires(material.first, material.context) is None
    return Allowed(space=space, whole_is_taught=taught, refusals=tuple(refusals))


def aimed(wanted: Allowed, material: Material, fps_min: float | None) -> Allowed:
    """The space with the cuts that `fps_min` asks for, to the slow end of the prediction.

    One for each precision of the uncut net, rounded down to whole per cents; 10 % at least.
    """
    costs, space = read_costs(material.first), wanted.space
    if not fps_min or costs is None or space.prune == (WHOLE,):
        return wanted
    shares = set(space.prune)
    for precision in space.precisions:
        priced = as_if_int8(costs) if precision == "int8" else costs
        context = material.context
        seen = forecast(priced, context.profile, precision=precision, mode=context.mode)
        latency = seen.fact("latency_ms")
        share = 0.0 if latency is None else math.floor(1e5 / fps_min / latency.high) / 100
        if _SHARE_MIN <= share < WHOLE:
            shares.add(share)
    space = msgspec.structs.replace(space, prune=tuple(sorted(shares, reverse=True)))
    return replace(wanted, space=space)


_Change = tuple[dict[str, tuple[object, ...]], Refusal | None]


def _precisions(space: Space, material: Material) -> Iterator[_Change]:
    kept = []
    for name in space.precisions:
        refusal = pass_from_name(name)().requires(material.first, material.context)
        if refusal is None:
            kept.append(name)
        else:
            yield {}, refusal
    if not kept:
        raise SearchError(
            "precisions of the space",
            found=", ".join(space.precisions),
            expected="one that the board runs, with frames to calibrate on for INT8",
            cure=f"{material.context.profile.name} runs "
            + ", ".join(material.context.profile.precisions),
        )
    yield {"precisions": tuple(kept)}, None


def _images(space: Space, material: Material) -> Iterator[_Change]:
    if "resize" not in PASSES:  # a recipe could not say it
        refusal = Refusal(what="another image size", reason="no pass of a recipe resizes",
                          instead="it keeps its own")  # fmt: skip
    else:
        resize = pass_from_name("resize")(height=1, width=1)  # whether at all
        refusal = resize.requires(material.first, material.context)
    if refusal is not None:
        yield {"images": ("",)}, refusal
        return
    own = material.first.manifest.pixels
    named = space.images if space.images is not None else _below(own.height, own.width)
    same = f"{own.height}x{own.width}"
    yield {"images": tuple(dict.fromkeys("" if name == same else name for name in named))}, None


def _below(height: int, width: int) -> tuple[str, ...]:
    grid = _GRIDS[0] if min(height, width) >= _IMAGE_SMALL else _GRIDS[1]
    sizes = [""]
    for share in _SHARES:
        high, wide = (max(grid, round(side * share / grid) * grid) for side in (height, width))
        sizes.append(f"{high}x{wide}")
    return tuple(dict.fromkeys(sizes))


def _trained(space: Space, material: Material) -> Iterator[_Change]:
    """Cutting and training, where there is a net and a teacher for them."""
    first, context = material.first, material.context
    cut = pass_from_name("prune")().requires(first, context)
    if cut is not None:
        yield {"prune": (WHOLE,)}, cut
    taught = pass_from_name("distil")().requires(first, context)
    if taught is not None and (cut is not None or plans_of(first)):
        yield {"steps": (0,)}, taught


def _check_axis(name: str, choices: tuple[object, ...]) -> None:
    if not choices:
        raise wrong(name, "no choice", "at least one")
    if len(set(choices)) < len(choices):
        raise wrong(name, "a choice that is there twice", "each once")
