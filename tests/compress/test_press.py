"""What the passes read, and what decides under which key their work is found again."""

from __future__ import annotations

import cv2
import msgspec
import numpy as np
import pytest

from calib.samples import CalibrationSet
from compress import passes, press
from compress.passes import Context, key_of, run_passes
from compress.press import Distil, Fp16, Int8, Seal
from compress.progress import Quiet
from compress.teacher import TwinTeacher
from devices.budget import Basis, Measurement, Refusal
from devices.profile import load_profile
from edge.bundle import open_bundle
from tests.edge.make_bundle import make_bundle

pytest.importorskip("torch", reason="needs the extra 'compress'")
AP50 = Measurement(name="ap50", value=52.1, low=48.0, high=55.0, unit="points",
                   basis=Basis.EMULATED, source="12 pictures")  # fmt: skip


@pytest.fixture
def source(tmp_path):
    make_bundle(tmp_path / "source")
    return open_bundle(tmp_path / "source")


@pytest.fixture
def context(tmp_path):
    """Twelve frames, each of one grey: 0, 20, ... 220."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(12):
        cv2.imwrite(str(folder / f"{index:02}.png"), np.full((48, 64, 3), 20 * index, np.uint8))
    return Context(
        profile=load_profile("jetson-orin-nano"), train=CalibrationSet.from_folder(folder),
        teacher=TwinTeacher(identity="t", net=None), progress=Quiet(), scratch=tmp_path,
    )  # fmt: skip


class Stop(Exception):  # noqa: N818 - no error
    pass


def test_calibration_frames_are_spread_over_all_frames(source, context, tmp_path, monkeypatch):
    seen = []

    def quantize(path, feeds, *_, **__):
        seen.extend(round(127.5 * float(feed["images"].mean()) + 127.5) for feed in feeds)
        raise Stop

    monkeypatch.setattr(press, "quantize_int8", quantize)
    with pytest.raises(Stop):
        Int8(frames_max=8).apply(source, tmp_path, context)
    assert seen == [20 * index for index in (0, 1, 3, 4, 6, 7, 9, 10)]


def test_fp16_looks_at_all_its_frames(source, context, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(press, "fp16_overflows", lambda model, feeds: seen.extend(feeds) or ())
    (result,) = run_passes(source, [Fp16()], tmp_path / "store", context)
    assert len(seen) == 12
    assert result.bundle.manifest.precision == "fp16"


def test_a_checkpoint_of_other_software_is_not_gone_on_from(source, context, tmp_path, monkeypatch):
    keys = []

    def taught(source, context, options, checkpoint_key):
        keys.append(checkpoint_key)
        raise Stop

    monkeypatch.setattr(press, "teach", taught)
    for version in ("1", "2"):
        monkeypatch.setattr(passes, "software", lambda version=version: {"torch": version})
        with pytest.raises(Stop):
            Distil().apply(source, tmp_path, context)
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    "changed",
    [{"value": 52.1 + 1e-9}, {"low": 47.9}, {"high": 55.1}, {"basis": Basis.MEASURED},
     {"source": "13 pictures"}],
    ids=str,
)  # fmt: skip
def test_whatever_changes_in_a_fact_is_sealed_anew(source, context, changed):
    other = msgspec.structs.replace(AP50, **changed)
    assert key_of(Seal(accuracy=(AP50,)), source, context) == key_of(
        Seal(accuracy=(AP50,)), source, context
    )
    assert key_of(Seal(accuracy=(AP50,)), source, context) != key_of(
        Seal(accuracy=(other,)), source, context
    )


def test_what_was_found_out_at_the_end_is_sealed_into_the_manifest(source, context, tmp_path):
    doubt = Refusal(what="x", reason="y")
    (plain,) = run_passes(source, [Seal()], tmp_path / "store", context)
    (sealed,) = run_passes(source, [Seal(refusals=(doubt,))], tmp_path / "store", context)
    assert doubt in sealed.bundle.manifest.refusals
    assert doubt not in plain.bundle.manifest.refusals
