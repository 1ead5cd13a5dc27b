import dataclasses
import json

import numpy as np
import pytest

from compress.zoo.arch import Arch, ArchError, Block, student_arch, teacher_arch
from compress.zoo.ssd_mobilenet import build
from compress.zoo.weights import WeightsError, load_frozen, load_weights, save_weights

torch = pytest.importorskip("torch", reason="the zoo is built with PyTorch")
torch.set_num_threads(1)  # small nets: threads cost more than they give


def slim(arch, **changes):
    """The same family an eighth as wide, so that tests are quick."""
    blocks, width = [], 8
    for block in arch.blocks:
        out = width if block.residual else max(4, block.out // 8)
        blocks.append(dataclasses.replace(block, expand=block.expand and 2 * width, out=out))
        width = out
    extras = tuple(
        dataclasses.replace(extra, squeeze=extra.squeeze // 16, out=extra.out // 16)
        for extra in arch.extras
    )
    return dataclasses.replace(
        arch, stem=8, blocks=tuple(blocks), last=32, extras=extras, **changes
    )


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return build(slim(student_arch()))


def test_the_student_and_the_teacher_have_the_published_sizes():
    counts = [
        sum(p.numel() for p in build(arch).parameters())
        for arch in (student_arch(), teacher_arch())
    ]
    assert counts == [3_045_126, 16_837_567]


def test_outputs_have_one_row_per_anchor_and_a_background(tiny):
    with torch.no_grad():
        logits, boxes = tiny(torch.zeros(2, 3, 300, 300))
    assert logits.shape == (2, 1917, 2)
    assert boxes.shape == (2, 1917, 4)


@pytest.mark.parametrize("size", [300, 320, 161])
def test_anchors_and_maps_follow_the_input_size(size):
    arch = slim(student_arch(), size=size)
    with torch.no_grad():
        net = build(arch)
        images = torch.zeros(1, 3, size, size)
        assert tuple(tap.shape[2] for tap in net.taps(images)) == arch.tap_sizes
        assert tuple(tap.shape[1] for tap in net.taps(images)) == arch.tap_channels
        assert net(images)[0].shape[1] == arch.anchors


def test_padding_is_the_one_tensorflow_calls_same(tiny):
    # at an even input and stride 2 the first window starts at pixel 0, the last one is padded
    images = torch.zeros(1, 3, 300, 300)
    images[..., 0, 0] = 1
    with torch.no_grad():
        tiny_stem = torch.nn.Sequential(*list(tiny.stem)[:2])
        tiny_stem[1].weight.fill_(0)
        tiny_stem[1].weight[:, :, 0, 0] = 1  # the window's top left corner alone
        seen = tiny_stem(images)
    assert seen.shape == (1, 8, 150, 150)
    assert seen[0, 0, 0, 0] == 3
    assert seen.sum() == 3 * 8


def test_heads_read_cells_row_by_row_and_anchors_within_a_cell(tiny):
    x = torch.arange(3 * 2 * 19 * 19, dtype=torch.float32).reshape(1, 6, 19, 19)
    rows = tiny.heads[0].per_anchor(x)
    assert rows.shape == (1, 3 * 19 * 19, 2)
    assert rows[0, 1].tolist() == [x[0, 2, 0, 0], x[0, 3, 0, 0]]  # second anchor of the first cell
    assert rows[0, 3].tolist() == [x[0, 0, 0, 1], x[0, 1, 0, 1]]  # first anchor one cell right


def test_a_residual_is_what_the_arch_says_and_not_what_the_widths_suggest():
    arch = slim(student_arch())
    assert arch.blocks[10].residual is False
    even = dataclasses.replace(arch.blocks[10], out=arch.blocks[9].out)
    rest = tuple(dataclasses.replace(b, out=even.out) for b in arch.blocks[11:13])
    net = build(
        dataclasses.replace(arch, blocks=(*arch.blocks[:10], even, *rest, *arch.blocks[13:]))
    )
    assert [block.residual for block in net.blocks] == [block.residual for block in arch.blocks]


def test_an_arch_survives_json_and_lists_its_family():
    arch = slim(teacher_arch())
    assert Arch.from_json(arch.to_json()) == arch
    assert json.loads(arch.to_json())["family"] == "ssdlite-mobilenetv2"
    assert arch.to_json() == arch.to_json()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": 0}, "0 classes"),
        ({"last": 0}, "a layer without channels"),
        ({"blocks": ()}, "0 blocks"),
        ({"extras": ()}, "0 extras"),
    ],
)
def test_an_arch_that_cannot_be_a_net_is_refused(change, words):
    with pytest.raises(ArchError, match=words):
        dataclasses.replace(student_arch(), **change)


def test_a_residual_between_different_widths_is_refused():
    blocks = list(student_arch().blocks)
    blocks[2] = Block(expand=144, out=25, residual=True)
    with pytest.raises(ArchError, match=r"from 24 to 25 channels in blocks\[2\]"):
        dataclasses.replace(student_arch(), blocks=tuple(blocks))


@pytest.mark.parametrize("text", ["", "{}", '{"blocks": 3}', "[1]"])
def test_a_text_that_is_no_arch_is_refused(text):
    with pytest.raises(ArchError, match=r"arch\.json"):
        Arch.from_json(text)


def test_weights_come_back_exactly_and_their_bytes_do_not_change(tiny, tmp_path):
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    save_weights(tiny, first)
    save_weights(tiny, second)
    assert first.read_bytes() == second.read_bytes()
    other = build(tiny.arch)
    image = torch.rand(1, 3, 300, 300)
    with torch.no_grad():
        assert not torch.equal(other(image)[0], tiny(image)[0])
        assert torch.equal(load_weights(other, first)(image)[0], tiny(image)[0])


def test_weights_of_another_width_are_refused_by_tensor(tiny, tmp_path):
    save_weights(tiny, tmp_path / "w.npz")
    wider = build(dataclasses.replace(tiny.arch, last=40))
    with pytest.raises(WeightsError, match=r"extras\.0\.squeeze\.conv\.weight: found shape"):
        load_weights(wider, tmp_path / "w.npz")


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_damaged_weights_are_refused(tiny, tmp_path, keep):
    path = tmp_path / "w.npz"
    save_weights(tiny, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="an unreadable file"):
        load_weights(tiny, path)


def test_a_missing_tensor_is_named(tiny, tmp_path):
    path = tmp_path / "w.npz"
    state = {name: t.numpy() for name, t in tiny.state_dict().items() if name != "last.norm.bias"}
    np.savez(path, **state)
    with pytest.raises(WeightsError, match=r"last\.norm\.bias: found no such tensor"):
        load_weights(tiny, path)


def frozen(monkeypatch, constants):
    monkeypatch.setattr("compress.zoo.weights.read_constants", lambda path: constants)


def frozen_constants(net):
    """The net's weights under TensorFlow's names and in its layout."""
    from compress.zoo.weights import _frozen_name

    constants = {}
    for name, value in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        array = value.numpy()
        if array.ndim == 4:
            deep = "depthwise" in _frozen_name(name).rpartition("/")[2]
            array = array.transpose((2, 3, 0, 1) if deep else (2, 3, 1, 0))
        constants[_frozen_name(name)] = array
    return constants


def test_a_frozen_graph_fills_every_tensor(tiny, tmp_path, monkeypatch):
    constants = frozen_constants(tiny)
    assert "FeatureExtractor/MobilenetV2/expanded_conv/depthwise/depthwise_weights" in constants
    assert "FeatureExtractor/MobilenetV2/layer_19_2_Conv2d_2_3x3_s2_512_depthwise/BatchNorm/beta" in constants  # fmt: skip  # noqa: E501
    assert "BoxPredictor_5/BoxEncodingPredictor_depthwise/depthwise_weights" in constants
    frozen(monkeypatch, constants)
    other = load_frozen(build(tiny.arch), tmp_path / "g.pb")
    for name, value in tiny.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_a_frozen_graph_without_a_tensor_or_with_an_odd_one_is_refused(tiny, tmp_path, monkeypatch):
    constants = frozen_constants(tiny)
    odd = {**constants, "BoxPredictor_0/ClassPredictor/biases": np.zeros(7, np.float32)}
    frozen(monkeypatch, odd)
    with pytest.raises(WeightsError, match=r"biases of shape \(7,\).*expected \(6,\)"):
        load_frozen(build(tiny.arch), tmp_path / "g.pb")
    del constants["FeatureExtractor/MobilenetV2/Conv_1/weights"]
    frozen(monkeypatch, constants)
    with pytest.raises(WeightsError, match="no constant 'FeatureExtractor/MobilenetV2/Conv_1"):
        load_frozen(build(tiny.arch), tmp_path / "g.pb")


@pytest.mark.assets
@pytest.mark.slow
def test_the_packaged_student_finds_the_people_of_the_packaged_scene(assets_cache):
    cv2 = pytest.importorskip("cv2", reason="reads the video")
    from calib.preprocess import Preprocess
    from compress.zoo.ssd_mobilenet import build_student
    from edge.heads import SsdHead, decode

    capture = cv2.VideoCapture(str(assets_cache["scene"]))
    ok, frame = capture.read()
    assert ok
    preprocess = Preprocess(height=300, width=300, mean=(127.5,) * 3, std=(127.5,) * 3)
    with torch.no_grad():
        logits, boxes = build_student(assets_cache["student"])(torch.from_numpy(preprocess(frame)))
    outputs = {"logits": logits.numpy(), "boxes": boxes.numpy()}
    found = decode(SsdHead(), outputs, preprocess, frame.shape[:2])
    assert len(found) >= 2
    assert found.score[0] > 0.8
    heights = found.xyxy[:, 3] - found.xyxy[:, 1]
    widths = found.xyxy[:, 2] - found.xyxy[:, 0]
    assert (heights > widths).all()  # people stand
