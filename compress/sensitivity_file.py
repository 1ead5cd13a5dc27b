"""One `compress sensitivity` from paths to an exit code: read, look at each layer, say, draw.

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
from compress.import_model import ImportModelError
from compress.inputs import user_frames
from compress.onnx_source import (
    check_for_board,
    check_runs,
    fixed_shapes,
    load_onnx,
    raised_for_int8,
    state_outputs,
    tensor_specs,
)
from compress.progress import Progress
from compress.quantize.int8 import Int8Options
from compress.scene import spaced
from compress.sensitivity import Board, Feed, sensitivity_of
from compress.sensitivity_text import Told, json_of, text_of
from compress.spec import SpecError, assumed_spec, load_spec
from devices.budget import Refusal
from devices.errors import JetpressError
from devices.plainfile import kind_of
from devices.profile import PrecisionError, Profile
from devices.report import Input
from devices.wholefile import write_whole
from edge.bundle import TensorSpec
from edge.flags import FlagError
from edge.places import PlaceError, require_output

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["FeedError", "Request", "tell_sensitivity"]


class FeedError(JetpressError):
    """Data that does not fit the model."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked; `frames_max` None is as many as `compress` calibrates on."""

    model: Path
    board: Board
    data: Path
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


def tell_sensitivity(asked: Request, progress: Progress, say: Callable[[str], object]) -> None:
    """Do it and say it. Raises JetpressError; then nothing is written."""
    _require_int8(asked.board.profile)
    _check_places(asked)
    model, notes = _model(asked)
    frames = _frames(asked, model)
    found = sensitivity_of(model, frames.feeds, asked.board, progress, str(asked.model))
    told = Told(
        model=asked.model.name,
        board=asked.board,
        found=found,
        inputs=(Input(role="model", name=asked.model.name), frames.source),
        refusals=(*notes, *frames.refusals),
        command=shlex.join(["compress", *sys.argv[1:]]),
    )
    if asked.html is not None:
        from compress.sensitivity_page import page

        _write(asked.html, page(told))
    say(json_of(told) if asked.as_json else text_of(told))


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


def _model(asked: Request) -> tuple[ModelProto, tuple[Refusal, ...]]:
    """The model as a run of `compress` imports it."""
    path, profile = asked.model, asked.board.profile
    stands = _what_stands(path)
    if stands != "a file":
        raise ImportModelError(
            str(path),
            found=stands,
            expected="an ONNX file",
            cure="check the path; export a PyTorch model with torch.onnx.export first",
        )
    model = fixed_shapes(load_onnx(path), str(path), asked.image_hw)
    check_for_board(model, str(path), profile)
    model, notes = raised_for_int8(model, profile)
    state_outputs(model, str(path))
    check_runs(model, str(path), tensor_specs(model.graph.input, model),
               tensor_specs(model.graph.output, model))  # fmt: skip
    return model, notes


def _what_stands(path: Path) -> str:
    """`a file`, `a folder` and so on; why it cannot be told, where it cannot."""
    try:
        return kind_of(path.stat().st_mode)
    except OSError as error:
        return error.strerror or str(error)


def _frames(asked: Request, model: ModelProto) -> _Frames:
    inputs = tensor_specs(model.graph.input, model)
    if asked.data.suffix.lower() == ".npz":
        return _arrays(asked, inputs)
    outputs = tensor_specs(model.graph.output, model)
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
    stands = _what_stands(asked.data)
    if stands not in ("a file", "a folder"):
        raise FeedError(f"--data {asked.data}", found=stands,
                        expected="a folder of images, a video, or an .npz",
                        cure="check the path")  # fmt: skip
    frames = user_frames(asked.data, None, spec.classes)
    train = frames.train
    assert train is not None  # there is --data
    chosen = spaced(len(train), asked.frames_max or Int8Options().frames_max)
    wanted = set(chosen)
    feeds: list[Feed] = [
        {inputs[0].name: spec.preprocess(pixels)}
        for index, pixels in enumerate(train.frames())
        if index in wanted
    ]
    note = f"{len(feeds)} of the {len(train)} frames that a run of compress calibrates on"
    source = Input(role="data", name=asked.data.name, sha256=train.sha256, note=note)
    refusals = (*spec.assumptions, *train.skipped, *frames.notes)  # none of those who judge
    return _Frames(feeds=feeds, source=source, refusals=refusals)


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
