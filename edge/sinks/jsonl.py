"""JSON lines sink: one object a frame, each line whole on the disk or not there."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

import msgspec

from edge.errors import SinkError
from edge.frames import Classes, Detections, Frame
from edge.heads import Result
from edge.manifest import class_name
from edge.sinks import Scene, Timing, check_place

__all__ = ["JsonLinesSink"]

FULL = "make room or choose another path; the lines written so far are whole"


class JsonLinesSink:
    """Lines of `sequence`, `captured_s`, the age, `basis`, and what was seen.

    The age from arrival to result is `age_ms` where the loop's time is the board's, and
    `host_age_ms` where it is this computer's; `basis` speaks of everything but `host`.
    """

    def __init__(self, path: Path, scene: Scene) -> None:
        check_place(path)
        self.path = path
        self._scene = scene
        self._whole_bytes = 0
        self._file: Optional[io.FileIO] = None
        self._new = False  # the file was made here and holds nothing yet

    def open(self, frame: Frame) -> None:
        """Open the file; what it held before is cut off by the first line."""
        if self._file is None:
            self._new = not self.path.exists()
            try:
                self._file = io.FileIO(str(self.path), "wb", opener=_uncut)
            except OSError as error:
                raise _error(self.path, error, "choose another path") from error

    def write(self, frame: Frame, result: Result, timing: Timing) -> None:
        """Write one line; cut off what a full disk or Ctrl-C left of it."""
        self.open(frame)
        line = msgspec.json.encode(self._record(frame, result, timing)) + b"\n"
        if self._whole_bytes == 0:
            self._cut()
        self._new, done = False, 0
        try:
            while self._file is not None and done < len(line):
                done += self._file.write(line[done:])
        except OSError as error:
            raise _error(self.path, error, FULL) from error
        finally:
            if done < len(line):
                self._cut()
        self._whole_bytes += len(line)

    def close(self) -> None:
        """Close the file; remove it when it was made for nothing."""
        if self._file is not None:
            try:
                self._file.close()
                if self._new:
                    self._new = False
                    self.path.unlink()
            except OSError as error:  # a disk over a network may say only now that it is full
                raise _error(self.path, error, FULL) from error

    def _cut(self) -> None:
        """Keep the whole lines of this run and nothing else."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # not every place can be cut: /dev/full cannot
                self._file.truncate(self._whole_bytes)

    def _record(self, frame: Frame, result: Result, timing: Timing) -> Dict[str, Any]:
        age = "host_age_ms" if self._scene.time_basis is None else "age_ms"
        record: Dict[str, Any] = {
            "sequence": frame.sequence,
            "source": frame.source,
            "captured_s": frame.captured_s,
            age: (timing.ready_s - timing.arrived_s) * 1e3,
            "profile": self._scene.profile,
            "precision": self._scene.precision,
            "basis": self._scene.basis.value,
        }
        if isinstance(result, Detections):
            record["detections"] = self._named(result)
            for entry, box in zip(record["detections"], result.xyxy.tolist()):
                entry["xyxy_px"] = box
        elif isinstance(result, Classes):
            record["classes"] = self._named(result)
        else:
            record["outputs"] = result.tensors
        return record

    def _named(self, result: Union[Detections, Classes]) -> List[Dict[str, Any]]:
        return [
            {"class": class_name(self._scene.classes, index), "class_id": index, "score": score}
            for index, score in zip(result.class_id.tolist(), result.score.tolist())
        ]


def _uncut(path: str, flags: int) -> int:
    return os.open(path, flags & ~os.O_TRUNC, 0o666)


def _error(path: Path, error: OSError, cure: str) -> SinkError:
    return SinkError(
        str(path),
        found=error.strerror or str(error),
        expected="a place to write results",
        cure=cure,
    )
