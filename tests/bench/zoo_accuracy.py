"""AP of the packaged student and teacher on a folder of labelled pictures, persons only; no peers.

    python tests/bench/zoo_accuracy.py [IMAGES]

Without IMAGES the COCO128 validation pictures in `shared/data` beside the checkout. Known figures
there: student AP 19.4, AP50 42.2; teacher AP 31.2, AP50 56.8.
"""

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from calib.preprocess import Preprocess  # noqa: E402
from compress.assets import fetch_all  # noqa: E402
from compress.cli import cache_folder  # noqa: E402
from compress.data import find_labels, load_labelled  # noqa: E402
from compress.evaluate import accuracy, detections, judging_head  # noqa: E402
from compress.export import export_detector  # noqa: E402
from compress.progress import Quiet  # noqa: E402
from compress.zoo.ssd_mobilenet import build_student, build_teacher  # noqa: E402
from edge.frames import Detections  # noqa: E402
from edge.heads import SsdHead  # noqa: E402


def main():
    images = ROOT.parent / "shared" / "data" / "coco128" / "images" / "val2017"
    if len(sys.argv) > 1:
        images = Path(sys.argv[1])
    truth = load_labelled(images, find_labels(images)).for_classes(("person",))
    weights = fetch_all(("student", "teacher"), cache_folder(), Quiet())
    preprocess = Preprocess(height=300, width=300, mean=(127.5,) * 3, std=(127.5,) * 3)
    print(f"{len(truth)} pictures, {truth.box_count} persons; ONNX Runtime, FP32, 300 x 300")
    for name, build in (("student", build_student), ("teacher", build_teacher)):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net.onnx"
            export_detector(build(weights[name]), path, opset=13)
            started = time.perf_counter()
            head = judging_head(SsdHead())
            found = detections(path, preprocess, head, truth.frames.frames())
            host_s = time.perf_counter() - started
        measured = accuracy([persons(one) for one in found], truth)
        print(f"{name}: AP {measured.ap.text()}; AP50 {measured.ap50.text()}; "
              f"{host_s:.1f} s on this host, decoding included")  # fmt: skip


def persons(found):
    keep = found.class_id == 0
    return Detections(xyxy=found.xyxy[keep], score=found.score[keep], class_id=found.class_id[keep])


if __name__ == "__main__":
    main()
