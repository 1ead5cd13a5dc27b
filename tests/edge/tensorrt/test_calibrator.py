"""The calibration table is bit for bit what TensorRT reads, and is read before any frame."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from calib.ranges import Ranges, TensorRange
from edge.engines.tensorrt.build import BuildJob, build
from edge.engines.tensorrt.calibrator import calibration_table, make_calibrator, set_calibrator
from edge.engines.tensorrt.errors import BuildError
from edge.engines.tensorrt.settings import BuildSettings
from edge.errors import EngineError
from tests.edge.tensorrt.fake import BINDINGS, WEAK, made
from tests.edge.tensorrt.fake_build import opened_plan
from tests.edge.tensorrt.fake_cuda import ORIN
from tests.edge.tensorrt.onnx_bytes import model, node

CALIBRATED = BINDINGS + WEAK
RELU = model(node("Relu", "x", "y"))
ON_DLA = BuildSettings(precision="int8", workspace_mb=16, dla_core=0)


def ranges(**scales):
    return Ranges(
        tensors={name: TensorRange(scale=scale, method="absmax") for name, scale in scales.items()},
        frames=8,
    )


def scales_of(table):
    """{tensor: scale} as TensorRT reads it: hexadecimal digits are the bits of a float32."""
    lines = table.decode().splitlines()[1:]
    parts = (line.rpartition(": ") for line in lines)
    return {name: struct.unpack("<f", struct.pack("<I", int(bits, 16)))[0]
            for name, _, bits in parts}  # fmt: skip


@pytest.mark.parametrize(
    ("scale", "bits"),
    [
        (1.0, "3f800000"),
        (1 / 127, "3c010204"),
        (0.5, "3f000000"),
        (2.0**-126, "00800000"),  # the zeros in front are there
        (2.0**-149, "00000001"),  # the least that float32 holds
        (float(np.finfo(np.float32).max), "7f7fffff"),
    ],
)
def test_a_scale_is_the_bits_of_its_float32_highest_first(scale, bits):
    assert calibration_table(ranges(x=scale), "8.2.1") == (
        f"TRT-8201-EntropyCalibration2\nx: {bits}\n".encode()
    )


def test_scales_come_back_as_float32_nearest_to_what_they_were():
    numbers = np.random.default_rng(0).lognormal(-4, 3, 200)
    given = {f"t{index}": float(scale) for index, scale in enumerate(numbers)}
    found = scales_of(calibration_table(ranges(**given), "10.3.0"))
    assert found == {name: float(np.float32(scale)) for name, scale in given.items()}


@pytest.mark.parametrize(
    ("version", "number"),
    [("8.0.1.6", "8001"), ("8.2.1", "8201"), ("8.4.1.5", "8401"), ("8.5.2", "8502"),
     ("8.6.1", "8601"), ("10.0.1", "100001"), ("10.3.0.26", "100300"), ("10.13.3.9", "101303"),
     ("10.16.1.11", "101601"), ("10.3", "100300")],
)  # fmt: skip
def test_the_first_line_names_the_version_as_tensorrt_counts_it(version, number):
    first = calibration_table(ranges(x=1.0), version).splitlines()[0]
    assert first == f"TRT-{number}-EntropyCalibration2".encode()


def test_tensors_stand_in_the_order_of_the_ranges_one_a_line_with_any_name():
    names = ["images", "/model/conv: 1", "a b", "größe", "0"]
    table = calibration_table(ranges(**dict.fromkeys(names, 0.5)), "10.3.0")
    assert table.endswith(b"\n")
    assert table.decode().split("\n")[1:-1] == [f"{name}: 3f000000" for name in names]
    assert list(scales_of(table)) == names
    assert calibration_table(ranges(), "8.2.1") == b"TRT-8201-EntropyCalibration2\n"


@pytest.mark.parametrize("scale", [1e-46, 5e-324, 3.5e38, 1e300])
def test_a_scale_that_float32_does_not_hold_is_refused_with_its_tensor(scale):
    with pytest.raises(EngineError) as said:
        calibration_table(ranges(conv1=scale), "8.2.1")
    assert said.value.where == "calibration of 'conv1'"
    assert said.value.found == f"scale {scale:g}"
    assert "quantize the model again" in said.value.cure


@pytest.mark.parametrize("name", ["", "a\nb", "a\rb", "a\tb", "a\x00b", "a\u2028b"])
def test_a_name_that_would_make_lines_of_its_own_is_refused(name):
    with pytest.raises(EngineError, match="one line of text cannot hold") as said:
        calibration_table(ranges(**{name: 1.0}), "8.2.1")
    assert repr(name) in said.value.where


@pytest.mark.parametrize("version", CALIBRATED)
def test_the_calibrator_has_the_table_and_no_frames(version):
    trt, _ = made(version)
    calibrator = make_calibrator(trt, b"the table")
    assert isinstance(calibrator, trt.IInt8EntropyCalibrator2)
    assert calibrator.get_batch_size() == 1
    assert calibrator.read_calibration_cache() == b"the table"
    assert not calibrator.refused
    assert calibrator.write_calibration_cache(b"another") is None
    assert calibrator.read_calibration_cache() == b"the table"  # ours stays
    assert not calibrator.refused
    assert calibrator.get_batch(["images"]) is None
    assert calibrator.refused


@pytest.mark.parametrize("version", CALIBRATED)
def test_it_is_set_with_the_table_of_the_module_that_is_there(version):
    trt, machine = made(version)
    config = trt.IBuilderConfig()
    calibrator = set_calibrator(trt, config, ranges(x=1.0))
    assert config.int8_calibrator is calibrator
    assert calibrator.read_calibration_cache() == calibration_table(ranges(x=1.0), version)
    assert machine.calls.count("IBuilderConfig.int8_calibrator=") == 1


@pytest.mark.parametrize("version", ["8.0.1", "8.5.2", "10.3.0"])
def test_the_table_is_read_first_and_then_no_frame_is_asked_for(version):
    trt, _ = made(version, script={"dla_cores": 1})
    built = build(trt, RELU, ON_DLA, BuildJob(proof=ORIN, ranges=ranges(x=0.5, y=1.0)))
    table = opened_plan(built.plan)[0]["calibration"]
    assert table.splitlines()[1:] == ["x: 3f000000", "y: 3f800000"]
    assert "INT8 by a table of 2 scales, no Q/DQ" in built.notes


def test_a_table_that_tensorrt_does_not_take_is_an_error_and_no_engine():
    trt, _ = made("8.5.2", script={"dla_cores": 1})

    def asks_for_frames(self, network, config):
        config.int8_calibrator.read_calibration_cache()
        config.int8_calibrator.get_batch(["x"])
        return b"an engine calibrated on nothing"

    trt.Builder.build_serialized_network = asks_for_frames
    with pytest.raises(BuildError, match=r"INT8 on the DLA, TensorRT 8\.5\.2.*asked for frames"):
        build(trt, RELU, ON_DLA, BuildJob(proof=ORIN, ranges=ranges(x=0.5)))


def test_without_ranges_int8_on_a_dla_is_refused_before_anything_is_built():
    trt, machine = made("8.5.2", script={"dla_cores": 1})
    with pytest.raises(EngineError, match="found no ranges to calibrate by"):
        build(trt, RELU, ON_DLA, BuildJob(proof=ORIN))
    assert machine.builds == 0
