"""Memory for a build: asked before it begins, by whatever command it begins."""

from __future__ import annotations

import pytest

from edge.errors import EngineError
from tests.edge.tensorrt.flow import make, place

pytest.importorskip("onnxruntime", reason="the fake TensorRT computes with ONNX Runtime")


def test_a_build_that_would_be_killed_for_memory_is_refused_wherever_it_is_asked_for(tmp_path):
    """Not `edge build` alone: `edge run` and `edge bench` build too."""
    bundle, spot = make(tmp_path / "bundle"), place("10.3.0")
    lines = ("MemTotal: 7619584 kB", "MemAvailable: 100000 kB", "SwapTotal: 0 kB", "SwapFree: 0 kB")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("\n".join(lines) + "\n")
    with pytest.raises(EngineError, match="the kernel would kill it") as caught:
        spot.open(bundle, tmp_path / "cache", root=tmp_path)
    assert "102 MB free" in caught.value.found
    assert not list((tmp_path / "cache").glob("*.engine"))
    assert spot.machine.cuda.closed
    engine = spot.open(bundle, tmp_path / "cache")  # the same computer with its memory free
    engine.close()
    engine = spot.open(bundle, tmp_path / "cache", root=tmp_path)  # nothing is built: no refusal
    assert not engine.built_now
    engine.close()
