"""Each net of the zoo exports, and quantizes to a file that TensorRT reads as it is written."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")
onnx = pytest.importorskip("onnx", reason="needs the extra 'compress'")
pytest.importorskip("onnxruntime", reason="needs the extra 'compress'")
pytest.importorskip("nncf", reason="needs the extra 'compress'")

from compress.export import Names, export_onnx  # noqa: E402
from compress.lint import lint  # noqa: E402
from compress.quantize.int8 import Int8Options, quantize_int8  # noqa: E402
from compress.quantize.session import open_session  # noqa: E402
from compress.rtx import parse_and_build  # noqa: E402
from devices.errors import MissingExtraError  # noqa: E402
from tests.compress.small_zoo import SMALL, named, net_of, picture  # noqa: E402

TOLERANCE = 1e-4  # of the largest value, torch beside ONNX Runtime


def exported(net, path, opset):
    names = tuple(named(net(picture(net))))
    export_onnx(net, (torch.zeros(1, 3, *net.image_hw),), path, names=Names(outputs=names),
                opset=opset)  # fmt: skip
    return onnx.load(path)


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("name", SMALL)
def test_it_exports_and_onnx_computes_the_same(name, opset, tmp_path):
    net = net_of(name)
    model = exported(net, tmp_path / "m.onnx", opset)
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [opset]
    session = open_session(model)
    names = [output.name for output in session.get_outputs()]
    x = picture(net, 5)
    got = dict(zip(names, session.run(names, {"images": x.numpy()}), strict=True))
    with torch.no_grad():
        want = named(net(x))
    assert list(want) == names
    for key, value in want.items():
        np.testing.assert_allclose(got[key], value.numpy(), atol=TOLERANCE * value.abs().max())


@pytest.mark.parametrize("name", SMALL)
def test_it_quantizes_to_a_file_that_lint_and_nvidias_parser_take(name, tmp_path):
    net = net_of(name)
    exported(net, tmp_path / "m.onnx", 17)
    feeds = [{"images": picture(net, seed).numpy()} for seed in range(2)]
    options = Int8Options(keep_float=())
    result = quantize_int8(tmp_path / "m.onnx", feeds, tmp_path / "int8.onnx", options)
    convs = sum(isinstance(module, torch.nn.Conv2d) for module in net.modules())
    assert result.quantized >= convs
    assert lint(onnx.load(tmp_path / "int8.onnx"), 17, int8_legal=True) == ()
    try:
        seen = [parse_and_build(tmp_path / file) for file in ("m.onnx", "int8.onnx")]
    except MissingExtraError:
        pytest.skip("no tensorrt_rtx here, so NVIDIA's parser was not asked")
    assert [(each.parsed, each.built, each.qdq_warnings) for each in seen] == [(True, True, ())] * 2
