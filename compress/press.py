"""The passes a recipe is made of: prune, distil, int8, fp16, and seal, which ends every run.

The fields of a pass are its whole configuration: recipes name them, the lineage records them.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from compress.board_files import FRAMES, add_float_model, add_golden, add_strong_twin, frames_of
from compress.distill import DistilOptions
from compress.kernel_widths import Pricing, as_if_int8
from compress.lint import lint
from compress.passes import Context, PassError, key_of, settings_of
from compress.progress import Task
from compress.prune import PruneOptions
from compress.quantize.float_layers import FloatRule
from compress.quantize.fp16 import fp16_overflows
from compress.quantize.int8 import Int8Options, load_model, quantize_int8
from compress.teach import cut, label_key, ready_to_cut, teach
from compress.teacher import Itself, SceneTeacher
from compress.workshop import closed, is_packaged, plans_of, save_net
from devices.budget import Measurement, Refusal
from devices.errors import JetpressError
from devices.roofline import predict
from edge.bundle import Bundle, Manifest
from edge.gate import read_costs, write_accuracy

__all__ = ["Distil", "Fp16", "Int8", "Prune", "Seal", "check_qdq"]

FLOAT_SOURCE = "workshop/float.onnx"  # what an INT8 bundle was made from

FP16_FRAMES = FRAMES  # looked at for values that FP16 cannot hold
_Feeds = Iterator[Mapping[str, NDArray[np.float32]]]


class Prune(PruneOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cut whole channels until the predicted latency is the wanted share of the input's."""

    name: ClassVar[str] = "prune"
    precision: Literal["fp16", "int8"] = "fp16"  # that the run ends in; the recipe knows it
    label_frames: int = DistilOptions().label_frames
    if_it_pays: bool = False  # a target out of reach is refused instead of an error
    fps_min: float | None = None  # frames/s; where it is given, it sets the ratio

    def settings(self, context: Context) -> dict[str, Any]:
        mode = context.profile.mode(context.mode).name
        return settings_of(self, profile=context.profile.name, mode=mode, **_teaching(context))

    def requires(self, source: Bundle, context: Context) -> Refusal | None:
        refusal = closed(source, "pruning") or _no_pictures("pruning", context)
        if refusal is None and context.teacher is None:
            refusal = Refusal(
                what="pruning",
                reason="a cut net must learn again, and there is no teacher to learn from",
                instead="every channel stays; leave --teacher out",
            )
        if refusal is None:
            refusal = _other_kind(source, context, "pruning")
        if refusal is None and self.if_it_pays:
            refusal = self._no_way(source, context)
        return refusal

    def _no_way(self, source: Bundle, context: Context) -> Refusal | None:
        """Why cutting this net for this board does not pay; None when it does."""
        ratio = self._ratio(source, context)
        if ratio >= 1.0:
            return Refusal(
                what="pruning",
                reason=f"the net is predicted to be fast enough for {self.fps_min:g} frames/s",
                instead="every channel stays; --prune RATIO cuts all the same",
            )
        try:
            floor = ready_to_cut(source, self._pricing(context)).floor_ratio(self)
        except JetpressError as error:
            return Refusal(
                what="pruning",
                reason=f"{error.where}: found {error.found}; expected {error.expected}",
                instead=f"every channel stays; {error.cure}",
            )
        if floor <= ratio:
            return None
        return Refusal(
            what="pruning",
            reason=f"the narrowest net allowed is predicted at {floor:.2f} of the latency, "
            f"{ratio:.2f} was the aim: the time every kernel costs whatever its "
            "width does not shrink",
            instead="every channel stays; --prune RATIO cuts all the same",
        )

    def _ratio(self, source: Bundle, context: Context) -> float:
        """The share of the predicted latency to reach, with the interval's slow end in mind."""
        costs = read_costs(source)
        if self.fps_min is None or costs is None:
            return self.latency_ratio_max
        if self.precision == "int8":
            costs = as_if_int8(costs)
        timed = predict(costs, context.profile, precision=self.precision, mode=context.mode)
        slowest_ms = timed.latency_ms.high
        return self.latency_ratio_max if slowest_ms is None else 1e3 / self.fps_min / slowest_ms

    def _pricing(self, context: Context) -> Pricing:
        return Pricing(profile=context.profile, precision=self.precision, mode=context.mode)

    def apply(self, source: Bundle, folder: Path, context: Context) -> Manifest:
        options = msgspec.structs.replace(self, latency_ratio_max=self._ratio(source, context))
        net, plans = cut(source, context, options, self._pricing(context), self.label_frames)
        save_net(folder, net, source, plans)
        return _next(source, refusals=plans[-1].refusals if plans else ())

    def ensures(self, source: Bundle, result: Bundle) -> None:
        before, after = read_costs(source), read_costs(result)
        if before is None or after is None or after.macs >= before.macs:
            raise PassError(
                "the cut net",
                found="as many operations as before",
                expected="fewer",
                cure="choose a smaller --prune ratio, or --prune off",
            )


class Distil(DistilOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Train the net on unlabelled frames to answer as its teacher does."""

    name: ClassVar[str] = "distil"

    def settings(self, context: Context) -> dict[str, Any]:
        return settings_of(self, **_teaching(context))

    def requires(self, source: Bundle, context: Context) -> Refusal | None:
        refusal = closed(source, "distilling") or _only_arrays("distilling", context)
        if refusal is not None:
            return refusal
        if context.teacher is None:
            reason = "there is no teacher"
        elif isinstance(context.teacher, Itself) and not plans_of(source):
            reason = "the only teacher is the net itself, and nothing was cut of it"
        elif self.steps == 0:
            reason = "0 steps were asked for"
        else:
            other = _other_kind(source, context, "distilling")
            return other or _no_pictures("distilling", context)
        return Refusal(what="distilling", reason=reason, instead="the weights stay as they are")

    def apply(self, source: Bundle, folder: Path, context: Context) -> Manifest:
        save_net(folder, teach(source, context, self, key_of(self, source, context)), source)
        return _next(source)

    def ensures(self, source: Bundle, result: Bundle) -> None:
        if source.manifest.files["model.onnx"] == result.manifest.files["model.onnx"]:
            raise PassError(
                "the weights",
                found="the very weights it began with",
                expected="trained ones",
                cure="raise --distil-steps",
            )


class Int8(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Calibrate on the frames and write Q/DQ that TensorRT reads as they stand.

    `keep_float` names layers to leave float; "auto" finds them, where INT8 is too noisy with none.
    """

    name: ClassVar[str] = "int8"
    frames_max: int = 300
    keep_float: Literal["auto"] | tuple[str, ...] = "auto"

    def __post_init__(self) -> None:
        Int8Options(frames_max=self.frames_max)  # refuses what cannot be, when a recipe is read

    def settings(self, context: Context) -> dict[str, Any]:
        train = context.samples.sha256 if context.samples is not None else ""
        chosen: dict[str, Any] = {}
        if self.keep_float == "auto":
            mode = context.profile.mode(context.mode).name
            chosen = {**asdict(FloatRule()), "profile": context.profile.name, "mode": mode}
        opset = context.profile.opset_max
        return settings_of(self, opset_max=opset, train=train, float_rule=chosen)

    def requires(self, source: Bundle, context: Context) -> Refusal | None:
        no_samples = _no_frames("INT8") if context.samples is None else None
        return context.profile.refuse("int8") or no_samples

    def apply(self, source: Bundle, folder: Path, context: Context) -> Manifest:
        assert context.samples is not None  # `requires` saw to it
        options = Int8Options(
            opset_max=context.profile.opset_max,
            keep_float=self.keep_float,
            frames_max=self.frames_max,
            calibration_sha256=context.samples.sha256,
            pricing=Pricing(profile=context.profile, precision="int8", mode=context.mode),
        )
        count = min(len(context.samples), self.frames_max)
        with ExitStack() as tasks:
            task = tasks.enter_context(context.progress.task("calibrating INT8", count))

            def searching(layers: int) -> Callable[[], None]:
                words = "INT8 is noisy; looking for the layers that hurt"
                return tasks.enter_context(context.progress.task(words, layers)).advance

            result = quantize_int8(
                source.path("model.onnx"),
                frames_of(source, context, count),
                folder / "model.onnx",
                options,
                on_frame=task.advance,
                searching=searching,
            )
        (folder / "workshop").mkdir()
        shutil.copyfile(source.path("model.onnx"), folder / FLOAT_SOURCE)
        manifest = _next(source, refusals=result.refusals)
        return msgspec.structs.replace(
            manifest, precision="int8", calibration_sha256=context.samples.sha256
        )

    def ensures(self, source: Bundle, result: Bundle) -> None:
        costs = read_costs(result)
        if costs is None or not any(kernel.int8 for kernel in costs.kernels):
            raise PassError(
                "the Q/DQ file",
                found="no layer in INT8",
                expected="some",
                cure="use a recipe that ends in fp16",
            )
        check_qdq(result)


class Fp16(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Let the board's builder use half precision; the file stays FP32, overflows are named."""

    name: ClassVar[str] = "fp16"

    def settings(self, context: Context) -> dict[str, Any]:
        train = context.samples.sha256 if context.samples is not None else ""
        return settings_of(self, profile=context.profile.name, train=train)

    def requires(self, source: Bundle, context: Context) -> Refusal | None:
        return context.profile.refuse("fp16")

    def apply(self, source: Bundle, folder: Path, context: Context) -> Manifest:
        shutil.copyfile(source.path("model.onnx"), folder / "model.onnx")
        model = load_model(source.path("model.onnx"))
        frames = 0 if context.samples is None else min(len(context.samples), FP16_FRAMES)
        with context.progress.task("looking for FP16 overflows", frames) as task:
            feeds = _ticked(frames_of(source, context, frames), task) if frames else iter(())
            manifest = _next(source, refusals=fp16_overflows(model, feeds))
        return msgspec.structs.replace(manifest, precision="fp16")

    def ensures(self, source: Bundle, result: Bundle) -> None:
        if source.manifest.files["model.onnx"] != result.manifest.files["model.onnx"]:
            raise PassError(
                "the bundle",
                found="another model file",
                expected="the same one",
                cure="report this with the run's folder",
            )


class Seal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the board gets: the model and what it is built and checked by, and no workshop.

    `refusals` are what was found out about the finished model, beside what its passes refused;
    `dla` adds what INT8 on a DLA is built from.
    """

    name: ClassVar[str] = "seal"
    accuracy: tuple[Measurement, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    dla: bool = False

    def settings(self, context: Context) -> dict[str, Any]:
        whole = msgspec.json.encode((self.accuracy, self.refusals))
        return {
            "profile": context.profile.name,
            "accuracy": {fact.name: fact.text() for fact in self.accuracy},
            "facts_sha256": hashlib.sha256(whole).hexdigest(),
            "dla": self.dla,
            "train": context.samples.sha256 if context.samples is not None else "",
        }

    def requires(self, source: Bundle, context: Context) -> Refusal | None:
        return None

    def apply(self, source: Bundle, folder: Path, context: Context) -> Manifest:
        for name in ("model.onnx", "costs.json", "ranges.json"):
            if name in source.manifest.files:
                shutil.copyfile(source.path(name), folder / name)
        if self.accuracy:
            write_accuracy(folder, self.accuracy)
        found = self._add_files(source, folder, context)
        manifest = _next(source, refusals=(*self.refusals, *found))
        return msgspec.structs.replace(manifest, profile=context.profile.name)

    def _add_files(self, source: Bundle, folder: Path, context: Context) -> tuple[Refusal, ...]:
        with context.progress.task("sealing what a board checks by", 3) as task:
            inputs, found = add_golden(source, folder, context)
            task.advance()
            found += add_strong_twin(source, folder, context, inputs)
            task.advance()
            if self.dla:
                found += add_float_model(source, folder, context)
            task.advance()
        return found

    def ensures(self, source: Bundle, result: Bundle) -> None:
        if source.manifest.files["model.onnx"] != result.manifest.files["model.onnx"]:
            raise PassError(
                "the bundle",
                found="another model file",
                expected="the same one",
                cure="report this with the run's folder",
            )


def check_qdq(result: Bundle) -> None:
    """Raise PassError unless TensorRT reads the bundle's Q/DQ as they are written."""
    findings = lint(load_model(result.path("model.onnx")), result.manifest.opset, True)
    broken = [finding for finding in findings if finding.severity == "error"]
    if broken:
        raise PassError(
            broken[0].node,
            found=broken[0].found,
            expected="a file that TensorRT reads as written",
            cure="report this with the run's folder",
        )


def _next(source: Bundle, refusals: tuple[Refusal, ...] = ()) -> Manifest:
    """The manifest to go on with: the source's, with more refusals and no files."""
    return msgspec.structs.replace(
        source.manifest, refusals=(*source.manifest.refusals, *refusals), files={}
    )


def _teaching(context: Context) -> dict[str, Any]:
    """What training reads beside the bundle."""
    known = context.train is not None and context.teacher is not None
    return {
        "train": context.train.sha256 if context.train is not None else "",
        "teacher": context.teacher.identity if context.teacher is not None else "",
        "tiles": label_key(context, 0) if known else "",
        "seed": context.seed,
        "threads": context.threads,
    }


def _other_kind(source: Bundle, context: Context, what: str) -> Refusal | None:
    """Why this teacher cannot teach this net; None when it can."""
    if isinstance(context.teacher, SceneTeacher) and not is_packaged(source):
        reason = "this teacher labels scenes, and the student is no detector of its kind"
    elif len(source.manifest.inputs) != 1:
        reason = f"a net of {len(source.manifest.inputs)} inputs, and frames are one"
    else:
        return None
    return Refusal(what=what, reason=reason, instead="the weights stay as they are")


def _no_frames(what: str) -> Refusal:
    return Refusal(what=what, reason="there are no frames", instead="pass --data FOLDER or VIDEO")


def _no_pictures(what: str, context: Context) -> Refusal | None:
    """Why there is nothing to learn from; None when there are pictures."""
    if context.train is not None:
        return None
    return _only_arrays(what, context) or _no_frames(what)


def _only_arrays(what: str, context: Context) -> Refusal | None:
    if context.arrays is None:
        return None
    reason = "the data are arrays, which calibrate and judge; a net learns from pictures"
    return Refusal(what=what, reason=reason, instead="the weights stay as they are")


def _ticked(feeds: _Feeds, task: Task) -> _Feeds:
    for feed in feeds:
        yield feed
        task.advance()
