"""What a run works with: the imported model, its frames, its teacher, and who judges.

Opening it twice with the same job gives the same material, so a worker process opens its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from compress.array_inputs import array_frames, holds_arrays, no_pictures
from compress.assets import ASSETS, fetch_all
from compress.class_labels import Outputs
from compress.console import hung
from compress.import_model import import_model
from compress.inputs import Frames, packaged_frames, user_frames
from compress.passes import Context
from compress.progress import Progress
from compress.run_folder import JobError
from compress.stages import Judge
from compress.teacher import Teacher, open_teacher
from edge.bundle import Bundle
from edge.heads import ClassifyHead

if TYPE_CHECKING:
    from compress.job import Job

__all__ = ["Material", "Voice", "import_for", "material_of", "open_material"]

LABELS = Path(__file__).parent / "zoo" / "vtest_labels.json"


class Voice(Progress, Protocol):
    """A Progress that can also say a line."""

    def say(self, line: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Material:
    """All that the passes of a run read, and the judge of what they write."""

    first: Bundle
    frames: Frames
    teacher: Teacher | None
    context: Context
    judge: Judge

    @property
    def identity(self) -> dict[str, str]:
        """What a folder is a run of: model, board, frames and teacher."""
        return {
            "model": self.first.manifest.lineage[0].key,
            "profile": self.context.profile.name,
            **{item.role: item.sha256 for item in self.frames.inputs},
            "teacher": self.teacher.identity if self.teacher is not None else "",
        }


def import_for(job: Job, voice: Voice) -> Bundle:
    """The model of a job, sealed in its store. Raises JetpressError on bad input."""
    return import_model(job.source, job.profile, job.passes, _Fetcher(job, voice).path)


def open_material(job: Job, voice: Voice, first: Bundle | None = None) -> Material:
    """Import the model unless it was, read the frames, open the teacher.

    Raises JetpressError on bad input.
    """
    weights = _Fetcher(job, voice)
    if first is None:
        first = import_model(job.source, job.profile, job.passes, weights.path)
    return _around(job, first, voice, job.passes, weights)


def material_of(job: Job, first: Bundle, voice: Voice, scratch: Path) -> Material:
    """The material around a model that was imported before; `scratch` keeps what it makes."""
    return _around(job, first, voice, scratch, _Fetcher(job, voice))


def _around(job: Job, first: Bundle, voice: Voice, scratch: Path, weights: _Fetcher) -> Material:
    frames = _frames(job, weights, first)
    teacher = None
    if frames.arrays is None:  # nothing learns from arrays
        teacher = open_teacher(job.teacher, first, weights.path)
    context = Context(
        profile=job.profile,
        train=frames.train,
        teacher=teacher,
        progress=voice,
        scratch=scratch,
        mode=job.mode,
        seed=job.seed,
        threads=job.threads,
        arrays=frames.arrays,
    )
    judge = Judge(
        baseline=first,
        held_out=frames.held_out,
        classed=frames.classed,
        judged=frames.judged,
        arrays=frames.arrays_judged,
        teacher=teacher,
        store=scratch,
        progress=voice,
        threads=job.threads,
    )
    return Material(first=first, frames=frames, teacher=teacher, context=context, judge=judge)


def _frames(job: Job, weights: _Fetcher, first: Bundle) -> Frames:
    if job.data is None and job.labels is not None:
        raise JobError(
            "--labels",
            found="labels without --data",
            expected="the frames they belong to",
            cure="add --data FOLDER or --data VIDEO",
        )
    if job.data is not None and holds_arrays(job.data):
        _check_arrays_alone(job, job.data)
        return array_frames(job.data, first.manifest)
    if job.data is not None and first.manifest.preprocess is None:
        raise no_pictures(job.data, first.manifest)
    if job.data is None and job.source.kind == "packaged":
        return packaged_frames(weights.path("scene"), LABELS)
    return user_frames(job.data, job.labels, first.manifest.classes, _outputs(first))


def _check_arrays_alone(job: Job, data: Path) -> None:
    """Raise JobError where something is asked for that only pictures have."""
    named = job.teacher not in (None, "none")
    for flag, given, why in (
        ("--labels", job.labels is not None, "labels are of pictures"),
        ("--teacher", named, "nothing learns from arrays, they calibrate and judge"),
    ):
        if given:
            raise JobError(flag, found=f"it beside the arrays of {data}",
                           expected=f"{data.name} alone: {why}",
                           cure=f"leave {flag} out, or name pictures with --data")  # fmt: skip


def _outputs(first: Bundle) -> Outputs | None:
    """What a classifier tells apart; None of any other model."""
    head = first.manifest.head
    if not isinstance(head, ClassifyHead):
        return None
    shapes = {spec.name: spec.shape for spec in first.manifest.outputs}
    return Outputs(count=math.prod(shapes[head.output]), classes=first.manifest.classes)


class _Fetcher:
    """Packaged files, fetched on first use, all that the run will need side by side."""

    def __init__(self, job: Job, voice: Voice) -> None:
        self._cache, self._voice = job.cache, voice
        self._needed: tuple[str, ...] = ()
        if job.source.kind == "packaged":
            teacher = ("teacher",) if job.teacher is None else ()
            scene = ("scene",) if job.data is None else ()
            self._needed = ("student", *teacher, *scene)

    def path(self, name: str) -> Path:
        names = self._needed if name in self._needed else (name,)
        missing = [name for name in names if not (self._cache / ASSETS[name].file).exists()]
        paths = fetch_all(names, self._cache, self._voice)
        for fetched in missing:
            self._voice.say(hung("fetched", ASSETS[fetched].words))
        return paths[name]
