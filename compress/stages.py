"""How good a bundle is on the run's own frames, judged as the board would run it.

With labels: AP and AP50, and the points of AP lost against the baseline. Without: agreement with
the baseline (boxes of a detector, best class of a classifier). A bundle in FP16 is judged through a
model that rounds as FP16 does, one in INT8 as TensorRT reads its Q/DQ: EMULATED on this host.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from calib.samples import CalibrationSet
from compress.data import LabelledSet
from compress.evaluate import (
    accuracy,
    accuracy_drop,
    agreement,
    detections,
    judging_head,
    outputs,
    top1_agreement,
)
from compress.passes import software
from compress.progress import Progress
from compress.quantize.emulate import as_tensorrt_reads
from compress.quantize.fp16 import fp16_view
from compress.quantize.int8 import load_model
from devices.budget import Measurement
from edge.bundle import Bundle
from edge.frames import Detections
from edge.heads import ClassifyHead, SsdHead

__all__ = ["DROP", "Judge", "board_view"]

DROP = "accuracy_drop_pt"
AGREEMENT_FRAMES_MAX = 100
_FACTS = msgspec.json.Decoder(tuple[Measurement, ...])


def board_view(bundle: Bundle) -> bytes:
    """The model that ONNX Runtime must run to compute what the board would."""
    model = load_model(bundle.path("model.onnx"))
    if bundle.manifest.precision == "int8":
        model = as_tensorrt_reads(model)
    elif bundle.manifest.precision == "fp16":
        model = fp16_view(model)
    return bytes(model.SerializeToString(deterministic=True))


@dataclass
class Judge:
    """Judges bundles against a baseline; what was judged once is kept in `store`."""

    baseline: Bundle
    held_out: LabelledSet | None
    train: CalibrationSet | None
    store: Path
    progress: Progress
    threads: int
    _reference: dict[str, Any] = field(default_factory=dict)

    def facts(self, bundle: Bundle) -> tuple[Measurement, ...]:
        """Accuracy facts of the bundle; empty when there is nothing to judge with."""
        kept = self.store / f"accuracy-{self._key(bundle)[:16]}.json"
        if kept.is_file():
            return _FACTS.decode(kept.read_bytes())
        facts = self._judged(bundle)
        partial = kept.with_suffix(".partial")
        partial.write_bytes(msgspec.json.encode(facts))
        partial.replace(kept)
        return facts

    def boxes(self, bundle: Bundle) -> list[Detections]:
        """What a detector finds in the held-out frames, as an average precision needs it."""
        if bundle.sha256 not in self._reference:
            assert self.held_out is not None
            assert isinstance(bundle.manifest.head, SsdHead)
            head = judging_head(bundle.manifest.head)
            self._reference[bundle.sha256] = self._detect(bundle, head, self.held_out.frames)
        return list(self._reference[bundle.sha256])

    def _judged(self, bundle: Bundle) -> tuple[Measurement, ...]:
        head = bundle.manifest.head
        if isinstance(head, SsdHead) and self.held_out is not None:
            before, after = self.boxes(self.baseline), self.boxes(bundle)
            result = accuracy(after, self.held_out)
            return result.ap50, result.ap, accuracy_drop(before, after, self.held_out)
        frames = self._unlabelled()
        if frames is None:
            return ()
        if isinstance(head, SsdHead):
            fact = agreement(
                self._detect(self.baseline, head, frames), self._detect(bundle, head, frames)
            )
        elif isinstance(head, ClassifyHead):
            fact = top1_agreement(
                self._scores(self.baseline, head.output, frames),
                self._scores(bundle, head.output, frames),
            )
        else:
            return ()
        fact = msgspec.structs.replace(fact, name="agreement", source=f"{fact.name}: {fact.source}")
        return fact, _lost_agreement(fact)

    def _unlabelled(self) -> CalibrationSet | None:
        frames = self.train if self.held_out is None else self.held_out.frames
        if frames is None:
            return None
        step = -(-len(frames) // AGREEMENT_FRAMES_MAX)
        return msgspec.structs.replace(frames, samples=frames.samples[::step])

    def _detect(self, bundle: Bundle, head: SsdHead, frames: CalibrationSet) -> list[Detections]:
        manifest = bundle.manifest
        return detections(
            board_view(bundle), manifest.preprocess, head, self._shown(frames), self.threads
        )

    def _scores(self, bundle: Bundle, output: str, frames: CalibrationSet) -> NDArray[Any]:
        manifest = bundle.manifest
        name = manifest.inputs[0].name
        feeds = ({name: manifest.preprocess(frame)} for frame in self._shown(frames))
        rows = outputs(board_view(bundle), feeds, threads=self.threads)
        return np.stack([row[output].ravel() for row in rows])

    def _shown(self, frames: CalibrationSet) -> Iterator[NDArray[np.uint8]]:
        with self.progress.task("judging", len(frames)) as task:
            for frame in frames.frames():
                yield frame
                task.advance()

    def _key(self, bundle: Bundle) -> str:
        sets = [
            self.held_out.sha256 if self.held_out is not None else "",
            self.train.sha256 if self.train is not None else "",
        ]
        words = [self.baseline.sha256, bundle.sha256, *sets, repr(sorted(software().items()))]
        return hashlib.sha256(" ".join(words).encode()).hexdigest()


def _lost_agreement(fact: Measurement) -> Measurement:
    """Disagreement with the baseline stands in for lost accuracy where nobody labelled anything."""
    return Measurement(
        name=DROP,
        value=100.0 - fact.value,
        low=100.0 - fact.high,
        high=100.0 - fact.low,
        unit="points",
        basis=fact.basis,
        source=f"disagreement with the baseline, for want of labels; {fact.source}",
    )
