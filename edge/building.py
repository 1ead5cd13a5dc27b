"""Building an engine as a user asks for it: look first, refuse, build, say what came of it.

On a computer that is not the board `look` says what is to be expected there, and that it is
predicted; `build_engine` says in one error what is missing.
"""

from __future__ import annotations

import importlib
from typing import Optional, Tuple, cast

import msgspec

from devices.budget import Refusal
from devices.profile import Profile
from edge.build_forecast import (
    BuildForecast,
    BuildSite,
    CacheState,
    cache_state,
    cache_state_elsewhere,
    forecast_build,
)
from edge.bundle import Bundle
from edge.engines import EngineOptions, require_legal
from edge.engines.cuda import require_known
from edge.engines.tensorrt.dialect import DIALECTS, Dialect
from edge.engines.tensorrt.engine import TensorRTEngine
from edge.engines.tensorrt.ground import Doors, Ground, settings_for, survey
from edge.engines.tensorrt.model_file import model_for
from edge.engines.tensorrt.obtain import cache_of, site_of
from edge.engines.tensorrt.workspace import require_workspace
from edge.errors import EngineError
from edge.gate import read_costs

__all__ = ["BuildReport", "build_engine", "look", "render_report"]

_COMPATIBLE_FROM = (8, 6)


class BuildReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is there now. `build_s` and `peak_memory_mb` are of the build, on this computer.

    `built_now` is False for an engine that was there already. What the GPU held is not in
    `peak_memory_mb`. `golden_db` None: the bundle holds no golden outputs.
    """

    bundle: str
    board: str
    file: str
    engine_mb: float
    built_now: bool
    why: str
    build_s: float
    peak_memory_mb: Optional[float]
    golden_db: Optional[float]
    notes: Tuple[str, ...] = ()
    refusals: Tuple[Refusal, ...] = ()


def look(bundle: Bundle, options: EngineOptions, doors: Optional[Doors] = None) -> BuildForecast:
    """What building would take, here if this is the board, else predicted for it.

    Raises EngineError when the board cannot honour the bundle.
    """
    _require_possible(bundle, options)
    try:
        ground = survey(bundle, options, doors or Doors())
    except EngineError as error:
        return _look_elsewhere(bundle, options, error)
    return _look_here(bundle, options, ground)


def build_engine(
    bundle: Bundle, options: EngineOptions, doors: Optional[Doors] = None
) -> BuildReport:
    """Build the engine unless it is there, open it, compare its golden outputs, close it.

    Raises EngineError: the board cannot honour the bundle, is not this computer, has too little
    memory for the build; and whatever opening an engine raises.
    """
    _require_possible(bundle, options)
    engine = TensorRTEngine(bundle, options, doors)
    engine.close()
    header = engine.header
    return BuildReport(
        bundle=bundle.manifest.name,
        board=options.profile.name,
        file=str(engine.file),
        engine_mb=header.plan_bytes / 1e6,
        built_now=engine.built_now,
        why=engine.why,
        build_s=header.build_s,
        peak_memory_mb=header.peak_memory_mb,
        golden_db=engine.golden_db,
        notes=engine.notes,
        refusals=engine.refusals,
    )


def _require_possible(bundle: Bundle, options: EngineOptions) -> None:
    """What can be said before anything is opened: the gate's refusals, a DLA, a batch."""
    require_legal(bundle, options)
    profile, core = options.profile, options.board.dla_core
    cores = int(profile.number("dla_cores"))
    if core is not None and core >= cores:
        raise EngineError(
            f"DLA core {core}",
            found=f"{cores} DLA cores on {profile.name}",
            expected=f"a core from 0 to {cores - 1}" if cores else "a board with a DLA",
            cure="name a core that is there" if cores else "leave --dla out, to build for the GPU",
        )
    require_workspace(profile, options.board.workspace_mb)
    require_known(options.board.cuda)
    if options.board.version_compatible:
        _require_compatible(profile)
    costs = read_costs(bundle)
    if options.board.batch_max > 1 and costs is not None and not costs.batch_open:
        raise EngineError(
            f"--batch-max {options.board.batch_max}",
            found="a batch that is fixed in the model",
            expected="an open one",
            cure="export the model with an open batch, or leave --batch-max out",
        )


def _require_compatible(profile: Profile) -> None:
    lines = profile.jetpacks
    if all(line.tensorrt_version < _COMPATIBLE_FROM for line in lines):
        raise EngineError(
            "--version-compatible",
            found=f"TensorRT up to {max(lines, key=lambda line: line.tensorrt_version).tensorrt}, "
            f"which every JetPack of {profile.name} has",
            expected="TensorRT 8.6 or later",
            cure="leave it out: an engine is of the TensorRT that built it",
        )


def render_report(report: BuildReport) -> str:
    """The report for a terminal, a line for each thing."""
    now = f"built in {report.build_s:.0f} s on this board: {report.why}"
    before = f"was there already; it took {report.build_s:.0f} s to build on this board"
    lines = [("engine", f"{report.bundle} for {report.board}, {report.engine_mb:.2f} MB"),
             ("build", now if report.built_now else before)]  # fmt: skip
    if report.peak_memory_mb is not None:
        lines.append(("memory", f"{report.peak_memory_mb:.0f} MB of the process at the peak of "
                                "its build, what the GPU held not in it"))  # fmt: skip
    if report.golden_db is not None:
        lines.append(("golden", f"its outputs are the sealed ones, at {report.golden_db:.1f} dB"))
    lines.append(("file", report.file))
    lines += [("note", note) for note in report.notes]
    lines += [("refused", f"{r.what}: {r.reason}; {r.instead} (x {r.count})")
              for r in report.refusals]  # fmt: skip
    return "\n".join(f"{name:<10} {words}" for name, words in lines)


def _look_here(bundle: Bundle, options: EngineOptions, ground: Ground) -> BuildForecast:
    cache = cache_of(options)
    cache.require_writable()
    state = cache_state(cache, ground.key)
    if options.board.rebuild:
        state = CacheState(folder=state.folder, why="it was asked for", free_mb=state.free_mb)
    forecast = forecast_build(bundle, site_of(options, ground), ground.key.settings, state)
    return msgspec.structs.replace(forecast, notes=(*ground.notes, *forecast.notes))


def _look_elsewhere(bundle: Bundle, options: EngineOptions, error: EngineError) -> BuildForecast:
    profile = options.profile
    settings = settings_for(bundle, profile, options.board)
    # A module fulfils the protocol; importlib cannot say so.
    dialect = cast(Dialect, importlib.import_module(DIALECTS[profile.jetpack.dialect]))
    site = BuildSite(
        profile=profile,
        mode=profile.mode(options.mode).name,
        tensorrt=f"{profile.jetpack.tensorrt}, taken for granted from JetPack "
        f"{profile.jetpack.name}; the board may have another",
        model=model_for(bundle, dialect, settings)[0],
    )
    state = cache_state_elsewhere(cache_of(options), bundle, site, settings)
    forecast = forecast_build(bundle, site, settings, state)
    note = f"predicted, nothing was run: it cannot be built here ({error.where}: {error.found})"
    return msgspec.structs.replace(forecast, notes=(note, *forecast.notes))
