"""Heads on published models: boxes beside a written-out loop, faces beside OpenCV's own reader.

    python -m tests.bench.heads DATA_FOLDER [--frames N]

DATA_FOLDER holds coco128/{images,labels}/val2017 and models/{yolox_nano,fastestdet,
yunet_n_320_320}.onnx. AP is emulated (ONNX Runtime); the milliseconds are this host's.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import cv2
import numpy as np
import onnx

from calib.preprocess import Preprocess
from compress.data import load_labelled
from compress.evaluate import accuracy
from compress.quantize.session import open_session
from edge.frames import Detections
from edge.heads import FastestDetHead, YoloxHead, YunetHead, decode
from tests.edge.slow_boxes import centred, kept, sigmoid

LOW = {"score_min": 0.01, "iou_max": 0.65}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--frames", type=int, default=128)
    options = parser.parse_args()
    bgr = {"colour": "bgr"}
    raw = {**bgr, "std": (1.0,) * 3}
    detector(options, "yolox_nano", YoloxHead(**LOW), yolox_loop,
             Preprocess(height=416, width=416, resize="letterbox", **raw))  # fmt: skip
    detector(options, "fastestdet", FastestDetHead(output="758", **LOW), fastestdet_loop,
             Preprocess(height=352, width=352, **bgr))  # fmt: skip
    for score_min in (0.6, 0.3):
        faces(options, YunetHead(score_min=score_min, iou_max=0.3, top_k=5000),
              Preprocess(height=320, width=320, **raw))  # fmt: skip


def detector(options, name, head, loop, preprocess) -> None:
    coco = options.data / "coco128"
    held = load_labelled(coco / "images/val2017", coco / "labels/val2017", limit=options.frames)
    session = open_session(onnx.load(options.data / f"models/{name}.onnx"))
    ours, theirs, taken_s = [], [], 0.0
    for frame, _ in held:
        arrays = answer(session, preprocess(frame))
        start = time.perf_counter()
        ours.append(decode(head, arrays, preprocess, frame.shape[:2]))
        taken_s += time.perf_counter() - start
        found = loop(arrays[head.output][0].astype(float), preprocess)
        theirs.append(detections(kept(found, head, preprocess, frame.shape[:2])))
    first, second = accuracy(ours, held), accuracy(theirs, held)
    equal = sum(len(a) == len(b) and np.allclose(a.xyxy, b.xyxy, atol=0.01)
                for a, b in zip(ours, theirs, strict=True))  # fmt: skip
    print(f"{name:12} AP {first.ap.value:.3f} by the head, {second.ap.value:.3f} by the loop; "
          f"AP50 {first.ap50.value:.3f}, {second.ap50.value:.3f}; {equal} of {len(held)} frames "
          f"equal; {1e3 * taken_s / len(held):.2f} ms a frame "
          f"at score {head.score_min}")  # fmt: skip


def faces(options, head, preprocess) -> None:
    path = options.data / "models/yunet_n_320_320.onnx"
    session = open_session(onnx.load(path))
    reader = cv2.FaceDetectorYN.create(str(path), "", (320, 320), head.score_min, head.iou_max,
                                       head.top_k)  # fmt: skip
    count, apart, other = 0, 0.0, 0
    pictures = sorted((options.data / "coco128/images/val2017").glob("*.jpg"))[: options.frames]
    for picture in pictures:
        frame = cv2.resize(cv2.imread(str(picture)), (320, 320))
        ours = decode(head, answer(session, preprocess(frame)), preprocess, (320, 320))
        rows = reader.detect(frame)[1]
        rows = np.empty((0, 15), np.float32) if rows is None else rows
        rows = rows[np.argsort(-rows[:, 14], kind="stable")]
        want = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1).clip(0, 320)
        count += len(ours)
        if len(want) != len(ours):
            other += 1
        elif len(want):
            apart = max(apart, float(np.abs(want - ours.xyxy).max()))
    print(f"yunet        {count} faces at score {head.score_min}, at most {apart:.1e} px from "
          f"OpenCV {cv2.__version__}'s; {other} of {len(pictures)} frames with another count "
          "(it compares boxes rounded to whole pixels)")  # fmt: skip


def yolox_loop(rows, preprocess):
    cells = [
        (stride, y, x)
        for stride in (8, 16, 32)
        for y in range(preprocess.height // stride)
        for x in range(preprocess.width // stride)
    ]
    for row, (stride, y, x) in zip(rows.tolist(), cells, strict=True):
        if row[4] >= LOW["score_min"]:
            box = centred((row[0] + x) * stride, (row[1] + y) * stride,
                          math.exp(row[2]) * stride, math.exp(row[3]) * stride)  # fmt: skip
            yield from ((row[4] * value, c, box) for c, value in enumerate(row[5:]))


def fastestdet_loop(field, preprocess):
    _, high, wide = field.shape
    for y in range(high):
        for x in range(wide):
            there, tx, ty, tw, th, *named = field[:, y, x].tolist()
            cx, cy = (math.tanh(tx) + x) / wide, (math.tanh(ty) + y) / high
            box = centred(
                cx * preprocess.width,
                cy * preprocess.height,
                sigmoid(tw) * preprocess.width,
                sigmoid(th) * preprocess.height,
            )
            for c, value in enumerate(named):
                yield max(there, 0) ** 0.6 * value**0.4, c, box


def answer(session, tensor):
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: tensor}), strict=True))


def detections(found) -> Detections:
    if not found:
        return Detections.empty()
    score, class_id, xyxy = zip(*found, strict=True)
    return Detections(np.float32(xyxy), np.float32(score), np.int64(class_id))


if __name__ == "__main__":
    main()
