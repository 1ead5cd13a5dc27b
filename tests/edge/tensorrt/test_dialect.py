"""A dialect is chosen by what the imported module has, and says the same things each in its way."""

from __future__ import annotations

import types

import pytest

from edge.engines.tensorrt.dialect import DIALECTS, IoTensor, dialect_of, dtype_name
from edge.engines.tensorrt.flags import FLAGS
from edge.errors import EngineError
from edge.manifest import PRECISIONS
from tests.edge.tensorrt.fake import BINDINGS, STRONG, VERSIONS, WEAK, made

NAMED = {**dict.fromkeys(BINDINGS, "bindings"), **dict.fromkeys(WEAK, "tensors-weak"),
         **dict.fromkeys(STRONG, "tensors-strong")}  # fmt: skip


def holder(*names):
    return type("Holder", (), dict.fromkeys(names))


def module(version, *, builds=True, fp16=True, tensors=True):
    """As little of a module as the choice looks at."""
    return types.SimpleNamespace(
        __version__=version,
        Builder=holder(*(["build_serialized_network"] * builds)),
        BuilderFlag=holder(*(["FP16"] * fp16)),
        ICudaEngine=holder(*(["num_io_tensors"] * tensors)),
    )


@pytest.mark.parametrize("version", ["7.1.3", "8.2.1", "10.3.0", "11.4.0", "1.7.1", "99"])
def test_what_the_module_has_decides_and_its_version_does_not(version):
    assert dialect_of(module(version)).NAME == "tensors-weak"
    assert dialect_of(module(version, tensors=False)).NAME == "bindings"
    assert dialect_of(module(version, fp16=False)).NAME == "tensors-strong"


@pytest.mark.parametrize("version", ["7.1.3", "10.3.0"])
def test_a_module_that_cannot_build_has_no_dialect(version):
    with pytest.raises(EngineError, match=r"found no Builder\.build_serialized_network") as caught:
        dialect_of(module(version, builds=False))
    assert caught.value.where == f"TensorRT {version}"
    assert "JetPack 4.6" in caught.value.cure


def test_a_module_without_a_version_is_refused_in_words_too():
    nameless = module("", builds=False)
    del nameless.__version__
    with pytest.raises(EngineError, match="TensorRT of unknown version"):
        dialect_of(nameless)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_network_is_asked_for_explicit_batch_by_its_number_in_that_version(version):
    trt, _ = made(version)
    kinds = trt.NetworkDefinitionCreationFlag
    wanted = 1 << int(kinds.EXPLICIT_BATCH) if hasattr(kinds, "EXPLICIT_BATCH") else 0
    assert dialect_of(trt).network_flags(trt) == wanted
    assert (wanted == 0) == (version in STRONG)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_precision_is_by_flags_where_there_are_flags(version, precision):
    trt, machine = made(version)
    dialect = dialect_of(trt)
    dialect.set_precision(trt, trt.IBuilderConfig(), precision)
    assert machine.flags == ([] if version in STRONG else list(FLAGS[precision]))
    assert (version not in STRONG) == dialect.PRECISION_BY_FLAGS


def test_int8_lets_what_has_no_scales_be_fp16_and_fp32_is_nothing_at_all():
    assert {name: set(flags) for name, flags in FLAGS.items()} == {
        "fp32": set(), "fp16": {"FP16"}, "int8": {"INT8", "FP16"}
    }  # fmt: skip


def test_every_dialect_has_the_same_functions():
    found = {}
    for version, name in NAMED.items():
        dialect = dialect_of(made(version)[0])
        assert name == dialect.NAME
        found[name] = set(dialect.__all__)
        assert all(hasattr(dialect, function) for function in dialect.__all__)
    assert set(found) == set(DIALECTS)
    assert found["bindings"] == found["tensors-weak"] == found["tensors-strong"]


def dtype(name):
    return types.SimpleNamespace(name=name)


class Bindings:
    """An engine of 8.0 to 8.4 with two profiles: the second repeats the bindings."""

    _all = (("images", True, (-1, 3, 8, 8), "HALF"), ("scores", False, (-1, 5), "FLOAT"))
    num_bindings, num_optimization_profiles, device_memory_size = 4, 2, 7

    def get_binding_name(self, index):
        return self._all[index % 2][0] + (" [profile 1]" if index > 1 else "")

    def binding_is_input(self, index):
        return self._all[index % 2][1]

    def get_binding_shape(self, index):
        return self._all[index % 2][2]

    def get_binding_dtype(self, index):
        return dtype(self._all[index % 2][3])


def test_bindings_of_further_profiles_are_the_same_tensors():
    dialect = dialect_of(module("8.2.1", tensors=False))
    assert dialect.io_tensors(None, Bindings()) == (
        IoTensor(name="images", is_input=True, shape=(-1, 3, 8, 8), dtype="float16"),
        IoTensor(name="scores", is_input=False, shape=(-1, 5), dtype="float32"),
    )
    assert dialect.device_bytes(Bindings()) == 7
    ran = []
    context = types.SimpleNamespace(
        execute_async_v2=lambda addresses, stream: ran.append((list(addresses), stream)) or True
    )
    execution = dialect.execution(Bindings(), context)
    assert execution.set_address("scores", 0x20)
    assert execution.set_address("images", 0x10)
    assert execution.enqueue(5)
    assert ran == [([0x10, 0x20, 0, 0], 5)]  # TensorRT wants a place for every binding


def test_more_than_two_gib_of_scratch_is_asked_for_by_the_newer_name():
    old = types.SimpleNamespace(device_memory_size=7)
    new = types.SimpleNamespace(device_memory_size=-1, device_memory_size_v2=3 << 30)
    weak, strong = dialect_of(module("10.3.0")), dialect_of(module("11.4.0", fp16=False))
    assert weak.device_bytes(old) == 7
    assert weak.device_bytes(new) == strong.device_bytes(new) == 3 << 30


def test_types_have_numpys_names_and_one_that_numpy_lacks_is_refused():
    names = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32",
             "BOOL": "bool", "UINT8": "uint8", "INT64": "int64"}  # fmt: skip
    assert {name: dtype_name(name, "x") for name in names} == names
    for unknown in ("BF16", "FP8", "INT4", "float32", ""):
        with pytest.raises(EngineError, match=f"found type {unknown};") as caught:
            dtype_name(unknown, "scores")
        assert caught.value.where == "tensor 'scores' of the engine"
