"""Ground: the device, the board it is taken for, TensorRT, and what is to be built on them.

    probe      is there a device at all?                  nothing of TensorRT is touched before
    compare    is it the board that the profile names?    another one is refused
    import     TensorRT, and the dialect it speaks
    settings   everything that decides what engine comes out

All of it is looked at before anything is made.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Callable, List, Optional, Tuple

from devices.profile import Profile
from edge.board import Board, identify
from edge.bundle import Bundle
from edge.engines import BoardOptions, EngineOptions
from edge.engines.cuda import Cuda, Device, open_cuda, probe
from edge.engines.pixels import KernelImage, compiled
from edge.engines.tensorrt.dialect import Dialect, dialect_of
from edge.engines.tensorrt.enginekey import BuiltOn, EngineKey
from edge.engines.tensorrt.load import load_tensorrt
from edge.engines.tensorrt.model_file import model_for
from edge.engines.tensorrt.names import TensorRT
from edge.engines.tensorrt.settings import BuildSettings
from edge.engines.tensorrt.workspace import require_workspace, workspace_mb
from edge.errors import EngineError
from edge.room import Room, read_room

__all__ = ["Doors", "Ground", "settings_for", "survey"]


@dataclasses.dataclass(frozen=True)
class Doors:
    """The ways out to the computer; tests pass their own."""

    probe: Callable[[], Device] = probe
    open_cuda: Callable[[Optional[str]], Cuda] = open_cuda
    load: Callable[[str], TensorRT] = load_tensorrt
    identify: Callable[[Path], Board] = identify
    compiled: Callable[[Cuda], KernelImage] = compiled


@dataclasses.dataclass(frozen=True)
class Ground:
    """`is_named`: the board said itself that it is the profile's; only then it can be measured.

    `mode` is the power mode that is on, else the one taken for granted. `room` was read before a
    CUDA context took any of it.
    """

    device: Device
    board: Board
    is_named: bool
    mode: str
    trt: TensorRT
    dialect: Dialect
    key: EngineKey
    model: bytes
    room: Optional[Room]
    notes: Tuple[str, ...]

    @property
    def mode_text(self) -> str:
        """The power mode in words, and whether the board told it."""
        return self.mode if self.board.mode else f"not known, taken for {self.mode}"


def survey(bundle: Bundle, options: EngineOptions, doors: Doors) -> Ground:
    """Look before anything is built. Raises NoDeviceError, EngineError, BundleError."""
    _require_counts(options.board)
    device, board = doors.probe(), doors.identify(options.board.root)
    _require_board(device, board, options)
    trt = doors.load(options.board.module)
    dialect = dialect_of(trt)
    settings = settings_for(bundle, options.profile, options.board)
    name, model = model_for(bundle, dialect, settings)
    mode = options.profile.mode(board.mode or options.mode)
    place = BuiltOn(
        board=options.profile.name,
        device=device.name,
        compute_capability=device.compute_capability,
        tensorrt=trt.__version__,
        cuda=device.driver,
        power_mode=board.power_mode,
        sm_count=mode.sm_count,
        module=options.board.module,
    )
    return Ground(
        device=device,
        board=board,
        is_named=board.profile == options.profile.name,
        mode=mode.name,
        trt=trt,
        dialect=dialect,
        key=EngineKey(
            bundle=bundle.manifest.name,
            bundle_sha256=bundle.sha256,
            model=name,
            settings=settings,
            built_on=place,
        ),
        model=model,
        room=read_room(options.board.root),
        notes=_notes(board, options),
    )


def settings_for(bundle: Bundle, profile: Profile, board: BoardOptions) -> BuildSettings:
    """How this bundle's engine is built for this board; the batch is usually the largest one.

    Raises EngineError for a workspace that the board cannot have, and for a batch on a DLA.
    """
    require_workspace(profile, board.workspace_mb)
    if board.dla_core is not None and board.batch_max > 1:
        raise EngineError(
            f"--batch-max {board.batch_max}",
            found=f"DLA core {board.dla_core}, which takes one batch size only",
            expected="a batch of 1: frames come one by one",
            cure="leave --batch-max out, or leave --dla out, to build for the GPU",
        )
    return BuildSettings(
        precision=bundle.manifest.precision,
        workspace_mb=board.workspace_mb or workspace_mb(profile),
        batch=(1, board.batch_max, board.batch_max),
        dla_core=board.dla_core,
        version_compatible=board.version_compatible,
    )


def _require_counts(board: BoardOptions) -> None:
    for what, count in (("lanes", board.lanes), ("batch_max", board.batch_max)):
        if count < 1:
            raise EngineError(what, found=str(count), expected="1 or more", cure="leave it out")


def _require_board(device: Device, board: Board, options: EngineOptions) -> None:
    profile, asked = options.profile, options.mode
    if board.profile is not None and board.profile != profile.name:
        raise EngineError(
            "this computer",
            found=f"a {board.profile}",
            expected=f"a {profile.name}: the bundle or --profile says so",
            cure=f"run it with --profile {board.profile}",
        )
    if device.compute_capability != profile.sm:
        raise EngineError(
            "this computer's GPU",
            found=f"{device.name}, compute capability {device.compute_capability}",
            expected=f"{profile.sm}, the one of {profile.name}",
            cure="run it on that board, or name the board this is with --profile",
        )
    if asked is not None and board.mode is not None and asked.lower() != board.mode.lower():
        raise EngineError(
            "this board",
            found=f"power mode {board.mode}",
            expected=f"{asked}, as --mode says",
            cure="switch it with `sudo nvpmodel -m NUMBER`, or leave --mode out",
        )


def _notes(board: Board, options: EngineOptions) -> Tuple[str, ...]:
    profile = options.profile
    notes: List[str] = []
    if board.profile is None:
        notes.append(
            f"this computer does not say that it is a {profile.name} "
            f"({board.reason or 'no device tree names it'}): its results are real, "
            "its times are its own and not that board's"
        )
    elif board.mode is None:
        notes.append(f"the power mode is not known: it is taken for {profile.mode().name}")
    elif board.mode != profile.mode(options.mode).name:
        notes.append(f"the board is in power mode {board.mode}, not in {profile.mode().name}")
    return tuple(notes)
