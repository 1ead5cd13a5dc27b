"""How good a bundle is on the run's own frames, judged as the board would run it.

    labels                AP and AP50, and the points of AP lost against the baseline; each class
                          of the result in the report's tables
    classes               top-1 and top-5, and the points of top-1 lost; each class in the tables;
                          agreement beside it
    none, a teacher       agreement with the teacher, and the points of it lost against the baseline
    none, no teacher      agreement with the baseline, which is what there is to lose
    outputs undescribed   `sqnr_db`: the outputs' signal to the noise against the baseline's

A bundle in FP16 is judged through a model that rounds as FP16 does; one in INT8 as TensorRT reads
its Q/DQ, with the layers left in float rounded to FP16: EMULATED on this host.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from calib.samples import CalibrationSet
from compress.agreement import Alike, agreement, boxes_alike, classes_alike, lost_agreement
from compress.class_labels import ClassedSet
from compress.data import LabelledSet
from compress.evaluate import (
    accuracy,
    accuracy_drop,
    decibels,
    judging_head,
    outputs,
    signal_and_noise,
    top1_drop,
    top_accuracy,
)
from compress.metrics.classification_tables import classification_tables
from compress.metrics.detection_tables import detection_tables
from compress.passes import software
from compress.progress import Progress
from compress.quantize.emulate import as_tensorrt_reads
from compress.quantize.fp16 import fp16_view
from compress.quantize.int8 import load_model
from compress.samples import Fed, FrameSamples, Samples
from compress.taught import taught_boxes, taught_outputs
from compress.teacher import Itself, SceneTeacher, Teacher
from devices.budget import Basis, Measurement
from devices.report import Table
from devices.wholefile import write_whole
from edge.bundle import Bundle
from edge.frames import Detections
from edge.heads import BOX_HEADS, BoxHead, ClassifyHead, decode

__all__ = ["DROP", "Judge", "board_view"]

DROP = "accuracy_drop_pt"
FRAMES_MAX = 300  # without labels; a teacher that looks at tiles is slow, so it sees fewer
TILED_MAX = 60
SQNR_MAX_DB = 140.0  # float32 holds no more; equal outputs count as this
_FACTS = msgspec.json.Decoder(tuple[Measurement, ...])
_TABLES = msgspec.json.Decoder(tuple[Table, ...])


def board_view(bundle: Bundle) -> bytes:
    """The model that ONNX Runtime must run to compute what the board would."""
    model = load_model(bundle.path("model.onnx"))
    if bundle.manifest.precision == "int8":
        model = as_tensorrt_reads(model)
    if bundle.manifest.precision != "fp32":
        model = fp16_view(model)
    return bytes(model.SerializeToString(deterministic=True))


@dataclass
class Judge:
    """Judges bundles against a baseline; what was judged once is kept in `store`.

    `held_out` has boxes, `classed` a class a picture; `judged` has no labels and is looked at when
    neither is there. `arrays` are fed in place of pictures.
    """

    baseline: Bundle
    held_out: LabelledSet | None
    judged: CalibrationSet | None
    teacher: Teacher | None
    store: Path
    progress: Progress
    threads: int
    classed: ClassedSet | None = None
    arrays: Samples | None = None
    _answers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.teacher, Itself):  # the baseline under another name
            self.teacher = None

    def facts(self, bundle: Bundle) -> tuple[Measurement, ...]:
        """Accuracy facts of the bundle; empty when there is nothing to judge with."""
        kept = self.store / f"accuracy-{self._key(bundle)[:16]}.json"
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):  # damaged: judged again
            return _FACTS.decode(kept.read_bytes())
        facts = self._facts(bundle)
        write_whole(kept, msgspec.json.encode(facts))
        return facts

    def tables(self, bundle: Bundle) -> tuple[Table, ...]:
        """The bundle beside the baseline, in detail and class by class; empty without labels."""
        kept = self.store / f"tables-{self._key(bundle)[:16]}.json"
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):  # damaged: made again
            return _TABLES.decode(kept.read_bytes())
        tables = self._tables(bundle)
        write_whole(kept, msgspec.json.encode(tables))
        return tables

    @property
    def frames(self) -> CalibrationSet | None:
        """The pictures that judge; None when there are none."""
        if self.held_out is not None:
            return self.held_out.frames
        if self.classed is not None:
            return self.classed.frames
        if self.judged is None:
            return None
        most = TILED_MAX if isinstance(self.teacher, SceneTeacher) else FRAMES_MAX
        step = -(-len(self.judged) // most)
        return msgspec.structs.replace(self.judged, samples=self.judged.samples[::step])

    @property
    def samples(self) -> Samples | None:
        """What is fed to judge: the pictures, or arrays; None when there is nothing."""
        if self.arrays is not None:
            return self.arrays
        return None if self.frames is None else FrameSamples(frames=self.frames)

    def boxes(self, bundle: Bundle) -> list[Detections]:
        """What a detector finds in `samples`, down to the low scores average precision needs."""
        head = bundle.manifest.head
        assert isinstance(head, BOX_HEADS)
        if bundle.sha256 not in self._answers:
            ours, theirs = itertools.tee(self._fed(bundle, "judging"))
            answers = outputs(board_view(bundle), (fed.feed for fed in ours), threads=self.threads)
            low, pixels = judging_head(head), bundle.manifest.pixels
            self._answers[bundle.sha256] = [
                decode(low, answer, pixels, fed.frame_hw)
                for answer, fed in zip(answers, theirs, strict=True)
            ]
        return list(self._answers[bundle.sha256])

    def _facts(self, bundle: Bundle) -> tuple[Measurement, ...]:
        head = bundle.manifest.head
        if isinstance(head, BOX_HEADS) and self.held_out is not None:
            before, after = self.boxes(self.baseline), self.boxes(bundle)
            result = accuracy(after, self.held_out)
            return result.ap50, result.ap, accuracy_drop(before, after, self.held_out)
        if self.samples is None:
            return ()
        if isinstance(head, (*BOX_HEADS, ClassifyHead)):
            before_alike, alike = self._alike(self.baseline), self._alike(bundle)
            source = self._alike_words(head)
            if isinstance(head, ClassifyHead) and self.classed is not None:
                return (*self._top(bundle, self.classed), agreement(alike, source))
            return agreement(alike, source), lost_agreement(before_alike, alike, source)
        return (self._sqnr(bundle),)

    def _top(self, bundle: Bundle, truth: ClassedSet) -> tuple[Measurement, ...]:
        before, after = self._scores(self.baseline), self._scores(bundle)
        drop = top1_drop(before, after, truth.class_id)
        return (*top_accuracy(after, truth.class_id), drop)

    def _tables(self, bundle: Bundle) -> tuple[Table, ...]:
        head = bundle.manifest.head
        if isinstance(head, ClassifyHead) and self.classed is not None:
            first, last = self._scores(self.baseline), self._scores(bundle)
            return classification_tables(first, last, self.classed.class_id, self.classed.classes)
        if not isinstance(head, BOX_HEADS) or self.held_out is None:
            return ()
        before, after = self.boxes(self.baseline), self.boxes(bundle)
        return detection_tables(before, after, self.held_out, head.score_min)

    def _alike(self, bundle: Bundle) -> Alike:
        """How far the bundle answers as the teacher does, or as the baseline for want of one."""
        head = bundle.manifest.head
        if isinstance(head, BOX_HEADS):
            return boxes_alike(self._taught(), _used(self.boxes(bundle), head))
        return classes_alike(self._taught(), self._scores(bundle))

    def _taught(self) -> Any:  # noqa: ANN401 - boxes or scores, as the head has it
        """What the teacher says to `frames`, or the baseline for want of one."""
        if "teacher" not in self._answers:
            self._answers["teacher"] = self._asked()
        return self._answers["teacher"]

    def _asked(self) -> Any:  # noqa: ANN401 - boxes or scores, as the head has it
        head, frames = self.baseline.manifest.head, self.frames
        if self.teacher is None or frames is None:
            if isinstance(head, BOX_HEADS):
                return _used(self.boxes(self.baseline), head)
            return self._scores(self.baseline)
        shown = self._shown(frames, "asking the teacher")
        if isinstance(head, BOX_HEADS):
            return taught_boxes(self.teacher, self.baseline, shown, self.threads)
        assert isinstance(head, ClassifyHead)
        answers = taught_outputs(self.teacher, self.baseline, shown, self.threads)
        return np.stack([answer[head.output].ravel() for answer in answers])

    def _alike_words(self, head: BoxHead | ClassifyHead) -> str:
        samples = self.samples
        assert samples is not None
        whom = "baseline" if self.teacher is None else "teacher"
        what = "boxes, F1 at IoU .5" if isinstance(head, BOX_HEADS) else "best classes"
        blind = " without labels" if self.held_out is None and self.classed is None else ""
        return f"agreement with the {whom} ({what}) on {len(samples)} {samples.words}{blind}"

    def _scores(self, bundle: Bundle) -> NDArray[Any]:
        head = bundle.manifest.head
        assert isinstance(head, ClassifyHead)
        if bundle.sha256 not in self._answers:
            rows = [row[head.output].ravel() for row in self._outputs(bundle, "judging")]
            self._answers[bundle.sha256] = np.stack(rows)
        return np.asarray(self._answers[bundle.sha256])

    def _outputs(self, bundle: Bundle, words: str) -> Iterator[dict[str, NDArray[Any]]]:
        """One answer a sample; only one is held, for outputs nobody described can be large."""
        feeds = (fed.feed for fed in self._fed(bundle, words))
        return outputs(board_view(bundle), feeds, threads=self.threads)

    def _fed(self, bundle: Bundle, words: str) -> Iterator[Fed]:
        samples = self.samples
        assert samples is not None
        with self.progress.task(words, len(samples)) as task:
            for fed in samples.fed(bundle.manifest):
                yield fed
                task.advance()

    def _sqnr(self, bundle: Bundle) -> Measurement:
        """`sqnr_db` of the worst output over all samples, between its worst and best sample."""
        samples = self.samples
        assert samples is not None
        one = samples.words.rstrip("s")
        before, after = (
            self._outputs(self.baseline, "the baseline"),
            self._outputs(bundle, "judging"),
        )
        powers: dict[str, list[tuple[float, float]]] = {}
        for exact, other in zip(before, after, strict=True):
            for name, value in exact.items():
                powers.setdefault(name, []).append(signal_and_noise(value, other[name]))
        whole = {
            name: _capped_db(sum(s for s, _ in frames), sum(n for _, n in frames))
            for name, frames in powers.items()
        }
        worst = min(whole, key=whole.__getitem__)
        frames = [_capped_db(*frame) for frame in powers[worst]]
        return Measurement(
            name="sqnr_db",
            value=whole[worst],
            low=min(*frames, whole[worst]),
            high=max(*frames, whole[worst]),
            unit="dB",
            basis=Basis.EMULATED,
            source=f"output {worst}, the noisiest of {len(whole)}, against the baseline on "
            f"{len(frames)} {samples.words}; worst to best {one}",
        )

    def _shown(self, frames: CalibrationSet, words: str) -> Iterator[NDArray[np.uint8]]:
        with self.progress.task(words, len(frames)) as task:
            for frame in frames.frames():
                yield frame
                task.advance()

    def _key(self, bundle: Bundle) -> str:
        words = [
            self.baseline.sha256,
            bundle.sha256,
            self.held_out.sha256 if self.held_out is not None else "",
            self.classed.sha256 if self.classed is not None else "",
            self.samples.sha256 if self.samples is not None else "",
            self.teacher.identity if self.teacher is not None else "",
            repr(sorted(software().items())),
        ]
        return hashlib.sha256(" ".join(words).encode()).hexdigest()


def _used(found: list[Detections], head: BoxHead) -> list[Detections]:
    """The boxes a user of the head would see: suppression ran, so the better ones stay alone."""
    kept = [boxes.score >= head.score_min for boxes in found]
    return [
        Detections(boxes.xyxy[keep], boxes.score[keep], boxes.class_id[keep])
        for boxes, keep in zip(found, kept, strict=True)
    ]


def _capped_db(signal: float, noise: float) -> float:
    return float(np.clip(decibels(signal, noise), -SQNR_MAX_DB, SQNR_MAX_DB))
