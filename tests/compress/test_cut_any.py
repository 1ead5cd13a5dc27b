"""Pruning and distilling nets that are not ours: factories and .pt2 files, by their own outputs."""

from __future__ import annotations

import cv2
import msgspec
import numpy as np
import pytest

from calib.samples import CalibrationSet
from compress.distill import kd_loss
from compress.export import Names, export_onnx
from compress.import_model import import_model, source_from_text
from compress.lessons import OutputLessons
from compress.passes import Context, pass_from_name, run_passes
from compress.per_frame import takes_batches
from compress.teacher import Itself, open_teacher
from compress.workshop import load_net, plans_of
from devices.profile import load_profile
from devices.roofline import predict
from edge.gate import read_costs
from tests.compress import user_nets
from tests.compress.test_teach import Bars
from tests.compress.tiny_nets import box_scene

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")
onnx = pytest.importorskip("onnx", reason="needs the extra 'compress'")
ort = pytest.importorskip("onnxruntime", reason="needs the extra 'compress'")

NANO = load_profile("jetson-nano")
PRUNE = {"latency_ratio_max": 0.9, "calibration_frames": 4, "label_frames": 3}


@pytest.fixture
def train(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, frame in enumerate(box_scene(4).frames):
        cv2.imwrite(str(folder / f"{index}.png"), frame)
    return CalibrationSet.from_folder(folder)


def no_weights(asset):
    raise AssertionError(f"{asset} is not asked for")


def imported(text, tmp_path):
    source = source_from_text(text, spec=None, image_hw=None)
    return import_model(source, NANO, tmp_path / "store", no_weights)


def around(first, train, tmp_path):
    return Context(profile=NANO, train=train, teacher=open_teacher(None, first, no_weights),
                   progress=Bars(), scratch=tmp_path / "store", threads=1)  # fmt: skip


def pt2(tmp_path):
    path = tmp_path / "net.pt2"
    net = user_nets.wide()
    free = ({0: torch.export.Dim.AUTO},)
    torch.export.save(
        torch.export.export(net, (torch.zeros(2, 3, 96, 96),), dynamic_shapes=free), path
    )
    return str(path)


def onnx_file(tmp_path):
    path = tmp_path / "net.onnx"
    names = Names(inputs=("pixels",), outputs=("scores",))
    export_onnx(user_nets.wide(), (torch.zeros(1, 3, 96, 96),), path, names=names, opset=13)
    return str(path)


@pytest.mark.parametrize("kind", ["factory", "pt2", "onnx", "one frame"])
def test_any_net_is_cut_and_taught_by_itself(kind, train, tmp_path):
    nets = "tests.compress.user_nets"
    texts = {"factory": f"{nets}:wide", "pt2": pt2(tmp_path), "onnx": onnx_file(tmp_path),
             "one frame": f"{nets}:one_frame"}  # fmt: skip
    first = imported(texts[kind], tmp_path)
    context = around(first, train, tmp_path)
    assert isinstance(context.teacher, Itself)
    steps = [pass_from_name("prune")(rounds=2, recovery_steps=2, **PRUNE),
             pass_from_name("distil")(steps=3, batch=2, label_frames=3)]  # fmt: skip
    cut, taught = run_passes(first, steps, tmp_path / "store", context)
    assert cut.refusal is None
    assert taught.refusal is None
    before, after = read_costs(first), read_costs(taught.bundle)
    assert after.macs < before.macs
    assert plans_of(taught.bundle)[-1].after <= 0.9 * plans_of(taught.bundle)[0].before
    image = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        answers = [load_net(each.bundle)(image) for each in (cut, taught)]
    assert answers[0].shape == answers[1].shape == (1, 3)
    assert not torch.allclose(*answers)
    session = ort.InferenceSession(str(taught.bundle.path("model.onnx")))
    name = taught.bundle.manifest.inputs[0].name
    (found,) = session.run([taught.bundle.manifest.outputs[0].name], {name: image.numpy()})
    assert np.allclose(found, answers[1].numpy(), atol=1e-4)


def test_an_onnx_file_that_cannot_be_trained_stays_whole_and_says_why(train, tmp_path):
    model = onnx.load(onnx_file(tmp_path))
    selected = onnx.helper.make_node("Unique", ["scores"], ["values"], axis=0)
    model.graph.node.append(selected)
    model.graph.output.append(onnx.helper.make_tensor_value_info("values", 1, [1, 3]))
    onnx.save(model, tmp_path / "odd.onnx")
    first = imported(str(tmp_path / "odd.onnx"), tmp_path)
    (result,) = run_passes(first, [pass_from_name("prune")(**PRUNE)], tmp_path / "store",
                           around(first, train, tmp_path))  # fmt: skip
    assert "Unique" in result.refusal.reason
    assert result.bundle == first


def test_teaching_brings_the_cut_net_nearer_to_what_it_was(train, tmp_path):
    first = imported("tests.compress.user_nets:wide", tmp_path)
    context = around(first, train, tmp_path)
    prune = pass_from_name("prune")(latency_ratio_max=0.35, calibration_frames=4, label_frames=3,
                                    importance="magnitude")  # fmt: skip
    distil = pass_from_name("distil")(steps=60, batch=4, label_frames=4, lr_max=5e-4,
                                      live_norm_share=0.0)  # fmt: skip
    cut, taught = run_passes(first, [prune, distil], tmp_path / "store", context)
    prepare = first.manifest.preprocess
    frames = torch.from_numpy(np.concatenate([prepare(frame) for frame in train.frames()]))
    with torch.no_grad():
        whole, *others = (load_net(each)(frames) for each in (first, cut.bundle, taught.bundle))
        apart = [float(kd_loss({"y": other}, {"y": whole}, 2.0)) for other in others]
    assert apart[1] < 0.5 * apart[0]


def test_a_whole_net_does_not_learn_from_itself(train, tmp_path):
    first = imported("tests.compress.user_nets:wide", tmp_path)
    (result,) = run_passes(first, [pass_from_name("distil")(steps=3)], tmp_path / "store",
                           around(first, train, tmp_path))  # fmt: skip
    assert "nothing was cut" in result.refusal.reason
    assert result.bundle == first


def test_a_net_too_small_to_gain_is_left_whole_where_nobody_asked(train, tmp_path):
    first = imported("tests.compress.user_nets:small", tmp_path)
    context = around(first, train, tmp_path)
    prune = pass_from_name("prune")(latency_ratio_max=0.2, if_it_pays=True)
    (result,) = run_passes(first, [prune], tmp_path / "store", context)
    assert "narrowest net allowed is predicted at" in result.refusal.reason
    assert "--prune RATIO" in result.refusal.instead


def test_a_net_is_cut_to_the_frames_a_second_that_are_wanted_and_no_further(train, tmp_path):
    first = imported("tests.compress.user_nets:wide", tmp_path)
    context = around(first, train, tmp_path)
    timed = predict(read_costs(first), NANO, precision="fp16").latency_ms
    slow, fast = (pass_from_name("prune")(if_it_pays=True, fps_min=1e3 / ms, label_frames=3,
                                          calibration_frames=4)
                  for ms in (0.8 * timed.high, 1.01 * timed.high))  # fmt: skip
    (cut,) = run_passes(first, [slow], tmp_path / "store", context)
    after = predict(read_costs(cut.bundle), NANO, precision="fp16").latency_ms
    assert 0.7 * timed.high < after.high <= 0.8 * timed.high
    (left,) = run_passes(first, [fast], tmp_path / "store", context)
    assert "predicted to be fast enough" in left.refusal.reason
    assert left.bundle == first


def test_a_net_that_cannot_be_followed_is_left_whole_with_the_reason(train, tmp_path):
    first = imported("tests.compress.user_nets:sly", tmp_path)
    prune = pass_from_name("prune")(if_it_pays=True)
    (result,) = run_passes(first, [prune], tmp_path / "store", around(first, train, tmp_path))
    assert "torch.export can follow" in result.refusal.reason
    assert "data-dependent" in result.refusal.instead


def test_questions_estimate_what_the_outputs_change_by():
    """E (sum of a dL/da)^2 over signs is the squared change of the outputs in their spreads."""
    net = torch.nn.Linear(3, 4, bias=False)
    frame = np.full((8, 8, 3), 100, np.uint8)
    scene = box_scene(1)
    prepare = msgspec.structs.replace(scene.preprocess, height=8, width=8)

    def mean(images):
        return net(images.mean((2, 3)))

    lessons = OutputLessons(teacher=net, names=("scores",), frames=(frame,), preprocess=prepare)
    found = []
    for (images,), loss in lessons.questions(400, False, 0):
        gate = torch.ones(3, requires_grad=True)
        (grad,) = torch.autograd.grad(loss(mean(images * gate[None, :, None, None])), gate)
        found.append(grad.square())
    inputs = torch.from_numpy(prepare(frame)).mean((2, 3))
    outputs = net(inputs)
    change = net.weight * inputs  # (4, 3): what each input adds to each output
    wanted = (change / outputs.std(unbiased=False)).square().sum(0) / 4
    assert torch.allclose(torch.stack(found).mean(0), wanted, rtol=0.3)


def test_a_net_of_one_frame_is_looped_and_any_other_is_left_alone():
    single, plain = user_nets.one_frame(), user_nets.wide()
    example = (torch.zeros(1, 3, 96, 96),)
    assert takes_batches(plain, example) is plain
    looped = takes_batches(single, example)
    assert looped is not single
    images = torch.rand(3, 3, 96, 96)
    with torch.no_grad():
        rows = torch.cat([single(image[None]) for image in images])
        assert torch.equal(looped(images), rows)
    assert next(looped.parameters()) is next(single.parameters())
