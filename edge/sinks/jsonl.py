"""JSON lines sink: one object a frame, each line whole on the disk or not there."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

import msgspec

from edge.errors import SinkError
from edge.frames import Classes, Detections, Frame
from edge.heads import Result
from edge.manifest import class_name
from edge.sinks import Scene, Timing, check_place

__all__ = ["JsonLinesSink"]


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

    def write(self, frame: Frame, result: Result, timing: Timing) -> None:
        """Write one line; cut off what a full disk or Ctrl-C left of it."""
        line = msgspec.json.encode(self._record(frame, result, timing)) + b"\n"
        done = 0
        try:
            if self._file is None:
                self._file = self.path.open("wb", buffering=0)
            while done < len(line):
                done += self._file.write(line[done:])
        except OSError as error:
            raise _error(self.path, error) from error
        finally:
            if done < len(line) and self._file is not None:
                with contextlib.suppress(OSError):  # not every place can be cut: /dev/full cannot
                    self._file.truncate(self._whole_bytes)
        self._whole_bytes += len(line)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:  # a disk over a network may say only now that it is full
                raise _error(self.path, error) from error

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


def _error(path: Path, error: OSError) -> SinkError:
    return SinkError(
        str(path),
        found=error.strerror or str(error),
        expected="a place to write results",
        cure="make room or choose another path; the lines written so far are whole",
    )
