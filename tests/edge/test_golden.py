"""A wrong engine is caught by the golden outputs, an honest one is not; damage is one message."""

from __future__ import annotations

import io
import zipfile

import msgspec
import numpy as np
import pytest

from calib.preprocess import Preprocess
from edge.bundle import open_bundle, seal
from edge.errors import EngineError
from edge.golden import (
    LIMIT_DB,
    SQNR_MAX_DB,
    GoldenError,
    GoldenMismatchError,
    check_golden,
    golden_bytes,
    golden_from_bytes,
    match_output,
    read_golden,
    require_golden,
    write_golden,
)
from edge.goldeninputs import PICTURES_BYTES_MAX, GoldenInputs, picture_inputs
from edge.manifest import TensorSpec
from edge.models import GOLDEN_FILE
from edge.npz import NpzError, arrays_from_npz, npz_from_arrays


def street(seed, height=60, width=90):
    """A frame of light, shade and colour: what a camera gives, not white noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (height // 10, width // 10, 3))
    fine = coarse.repeat(10, 0).repeat(10, 1) + rng.integers(0, 50, (height, width, 3))
    return fine.astype(np.uint8)


@pytest.fixture(scope="module")
def run(tiny):
    ort = pytest.importorskip("onnxruntime", reason="answers as the host that seals does")
    session = ort.InferenceSession(str(tiny / "model.onnx"), providers=["CPUExecutionProvider"])

    def answer(feeds):
        found = [session.run(["logits", "boxes"], dict(feed)) for feed in feeds]
        return [dict(zip(("logits", "boxes"), row)) for row in found]

    return answer


@pytest.fixture(scope="module")
def manifest(tiny):
    return open_bundle(tiny).manifest


@pytest.fixture(scope="module")
def inputs(manifest):
    return picture_inputs([street(1), street(2)], manifest.preprocess, "two streets")


@pytest.fixture(scope="module")
def outputs(run, inputs, manifest):
    answers = run(inputs.as_fed(manifest))
    return {name: np.stack([row[name] for row in answers]) for name in ("logits", "boxes")}


@pytest.fixture(scope="module")
def golden(inputs, outputs, manifest):
    return golden_from_bytes(golden_bytes(manifest, inputs, outputs), manifest)


def test_what_was_sealed_comes_back_exactly(tiny_copy, inputs, outputs, manifest):
    write_golden(tiny_copy, manifest, inputs, outputs)
    seal(tiny_copy, manifest)
    found = read_golden(open_bundle(tiny_copy))
    assert found.origin == "two streets"
    assert len(found.feeds) == 2
    for fed, made in zip(found.feeds, inputs.as_fed(manifest)):
        assert fed["images"].shape == (1, 3, 48, 64)
        assert np.array_equal(fed["images"], made["images"])
    for name, value in outputs.items():
        assert np.array_equal(found.expected[name], value.reshape(2, -1))
    assert (tiny_copy / GOLDEN_FILE).stat().st_size < 30_000
    as_numpy_reads = np.load(str(tiny_copy / GOLDEN_FILE), allow_pickle=False)
    assert as_numpy_reads["pictures"].shape == (2, 48, 64, 3)


def test_a_bundle_sealed_without_golden_outputs_has_none(tiny):
    assert read_golden(open_bundle(tiny)) is None


def test_the_same_inputs_give_the_same_bytes(inputs, outputs, manifest):
    again = picture_inputs([street(1), street(2)], manifest.preprocess, "two streets")
    first = golden_bytes(manifest, inputs, outputs)
    assert golden_bytes(manifest, again, dict(reversed(list(outputs.items())))) == first
    other = picture_inputs([street(1), street(3)], manifest.preprocess, "two streets")
    assert golden_bytes(manifest, other, outputs) != first


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_pictures_are_what_the_network_would_have_been_fed(resize):
    prepare = Preprocess(height=48, width=64, resize=resize, mean=(9.0, 8.0, 7.0))
    spec = TensorSpec(name="x", shape=prepare.shape)
    frame = street(4, 90, 60)
    made = picture_inputs([frame], prepare, "o")

    class Stub:
        pixels, inputs = prepare, (spec,)

    (feed,) = made.as_fed(Stub)
    assert np.array_equal(feed["x"], prepare(frame))


def test_large_pictures_are_stored_coarser_and_fed_at_full_size():
    prepare = Preprocess(height=641, width=640)
    made = picture_inputs([street(1, 700, 700)] * 2, prepare, "o")
    assert made.coarse == 2
    assert made.pictures.shape == (2, 321, 320, 3)
    assert made.pictures.nbytes <= PICTURES_BYTES_MAX

    class Stub:
        pixels, inputs = prepare, (TensorSpec(name="x", shape=prepare.shape),)

    (feed, _) = made.as_fed(Stub)
    assert feed["x"].shape == (1, 3, 641, 640)
    assert np.array_equal(feed["x"][0, :, 638, 0], feed["x"][0, :, 639, 1])
    assert np.unique(feed["x"]).size > 100


def test_of_large_outputs_every_kth_number_is_kept(manifest, inputs):
    wide = msgspec.structs.replace(manifest, outputs=(TensorSpec(name="y", shape=(1, 200, 999)),))
    whole = np.random.default_rng(0).normal(size=(2, 1, 200, 999)).astype(np.float32)
    found = golden_from_bytes(golden_bytes(wide, inputs, {"y": whole}), wide)
    step = found.steps["y"]
    assert step % 2 == 1
    assert step > 5
    assert found.expected["y"].nbytes <= 150_000
    assert check_golden(found, [{"y": row} for row in whole], "fp32").sqnr_db == SQNR_MAX_DB
    assert check_golden(found, [{"y": -row} for row in whole], "fp32").sqnr_db < 0


def fp16(value):
    return value.astype(np.float16).astype(np.float32)


def test_honest_rounding_passes_with_room(golden, run):
    rounded = run([{"images": fp16(feed["images"])} for feed in golden.feeds])
    rounded = [{name: fp16(value) for name, value in row.items()} for row in rounded]
    result = require_golden(golden, rounded, "fp16")
    assert result.sqnr_db > LIMIT_DB["fp16"] + 15
    print(f"FP16 inputs and outputs: {result.sqnr_db:.1f} dB, limit {result.limit_db:g} dB")  # noqa: T201 - a figure
    exact = require_golden(golden, run(golden.feeds), "fp32")
    assert exact.sqnr_db == SQNR_MAX_DB
    assert exact.worst.worst_abs == 0.0


FAULTS = {
    "channels swapped": lambda run, feeds: run([{"images": f["images"][:, ::-1]} for f in feeds]),
    "inputs 0..1 for -1..1": lambda run, feeds: run(
        [{"images": f["images"] * np.float32(0.5) + np.float32(0.5)} for f in feeds]
    ),
    "inputs 0..255": lambda run, feeds: run(
        [{"images": f["images"] * np.float32(127.5) + np.float32(127.5)} for f in feeds]
    ),
    "the first picture's answer to all": lambda run, feeds: [run(feeds)[0]] * len(feeds),
    "zeros": lambda run, feeds: [{n: 0 * v for n, v in row.items()} for row in run(feeds)],
    "the mean everywhere": lambda run, feeds: [
        {n: np.full_like(v, v.mean()) for n, v in row.items()} for row in run(feeds)
    ],
    "int8 outputs read as uint8": lambda run, feeds: [
        {n: (np.rint(v * 40) % 256 / 40).astype(np.float32) for n, v in row.items()}
        for row in run(feeds)
    ],
    "rows of an output moved by one": lambda run, feeds: [
        {n: np.roll(v, 1, axis=1) for n, v in row.items()} for row in run(feeds)
    ],
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_wrong_engine_is_refused_by_a_clear_gap(golden, run, fault, precision):
    answers = FAULTS[fault](run, golden.feeds)
    result = check_golden(golden, answers, precision)
    print(f"{fault}: {result.sqnr_db:.1f} dB, limit {result.limit_db:g} dB")  # noqa: T201 - a figure
    assert result.sqnr_db < LIMIT_DB[precision] - 5
    with pytest.raises(GoldenMismatchError, match=r"dB or more, which honest"):
        require_golden(golden, answers, precision)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (lambda rows: rows[:1], "1 answers to 2 inputs"),
        (lambda rows: [{"logits": r["logits"]} for r in rows], "no output 'boxes'"),
        (lambda rows: [{**r, "boxes": r["boxes"][:, :3]} for r in rows], "of 12 numbers instead"),
        (lambda rows: [{**r, "boxes": r["boxes"] * np.nan} for r in rows], "not finite"),
        (lambda rows: [{**r, "logits": r["logits"] + np.inf} for r in rows], "not finite"),
    ],
)  # fmt: skip
def test_answers_that_cannot_be_compared_are_wrong_and_say_why(golden, run, answers, said):
    with pytest.raises(EngineError, match=said) as caught:
        require_golden(golden, answers(run(golden.feeds)), "int8", where="tiny.engine")
    assert caught.value.where == "tiny.engine"
    assert "do not use it" in caught.value.cure


def test_the_figure_is_a_known_one():
    y = np.float32([1, -1, 1, -1])
    match = match_output("y", [y, y], [y + np.float32(0.1), y + np.float32(0.01)])
    assert match.sqnr_db == pytest.approx(20, abs=1e-3)  # the worse picture
    assert match.worst_abs == pytest.approx(0.1, abs=1e-6)
    assert match_output("y", [y + 100], [np.full(4, 100.0, np.float32)]).sqnr_db == 0
    assert match_output("y", [y], [y * np.nan]).sqnr_db == -SQNR_MAX_DB
    assert match_output("y", [y * 0], [y]).sqnr_db == -SQNR_MAX_DB


def two_inputs(manifest):
    specs = (TensorSpec(name="a", shape=(1, 4)), TensorSpec(name="n", shape=(2,), dtype="int64"))
    return msgspec.structs.replace(
        manifest, inputs=specs, outputs=(TensorSpec(name="y", shape=(1, 3)),)
    )


FEEDS = {"a": np.float32([[[1, 2, 3, 4]]]), "n": np.int64([[7, 8]])}


def test_inputs_that_are_no_pictures_are_kept_as_they_are(manifest):
    other = two_inputs(manifest)
    given = GoldenInputs(origin="made up", feeds=FEEDS)
    y = {"y": np.float32([[[1, 2, 3]]])}
    found = golden_from_bytes(golden_bytes(other, given, y), other)
    (feed,) = found.feeds
    assert feed["n"].dtype == np.int64
    assert {name: value.tolist() for name, value in feed.items()} == {
        "a": [[1, 2, 3, 4]], "n": [7, 8]}  # fmt: skip
    assert check_golden(found, [{"y": y["y"][0]}], "fp32").passed


def test_an_input_of_a_single_number_is_an_array_without_axes(manifest):
    gain = (TensorSpec(name="gain", shape=()),)
    one = msgspec.structs.replace(
        manifest, inputs=gain, outputs=(TensorSpec(name="y", shape=(1, 3)),)
    )
    given = GoldenInputs(origin="o", feeds={"gain": np.float32([1.5, 2.5])})
    answers = {"y": np.float32([[[1, 2, 3]], [[4, 5, 7]]])}
    feeds = golden_from_bytes(golden_bytes(one, given, answers), one).feeds
    assert [(type(feed["gain"]), feed["gain"].shape) for feed in feeds] == [(np.ndarray, ())] * 2
    assert [float(feed["gain"]) for feed in feeds] == [1.5, 2.5]


def test_inputs_that_are_too_large_and_outputs_without_a_float_are_refused(manifest):
    other = two_inputs(manifest)
    y = {"y": np.float32([[[1, 2, 3]]])}
    large = GoldenInputs(origin="o", feeds={"a": np.zeros((1, 2_500_000), np.float32)})
    with pytest.raises(GoldenError, match="10000000 bytes that are no pictures"):
        golden_bytes(other, large, y)
    whole = msgspec.structs.replace(
        other, outputs=(TensorSpec(name="y", shape=(1, 3), dtype="int64"),)
    )
    with pytest.raises(GoldenError, match="no float output"):
        golden_bytes(whole, GoldenInputs(origin="o", feeds=FEEDS), y)


def changed(data, **arrays):
    found = arrays_from_npz(data)
    found.update(arrays)
    return npz_from_arrays({name: value for name, value in found.items() if value is not None})


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"format": np.array(9, np.int64)}, "format 9, this version reads 1"),
        ({"format": None}, "no 'format'"),
        ({"origin": np.array(3, np.int64)}, "'origin' is int64"),
        ({"pictures": np.zeros((2, 48, 65, 3), np.uint8)}, "for an input of 48 x 64"),
        ({"pictures": np.zeros((2, 48, 64, 3), np.int8)}, "pictures int8"),
        ({"pictures": np.zeros((0, 48, 64, 3), np.uint8)}, "no inputs"),
        ({"pictures": np.zeros((3, 48, 64, 3), np.uint8)}, "not of kind 'f'"),
        ({"pictures": None}, "no 'inputs'"),
        ({"coarse": np.array(0, np.int64)}, "coarse 0"),
        ({"coarse": np.array(-3, np.int64)}, "coarse -3"),
        ({"outputs": np.array(["logits", "other"])}, "'other', which the manifest does not name"),
        ({"outputs": np.array(["logits", "logits"])}, "or twice"),
        ({"outputs": np.array(3, np.int64)}, "'outputs' is int64"),
        ({"steps": np.array([1, 0], np.int64)}, "which the manifest does not name, or twice"),
        ({"steps": np.array([1, 3], np.int64)}, "not of kind 'f'"),
        ({"steps": np.array([1], np.int64)}, "'steps'"),
        ({"output_1": None}, "no 'output_1'"),
        ({"output_1": np.zeros((2, 3), np.float32)}, "'output_1' is float32"),
        ({"output_1": np.full((2, 96), np.nan, np.float32)}, "not finite"),
        ({"output_0": np.zeros((2, 72), np.int32)}, "'output_0' is int32"),
    ],
)
def test_content_that_does_not_fit_the_manifest_is_one_message(
    golden, inputs, outputs, manifest, arrays, said
):
    data = changed(golden_bytes(manifest, inputs, outputs), **arrays)
    with pytest.raises(GoldenError) as caught:
        golden_from_bytes(data, manifest, "b/golden.npz")
    assert said in caught.value.found
    assert caught.value.where == "b/golden.npz"
    assert "compress the model again" in caught.value.cure


def test_feeds_that_do_not_fit_the_manifest_are_one_message(manifest):
    other = two_inputs(manifest)
    given = GoldenInputs(origin="o", feeds=FEEDS)
    data = golden_bytes(other, given, {"y": np.float32([[[1, 2, 3]]])})
    for arrays, said in (
        ({"inputs": np.array(["a", "m"])}, "inputs a, m"),
        ({"input_0": np.zeros((1, 1, 5), np.float32)}, "the manifest says float32"),
        ({"input_1": np.zeros((1, 2), np.int32)}, "the manifest says int64"),
        ({"input_1": np.zeros((2, 2), np.int64)}, "more of one input"),
        ({"input_0": np.full((1, 1, 4), np.inf, np.float32)}, "not finite"),
    ):
        with pytest.raises(GoldenError, match=said):
            golden_from_bytes(changed(data, **arrays), other)
    with pytest.raises(GoldenError, match="pictures for a model that takes none"):
        golden_from_bytes(
            changed(data, pictures=np.zeros((1, 48, 64, 3), np.uint8), coarse=np.array(1)), other
        )


def test_whatever_the_bytes_they_are_golden_or_one_error(golden, inputs, outputs, manifest):
    data = golden_bytes(manifest, inputs, outputs)
    rng = np.random.default_rng(7)
    refused = 0
    for _ in range(1000):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            damaged[place] ^= 1 << int(rng.integers(8))
        if rng.random() < 0.3:
            damaged = damaged[: rng.integers(len(data))]
        try:
            golden_from_bytes(bytes(damaged), manifest)
        except GoldenError:
            refused += 1
    assert refused > 980  # every content bit is under a CRC; dates and flags of the zip are not


def test_headers_of_any_kind_are_one_error(inputs, outputs, manifest):
    """Damage under a right CRC: what somebody wrote, not what a disk lost."""
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array("text")}
    data = npz_from_arrays(arrays)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        plain = {m.filename: archive.read(m) for m in archive.infolist()}
    rng, refused = np.random.default_rng(3), 0
    for _ in range(1000):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in plain.items():
                damaged = bytearray(content)
                damaged[rng.integers(min(len(content), 128))] = int(rng.integers(256))
                archive.writestr(zipfile.ZipInfo(name), bytes(damaged))
        try:
            arrays_from_npz(file.getvalue())
        except NpzError:
            refused += 1
    assert refused > 400


def test_an_array_that_claims_more_than_its_bytes_is_refused_before_it_is_made():
    data = npz_from_arrays({"a": np.zeros((2, 3), np.float32)})
    huge = data.replace(b"(2, 3)", b"(2e9,)").replace(b"(2, 3), }", b"(9**9,), }")
    with pytest.raises(NpzError):
        arrays_from_npz(huge)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"\0" * 10_000_000)
    with pytest.raises(NpzError, match="compressed"):
        arrays_from_npz(file.getvalue())
    pickled = io.BytesIO()
    np.savez(pickled, a=np.array([{}], dtype=object))
    with pytest.raises(NpzError):
        arrays_from_npz(pickled.getvalue())
