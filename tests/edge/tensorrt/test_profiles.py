"""Only a model's batch may be open; its sizes become one profile that holds for all inputs."""

from __future__ import annotations

import types

import pytest

from edge.engines.tensorrt.build import BuildJob, build
from edge.engines.tensorrt.errors import BuildError
from edge.engines.tensorrt.log import Heard
from edge.engines.tensorrt.profiles import add_batches, open_inputs
from edge.engines.tensorrt.settings import BuildSettings
from edge.errors import EngineError
from tests.edge.tensorrt.fake import VERSIONS, made
from tests.edge.tensorrt.fake_build import opened_plan
from tests.edge.tensorrt.fake_cuda import ORIN
from tests.edge.tensorrt.onnx_bytes import model, node

ONE = (1, 1, 1)


class Inputs:
    """A network as its inputs: name, sizes, and whether it is a shape."""

    def __init__(self, *inputs):
        self._inputs = [
            types.SimpleNamespace(name=name, shape=shape, is_shape_tensor=is_shape)
            for name, shape, is_shape in inputs
        ]
        self.num_inputs = len(inputs)

    def get_input(self, index):
        return self._inputs[index]


def tensors(**shapes):
    return Inputs(*((name, shape, False) for name, shape in shapes.items()))


@pytest.mark.parametrize(
    ("shapes", "batch", "opened"),
    [
        ({"images": (1, 3, 48, 64)}, ONE, ()),
        ({"images": (-1, 3, 48, 64)}, ONE, (("images", (-1, 3, 48, 64)),)),
        ({"images": (-1, 3, 48, 64)}, (1, 2, 4), (("images", (-1, 3, 48, 64)),)),
        ({"a": (-1, 3), "b": (2, 5), "c": (-1,)}, (1, 2, 4), (("a", (-1, 3)), ("c", (-1,)))),
        ({"scalar": ()}, ONE, ()),
        ({}, ONE, ()),
    ],
    ids=["fixed", "open", "open for more", "some open", "without sizes", "no inputs"],
)
def test_the_inputs_whose_batch_is_open_in_their_order(shapes, batch, opened):
    assert open_inputs(tensors(**shapes), batch) == opened


@pytest.mark.parametrize(
    ("shape", "shown"),
    [((-1, 3, -1, -1), "?x3x?x?"), ((1, 3, -1, 64), "1x3x?x64"), ((1, -1), "1x?")],
)
def test_another_size_that_is_open_is_refused_and_shown(shape, shown):
    with pytest.raises(EngineError, match="only the batch may be open") as caught:
        open_inputs(tensors(fixed=(1, 3), images=shape), ONE)
    assert (caught.value.where, caught.value.found) == ("input 'images'", f"shape {shown}")
    assert "fixed height and width" in caught.value.cure


def test_an_input_that_is_a_shape_is_refused_whatever_its_sizes():
    network = Inputs(("images", (1, 3), False), ("sizes", (4,), True))
    with pytest.raises(EngineError, match="found a shape as input") as caught:
        open_inputs(network, ONE)
    assert caught.value.where == "input 'sizes'"


@pytest.mark.parametrize("batch", [(1, 1, 2), (1, 4, 4), (2, 2, 2)])
def test_a_batch_that_the_file_fixes_cannot_be_asked_for(batch):
    with pytest.raises(EngineError, match="a batch that is fixed in the file") as caught:
        open_inputs(tensors(images=(1, 3, 48, 64)), batch)
    assert f"a batch of {batch[0]} to {batch[2]}" in caught.value.expected


@pytest.mark.parametrize("version", VERSIONS)
def test_all_inputs_share_one_profile_and_their_batches_rise_together(version):
    trt, machine = made(version)
    config = trt.IBuilderConfig()
    inputs = (("images", (-1, 3, 48, 64)), ("boxes", (-1, 4)), ("scores", (-1,)))
    profile = add_batches(trt.Builder(trt.Logger()), config, Heard(), inputs, (1, 2, 8))
    assert config._profiles == [profile]
    assert machine.count("Builder.create_optimization_profile") == 1
    assert profile._shapes == {
        "images": [[1, 3, 48, 64], [2, 3, 48, 64], [8, 3, 48, 64]],
        "boxes": [[1, 4], [2, 4], [8, 4]],
        "scores": [[1], [2], [8]],
    }


@pytest.mark.parametrize("error", [ValueError, RuntimeError])
def test_shapes_that_tensorrt_does_not_take_are_a_build_error(error):
    trt, _ = made("10.3.0")

    def refuse(self, *shapes):
        raise error("Shapes provided were not valid")

    trt.IOptimizationProfile.set_shape = refuse
    config = trt.IBuilderConfig()
    with pytest.raises(BuildError, match="found Shapes provided were not valid") as caught:
        add_batches(trt.Builder(trt.Logger()), config, Heard(), (("x", (-1, 3)),), (1, 2, 4))
    assert caught.value.where == "a batch of 1 to 4, 2 as a rule"
    assert isinstance(caught.value.__cause__, error)
    assert config._profiles == []


def test_a_profile_that_tensorrt_does_not_take_is_explained_by_its_log():
    trt, _ = made("10.3.0")
    heard = Heard()
    heard.error("MIN<=OPT<=MAX is not so")
    config = trt.IBuilderConfig()
    with pytest.raises(BuildError, match="found MIN<=OPT<=MAX is not so"):
        add_batches(trt.Builder(trt.Logger()), config, heard, (("x", (-1, 3)),), (4, 2, 1))
    assert config._profiles == []


@pytest.mark.parametrize("version", ["8.0.1", "8.6.1", "10.3.0", "11.4.0"])
def test_a_build_makes_a_profile_for_an_open_batch_alone(version):
    relu = node("Relu", "x", "y")
    for shape, batch, profiles in (
        ((1, 4), ONE, []),
        ((-1, 4), ONE, [{"x": [[1, 4]] * 3}]),
        ((-1, 4), (1, 2, 4), [{"x": [[1, 4], [2, 4], [4, 4]]}]),
    ):
        trt, _ = made(version)
        settings = BuildSettings(precision="fp32", workspace_mb=16, batch=batch)
        built = build(trt, model(relu, shape=shape), settings, BuildJob(proof=ORIN))
        assert opened_plan(built.plan)[0]["profiles"] == profiles
