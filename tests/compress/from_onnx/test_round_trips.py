"""Net -> ONNX -> module: groups, cuts, statistics and exports are those of the net it came from."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="pip install 'jetpress[compress]'")

from compress.channels.measure import difference  # noqa: E402
from compress.channels.prune import groups_of, prune_module  # noqa: E402
from compress.export import Names, export_onnx  # noqa: E402
from compress.from_onnx.convert import module_from_onnx  # noqa: E402
from compress.from_onnx.prove import prove  # noqa: E402
from tests.compress.channels.chosen import random_plan  # noqa: E402
from tests.compress.channels.nets import KEPT, NETS, made  # noqa: E402
from tests.compress.from_onnx.graphs import by_module, by_runtime, graph, node  # noqa: E402
from tests.compress.qdq_graphs import Builder  # noqa: E402
from tests.compress.small_nets import FRAME, norm_net, residual_net  # noqa: E402
from tests.compress.uneven_nets import uneven_net  # noqa: E402

pytestmark = pytest.mark.filterwarnings(  # of the exporter about itself
    "ignore::torch.jit.TracerWarning",
    "ignore::DeprecationWarning",
    "ignore:ONNX export mode is set to:UserWarning",
)

TESTS = Path(__file__).parents[2]
PICTURE = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
FILES = ["edge/tiny.onnx", "edge/tensorrt/tiny_qdq.onnx", "edge/tensorrt/tiny_scaled.onnx",
         "edge/tensorrt/tiny_strong.onnx"]  # fmt: skip
SMALL = {"residual": residual_net, "norm": norm_net, "uneven": uneven_net,
         "opset 9": lambda: residual_net(9)}  # fmt: skip


def exported(net, folder, *, opset=13):
    """The net's file by our own exporter; outputs are called y0, y1, ..."""
    with torch.no_grad():
        found = net(PICTURE)
    count = len(found) if isinstance(found, tuple | list | dict) else 1
    names = Names(inputs=("x",), outputs=tuple(f"y{at}" for at in range(count)))
    export_onnx(net, (PICTURE,), folder / "net.onnx", names=names, opset=opset)
    return onnx.load(folder / "net.onnx")


def unfolded(net):
    """The net's file with its batch norms as they are, as training code exports it."""
    data = io.BytesIO()
    torch.onnx.export(
        net,
        (PICTURE,),
        data,
        dynamo=False,
        opset_version=13,
        input_names=["x"],
        do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE,
    )
    return onnx.load_from_string(data.getvalue())


def exports_the_same(module, example, folder, opset=13):
    """What the module's own export gives in ONNX Runtime is what the module gives."""
    wanted = module(*example)
    outputs = wanted if isinstance(wanted, tuple) else (wanted,)
    names = Names(inputs=tuple(f"in{at}" for at in range(len(example))),
                  outputs=tuple(f"out{at}" for at in range(len(outputs))))  # fmt: skip
    export_onnx(module, example, folder / "again.onnx", names=names, opset=opset)
    feeds = {name: value.numpy() for name, value in zip(names.inputs, example, strict=True)}
    found = by_runtime(onnx.load(folder / "again.onnx"), feeds)
    for a, b in zip(outputs, found, strict=True):
        half = "float16" in {str(tensor.dtype)[6:] for tensor in module.state_dict().values()}
        room = (1e-2 if half else 1e-4) * float(a.detach().abs().max())
        np.testing.assert_allclose(b, a.detach().numpy(), rtol=0, atol=room)


def sizes(groups):
    return sorted((group.width, len(group.free)) for group in groups if group.refusal is None)


# Their exporter folds a norm into each call of a shared layer, which makes it several layers.
SPLIT = ("Shared", "Detector")
NO_FILE = ("Functional",)  # the exporter writes a ConvTranspose that has no shape
QUICK = ("Plain", "InvertedResidual", "SqueezeExcite", "Shuffle", "Mixed", "Norms")
CUT = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
       for name in NETS if name not in SPLIT + NO_FILE]  # fmt: skip


@pytest.mark.parametrize("name", CUT)
def test_the_groups_of_a_net_survive_its_file_and_can_be_cut(name, tmp_path):
    net = made(NETS[name])
    module = module_from_onnx(exported(net, tmp_path), feeds={"x": PICTURE.numpy()})
    groups = groups_of(module, (PICTURE,))
    assert sizes(groups) == sizes(groups_of(net, (PICTURE,)))
    cut = prune_module(module, (PICTURE,), random_plan(groups, 3), groups=groups)
    assert cut.error_ratio < 1e-4
    exports_the_same(cut.module, (PICTURE,), tmp_path)


@pytest.mark.parametrize("name", [*SPLIT, "Attention", "Fused", "SoftChannels"])
def test_nets_whose_channels_are_kept_convert_and_export(name, tmp_path):
    net = made(NETS[name] if name in NETS else KEPT[name][0])
    model = exported(net, tmp_path, opset=17)
    module = module_from_onnx(model, feeds={"x": PICTURE.numpy()})
    exports_the_same(module, (PICTURE,), tmp_path, opset=17)


@pytest.mark.parametrize("name", FILES)
def test_the_small_files_of_the_tests_convert_and_export(name, tmp_path):
    model = onnx.load(TESTS / name)
    module = module_from_onnx(TESTS / name)
    example = tuple(torch.from_numpy(value) for value in _feeds(model).values())
    exports_the_same(module, example, tmp_path)


@pytest.mark.parametrize("name", SMALL)
def test_a_graph_converts_cuts_and_exports(name, tmp_path):
    model = SMALL[name]()
    module = module_from_onnx(model)
    example = (torch.randn(FRAME, generator=torch.Generator().manual_seed(2)),)
    exports_the_same(module, example, tmp_path)
    groups = groups_of(module, example)
    cut = prune_module(module, example, random_plan(groups, 1), groups=groups)
    exports_the_same(cut.module, example, tmp_path)


def test_a_quantized_graph_exports_what_it_computes(tmp_path):
    n = Builder(seed=2)
    model = n.model(n.op("Relu", n.conv(n.pair("x", 0.03), 3, 8)), (1, 3, 8, 8))
    exports_the_same(module_from_onnx(model), (torch.randn(1, 3, 8, 8),), tmp_path)


def _feeds(model):
    from compress.from_onnx.prove import random_feeds

    return random_feeds(model)


def test_batch_norms_of_a_file_have_statistics_that_follow_the_batch():
    net = made(NETS["Residual"])
    module = module_from_onnx(unfolded(net), feeds={"x": PICTURE.numpy()})
    batch = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(net.eval()(batch), module(batch), atol=1e-5)
    net.train(), module.train()
    assert torch.allclose(net(batch), module(batch), atol=1e-5)
    names = [name for name, _ in net.named_buffers() if "num_batches" not in name]
    assert names
    ours = dict(module.named_buffers())
    for name in names:
        assert torch.allclose(ours[name], net.get_buffer(name), atol=1e-6)
    assert torch.allclose(net.eval()(batch), module.eval()(batch), atol=1e-5)


def test_gradients_are_those_of_the_net_the_file_came_from():
    net = made(NETS["Residual"])
    module = module_from_onnx(unfolded(net), feeds={"x": PICTURE.numpy()})
    for each in (net.eval(), module):
        each(PICTURE).square().sum().backward()
    wanted = {name: tensor.grad for name, tensor in net.named_parameters()}
    found = {name: tensor.grad for name, tensor in module.named_parameters()}
    assert wanted.keys() == found.keys()
    for name, grad in wanted.items():
        assert torch.allclose(found[name], grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["Shuffle", "Detector", "Flatten"])
def test_a_file_of_one_frame_takes_a_batch(name, tmp_path):
    net = made(NETS[name])
    module = module_from_onnx(exported(net, tmp_path), feeds={"x": PICTURE.numpy()})
    frames = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        assert difference(tuple(_several(net(frames))), tuple(_several(module(frames)))) < 1e-4


def test_a_shuffle_that_merges_the_batch_with_channels_takes_a_batch():
    nodes = [node("Reshape", "x a", "r"), node("Transpose", "r", "t", perm=[1, 0, 2]),
             node("Reshape", "t b", "p"), node("Gather", "p zero", "l", axis=0),
             node("Gather", "p one", "m", axis=0), node("Concat", "m l", axis=1)]  # fmt: skip
    shapes = {"a": np.int64([3, 2, 20]), "b": np.int64([2, -1, 3, 4, 5]), "zero": np.int64(0),
              "one": np.int64(1)}  # fmt: skip
    model, feeds = graph(nodes, {"x": (1, 6, 4, 5)}, shapes)
    module = module_from_onnx(model, feeds=feeds)
    frames = torch.randn(3, 6, 4, 5, generator=torch.Generator().manual_seed(5))
    wanted = torch.cat([module(frame[None]) for frame in frames])
    assert torch.equal(module(frames), wanted)
    assert torch.equal(wanted, frames.reshape(3, 3, 2, 4, 5).transpose(1, 2).flip(1).flatten(1, 2))


def test_frames_are_never_mixed_up_where_the_batch_is_not_in_front():
    nodes = [node("Transpose", "x", "t", perm=[1, 0, 2]), node("Reshape", "t n")]
    model, feeds = graph(nodes, {"x": (1, 6, 4)}, {"n": np.int64([6, 2, 2])})
    module = module_from_onnx(model, feeds=feeds)
    assert module(torch.randn(2, 6, 4)).shape == (6, 4, 2)


def _several(value):
    return value if isinstance(value, tuple | list) else [value]


def test_the_same_file_gives_the_same_names_and_leaves_the_random_state_alone():
    model = residual_net()
    before = torch.get_rng_state()
    first, second = module_from_onnx(model), module_from_onnx(model)
    assert torch.equal(before, torch.get_rng_state())
    assert list(first.state_dict()) == list(second.state_dict())
    assert first.code == second.code


@pytest.mark.assets
@pytest.mark.slow
def test_the_packaged_student_converts_and_its_groups_are_those_of_its_own_code(
    assets_cache, tmp_path
):
    from compress.export import export_detector
    from compress.zoo.ssd_mobilenet import build_student

    net = build_student(assets_cache["student"]).eval()
    export_detector(net, tmp_path / "student.onnx", opset=13)
    model = onnx.load(tmp_path / "student.onnx")
    module = module_from_onnx(model)
    assert prove(model, module).output_error_ratio < 1e-4
    picture = (torch.zeros(1, 3, net.arch.size, net.arch.size),)
    assert sizes(groups_of(module, picture)) == sizes(groups_of(net, picture))
    assert [a.shape for a in by_module(module, {"x": picture[0].numpy()})] == [
        tuple(b.shape) for b in net(*picture)
    ]
