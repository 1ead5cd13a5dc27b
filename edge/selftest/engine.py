"""Self-tests of TensorRT: the packaged bundle is built, found again, right, and taken apart."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Iterator, List, Optional

from devices.profile import Profile, load_profile, profile_names
from edge.bundle import Bundle, open_bundle
from edge.clock import RealClock
from edge.engines import BoardOptions, EngineOptions
from edge.engines.tensorrt.cache import EngineCache, EngineHeader
from edge.golden import check_golden, read_golden
from edge.selftest import Result, Rig, failed, impossible, passed

__all__ = ["BUNDLE", "build", "golden", "inspector", "packaged", "profiler", "save_load"]

BUNDLE = Path(__file__).parent / "tiny"
RUNS = 5


def packaged() -> Bundle:
    """The bundle that lies beside this file; every byte is compared with its seal."""
    return open_bundle(BUNDLE)


def build(rig: Rig) -> Result:
    """Built anew, whatever lies in the folder; the engine must say how long it took."""
    told: List[str] = []
    with _opened(rig, told, rebuild=True) as engine:
        if engine is None:
            return _no_profile(rig)
        notes = [note for note in engine.notes if "built now" in note]
    header = _built(rig)
    if not notes or header is None:
        return failed(f"nothing was built, or it was not told: {'; '.join(engine.notes)}")
    if not told:
        return failed("it was built in silence")
    return passed(f"{len(told)} lines told", build_s=header.build_s,
                  engine_kb=header.plan_bytes / 1e3)  # fmt: skip


def save_load(rig: Rig) -> Result:
    """The second opening takes the very engine of the first."""
    with _opened(rig, []) as engine:
        if engine is None:
            return _no_profile(rig)
    first = _built(rig)
    told: List[str] = []
    with _opened(rig, told):
        second = _built(rig)
    if first is None or second is None:
        return failed(f"no engine lies in {rig.work}")
    if first.built_at_s != second.built_at_s:
        return failed(f"it was built again: {'; '.join(told)}")
    return passed(f"{first.plan_bytes} bytes")


def golden(rig: Rig) -> Result:
    """The sealed picture through the engine, against what the sealed model answered."""
    bundle = packaged()
    sealed = read_golden(bundle)
    if sealed is None:
        return failed("the packaged bundle holds no golden outputs")
    with _opened(rig, []) as engine:
        if engine is None:
            return _no_profile(rig)
        answers = [engine.infer(feeds) for feeds in sealed.feeds]
    result = check_golden(sealed, answers, bundle.manifest.precision)
    said = f"worst output {result.worst.name}, {result.limit_db:g} dB asked"
    if not result.passed:
        return failed(result.worst.fault or said, sqnr_db=result.sqnr_db)
    return passed(said, sqnr_db=result.sqnr_db)


def inspector(rig: Rig) -> Result:
    """The layers' names lead back to nodes of the model."""
    with _opened(rig, []) as engine:
        if engine is None:
            return _no_profile(rig)
        layers = engine.layers(runs=1)
    nodes = sorted({node for layer in layers for node in layer.nodes})
    convs = [node for node in nodes if node in ("logits_c", "boxes_c")]
    if not layers or not convs:
        return failed(f"{len(layers)} layers, nodes {', '.join(nodes) or 'none'}")
    return passed(f"{len(layers)} layers of nodes {', '.join(nodes)}")


def profiler(rig: Rig) -> Result:
    """Every run gives a time above nothing to the layers."""
    with _opened(rig, []) as engine:
        if engine is None:
            return _no_profile(rig)
        times = [layer.ms for layer in engine.layers(runs=RUNS) if layer.ms is not None]
    if not times or not sum(times) > 0 or min(times) < 0:
        return failed(f"times of layers in ms: {times}")
    return passed(f"{len(times)} layers, {RUNS} runs", sum_ms=sum(times))


@contextlib.contextmanager
def _opened(rig: Rig, told: List[str], rebuild: bool = False) -> Iterator[Any]:
    """The packaged bundle's engine, closed afterwards; None where no profile has this GPU."""
    profile = _profile(rig)
    if profile is None:
        yield None
        return
    board = BoardOptions(cache=rig.work, root=rig.root, rebuild=rebuild, tell=told.append)
    options = EngineOptions(profile=profile, clock=RealClock(), board=board)
    engine = rig.engine(packaged(), options)
    try:
        yield engine
    finally:
        engine.close()


def _profile(rig: Rig) -> Optional[Profile]:
    """The board's, else the weakest one with this GPU's architecture."""
    if rig.profile is not None:
        return rig.profile
    sm = rig.probe().compute_capability
    return next((p for p in map(load_profile, profile_names()) if p.sm == sm), None)


def _no_profile(rig: Rig) -> Result:
    return impossible(f"no profile has SM {rig.probe().compute_capability}")


def _built(rig: Rig) -> Optional[EngineHeader]:
    entries = EngineCache(rig.work).entries()
    return entries[0].header if entries else None
