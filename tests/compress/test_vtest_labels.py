"""The packaged labels of the street clip: held out, inside the frame, and true to their header."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

import compress.zoo
from compress.data import load_labelled
from compress.label_formats import LabelFile, read_annotations

LABELS = Path(compress.zoo.__file__).parent / "vtest_labels.json"
CLIP_SHA256 = "45cddc9490be69345cbdab64ca583be65987e864ca408038e648db99e10516cf"
LAST_TRAINING_FRAME = 519
FRAME_COUNT = 795
BOX_COUNT = 434


@pytest.fixture(scope="module")
def labels() -> LabelFile:
    return msgspec.json.decode(LABELS.read_bytes(), type=LabelFile)


def test_sixty_frames_far_from_those_learned_from(labels):
    numbers = [int(key) for key in labels.frames]
    assert numbers == list(range(556, 793, 4))
    assert min(numbers) > LAST_TRAINING_FRAME + 30
    assert max(numbers) < FRAME_COUNT


def test_the_header_names_the_clip_and_its_frames(labels):
    assert labels.source == "vtest.avi"
    assert labels.source_sha256 == CLIP_SHA256
    assert labels.frame_hw == (576, 768)
    assert labels.classes == ("person",)


def test_every_box_lies_in_the_frame_and_is_taller_than_the_policy_asks(labels):
    height, width = labels.frame_hw
    for key, rows in labels.frames.items():
        for x1, y1, x2, y2, class_id in rows:
            assert 0 <= x1 < x2 <= width, key
            assert 0 <= y1 < y2 <= height, key
            assert y2 - y1 >= 25, key
            assert 6 <= x2 - x1 < y2 - y1, key
            assert class_id == 0, key


def test_no_person_is_boxed_twice(labels):
    for key, rows in labels.frames.items():
        for index, a in enumerate(rows):
            assert all(_iou(a, b) < 0.6 for b in rows[index + 1 :]), key


def test_the_counts_of_the_header_add_up(labels):
    found = {
        word: int(number)
        for number, word in re.findall(
            r"(\d+) (drafted|removed|added|with|left|in all)", labels.made
        )
    }
    assert found["in all"] == sum(len(rows) for rows in labels.frames.values()) == BOX_COUNT
    assert found["drafted"] - found["removed"] + found["added"] == BOX_COUNT
    assert found["with"] + found["left"] + found["added"] == BOX_COUNT


def test_the_reader_of_labels_reads_them():
    annotations = read_annotations(LABELS)
    assert annotations.classes == ("person",)
    assert annotations.source_sha256 == CLIP_SHA256
    assert not annotations.relative
    assert sum(len(boxes) for boxes in annotations.boxes.values()) == BOX_COUNT
    assert all(boxes for boxes in annotations.boxes.values())
    assert not any(box.crowd for boxes in annotations.boxes.values() for box in boxes)


def test_each_frame_is_one_line():
    lines = LABELS.read_text(encoding="utf-8").splitlines()
    assert sum(bool(re.match(r'\s+"\d+": \[\[', line)) for line in lines) == 60


@pytest.mark.assets
def test_they_pair_with_the_packaged_clip(assets_cache):
    pytest.importorskip("cv2", reason="OpenCV decodes the clip")
    labelled = load_labelled(assets_cache["scene"], LABELS)
    assert len(labelled) == 60
    assert labelled.box_count == BOX_COUNT
    assert not labelled.refusals
    assert labelled.frames.samples[0].source.endswith("#000556")


def _iou(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    either = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - both
    return both / either
