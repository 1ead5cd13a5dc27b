"""A candidate to its outcome: a pure function of model, frames, recipe and board.

Passes are found again in the store, so candidates share what they have in common: two that differ
in precision alone are trained once. A short candidate is judged on one frame in three, a whole one
on all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from compress.material import Material, Voice, material_of
from compress.progress import Quiet, Task
from compress.quantize.float_layers import LEFT_FASTER, LEFT_FLOAT
from compress.results import stage_row
from compress.search.candidate import SHORT_FRAMES, Candidate, Outcome, passes_of
from compress.search.sharing import Desk, press
from compress.stages import Judge
from devices.errors import JetpressError
from edge.bundle import open_bundle

if TYPE_CHECKING:
    from compress.job import Job

__all__ = ["Bench", "Silent", "open_bench", "part_of"]

_FRAMES_MIN = 6  # fewer would judge by chance alone: then all judge


class Silent:
    """A Voice that says nothing: a worker's."""

    def say(self, line: str) -> None: ...

    def task(self, label: str, total: int | None) -> Task:
        return Quiet().task(label, total)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Evaluates candidates with one material at one desk."""

    material: Material
    desk: Desk
    short_judge: Judge

    def __call__(self, candidate: Candidate) -> Outcome:
        """Make it, judge it; what cannot be made is an outcome too, with its reason."""
        try:
            return self._evaluated(candidate)
        except JetpressError as error:
            return Outcome(candidate=candidate, failed=str(error))

    def _evaluated(self, candidate: Candidate) -> Outcome:
        context = self.material.context
        bundle, results = press(self.material.first, passes_of(candidate), self.desk, context)
        judge = self.short_judge if candidate.short else self.material.judge
        self.desk.fetch()
        board = (context.profile, context.mode)
        row = stage_row(bundle.manifest.lineage[-1].name, bundle, judge, board)
        self.desk.publish()
        return Outcome(
            candidate=candidate,
            facts=row.stage.facts,
            refusals=tuple(found.refusal for found in results if found.refusal is not None),
            bundle_sha256=bundle.sha256,
            left_float=sum(
                refusal.count
                for refusal in bundle.manifest.refusals
                if refusal.what in (LEFT_FLOAT, LEFT_FASTER)
            ),
        )


def open_bench(job: Job, first: Path, number: int, voice: Voice | None = None) -> Bench:
    """The bench of worker `number` (0: the parent itself) around an imported model."""
    desk = Desk.numbered(job.passes, number)
    material = material_of(job, open_bundle(first), voice or Silent(), desk.own)
    return Bench(material=material, desk=desk, short_judge=part_of(material.judge))


def part_of(judge: Judge) -> Judge:
    """A judge that looks at one frame in `SHORT_FRAMES`, where that leaves enough."""
    frames = judge.frames
    if frames is None or len(frames) < SHORT_FRAMES * _FRAMES_MIN:
        return judge
    few = msgspec.structs.replace(frames, samples=frames.samples[::SHORT_FRAMES])
    if judge.held_out is not None:
        labels = judge.held_out.labels[::SHORT_FRAMES]
        return _copied(judge, held_out=replace(judge.held_out, frames=few, labels=labels))
    if judge.classed is not None:
        ids = judge.classed.class_id[::SHORT_FRAMES]
        return _copied(judge, classed=replace(judge.classed, frames=few, class_id=ids))
    return _copied(judge, judged=few)


def _copied(judge: Judge, **sets: Any) -> Judge:  # noqa: ANN401 - fields of a Judge
    """A judge with other frames, which remembers none of the old ones' answers."""
    return replace(judge, _answers={}, **sets)
