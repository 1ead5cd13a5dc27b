"""One `compress sensitivity` from paths to words: read, look at layers and groups, say, draw.

Where one half cannot be had the other is told alone, with the reason; where neither can, that is
an error.

FeedError (a JetpressError)   data that does not fit the model, or no calibration frames
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compress.arrays import samples_from_npz
from compress.channels.errors import ChannelsError
from compress.export import ExportError
from compress.from_onnx.errors import FromOnnxError
from compress.inputs import user_frames
from compress.progress import Progress
from compress.prune_sensitivity import PruneSensitivity, prune_sensitivity_of
from compress.quantize.errors import QuantizeError
from compress.quantize.int8 import Int8Options
from compress.scene import spaced
from compress.sensitivity import Board, Feed, Sensitivity, sensitivity_of
from compress.sensitivity_model import Model, read_model, what_stands
from compress.sensitivity_text import Told, json_of, text_of
from compress.spec import SpecError, assumed_spec, load_spec
from devices.budget import Refusal
from devices.errors import JetpressError
from devices.profile import PrecisionError, Profile
from devices.report import Input
from devices.wholefile import write_whole
from edge.bundle import TensorSpec
from edge.cost import CostError
from edge.flags import FlagError
from edge.places import PlaceError, require_output

if TYPE_CHECKING:
    from calib.preprocess import Preprocess

__all__ = ["FeedError", "Request", "tell_sensitivity"]


class FeedError(JetpressError):
    """Data that does not fit the model."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked; `frames_max` None is as many as `compress` calibrates on.

    `model` is a path, or package.module:factory.
    """

    model: Path
    board: Board
    data: Path
    what: str = "both"  # "quantize", "prune" or "both"
    spec: Path | None = None
    image_hw: tuple[int, int] | None = None
    frames_max: int | None = None
    html: Path | None = None
    as_json: bool = False


@dataclass(frozen=True, kw_only=True)
class _Frames:
    """Input name -> array of each frame; the file or folder they are from, for the page."""

    feeds: list[Feed]
    source: Input
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Halves:
    """What was found of each half that was asked for, and why one is missing."""

    found: Sensitivity | None = None
    pruned: PruneSensitivity | None = None
    missing: tuple[Refusal, ...] = ()


def tell_sensitivity(asked: Request, progress: Progress, say: Callable[[str], object]) -> None:
    """Do it and say it. Raises JetpressError; then nothing is written."""
    if asked.what == "quantize":
        _require_int8(asked.board.profile)
    _check_places(asked)
    model = read_model(asked.model, asked.board.profile, asked.spec, asked.image_hw)
    frames = _frames(asked, model)
    halves = _halves(asked, model, frames.feeds, progress)
    told = Told(
        model=asked.model.name,
        board=asked.board,
        found=halves.found,
        pruned=halves.pruned,
        inputs=(Input(role="model", name=asked.model.name), frames.source),
        missing=halves.missing,
        refusals=(*model.notes, *frames.refusals),
        command=shlex.join(["compress", *sys.argv[1:]]),
    )
    if asked.html is not None:
        from compress.sensitivity_page import page

        _write(asked.html, page(told))
    say(json_of(told) if asked.as_json else text_of(told))


def _halves(asked: Request, model: Model, feeds: list[Feed], progress: Progress) -> _Halves:
    """Both halves; raises what went wrong with the only one that was to be had."""
    where, board = str(asked.model), asked.board
    found, faults = None, list[JetpressError]()
    missing = []
    if asked.what != "prune":
        try:
            _require_int8(board.profile)
            found = sensitivity_of(model.graph, feeds, board, progress, where)
        except (PrecisionError, QuantizeError) as error:
            faults.append(error)
            missing.append(_missing("quantizing, layer by layer", error))
    if asked.what == "quantize":
        if faults:
            raise faults[0]
        return _Halves(found=found)
    pruned = None
    try:
        judged = found.judged if found is not None else None
        net = model.net(feeds[0])
        ordered = [{spec.name: feed[spec.name] for spec in model.inputs} for feed in feeds]
        pruned = prune_sensitivity_of(net, ordered, (board.profile, board.mode), progress, judged)
    except (FromOnnxError, ChannelsError, ExportError, CostError) as error:
        faults.append(error)
        missing.append(_missing("pruning, group by group", error))
    if found is None and (pruned is None or not pruned.count) and faults:
        raise faults[-1]
    return _Halves(found=found, pruned=pruned, missing=tuple(missing))


def _missing(what: str, error: JetpressError) -> Refusal:
    reason = f"{error.where}: found {error.found}; expected {error.expected}"
    return Refusal(what=what, reason=reason, instead=error.cure)


def _require_int8(profile: Profile) -> None:
    refusal = profile.refuse("int8")
    if refusal is not None:
        raise PrecisionError(
            refusal.what,
            found=f"not possible ({refusal.reason})",
            expected="a board that runs INT8: there is nothing to quantize for this one",
            cure=refusal.instead,
        )


def _check_places(asked: Request) -> None:
    """Before any work: the page is none of the inputs, and can be written."""
    if asked.html is None:
        return
    if asked.html.suffix.lower() not in (".html", ".htm"):
        raise FlagError("--html", found=str(asked.html), expected="a name that ends in .html",
                        cure="name the page so")  # fmt: skip
    require_output(asked.html, "--html", [asked.model, asked.spec, asked.data])


def _frames(asked: Request, model: Model) -> _Frames:
    if asked.data.suffix.lower() == ".npz":
        return _arrays(asked, model.inputs)
    pixels, classes, assumptions = _meaning(asked, model)
    stands = what_stands(asked.data)
    if stands not in ("a file", "a folder"):
        raise FeedError(f"--data {asked.data}", found=stands,
                        expected="a folder of images, a video, or an .npz",
                        cure="check the path")  # fmt: skip
    frames = user_frames(asked.data, None, classes)
    train = frames.train
    assert train is not None  # there is --data
    chosen = spaced(len(train), asked.frames_max or Int8Options().frames_max)
    wanted = set(chosen)
    feeds: list[Feed] = [
        {model.inputs[0].name: pixels(frame)}
        for index, frame in enumerate(train.frames())
        if index in wanted
    ]
    note = f"{len(feeds)} of the {len(train)} frames that a run of compress calibrates on"
    source = Input(role="data", name=asked.data.name, sha256=train.sha256, note=note)
    refusals = (*assumptions, *train.skipped, *frames.notes)  # none of those who judge
    return _Frames(feeds=feeds, source=source, refusals=refusals)


def _meaning(
    asked: Request, model: Model
) -> tuple[Preprocess, tuple[str, ...], tuple[Refusal, ...]]:
    """How pixels enter, which classes there are, and what of it is assumed."""
    if model.manifest is not None:
        preprocess = model.manifest.preprocess
        assert preprocess is not None  # a net that was imported takes one picture
        return preprocess, model.manifest.classes, ()  # the model's notes tell what is assumed
    inputs, outputs = model.inputs, model.outputs
    try:
        assumed_spec(inputs, outputs)
    except SpecError as error:
        raise FeedError(
            f"--data {asked.data}",
            found=f"pictures for the inputs {error.found}",
            expected="an .npz with an array for each, the first axis counting samples",
            cure="write it with numpy.savez(path, name=array)",
        ) from error
    spec = load_spec(asked.spec, inputs, outputs)
    return spec.preprocess, spec.classes, spec.assumptions


def _arrays(asked: Request, inputs: tuple[TensorSpec, ...]) -> _Frames:
    if asked.spec is not None:
        raise FlagError("--spec", found=f"{asked.spec} beside the arrays of {asked.data}",
                        expected="one of them: a spec says how pictures become arrays",
                        cure="leave --spec out")  # fmt: skip
    samples = samples_from_npz(asked.data, inputs)
    chosen = spaced(len(samples), asked.frames_max or Int8Options().frames_max)
    note = f"{len(chosen)} of {len(samples)} samples, taken as they are"
    source = Input(role="data", name=asked.data.name, sha256=samples.sha256, note=note)
    return _Frames(feeds=[samples.sample(index) for index in chosen], source=source)


def _write(path: Path, page: str) -> None:
    try:
        write_whole(path, page.encode())
    except OSError as error:
        raise PlaceError(f"--html {path}", found=error.strerror or str(error),
                         expected="a file that can be written",
                         cure="choose another; nothing was written") from error  # fmt: skip
