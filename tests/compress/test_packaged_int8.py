"""The packaged net in INT8 for an Orin, from the command to NVIDIA's parser: nothing is misread."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from edge.bundle import open_bundle

pytest.importorskip("torch", reason="needs the extra 'compress'")
pytest.importorskip("nncf", reason="needs the extra 'compress'")
pytest.importorskip("cv2", reason="needs the extra 'compress'")

DROP_MAX_POINTS = 1.5  # untrained; distilled on the scene the demo's INT8 loses nothing


@pytest.mark.assets
@pytest.mark.slow
def test_the_packaged_net_in_int8_is_read_as_written(assets_cache, tmp_path, monkeypatch):
    from calib.samples import CalibrationSet
    from compress.cli import cli
    from compress.evaluate import outputs, sqnr_db
    from compress.quantize.emulate import as_tensorrt_reads
    from compress.quantize.int8 import load_model

    monkeypatch.setenv("JETPRESS_CACHE", str(assets_cache["student"].parent))
    words = ["--profile", "jetson-orin-nano", "--distil-steps", "0", "--out", str(tmp_path / "r")]
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    report = json.loads((tmp_path / "r" / "report.json").read_bytes())
    assert [stage["name"] for stage in report["stages"]] == ["baseline", "int8"], result.output
    facts = {fact["name"]: fact["value"] for fact in report["stages"][-1]["facts"]}
    assert facts["accuracy_drop_pt"] < DROP_MAX_POINTS
    assert "parse" in result.output
    assert "warnings about Q/DQ 0" in result.output

    bundle = open_bundle(tmp_path / "r" / "bundle")
    model = load_model(bundle.path("model.onnx"))
    (imported,) = (tmp_path / "r" / ".passes").glob("import-*/model.onnx")
    frames = CalibrationSet.from_video(assets_cache["scene"], indices=range(600, 640, 10))
    feeds = [{bundle.manifest.inputs[0].name: bundle.manifest.preprocess(f)} for f in
             frames.frames()]  # fmt: skip
    exact, plain, read = (
        list(outputs(made, feeds))
        for made in (
            imported,
            model.SerializeToString(),
            as_tensorrt_reads(model).SerializeToString(),
        )
    )
    for name in exact[0]:
        floats, as_written, as_read = (np.stack([row[name] for row in rows])
                                       for rows in (exact, plain, read))  # fmt: skip
        assert sqnr_db(floats, as_read) == pytest.approx(sqnr_db(floats, as_written), abs=0.1)
        assert sqnr_db(floats, as_read) > 20
