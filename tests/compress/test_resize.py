"""A net for another image size: same weights, other costs; refused where sizes do not compare."""

from __future__ import annotations

import shutil

import msgspec
import numpy as np
import pytest

from compress.import_model import import_model, source_from_text
from compress.passes import Context, PassError, run_passes
from compress.progress import Quiet
from compress.resize import Resize
from devices.profile import load_profile
from edge.bundle import seal
from edge.gate import read_costs
from edge.heads import RawHead, SsdHead

ort = pytest.importorskip("onnxruntime", reason="needs the extra 'compress'")
torch = pytest.importorskip("torch", reason="needs the extra 'compress'")

SMALL = "tests.compress.user_nets:small"


@pytest.fixture
def first(tmp_path):
    source = source_from_text(SMALL, spec=None, image_hw=None)
    return import_model(source, load_profile("jetson-nano"), tmp_path / "store", lambda name: None)


def _context(tmp_path):
    return Context(profile=load_profile("jetson-nano"), train=None, teacher=None,
                   progress=Quiet(), scratch=tmp_path / "store")  # fmt: skip


def resized(first, tmp_path, height, width):
    step = Resize(height=height, width=width)
    (result,) = run_passes(first, (step,), tmp_path / "store", _context(tmp_path))
    return result


def test_a_resized_net_has_its_weights_answers_at_the_new_size_and_costs_by_its_pixels(
    first, tmp_path
):
    from tests.compress.user_nets import small

    bundle = resized(first, tmp_path, 16, 24).bundle
    manifest = bundle.manifest
    assert manifest.inputs[0].shape == (1, 3, 16, 24)
    assert (manifest.preprocess.height, manifest.preprocess.width) == (16, 24)
    assert manifest.outputs == first.manifest.outputs
    images = np.random.default_rng(0).random((1, 3, 16, 24), np.float32)
    session = ort.InferenceSession(str(bundle.path("model.onnx")))
    (given,) = session.run(None, {"images": images})
    with torch.no_grad():
        np.testing.assert_allclose(given, small()(torch.from_numpy(images)), atol=1e-5)
    convs = [kernel for kernel in read_costs(bundle).kernels if kernel.op == "conv"]
    whole = [kernel for kernel in read_costs(first).kernels if kernel.op == "conv"]
    pairs = zip(convs, whole, strict=True)
    assert [here.macs * 32 * 32 == there.macs * 16 * 24 for here, there in pairs] == [True] * 2
    assert [step.name for step in manifest.lineage] == ["import", "resize"]


def test_the_size_it_has_is_a_broken_promise(first, tmp_path):
    with pytest.raises(PassError, match="the size it had"):
        resized(first, tmp_path, 32, 32)


@pytest.mark.parametrize("height", [0, -1, 10**6])
def test_an_impossible_size_is_refused_when_a_recipe_is_read(height):
    with pytest.raises(ValueError, match="height and width"):
        Resize(height=height, width=32)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"head": SsdHead()}, "anchors"),
        ({"head": RawHead()}, "nobody said what its outputs mean"),
        ({}, "holds no net"),
    ],
)
def test_a_net_whose_sizes_do_not_compare_keeps_its_own(first, tmp_path, changed, reason):
    folder = tmp_path / "other"
    shutil.copytree(first.root, folder)
    (folder / "manifest.json").unlink()
    if not changed:
        shutil.rmtree(folder / "workshop")
    other = seal(folder, msgspec.structs.replace(first.manifest, files={}, **changed))
    result = resized(other, tmp_path, 16, 16)
    assert reason in result.refusal.reason
    assert result.bundle is other


def test_a_net_of_one_size_alone_says_so(tmp_path):
    source = source_from_text("tests.compress.search.fixed_net:one_size", spec=None, image_hw=None)
    first = import_model(source, load_profile("jetson-nano"), tmp_path / "store", lambda n: None)
    with pytest.raises(PassError, match="a net that takes any size"):
        resized(first, tmp_path, 16, 16)
