"""A finished run becomes three files that agree, each whole or absent, always the same bytes."""

import json
import sys
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from compress.frames import Shot, frames_figure
from compress.report import RunFacts, build_report, figures_of, write_reports
from devices.budget import Budget, Refusal
from devices.errors import MissingExtraError
from devices.profile import load_profile
from devices.report import Input, ReportError, Table, report_from_json
from edge.frames import Detections
from edge.gate import judge_bundle
from edge.manifest import Step
from tests.devices.sample_report import stages
from tests.edge.test_gate import bundle_at

pytest.importorskip("jinja2", reason="the HTML needs the compress extra")
NANO = load_profile("jetson-nano")
DOUBLE = Refusal(what="layer kept", reason="sample")


def run_at(folder, budget=NANO.budget) -> RunFacts:
    bundle = bundle_at(folder)
    return RunFacts(
        title="sample", profile=NANO, judgement=judge_bundle(bundle, NANO, budget=budget),
        stages=stages(), bundle_sha256=bundle.sha256, refusals=(DOUBLE, DOUBLE),
        lineage=(Step(name="import", key="k"), Step(name="fp16", key="m", input_sha256="aa")),
        inputs=(Input(role="model", name="sample.onnx"),), command="compress --profile jetson-nano",
    )  # fmt: skip


def test_three_files_that_agree_on_the_verdict(tmp_path):
    report = build_report(run_at(tmp_path / "b", Budget(fps_min=1e6)))
    paths = write_reports(report, tmp_path, figures_of(report))
    assert [path.name for path in paths] == ["report.json", "report.md", "report.html"]
    assert json.loads(paths[0].read_bytes())["verdict"] == "fail"
    assert "**FAIL** (exit 3)" in paths[1].read_text()
    html = paths[2].read_text()
    assert 'class="verdict fail"' in html
    assert html.count("<svg") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "b", "report.html", "report.json", "report.md"]  # fmt: skip


def test_a_run_s_tables_stand_in_all_three_files(tmp_path):
    table = Table(name="t", title="By class", words="w", head=("Class", "n"), rows=(("cat", 7),))
    report = build_report(replace(run_at(tmp_path / "b"), tables=(table,)))
    paths = write_reports(report, tmp_path)
    assert report_from_json(paths[0].read_bytes()).tables == (table,)
    assert "## By class" in paths[1].read_text()
    assert 'id="t">By class' in paths[2].read_text()


def test_the_same_run_gives_the_same_bytes(tmp_path):
    report = build_report(run_at(tmp_path / "b"))
    first = [path.read_bytes() for path in write_reports(report, tmp_path, figures_of(report))]
    again = [path.read_bytes() for path in write_reports(report, tmp_path, figures_of(report))]
    assert first == again


def test_a_refusal_said_twice_is_shown_once_and_lineage_ends_in_the_bundle(tmp_path):
    run = run_at(tmp_path / "b")
    report = build_report(run)
    assert report.refusals == (DOUBLE,)
    assert [step.output_sha256 for step in report.lineage] == ["aa", run.bundle_sha256]


def test_the_judge_s_refusal_comes_before_those_of_the_passes(tmp_path):
    run = run_at(tmp_path / "b")
    refusal = Refusal(what="int8", reason="not on this board")
    judged = msgspec.structs.replace(run.judgement, refusals=(refusal,))
    assert build_report(replace(run, judgement=judged)).refusals == (refusal, DOUBLE)


def test_nothing_is_replaced_when_a_page_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "report.json").write_text("earlier")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError):
        write_reports(build_report(run_at(tmp_path / "b")), tmp_path)
    assert (tmp_path / "report.json").read_text() == "earlier"
    assert not (tmp_path / "report.md").exists()


def test_a_failed_write_leaves_the_earlier_file_and_no_scraps(tmp_path, monkeypatch):
    (tmp_path / "report.json").write_text("earlier")
    report = build_report(run_at(tmp_path / "b"))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ReportError, match=r"found No space left.*; make room"):
        write_reports(report, tmp_path)
    assert (tmp_path / "report.json").read_text() == "earlier"
    assert {path.name for path in tmp_path.iterdir()} == {"b", "report.json"}


def detections(boxes):
    count = len(boxes)
    return Detections(xyxy=np.array(boxes, np.float32).reshape(count, 4),
                      score=np.linspace(0.9, 0.2, count, dtype=np.float32),
                      class_id=np.zeros(count, np.int64))  # fmt: skip


def test_frames_become_pairs_of_small_data_uris_with_counts_in_words():
    pytest.importorskip("cv2", reason="frames need the compress extra")
    noise = np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), dtype=np.uint8)
    shot = Shot(pixels=noise, label="frame 7", before=detections([]),
                after=detections([[10, 10, 300, 900], [5, 5, 9, 9]]),
                truth=np.array([[10, 10, 300, 900]], np.float32))  # fmt: skip
    kept = noise.copy()
    figure = frames_figure([shot])
    assert [image.label for image in figure.images] == [
        "before: frame 7, 0 detections, 1 labelled",
        "after: frame 7, 1 detection, 1 labelled",
    ]
    assert all(len(image.src) < 160_000 for image in figure.images)
    assert figure.images[0].src != figure.images[1].src
    np.testing.assert_array_equal(noise, kept)
    assert frames_figure([]) is None


def test_boxes_are_drawn_where_they_are():
    pytest.importorskip("cv2", reason="frames need the compress extra")
    from compress.frames import annotated

    black = np.zeros((100, 200, 3), np.uint8)
    drawn = annotated(black, detections([[50, 40, 120, 90]]))
    assert drawn[40:90, 50].max(axis=1).min() > 150
    assert drawn[60, 80].max() == 0
    assert drawn[:20].max() == 0
    assert not black.any()
