import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from compress.export import ExportError, Names, export_detector, export_onnx, load_factory
from compress.zoo.arch import student_arch
from compress.zoo.ssd_mobilenet import build

torch = pytest.importorskip("torch", reason="exports PyTorch modules")
torch.set_num_threads(1)  # small nets: threads cost more than they give
onnx = pytest.importorskip("onnx", reason="reads what was exported")
ort = pytest.importorskip("onnxruntime", reason="runs what was exported")

NAMES = Names(inputs=("x",), outputs=("y",))


def run(path, **feeds):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def export(module, path, *, shape=(1, 4, 8, 8), opset=13, names=NAMES):
    image = torch.rand(*shape)
    export_onnx(module, (image,), path, names=names, opset=opset)
    return onnx.load(path), image


class Folding(torch.nn.Module):
    """Pads, shapes and scalars that an exporter turns into nodes."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(4, 6, 3, stride=2, bias=False)
        self.norm = torch.nn.BatchNorm2d(6)
        torch.nn.init.normal_(self.norm.running_mean)

    def forward(self, x):
        y = self.norm(self.conv(torch.nn.functional.pad(x, (0, 1, 0, 1))))
        return y.permute(0, 2, 3, 1).reshape(x.shape[0], -1, 3)


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    net = build(student_arch())
    for name, value in net.named_buffers():
        if name.endswith("running_mean"):
            torch.nn.init.normal_(value, std=0.1)
    return net


@pytest.mark.parametrize("opset", [13, 17])
def test_a_detector_becomes_a_graph_of_six_operations(detector, tmp_path, opset):
    path = tmp_path / "net.onnx"
    export_detector(detector, path, opset=opset)
    model = onnx.load(path)
    assert Counter(node.op_type for node in model.graph.node) == {
        "Conv": 88, "Clip": 59, "Transpose": 12, "Reshape": 12, "Add": 10, "Concat": 2,
    }  # fmt: skip
    assert [(o.domain, o.version) for o in model.opset_import] == [("", opset)]
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "images": [1, 3, 300, 300], "logits": [1, 1917, 2], "boxes": [1, 1917, 4],
    }  # fmt: skip


def test_a_detector_computes_the_same_in_onnx_runtime(detector, tmp_path):
    path = tmp_path / "net.onnx"
    export_detector(detector, path, opset=13)
    image = torch.rand(1, 3, 300, 300) * 2 - 1
    with torch.no_grad():
        expected = detector(image)
    for ours, theirs in zip(run(path, images=image.numpy()), expected, strict=True):
        assert np.abs(ours).max() > 1e-3
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4)


def test_the_same_weights_give_the_same_bytes(detector, tmp_path):
    for name in ("a.onnx", "b.onnx"):
        export_detector(detector, tmp_path / name, opset=13)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_other_weights_give_other_bytes(tmp_path):
    for seed in (1, 2):
        torch.manual_seed(seed)
        export(torch.nn.Conv2d(4, 4, 1), tmp_path / f"{seed}.onnx")
    assert (tmp_path / "1.onnx").read_bytes() != (tmp_path / "2.onnx").read_bytes()


def test_the_file_says_nothing_about_where_and_how_it_was_made(detector, tmp_path):
    path = tmp_path / "net.onnx"
    export_detector(detector, path, opset=13)
    data = path.read_bytes()
    for word in (b"pytorch", b"site-packages", b".py", str(Path.cwd()).encode()):
        assert word not in data
    model = onnx.load(path)
    assert not model.metadata_props
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)


def test_weights_are_named_after_their_modules(detector, tmp_path):
    path = tmp_path / "net.onnx"
    export_detector(detector, path, opset=13)
    names = {tensor.name for tensor in onnx.load(path).graph.initializer}
    assert {"stem.conv.weight", "blocks.3.expand.conv.bias", "last.conv.weight",
            "extras.0.depthwise.conv.weight", "heads.5.boxes.predict.bias"} <= names  # fmt: skip


def test_shapes_pads_and_norms_of_any_module_are_folded(tmp_path):
    module = Folding().eval()
    model, image = export(module, tmp_path / "m.onnx")
    assert [node.op_type for node in model.graph.node] == ["Conv", "Transpose", "Reshape"]
    pads = next(a for a in model.graph.node[0].attribute if a.name == "pads")
    assert list(pads.ints) == [0, 0, 1, 1]
    with torch.no_grad():
        expected = module(image).numpy()
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x=image.numpy())[0], expected, atol=1e-5)


class Padded(torch.nn.Module):
    def __init__(self, value, mode="constant"):
        super().__init__()
        self.value, self.mode = value, mode
        self.conv = torch.nn.Conv2d(4, 4, 3)

    def forward(self, x):
        return self.conv(torch.nn.functional.pad(x, (1, 1, 1, 1), mode=self.mode, value=self.value))


@pytest.mark.parametrize(("value", "mode"), [(1.0, "constant"), (None, "reflect")])
def test_a_pad_that_is_not_zeros_stays(tmp_path, value, mode):
    module = Padded(value, mode).eval()
    model, image = export(module, tmp_path / "m.onnx")
    assert [node.op_type for node in model.graph.node] == ["Pad", "Conv"]
    with torch.no_grad():
        expected = module(image).numpy()
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x=image.numpy())[0], expected, atol=1e-5)


def test_a_pad_that_something_else_reads_stays(tmp_path):
    class Shared(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(4, 4, 3)

        def forward(self, x):
            wide = torch.nn.functional.pad(x, (1, 1, 1, 1))
            return self.conv(wide) + wide[:, :, 1:-1, 1:-1]

    module = Shared().eval()
    model, image = export(module, tmp_path / "m.onnx")
    assert "Pad" in [node.op_type for node in model.graph.node]
    with torch.no_grad():
        expected = module(image).numpy()
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x=image.numpy())[0], expected, atol=1e-5)


class Branching(torch.nn.Module):
    """A branch that only the numbers decide, and that reads a weight the rest reads not."""

    def __init__(self):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.full((4, 1, 1), 0.25))

    def forward(self, x):
        if bool(x.sum() > 0):
            return x + self.shift
        return x * 2.0


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_a_weight_that_only_a_branch_reads_is_kept(tmp_path):
    module = torch.jit.script(Branching().eval())
    model, image = export(module, tmp_path / "m.onnx")
    assert "If" in [node.op_type for node in model.graph.node]
    for x in (image, -image):
        with torch.no_grad():
            expected = module(x).numpy()
        np.testing.assert_allclose(run(tmp_path / "m.onnx", x=x.numpy())[0], expected, atol=1e-6)


def test_the_module_is_left_in_training_mode_when_it_was(tmp_path):
    module = Folding().train()
    mean = module.norm.running_mean.clone()
    export(module, tmp_path / "m.onnx")
    assert module.training
    assert torch.equal(module.norm.running_mean, mean)


def test_an_operation_onnx_lacks_is_refused(tmp_path):
    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.linalg.eigvals(x).real

    with pytest.raises(ExportError, match=r"Odd: found .*expected operations ONNX has at opset 13"):
        export(Odd(), tmp_path / "m.onnx", shape=(1, 1, 3, 3))
    assert not (tmp_path / "m.onnx").exists()


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "mynets.py").write_text(
        "import torch\n"
        "WIDTH = 4\n"
        "def small():\n    return torch.nn.Conv2d(3, WIDTH, 1)\n"
        "def nothing():\n    pass\n"
        "def wide(width):\n    return torch.nn.Conv2d(3, width, 1)\n"
        "def weights():\n    open('no-such-file.pt')\n"
        "def silent():\n    raise AssertionError\n"
        "def shouting():\n    raise Exception('\\nfirst words\\nmore')\n"
        "def leaving():\n    raise SystemExit(3)\n"
    )
    (tmp_path / "broken.py").write_text("import a_package_nobody_has\n")
    (tmp_path / "misspelt.py").write_text("def f(:\n")
    (tmp_path / "script.py").write_text("import sys\nsys.exit('usage: script.py FILE')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("mynets", None)


def test_a_factory_is_called_and_its_module_set_to_eval(package):
    module = load_factory("mynets:small")
    assert isinstance(module, torch.nn.Conv2d)
    assert not module.training


def test_a_factory_gives_the_same_random_weights_each_time_and_leaves_the_generator(package):
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, second = load_factory("mynets:small"), load_factory("mynets:small")
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_forward_that_fails_while_it_is_traced_is_refused(tmp_path):
    class Short(torch.nn.Module):
        def forward(self, x):
            raise KeyError("no such layer")

    with pytest.raises(ExportError, match=r"Short: found KeyError: .*no such layer.* \(tracing"):
        export(Short().train(), tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("mynets", "no 'module:factory' pair"),
        (":small", "no 'module:factory' pair"),
        ("no_such_module:small", "no module 'no_such_module'"),
        ("broken:small", "no module 'a_package_nobody_has'"),
        ("mynets:smal", "no 'smal' in mynets.*did you mean 'small'"),
        ("mynets:WIDTH", "a int; expected a function"),
        ("mynets:nothing", "a NoneType returned"),
        ("mynets:wide", r"mynets:wide: found TypeError: .*'width' \(calling the factory.*default"),
        ("mynets:weights", r"mynets:weights: found FileNotFoundError: .*no-such-file\.pt"),
        ("mynets:silent", r"found AssertionError \(calling"),
        ("mynets:shouting", r"found Exception: first words \(calling"),
        ("mynets:leaving", r"found SystemExit: 3 \(calling"),
        ("misspelt:f", r"found SyntaxError: .*\(importing misspelt\)"),
        ("script:f", r"found SystemExit: usage: script\.py FILE .*__main__"),
    ],
)
def test_a_factory_that_gives_no_module_is_refused(package, reference, words):
    with pytest.raises(ExportError, match=words):
        load_factory(reference)
