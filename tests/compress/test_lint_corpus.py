"""No false pass: what other quantizers write is caught; what ours writes is clean, file by file."""

from __future__ import annotations

import os

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs it: pip install 'jetpress[compress]'")
pytest.importorskip("onnxruntime", reason="needs it: pip install 'jetpress[compress]'")
pytest.importorskip("nncf", reason="needs it: pip install 'jetpress[compress]'")

import onnx

from compress.lint import lint_for_board
from compress.lint_fix import mend
from compress.lint_proof import agreement_db, answers_of
from compress.quantize.emulate import as_tensorrt_reads
from compress.quantize.int8 import Int8Options, quantize_int8
from compress.quantize.legalize import legalize
from devices.profile import load_profile
from tests.compress.small_nets import frames, norm_net, residual_net

ORIN, XAVIER, NANO = map(load_profile, ("jetson-orin-nano", "jetson-xavier-nx", "jetson-nano"))
NETS = {"residual": residual_net, "norm": norm_net}


@pytest.fixture(scope="module", params=NETS)
def net(request):
    return NETS[request.param]()


@pytest.fixture(scope="module")
def nncf_default(net):
    os.environ["NNCF_CI"] = "1"
    import nncf

    return nncf.quantize(net, nncf.Dataset(frames(4)))


def errors(model, profile):
    return {f.rule for f in lint_for_board(model, profile) if f.severity == "error"}


def ort_static(net, folder, **options):
    """ONNX Runtime's own quantizer, with the options given."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.feeds = iter(frames(4))

        def get_next(self):
            return next(self.feeds, None)

    onnx.save(net, folder / "net.onnx")
    quantize_static(folder / "net.onnx", folder / "out.onnx", Reader(), **options)
    return onnx.load(folder / "out.onnx")


def test_the_calibrators_default_is_caught_on_every_board(nncf_default):
    assert "uint8-zero-point" in errors(nncf_default, ORIN)
    assert {"uint8-zero-point", "int8-weights-stored"} <= errors(nncf_default, XAVIER)
    assert "int8-not-legal" in errors(nncf_default, NANO)


@pytest.mark.filterwarnings("ignore")  # of ONNX Runtime's quantizer
def test_onnx_runtimes_default_is_caught(net, tmp_path):
    made = ort_static(net, tmp_path)
    assert {"nonzero-zero-point", "int32-bias"} <= errors(made, ORIN)


@pytest.mark.filterwarnings("ignore")
def test_onnx_runtimes_operator_format_is_caught(net, tmp_path):
    from onnxruntime.quantization import QuantFormat

    made = ort_static(net, tmp_path, quant_format=QuantFormat.QOperator)
    assert "no-importer" in errors(made, ORIN)


@pytest.mark.filterwarnings("ignore")
def test_onnx_runtimes_symmetric_format_has_no_error_and_nvidia_builds_it(net, tmp_path):
    from onnxruntime.quantization import QuantType

    extra = {"ActivationSymmetric": True, "QuantizeBias": False, "AddQDQPairToWeight": True}
    made = ort_static(net, tmp_path, activation_type=QuantType.QInt8, per_channel=True,
                      weight_type=QuantType.QInt8, extra_options=extra)  # fmt: skip
    assert errors(made, ORIN) == errors(made, XAVIER) == set()


def test_our_own_files_have_no_error_on_any_board_with_int8(net, tmp_path):
    onnx.save(net, tmp_path / "net.onnx")
    path = quantize_int8(
        tmp_path / "net.onnx", frames(4), tmp_path / "int8.onnx", Int8Options()
    ).path
    for profile in (ORIN, XAVIER):
        found = lint_for_board(onnx.load(path), profile)
        assert {f.rule for f in found} <= {"channel-alignment"}
    assert {f.rule for f in lint_for_board(net, NANO)} <= {"channel-alignment"}


def test_a_mended_default_is_nearer_to_itself_than_tensorrts_reading_of_it(nncf_default):
    made = mend(nncf_default, XAVIER, lint_for_board(nncf_default, XAVIER))
    feeds = frames(4, seed=9)
    said = answers_of(nncf_default, feeds)
    mended = agreement_db(said, answers_of(made.model, feeds))
    read = agreement_db(said, answers_of(as_tensorrt_reads(nncf_default), feeds))
    assert mended > max(25, read + 5)
    left = {f.rule for f in made.remaining if f.severity == "error"}
    assert left <= {"per-channel-activation", "uint8-zero-point"}
    if left:  # the uint8 zero points that are left are those of scales per channel
        places = {rule: {f.node for f in made.remaining if f.rule == rule} for rule in left}
        assert places["per-channel-activation"] <= places["uint8-zero-point"]


def test_legalized_defaults_lint_clean(nncf_default):
    assert errors(legalize(nncf_default)[0], XAVIER) == set()


@pytest.mark.filterwarnings("ignore")
def test_a_mended_onnx_runtime_default_has_no_error_left(net, tmp_path):
    made = mend(default := ort_static(net, tmp_path), XAVIER, lint_for_board(default, XAVIER))
    assert {f.rule for f in made.remaining if f.severity == "error"} == set()
    feeds = frames(4, seed=9)
    db = agreement_db(answers_of(default, feeds), answers_of(made.model, feeds))
    assert db > 20
    assert np.isfinite(db)
