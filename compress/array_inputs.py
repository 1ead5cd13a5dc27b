"""The samples of a run whose `--data` is an `.npz`: those it calibrates on and those that judge it.

Nothing learns from arrays and there are no labels of them. Samples that repeat an earlier one are
left out; of the others every fifth judges how far a result keeps to the baseline, so that no sample
calibrates and judges.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from compress.arrays import ArraySamples, ArraysError, samples_from_npz
from compress.inputs import JUDGED_MIN, JUDGED_SHARE, TAUGHT_MIN, TRAIN_FEW, Frames
from devices.budget import Refusal
from devices.report import Input
from edge.manifest import Manifest, inputs_text

__all__ = ["array_frames", "holds_arrays", "no_pictures"]

JUDGED_MAX = 300  # every stage runs them all; more are left out, evenly


def holds_arrays(data: Path | None) -> bool:
    """Whether `--data` names an `.npz`."""
    return data is not None and data.suffix.lower() == ".npz"


def array_frames(data: Path, manifest: Manifest) -> Frames:
    """What an `.npz` of the inputs of `manifest` gives a run. Raises ArraysError."""
    whole = samples_from_npz(data, manifest.inputs)
    kept, copies = _different(whole)
    teach, judge, few = _fifth_apart(kept)
    names = ", ".join(spec.name for spec in manifest.inputs)
    note = f"{len(teach)} of {len(whole)} samples of {names}, taken as they are, to calibrate on"
    inputs = [Input(role="data", name=data.name, sha256=teach.sha256, note=note)]
    if judge is not None:
        note = f"{len(judge)} other samples, to judge by"
        inputs.append(Input(role="judged", name=data.name, sha256=judge.sha256, note=note))
    return Frames(
        arrays=teach,
        arrays_judged=judge,
        inputs=tuple(inputs),
        notes=(*copies, *few, *_prepared(manifest)),
    )


def no_pictures(data: Path, manifest: Manifest) -> ArraysError:
    """What to say of pictures for a net that takes none."""
    return ArraysError(
        f"--data {data}",
        found=f"pictures for {manifest.name}, which takes {inputs_text(manifest.inputs)}",
        expected="an .npz with an array for each input, the first axis counting samples",
        cure="write it with numpy.savez(path, name=array); pictures go into one float32 input of "
        "shape [1, 3, height, width]",
    )


def _different(whole: ArraySamples) -> tuple[ArraySamples, tuple[Refusal, ...]]:
    """The samples without those that repeat an earlier one byte for byte."""
    first: dict[bytes, int] = {}
    for index in range(len(whole)):
        digest = hashlib.sha256()
        for value in whole.sample(index).values():
            digest.update(value.tobytes())
        first.setdefault(digest.digest(), index)
    repeats = len(whole) - len(first)
    if not repeats:
        return whole, ()
    note = Refusal(
        what="samples that repeat another",
        reason=f"{repeats} of {len(whole)} samples are the same as an earlier one, byte for byte; "
        f"{len(first)} differ",
        count=repeats,
        instead="left out",
    )
    return whole.at(tuple(first.values())), (note,)


def _fifth_apart(
    kept: ArraySamples,
) -> tuple[ArraySamples, ArraySamples | None, tuple[Refusal, ...]]:
    """(samples that calibrate, samples that judge, what is said of there being few)."""
    notes = []
    judging = range(JUDGED_SHARE - 1, len(kept), JUDGED_SHARE)
    calibrating = [index for index in range(len(kept)) if index not in judging]
    apart = len(judging) >= JUDGED_MIN and len(calibrating) >= TAUGHT_MIN
    if not apart:
        calibrating = list(range(len(kept)))
        notes.append(
            Refusal(
                what="samples that judge and do not calibrate",
                reason=f"there are {len(kept)} different ones, {JUDGED_MIN * JUDGED_SHARE} are "
                "needed",
                instead="all calibrate, and nothing is judged; give more with --data",
            )
        )
    if len(calibrating) < TRAIN_FEW:
        notes.append(
            Refusal(
                what="a usual number of samples to calibrate on",
                reason=f"{len(calibrating)} samples, fewer than {TRAIN_FEW}: "
                "INT8 ranges may miss what more would show",
                instead="all were used; give more with --data",
            )
        )
    judge = kept.at(tuple(judging)).spread(JUDGED_MAX) if apart else None
    return kept.at(calibrating), judge, tuple(notes)


def _prepared(manifest: Manifest) -> tuple[Refusal, ...]:
    """Of a net that takes pictures: its arrays were prepared by somebody else's code."""
    if manifest.preprocess is None:
        return ()
    return (
        Refusal(
            what="comparing the pixels of the .npz with those of a camera",
            reason="arrays do not say how they were made of pictures",
            instead="they calibrate and judge as they are; `edge run` prepares frames as the "
            "manifest's preprocess says",
        ),
    )
