"""A model description is checked against the model it describes; what it leaves out is told."""

import pytest

from compress.spec import SpecError, assumed_spec, load_spec
from edge.bundle import TensorSpec
from edge.heads import (
    ClassifyHead,
    DflHead,
    EndToEndHead,
    FastestDetHead,
    RawHead,
    SsdAnchors,
    SsdHead,
    Yolov5Head,
    Yolov8Head,
    YoloxHead,
    YunetHead,
)

INPUTS = (TensorSpec(name="images", shape=(1, 3, 32, 40)),)
OUTPUTS = (TensorSpec(name="logits", shape=(1, 5)), TensorSpec(name="boxes", shape=(1, 9, 4)))
TALL = (TensorSpec(name="images", shape=(1, 3, 128, 64)),)
CELLS = 16 * 8 + 8 * 4 + 4 * 2


def tensors(**shapes):
    return tuple(TensorSpec(name=name, shape=shape) for name, shape in shapes.items())


def faces(landmarks=True):
    shapes = {}
    for stride in (8, 16, 32):
        count = (128 // stride) * (64 // stride)
        widths = {"cls": 1, "obj": 1, "bbox": 4, **({"kps": 10} if landmarks else {})}
        shapes.update({f"{kind}_{stride}": (1, count, w) for kind, w in widths.items()})
    return tensors(**shapes)


def levels(bins=16):
    shapes = {}
    for stride in (8, 16, 32):
        high, wide = 128 // stride, 64 // stride
        shapes[f"scores_{stride}"] = (1, 3, high, wide)
        shapes[f"boxes_{stride}"] = (1, 4 * bins, high, wide)
    return tensors(**shapes)


@pytest.fixture
def spec(tmp_path):
    def read(text, inputs=INPUTS, outputs=OUTPUTS):
        path = tmp_path / "spec.toml"
        path.write_text(text)
        return load_spec(path, inputs, outputs)

    return read


def test_the_size_comes_from_the_model_and_the_head_from_the_file(spec):
    read = spec('[head]\ntype = "classify"\noutput = "logits"\n')
    assert (read.preprocess.height, read.preprocess.width) == (32, 40)
    assert read.head == ClassifyHead(output="logits")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[head]\ntype = "classify"\noutput = "logit"\n', r"output: .*did you mean 'logits'\?"),
        ('[head]\ntype = "ssd"\nscores = "logits"\nboxes = "x"\n', "boxes: .*logits, boxes"),
        ("preprocess = 3\n", r"\$\.preprocess"),
        ("[preprocess]\nheight = 99\n", "99 x 40 px; expected 32 x 40 px"),
        ('[head]\ntype = "ssd"\n', r"\[head\]: found logits: shape \(1, 5\); expected \(1, 1917,"),
        ('[head]\ntype = "yolo9000"\n', "yolo9000"),
        ('[head]\ntype = "yolov8"\nscore_min = 2.0\n', "score_min"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(spec, text, said):
    with pytest.raises(SpecError, match=said):
        spec(text)


@pytest.mark.parametrize(
    ("text", "outputs", "head"),
    [
        ('type = "yolov5"\noutput = "y"\nlogits = true', tensors(y=(1, 3 * CELLS, 8)),
         Yolov5Head(output="y", logits=True)),
        ('type = "yolov8"\noutput = "y"\niou_max = 0.5', tensors(y=(1, 7, CELLS)),
         Yolov8Head(output="y", iou_max=0.5)),
        ('type = "end-to-end"\noutput = "y"\ntop_k = 9', tensors(y=(1, 20, 6)),
         EndToEndHead(output="y", top_k=9)),
        ('type = "yolox"\noutput = "y"\nstrides = [16, 32]', tensors(y=(1, 40, 85)),
         YoloxHead(output="y", strides=(16, 32))),
        ('type = "fastestdet"\noutput = "y"\nscore_min = 0.5', tensors(y=(1, 85, 4, 4)),
         FastestDetHead(output="y", score_min=0.5)),
        ('type = "yunet"\nscore_min = 0.8', faces(), YunetHead(score_min=0.8)),
        ('type = "dfl"\nbins = 8', levels(8), DflHead(bins=8)),
        ('type = "ssd"\nsoftmax = true\nscores = "s"\nboxes = "b"\n'
         "anchors = { maps = [[1, 2]], cells = [[[0.5, 1.0]]] }",
         tensors(s=(1, 2, 4), b=(1, 2, 4)),
         SsdHead(scores="s", boxes="b", softmax=True,
                 anchors=SsdAnchors(maps=((1, 2),), cells=(((0.5, 1.0),),)))),
    ],
)  # fmt: skip
def test_a_file_names_each_head_with_its_fields(spec, text, outputs, head):
    assert spec(f"[head]\n{text}\n", TALL, outputs).head == head


def test_a_head_that_reads_other_shapes_is_refused_before_anything_runs(spec):
    named = '[head]\ntype = "yolox"\noutput = "y"\n'
    with pytest.raises(
        SpecError, match=r"y: shape \(1, 20, 85\); expected \(1, 168, any\); .*stri"
    ):
        spec(named, TALL, tensors(y=(1, 20, 85)))
    transposed = '[head]\ntype = "yolov8"\noutput = "y"\n'
    with pytest.raises(SpecError, match=r"80 classes of 7 boxes.*transpose the output"):
        spec(transposed, TALL, tensors(y=(1, 84, 7)))


@pytest.mark.parametrize(
    ("outputs", "head", "pixels"),
    [
        (tensors(output0=(1, 84, CELLS)), Yolov8Head(), "RGB / 255, boxed"),
        (tensors(y=(1, 5, CELLS)), Yolov8Head(output="y"), "RGB / 255, boxed"),
        (tensors(output0=(1, 84, CELLS + 2)), Yolov8Head(), "RGB / 255, boxed"),  # stride 64, too
        (tensors(output=(1, 3 * CELLS, 85)), Yolov5Head(output="output"), "RGB / 255, boxed"),
        (tensors(output0=(1, 300, 6)), EndToEndHead(), "RGB / 255, boxed"),
        (faces(), YunetHead(), "BGR, stretched"),
        (levels(), DflHead(), "RGB / 255, boxed"),
        (tensors(y=(1, 10)), ClassifyHead(output="y"), "RGB / 255, stretched"),
    ],
)
def test_a_layout_with_one_reading_is_recognised_and_told(outputs, head, pixels):
    read = assumed_spec(TALL, outputs)
    assert read.head == head
    (first, *_) = read.assumptions
    assert first.instead.startswith(f"assumed: {pixels}")
    assert "raw" not in first.instead


@pytest.mark.parametrize(
    ("outputs", "also"),
    [
        (tensors(output=(1, CELLS, 85)), "yolox or yolov5"),  # decoded or not
        (tensors(output0=(1, 56, CELLS)), "yolov8"),  # 52 classes, or one and 17 joints
        (tensors(output0=(1, 3 * CELLS, 57)), "yolov5"),
        (tensors(output0=(1, 20, 6)), "end-to-end"),
        (tensors(detections=(1, 300, 6)), "end-to-end"),
        (tensors(y=(1, 85, 4, 4)), "fastestdet"),
        (faces(landmarks=False), ""),
        (levels(8), ""),
        (tensors(y=(1, 84, CELLS), masks=(1, 32, 16, 16)), ""),
        (tensors(y=(1, 4, 4)), ""),
    ],
)
def test_a_layout_with_two_readings_stays_raw_and_its_heads_are_named(outputs, also):
    read = assumed_spec(TALL, outputs)
    assert read.head == RawHead()
    (note,) = read.assumptions
    assert "raw outputs" in note.instead
    assert (f"fits {also} too: name it as the type of [head]" in note.instead) == bool(also)


def test_the_classes_a_file_names_settle_what_a_shape_leaves_open(spec):
    outputs = tensors(output0=(1, 6, CELLS))
    assert assumed_spec(TALL, outputs).head == RawHead()
    read = spec('classes = ["cat", "dog"]\n', TALL, outputs)
    assert (read.head, read.classes) == (Yolov8Head(), ("cat", "dog"))
    assert [note.reason for note in read.assumptions] == [
        "spec.toml has no [head]", "spec.toml has no [preprocess]"
    ]  # fmt: skip
    assert spec('classes = ["cat"]\n', TALL, outputs).head == RawHead()


def test_pixels_nobody_described_are_those_usual_for_the_head(spec):
    read = spec('[head]\ntype = "yolox"\noutput = "y"\n', TALL, tensors(y=(1, CELLS, 85)))
    kept = read.preprocess
    assert (kept.colour, kept.resize, kept.std) == ("bgr", "letterbox", (1.0, 1.0, 1.0))
    assert [note.instead for note in read.assumptions] == ["assumed: BGR, boxed into the input"]
    said = spec('[head]\ntype = "yolox"\noutput = "y"\n[preprocess]\ncolour = "rgb"\n', TALL,
                tensors(y=(1, CELLS, 85)))  # fmt: skip
    assert (said.preprocess.colour, said.preprocess.resize) == ("rgb", "stretch")
    assert said.assumptions == ()


def test_landmarks_that_no_box_holds_are_told(spec):
    for read in (assumed_spec(TALL, faces()), spec('[head]\ntype = "yunet"\n', TALL, faces())):
        (note,) = [note for note in read.assumptions if note.what == "reading outputs"]
        assert (note.count, "kps_8, kps_16, kps_32: landmarks" in note.reason) == (3, True)
