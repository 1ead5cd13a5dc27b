"""YuNet's head finds the boxes that OpenCV's own reader of the same outputs finds."""

from __future__ import annotations

import numpy as np
import pytest

from calib.preprocess import Preprocess
from edge.heads import YunetHead, decode

cv2 = pytest.importorskip("cv2", reason="pip install 'jetpress[emulate]'")
onnx = pytest.importorskip("onnx", reason="pip install 'jetpress[compress]'")
ort = pytest.importorskip("onnxruntime", reason="pip install 'jetpress[emulate]'")

HIGH, WIDE = 64, 96
WIDTHS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}


def net_of_twelve_outputs(path, seed):
    """One convolution an output, as wide as the stride; scores through a sigmoid."""
    helper, rng = onnx.helper, np.random.default_rng(seed)
    nodes, weights, outputs = [], [], []
    for kind, width in WIDTHS.items():
        for stride in (8, 16, 32):
            name, count = f"{kind}_{stride}", (HIGH // stride) * (WIDE // stride)
            weight = rng.normal(0, 0.008 / stride, (width, 3, stride, stride)).astype(np.float32)
            weight -= weight.mean(axis=(1, 2, 3), keepdims=True)  # offsets stay near their cells
            weights.append(onnx.numpy_helper.from_array(weight, f"w_{name}"))
            weights.append(onnx.numpy_helper.from_array(np.int64([1, count, width]), f"s_{name}"))
            nodes.append(helper.make_node("Conv", ["input", f"w_{name}"], [f"c_{name}"],
                                          strides=[stride] * 2))  # fmt: skip
            nodes.append(helper.make_node("Transpose", [f"c_{name}"], [f"t_{name}"],
                                          perm=[0, 2, 3, 1]))  # fmt: skip
            last = f"r_{name}" if width == 1 else name
            nodes.append(helper.make_node("Reshape", [f"t_{name}", f"s_{name}"], [last]))
            if width == 1:
                nodes.append(helper.make_node("Sigmoid", [last], [name]))
            outputs.append(helper.make_tensor_value_info(name, 1, [1, count, width]))
    image = helper.make_tensor_value_info("input", 1, [1, 3, HIGH, WIDE])
    graph = helper.make_graph(nodes, "faces", [image], outputs, weights)
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


@pytest.mark.parametrize("seed", range(4))
def test_faces_are_opencvs_own_to_a_pixel(tmp_path, seed):
    path = str(tmp_path / "faces.onnx")
    net_of_twelve_outputs(path, seed)
    frame = np.random.default_rng(seed).integers(0, 256, (HIGH, WIDE, 3)).astype(np.uint8)
    preprocess = Preprocess(height=HIGH, width=WIDE, std=(1.0,) * 3, colour="bgr")
    session = ort.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, {"input": preprocess(frame)})))
    # At 1 nothing is suppressed: OpenCV compares boxes that it rounded to whole pixels first.
    ours = decode(YunetHead(score_min=0.5, iou_max=1.0), outputs, preprocess, (HIGH, WIDE))
    reader = cv2.FaceDetectorYN.create(path, "", (WIDE, HIGH), 0.5, 1.0, 5000)
    faces = reader.detect(frame)[1]
    faces = faces[np.argsort(-faces[:, 14], kind="stable")]
    corners = np.concatenate([faces[:, :2], faces[:, :2] + faces[:, 2:4]], axis=1)
    corners = corners.clip(0, [WIDE, HIGH, WIDE, HIGH])
    seen = (corners[:, 2:] > corners[:, :2]).all(axis=1)  # the rest lies outside the frame
    assert len(ours) == seen.sum() > 5
    np.testing.assert_allclose(ours.score, faces[seen, 14], atol=1e-5)
    np.testing.assert_allclose(ours.xyxy, corners[seen], atol=0.01)
