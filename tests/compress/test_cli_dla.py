"""`compress --dla` seals what INT8 on a DLA is built from, and leaves it out where it is no use."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from edge.bundle import open_bundle
from edge.models import FLOAT_MODEL

pytest.importorskip("torch", reason="needs the extra 'compress'")
pytest.importorskip("nncf", reason="needs the extra 'compress'")
cv2 = pytest.importorskip("cv2", reason="needs the extra 'compress'")

SMALL = "tests.compress.user_nets:small"


@pytest.fixture
def compress(tmp_path, monkeypatch):
    from compress.cli import cli

    monkeypatch.setenv("JETPRESS_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(5)
    (tmp_path / "data").mkdir()
    for index in range(12):
        picture = rng.integers(0, 255, (40, 50, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "data" / f"{index:02}.png"), picture)

    def run(*words):
        words = [SMALL, "--profile", "jetson-orin-nx", "--out", str(tmp_path / "run"), *words]
        result = CliRunner().invoke(cli, words, catch_exceptions=False)
        return result, open_bundle(tmp_path / "run" / "bundle")

    run.data = ("--data", str(tmp_path / "data"))
    return run


@pytest.mark.slow
def test_int8_for_a_dla_is_sealed_when_asked_for_and_not_before(compress):
    without, bundle = compress(*compress.data)
    assert FLOAT_MODEL not in bundle
    asked, bundle = compress(*compress.data, "--dla")
    assert FLOAT_MODEL in bundle
    assert bundle.manifest.lineage[-1].params["dla"] is True
    assert "before Q/DQ, for INT8 on a DLA" in asked.output
    assert "(kept from before)" in asked.output  # but for the seal nothing was done again
    assert without.exit_code == asked.exit_code


@pytest.mark.slow
def test_fp16_on_a_dla_is_said_to_need_nothing_more(compress):
    result, bundle = compress("--dla")
    assert bundle.manifest.precision == "fp16"
    assert FLOAT_MODEL not in bundle
    assert result.exit_code == 4
    assert "the run ends in fp16" in [r.reason for r in bundle.manifest.refusals]
