"""Engine: named arrays in, named arrays out; the ENGINES table, and open_engine."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Protocol, Tuple

import numpy as np
from numpy.typing import NDArray

from devices.budget import Basis, Budget, Measurement, Refusal
from devices.errors import nearest
from devices.profile import Profile
from edge.bundle import Bundle, TensorSpec
from edge.clock import Clock
from edge.errors import EngineError
from edge.gate import judge_bundle

__all__ = ["ENGINES", "REAL_TIME", "THREADS_MAX", "BoardOptions", "Engine", "EngineOptions",
           "open_engine", "require_legal"]  # fmt: skip

ENGINES = {
    "emulated": "edge.engines.emulated:EmulatedEngine",  # onnxruntime outputs, roofline clock
    "tensorrt": "edge.engines.tensorrt.engine:TensorRTEngine",  # on a Jetson, measured there
}
REAL_TIME = frozenset(("tensorrt",))  # they take the time they take: no virtual clock
THREADS_MAX = 64  # more than the cores of a desk's computer; starting thousands takes minutes


def _silent(line: str) -> None:
    """Tell nobody."""


@dataclasses.dataclass(frozen=True)
class BoardOptions:
    """What an engine built on the board needs beside that; no other engine looks at it.

    `cache` is the folder of built engines, None the user's own; `root` the file-system root the
    board is read from; `lanes` how many inferences may be under way at once; `tell` takes progress,
    a line at a time.
    """

    cache: Optional[Path] = None
    root: Path = Path("/")
    cuda: Optional[str] = None  # a name in edge.engines.cuda.BACKENDS; None: the first that loads
    module: str = "tensorrt"  # the Python module that is TensorRT
    batch_max: int = 1
    workspace_mb: Optional[float] = None  # scratch for one tactic; None: by the board's memory
    lanes: int = 1
    dla_core: Optional[int] = None
    version_compatible: bool = False
    gpu_pixels: bool = False  # frames are prepared on the GPU, where it makes the CPU's bits
    rebuild: bool = False
    tell: Callable[[str], None] = _silent


@dataclasses.dataclass(frozen=True)
class EngineOptions:
    """What an engine needs beside the bundle; `threads` 0 leaves the number to the engine."""

    profile: Profile
    clock: Clock
    mode: Optional[str] = None
    threads: int = 0
    board: BoardOptions = BoardOptions()


class Engine(Protocol):
    """A loaded model. `basis` is what its times are worth; `latency`, above 0, what it expects."""

    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    basis: Basis
    latency: Optional[Measurement]
    mode: str  # the power mode that its times are of
    host_slower: int  # inferences this computer needed longer for than the board would
    notes: Tuple[str, ...]
    refusals: Tuple[Refusal, ...]  # what it was asked for and does without
    # The outputs for a (H, W, 3) uint8 BGR frame; None: frames must be prepared before.
    infer_frame: Optional[Callable[[NDArray[np.uint8]], Dict[str, NDArray[Any]]]]

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> Dict[str, NDArray[Any]]:
        """The outputs of one inference; `feeds` are not kept and not written to."""

    def close(self) -> None:
        """Let go of the model; a second call does nothing."""


def open_engine(name: str, bundle: Bundle, options: EngineOptions) -> Engine:
    """The engine of that name with the bundle's model in it.

    Raises EngineError when there is no such engine, when the board cannot honour the bundle (what
    the gate would refuse: its precision, its opset ...), or when the model does not load.
    """
    if name not in ENGINES:
        raise EngineError(f"engine {name!r}", found="no such engine", expected="a known one",
                          cure=nearest(name, tuple(ENGINES)))  # fmt: skip
    require_legal(bundle, options)
    module, _, attribute = ENGINES[name].partition(":")
    engine: Engine = getattr(importlib.import_module(module), attribute)(bundle, options)
    return engine


def require_legal(bundle: Bundle, options: EngineOptions) -> None:
    """Raise EngineError for a bundle that the board cannot honour, as the gate would refuse it."""
    board = options.profile
    for refusal in judge_bundle(bundle, board, budget=Budget(), mode=options.mode).refusals:
        raise EngineError(
            bundle.manifest.name,
            found=f"{refusal.what}: {refusal.reason}",
            expected=f"a bundle that {board.name} can run",
            cure=refusal.instead or f"compress the model with --profile {board.name}",
        )
