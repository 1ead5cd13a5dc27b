"""Samples of an .npz: each calibrates or judges, none both; copies and few of them are counted."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from calib.preprocess import Preprocess
from compress.array_inputs import JUDGED_MAX, array_frames, holds_arrays, no_pictures
from edge.bundle import Manifest, TensorSpec
from edge.golden import FEEDS_BYTES_MAX
from edge.heads import RawHead

NET = Manifest(
    name="net", task="raw", precision="fp32", head=RawHead(), opset=17,
    inputs=(TensorSpec(name="x", shape=(1, 4)), TensorSpec(name="ids", shape=(1,), dtype="int64")),
    outputs=(TensorSpec(name="y", shape=(1, 2)),),
)  # fmt: skip


def numbered(count):
    ids = np.arange(count)
    return {"x": ids[:, None] + np.float32([0, 0.25, 0.5, 0.75]), "ids": ids}


@pytest.fixture
def frames(tmp_path):
    def read(manifest=NET, **arrays):
        np.savez(tmp_path / "a.npz", **arrays)
        return array_frames(tmp_path / "a.npz", manifest)

    return read


def ids(samples):
    return [int(fed.feed["ids"][0]) for fed in samples.fed(NET)]


def test_every_fifth_judges_the_others_calibrate_and_the_report_is_told_how_many(frames):
    found = frames(**numbered(40))
    assert ids(found.arrays_judged) == list(range(4, 40, 5))
    assert sorted(ids(found.arrays) + ids(found.arrays_judged)) == list(range(40))
    assert (found.train, found.calibrates, found.refusals) == (None, True, ())
    data, judged = found.inputs
    assert (data.role, data.name, data.sha256) == ("data", "a.npz", found.arrays.sha256)
    assert data.note == "32 of 40 samples of x, ids, taken as they are, to calibrate on"
    assert (judged.role, judged.sha256) == ("judged", found.arrays_judged.sha256)
    assert judged.note == "8 other samples, to judge by"


def test_a_sample_that_repeats_another_is_left_out_and_counted(frames):
    twice = {name: np.concatenate([value, value[:7]]) for name, value in numbered(40).items()}
    found = frames(**twice)
    assert sorted(ids(found.arrays) + ids(found.arrays_judged)) == list(range(40))
    (note,) = found.refusals
    assert note.count == 7
    assert "7 of 47 samples are the same as an earlier one, byte for byte; 40 differ" in note.reason


def test_samples_that_are_all_the_same_calibrate_as_one_and_judge_nothing(frames):
    found = frames(**{name: value[:1].repeat(20, 0) for name, value in numbered(1).items()})
    assert (len(found.arrays), found.arrays_judged) == (1, None)
    same, apart, few = found.refusals
    assert (same.count, "19 of 20 samples" in same.reason) == (19, True)
    assert "there are 1 different ones, 10 are needed" in apart.reason
    assert "1 samples, fewer than 30" in few.reason


@pytest.mark.parametrize(("count", "judging"), [(1, 0), (9, 0), (10, 2), (29, 5)])
def test_too_few_to_keep_some_apart_all_calibrate_and_it_is_said(frames, count, judging):
    found = frames(**numbered(count))
    assert len(found.arrays) == count - judging
    assert (found.arrays_judged is None) == (judging == 0)
    assert len(found.inputs) == (2 if judging else 1)
    what = [note.what for note in found.refusals]
    assert ("samples that judge and do not calibrate" in what) == (judging == 0)
    assert "a usual number of samples to calibrate on" in what


def test_more_than_judge_in_good_time_are_thinned_evenly(frames):
    found = frames(**numbered(6 * JUDGED_MAX))
    shown = ids(found.arrays_judged)
    assert len(shown) == JUDGED_MAX
    assert not set(shown) & set(ids(found.arrays))
    assert max(shown) > 5.9 * JUDGED_MAX


def test_what_is_sealed_are_samples_as_they_are_one_where_two_are_too_large(frames):
    golden = frames(**numbered(40)).arrays.golden(NET, 2)
    assert golden.origin == "samples 0 and 20 of a.npz"
    assert golden.feeds["ids"].tolist() == [[0], [20]]
    assert golden.feeds["x"].tolist() == [[[0, 0.25, 0.5, 0.75]], [[20, 20.25, 20.5, 20.75]]]
    side = int((0.6 * FEEDS_BYTES_MAX / 4) ** 0.5)
    wide = msgspec.structs.replace(NET, inputs=(TensorSpec(name="x", shape=(side, side)),))
    large = np.random.default_rng(0).normal(size=(2, side, side)).astype(np.float32)
    golden = frames(wide, x=large).arrays.golden(wide, 2)
    assert golden.origin == "sample 0 of a.npz"
    assert np.array_equal(golden.feeds["x"], large[:1])


def test_a_net_that_takes_pictures_is_told_that_nobody_compared_the_pixels(frames):
    pixels = Preprocess(height=2, width=2)
    images = (TensorSpec(name="x", shape=(1, 3, 2, 2)),)
    picture = msgspec.structs.replace(NET, preprocess=pixels, inputs=images)
    values = np.random.default_rng(0).random((40, 3, 2, 2))
    found = frames(picture, x=values)
    (note,) = found.refusals
    assert "edge run" in note.instead
    assert next(found.arrays.fed(picture)).frame_hw == (2, 2)


def test_pictures_for_a_net_that_takes_none_are_one_message(tmp_path):
    error = str(no_pictures(tmp_path / "folder", NET))
    assert "pictures for net, which takes x float32 (1, 4), ids int64 (1,)" in error
    assert "expected an .npz" in error
    assert [holds_arrays(tmp_path / name) for name in ("a.npz", "a.NPZ", "npz")] == [
        True, True, False,
    ]  # fmt: skip
    assert not holds_arrays(None)
