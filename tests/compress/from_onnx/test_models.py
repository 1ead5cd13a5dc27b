"""Real detectors that come as ONNX files alone: converted, proven, cut and written back."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

torch = pytest.importorskip("torch", reason="pip install 'jetpress[compress]'")

from compress.channels.measure import difference  # noqa: E402
from compress.channels.prune import groups_of, prune_module  # noqa: E402
from compress.from_onnx.convert import module_from_onnx  # noqa: E402
from compress.from_onnx.prove import prove, random_feeds  # noqa: E402
from compress.from_onnx.write_back import write_weights  # noqa: E402
from tests.compress.channels.chosen import random_plan  # noqa: E402

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "models"
# name -> how many groups there are, how many of them can be cut
MODELS = {"fastestdet": (28, 22), "yolox_nano": (70, 67), "yunet_n_320_320": (34, 16)}

pytestmark = pytest.mark.slow


@pytest.fixture(params=MODELS)
def model(request):
    path = FOLDER / f"{request.param}.onnx"
    if not path.is_file():
        pytest.skip(f"{path.name} is not beside the checkout")
    return request.param, onnx.load(path)


def test_a_detector_converts_takes_batches_and_writes_back(model):
    _, file = model
    module = module_from_onnx(file)
    proof = prove(file, module)
    assert proof.output_error_ratio < 1e-4 or proof.node_error_ratio < 1e-5
    (frame,) = (torch.from_numpy(value) for value in random_feeds(file).values())
    with torch.no_grad():
        one, other = (module(each) for each in (frame, frame.flip(3)))
        both = module(torch.cat([frame, frame.flip(3)]))
    several = [value if isinstance(value, tuple) else (value,) for value in (one, other, both)]
    for a, b, joined in zip(*several, strict=True):
        assert difference(torch.cat([a, b]), joined) < 1e-3
    assert write_weights(file, module).SerializeToString() == file.SerializeToString()


def test_a_detectors_channels_are_found_and_cut(model):
    name, file = model
    module = module_from_onnx(file)
    example = tuple(torch.from_numpy(value) for value in random_feeds(file).values())
    groups = groups_of(module, example)
    free = [group for group in groups if group.refusal is None]
    assert (len(groups), len(free)) == MODELS[name]
    cut = prune_module(module, example, random_plan(groups, 1), groups=groups)
    assert cut.error_ratio < 1e-4
    assert cut.batch_is_free
