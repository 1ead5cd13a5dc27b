"""What a training writes down for people to watch: TensorBoard event files, or Aim.

A run that was killed writes some steps twice, once before and once after it was resumed, with the
same values. TensorBoard is told from which step on the earlier ones are void (`purge_step`); Aim
keeps one value a step. Either way the curves are those of a run that was never killed.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from compress.train_plan import TrainError
from devices.errors import MissingExtraError, nearest
from devices.wholefile import write_whole

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["EVENTS", "AimEvents", "Events", "Silent", "TensorBoardEvents", "open_events"]

EVENTS = {
    "tensorboard": "compress.train_events:TensorBoardEvents",  # event files in a folder
    "aim": "compress.train_events:AimEvents",  # a run in an Aim repository
}


class Events(Protocol):
    """Who writes down what happens. Nothing is opened before `begin`."""

    def begin(self, step: int) -> None:
        """Steps from `step` on will be told; whatever was told of them before is void."""

    def scalar(self, name: str, value: float, step: int) -> None:
        """One number of a step."""

    def flush(self) -> None:
        """What was told so far outlives the process."""

    def close(self) -> None:
        """Training is over, finished or not."""


def open_events(text: str) -> Events:
    """`tensorboard:FOLDER` or `aim:FOLDER`.

    Raises:
        TrainError: another kind, or no folder.
    """
    kind, _, folder = text.partition(":")
    if kind not in EVENTS or not folder:
        raise TrainError(
            "events",
            found=repr(text),
            expected=" or ".join(f"{name}:FOLDER" for name in EVENTS),
            cure=nearest(kind, tuple(EVENTS)),
        )
    module, _, name = EVENTS[kind].partition(":")
    events: Events = getattr(import_module(module), name)(Path(folder))
    return events


class Silent:
    """Events that nobody reads."""

    def begin(self, step: int) -> None: ...

    def scalar(self, name: str, value: float, step: int) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class TensorBoardEvents:
    """Event files of one training in `folder`, read by `tensorboard --logdir`.

    Raises, when it begins:
        MissingExtraError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def begin(self, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                "tensorboard", extra="tensorboard", needed_for="TensorBoard event files"
            ) from error
        # Any: torch gives the class no annotations.
        writer: Any = SummaryWriter
        self._writer = writer(str(self._folder), purge_step=step)

    def scalar(self, name: str, value: float, step: int) -> None:
        assert self._writer is not None  # `begin` comes first
        self._writer.add_scalar(name, value, step)  # type: ignore[no-untyped-call]  # torch's

    def flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()  # type: ignore[no-untyped-call]  # torch's

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()  # type: ignore[no-untyped-call]  # torch's
            self._writer = None


class AimEvents:
    """One run of the Aim repository in `folder`; a resumed training goes on in the run it was.

    Aim names its runs itself, so the name is kept beside them, in `folder`/jetpress-run.txt.

    Raises, when it begins:
        TrainError: Aim is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._run: Any = None  # Any: Aim is not there when types are checked

    def begin(self, step: int) -> None:
        try:
            aim: Any = import_module("aim")
        except ModuleNotFoundError as error:
            raise TrainError(
                "Aim",
                found="no package 'aim'",
                expected="it installed",
                cure="run: pip install aim, or ask for tensorboard:FOLDER",
            ) from error
        self._folder.mkdir(parents=True, exist_ok=True)
        kept = self._folder / "jetpress-run.txt"
        known = kept.read_text(encoding="utf-8") if step and kept.is_file() else None
        self._run = aim.Run(
            run_hash=known,
            repo=aim.Repo(str(self._folder), init=True),
            force_resume=known is not None,  # a killed process left its lock behind
            system_tracking_interval=None,
            capture_terminal_logs=False,
        )
        write_whole(kept, self._run.hash.encode())

    def scalar(self, name: str, value: float, step: int) -> None:
        self._run.track(value, name=name, step=step)

    def flush(self) -> None: ...

    def close(self) -> None:
        if self._run is not None:
            self._run.close()
            self._run = None
