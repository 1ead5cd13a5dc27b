"""The pass that trains a Q/DQ file as it stands: quantization-aware distillation, after int8."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from compress.board_files import frames_of
from compress.distill import Run, frame_batches
from compress.passes import Context, PassError, key_of, settings_of
from compress.press import FLOAT_SOURCE, check_qdq
from compress.quantize.int8 import load_model, save_model
from compress.quantize.prepare import prepare
from compress.scene import spaced
from compress.train import Checkpoint
from compress.tune import TuneOptions, tuned
from devices.budget import Refusal
from devices.errors import JetpressError
from edge.bundle import Bundle, Manifest

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Tune"]


class Tune(TuneOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Train weights with Q/DQ in place to give the float network's answers; scales stay."""

    name: ClassVar[str] = "tune"
    frames: int = 120  # evenly spaced over those given

    def settings(self, context: Context) -> dict[str, Any]:
        train = context.train.sha256 if context.train is not None else ""
        return settings_of(self, train=train, seed=context.seed, threads=context.threads)

    def requires(self, source: Bundle, context: Context) -> Refusal | None:
        if source.manifest.precision != "int8":
            reason = f"the model is in {source.manifest.precision}: there is no Q/DQ to learn with"
        elif FLOAT_SOURCE not in source.manifest.files:
            reason = "the float network it was made from is not in its workshop"
        elif context.train is None:
            reason = "there are no pictures to learn from"
        elif len(source.manifest.inputs) != 1:
            reason = f"a net of {len(source.manifest.inputs)} inputs, and frames are one"
        else:
            reason = _fault(str(source.path("model.onnx")), source.sha256)
        if not reason:
            return None
        return Refusal(what="tuning INT8", reason=reason, instead="the weights stay as they are")

    def apply(self, source: Bundle, folder: Path, context: Context) -> Manifest:
        assert context.train is not None  # `requires` saw to it
        wanted = set(spaced(len(context.train), self.frames))
        frames = tuple(f for at, f in enumerate(context.train.frames()) if at in wanted)
        prepare = source.manifest.pixels
        with context.progress.task("tuning INT8", self.steps) as task:
            run = Run(
                seed=context.seed,
                threads=context.threads,
                tick=task,
                checkpoint=Checkpoint(
                    path=context.scratch / "tune.checkpoint", key=key_of(self, source, context)
                ),
            )
            made, _ = tuned(
                (load_model(source.path("model.onnx")), _float_model(source)),
                list(frames_of(source, context, 8)),
                frame_batches(frames, prepare, self.batch, context.seed),
                self,
                run,
            )
        save_model(made, folder / "model.onnx")
        (folder / "workshop").mkdir()
        for name in ("ranges.json", "costs.json", FLOAT_SOURCE):
            shutil.copyfile(source.path(name), folder / name)
        return msgspec.structs.replace(source.manifest, files={})

    def ensures(self, source: Bundle, result: Bundle) -> None:
        check_qdq(result)
        if source.manifest.files["model.onnx"] == result.manifest.files["model.onnx"]:
            raise PassError(
                "the weights",
                found="the very weights it began with",
                expected="trained ones",
                cure="raise steps or lr_max of the pass",
            )


def _float_model(source: Bundle) -> ModelProto:
    return prepare(load_model(source.path(FLOAT_SOURCE)), source.manifest.opset)


@functools.lru_cache(maxsize=4)
def _fault(path: str, sha256: str) -> str:
    """What keeps the file from becoming a module; "" when nothing does."""
    from compress.from_onnx.convert import module_from_onnx

    try:
        module_from_onnx(Path(path))
    except JetpressError as error:
        return f"{error.where}: found {error.found}; expected {error.expected}"
    return ""
