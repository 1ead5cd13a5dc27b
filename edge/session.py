"""Session: a bundle, a source, an engine and sinks, opened together and closed whatever happens."""

from __future__ import annotations

import contextlib
import dataclasses
from types import TracebackType
from typing import Optional, Tuple, Type

import msgspec

from devices.profile import Profile, load_profile
from edge.bundle import Bundle
from edge.clock import Clock, RealClock, VirtualClock, time_basis
from edge.engines import REAL_TIME, BoardOptions, Engine, EngineOptions, open_engine
from edge.errors import EngineError, SourceError
from edge.gate import home_note
from edge.pipeline import Loop, LoopReport, Parts, image_input
from edge.sinks import Scene, Sink, open_sinks
from edge.sources import Source, open_source
from edge.summary import banner

__all__ = ["Session", "SessionOptions", "board_of"]


@dataclasses.dataclass(frozen=True)
class SessionOptions:
    """What to run and how.

    `pacing` None is `realtime` for a camera; for a file it is `virtual`, or `every-frame` where the
    engine takes real time. `board` is for engines that are built.
    """

    source: str
    profile: Optional[str] = None
    mode: Optional[str] = None
    engine: str = "emulated"
    sinks: Tuple[str, ...] = ()
    frames: Optional[int] = None
    pacing: Optional[str] = None
    threads: int = 0
    board: BoardOptions = dataclasses.field(default_factory=BoardOptions)


class Session:
    """Opens everything on entering, or nothing; `report` works afterwards too."""

    def __init__(self, bundle: Bundle, options: SessionOptions) -> None:
        self._bundle = bundle
        self._options = options
        self._profile = board_of(bundle, options.profile)
        image_input(bundle.manifest)  # before a camera is opened or an engine is built
        self._stack = contextlib.ExitStack()
        self.banner = ""

    def __enter__(self) -> Session:
        with contextlib.ExitStack() as stack:
            source = open_source(self._options.source)
            stack.callback(source.close)
            pacing = _pacing(source, self._options)
            is_real = pacing == "realtime" or self._options.engine in REAL_TIME
            clock: Clock = RealClock() if is_real else VirtualClock()
            settings = EngineOptions(
                profile=self._profile,
                clock=clock,
                mode=self._options.mode,
                threads=self._options.threads,
                board=self._options.board,
            )
            engine = open_engine(self._options.engine, self._bundle, settings)
            stack.callback(engine.close)
            self._mode = engine.mode
            sinks = self._sinks(source, engine, clock)
            for sink in sinks:
                stack.callback(sink.close)
            parts = Parts(
                manifest=self._bundle.manifest,
                source=source,
                engine=engine,
                sinks=sinks,
                clock=clock,
                pacing=pacing,
                frames_max=self._options.frames,
            )
            self._loop = Loop(parts)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._stack.close()

    def run(self) -> LoopReport:
        """The whole source through the engine, into the sinks."""
        self._loop.run()
        return self.report()

    def report(self) -> LoopReport:
        """What was done so far; a note says when the bundle was made for another board."""
        report, note = self._loop.report(), home_note(self._bundle, self._profile)
        return msgspec.structs.replace(report, notes=(*([note] if note else []), *report.notes))

    def report_json(self) -> str:
        """The report with what was run, as indented JSON."""
        manifest = self._bundle.manifest
        record = {
            "bundle": {"name": manifest.name, "sha256": self._bundle.sha256},
            "profile": self._profile.name,
            "mode": self._mode,
            "precision": manifest.precision,
            "run": self.report(),
        }
        return msgspec.json.format(msgspec.json.encode(record), indent=2).decode()

    def _sinks(self, source: Source, engine: Engine, clock: Clock) -> Tuple[Sink, ...]:
        manifest, latency = self._bundle.manifest, engine.latency
        told = "" if latency is None else f"{latency.basis.value} {latency.value:.1f} ms"
        self.banner = banner(self._profile.name, manifest.precision, engine.basis.value, told)
        scene = Scene(
            classes=manifest.classes,
            profile=self._profile.name,
            precision=manifest.precision,
            basis=engine.basis,
            time_basis=time_basis(clock, engine.basis),
            banner=self.banner,
            fps=source.fps,
        )
        reads = (*source.files, *(self._bundle.path(name) for name in manifest.files))
        return open_sinks(self._options.sinks, scene, bundle=self._bundle.root, reads=reads)


def board_of(bundle: Bundle, name: Optional[str]) -> Profile:
    """The board of that name, else the one the bundle was made for."""
    wanted = name or bundle.manifest.profile
    if wanted is None:
        raise EngineError(
            bundle.manifest.name,
            found="no board in the bundle and none given",
            expected="a board to take it for",
            cure="name one with --profile; `devices list` shows all",
        )
    return load_profile(wanted)


def _pacing(source: Source, options: SessionOptions) -> str:
    wanted, takes_time = options.pacing, options.engine in REAL_TIME
    if wanted == "virtual" and takes_time:
        raise EngineError(
            f"engine {options.engine}",
            found="a virtual clock",
            expected="the real one: this engine takes the time it takes",
            cure="leave --virtual out, or run with --engine emulated",
        )
    if not source.live:
        return wanted or ("every-frame" if takes_time else "virtual")
    if wanted not in (None, "realtime"):
        raise SourceError(
            source.name,
            found=f"pacing {wanted}",
            expected="realtime, because a camera does not wait",
            cure="leave the pacing flags out",
        )
    return "realtime"
