"""On a DLA: what cannot be is refused before the build, and each layer left to the GPU is named."""

from __future__ import annotations

import types

import pytest

from edge.engines.tensorrt.dla import place_on_dla, require_dla
from edge.engines.tensorrt.settings import BuildSettings
from edge.errors import EngineError
from tests.edge.tensorrt.fake import VERSIONS, made

SOME = ["8.0.1", "8.5.2", "10.3.0", "11.4.0"]


def settings(**changes):
    return BuildSettings(**{"precision": "fp16", "workspace_mb": 16, "dla_core": 0, **changes})


def builder(version, cores=2, batch_max=None):
    trt, machine = made(version, script={"dla_cores": cores})
    made_builder = trt.Builder(trt.Logger())
    if batch_max is not None:
        made_builder.max_DLA_batch_size = batch_max
    return trt, made_builder, machine


class Layers:
    """A network as its layers: (name, kind in trt.LayerType)."""

    def __init__(self, trt, layers):
        self._layers = [
            types.SimpleNamespace(name=name, type=getattr(trt.LayerType, kind))
            for name, kind in layers
        ]
        self.num_layers = len(layers)

    def get_layer(self, index):
        return self._layers[index]


def placed(version, layers, refused=(), core=1):
    """The refusals, and the configuration they left."""
    trt, _ = made(version, script={"dla_refuses": refused})
    config = trt.IBuilderConfig()
    return place_on_dla(trt, config, Layers(trt, layers), core), config


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_dla_can_run_is_not_refused(version):
    trt, found, _ = builder(version)
    for fine in (settings(), settings(dla_core=1), settings(precision="int8"),
                 settings(batch=(4, 4, 4))):  # fmt: skip
        require_dla(trt, found, fine)


@pytest.mark.parametrize(
    ("cores", "changes", "found", "cure"),
    [
        (0, {}, "none with TensorRT 10.3.0", "build for the GPU"),
        (1, {"dla_core": 1}, "cores 0 to 0; expected core 1", "name a core that is there"),
        (2, {"dla_core": 2}, "cores 0 to 1; expected core 2", "name a core that is there"),
        (2, {"precision": "fp32"}, "precision fp32", "compress to fp16"),
        (2, {"batch": (1, 4, 4)}, "a batch of 1 to 4", "ask for a batch of 4 alone"),
        (2, {"batch": (1, 1, 2)}, "a batch of 1 to 2", "ask for a batch of 2 alone"),
        (2, {"batch": (9, 9, 9)}, "a batch of 9; expected 8 at most", "a smaller batch"),
    ],
)
def test_what_a_dla_cannot_run_is_refused_with_the_reason(cores, changes, found, cure):
    trt, spot, machine = builder("10.3.0", cores, batch_max=8)
    with pytest.raises(EngineError, match=f"the DLA: found {found}") as caught:
        require_dla(trt, spot, settings(**changes))
    assert cure in caught.value.cure
    assert machine.flags == []


def test_the_greatest_batch_is_the_builders_own():
    trt, found, _ = builder("8.5.2", batch_max=8)
    require_dla(trt, found, settings(batch=(8, 8, 8)))


@pytest.mark.parametrize("version", SOME)
def test_each_layer_that_stays_on_the_gpu_is_one_refusal_in_the_networks_order(version):
    layers = [("conv1", "CONVOLUTION"), ("resize", "RESIZE"), ("conv2", "CONVOLUTION"),
              ("sort", "TOPK")]  # fmt: skip
    refusals, _ = placed(version, layers, refused=("sort", "resize"))
    assert [refusal.what for refusal in refusals] == [
        "resize on DLA core 1", "sort on DLA core 1"
    ]  # fmt: skip
    assert [refusal.reason for refusal in refusals] == [
        "TensorRT says a DLA cannot run this RESIZE",
        "TensorRT says a DLA cannot run this TOPK",
    ]
    assert {refusal.instead for refusal in refusals} == {"it runs on the GPU"}


@pytest.mark.parametrize("version", SOME)
def test_the_configuration_says_dla_that_core_and_that_the_gpu_helps(version):
    refusals, config = placed(version, [("conv1", "CONVOLUTION")], core=1)
    assert refusals == ()
    assert config.default_device_type.name == "DLA"
    assert config.DLA_core == 1
    assert config._flags == {"GPU_FALLBACK"}


def test_a_layer_is_asked_about_when_the_configuration_already_says_dla():
    """Before that TensorRT answers for another device."""
    trt, machine = made("10.3.0")
    config = trt.IBuilderConfig()
    place_on_dla(trt, config, Layers(trt, [("conv1", "CONVOLUTION")]), 0)
    asked = machine.calls.index("IBuilderConfig.can_run_on_DLA")
    for before in ("default_device_type=", "DLA_core=", "set_flag"):
        assert machine.calls.index(f"IBuilderConfig.{before}") < asked


@pytest.mark.parametrize("version", SOME)
def test_weights_are_no_layers_that_compute(version):
    """A DLA refuses a constant as a layer; it would be a refusal that says nothing."""
    layers = [("w", "CONSTANT"), ("conv1", "CONVOLUTION")]
    refusals, _ = placed(version, layers, refused=("w",))
    assert refusals == ()
    with pytest.raises(EngineError, match="not one of 1 layers that it can run"):
        placed(version, layers, refused=("w", "conv1"))


def test_a_model_of_which_nothing_runs_there_is_refused():
    layers = [("sort", "TOPK"), ("resize", "RESIZE")]
    with pytest.raises(EngineError, match="not one of 2 layers that it can run") as caught:
        placed("10.3.0", layers, refused=("sort", "resize"))
    assert caught.value.cure == "build for the GPU"
    refusals, _ = placed("10.3.0", layers, refused=("sort",))
    assert len(refusals) == 1


def test_a_network_without_layers_is_not_refused_here():
    assert placed("10.3.0", [])[0] == ()
