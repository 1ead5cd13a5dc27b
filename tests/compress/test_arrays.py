"""Calibration inputs from an `.npz`: taken as they are, or refused with the array's name."""

from __future__ import annotations

import numpy as np
import pytest

from compress.arrays import ArraysError, samples_from_npz
from edge.bundle import TensorSpec

INPUTS = (
    TensorSpec(name="image", shape=(1, 2, 3), dtype="float32"),
    TensorSpec(name="ids", shape=(1, 4), dtype="int32"),
)


def arrays(count=5, **changes):
    made = {
        "image": np.arange(count * 6, dtype=np.float32).reshape(count, 2, 3),
        "ids": np.arange(count * 4, dtype=np.int32).reshape(count, 4),
    }
    return {name: value for name, value in {**made, **changes}.items() if value is not None}


@pytest.fixture
def read(tmp_path):
    def read_back(save=np.savez, **given):
        save(tmp_path / "a.npz", **given)
        return samples_from_npz(tmp_path / "a.npz", INPUTS)

    return read_back


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_each_sample_has_the_models_own_shapes_and_the_values_of_its_row(read, save):
    samples = read(save, **arrays())
    assert len(samples) == 5
    found = samples.sample(3)
    assert {name: value.shape for name, value in found.items()} == {
        "image": (1, 2, 3), "ids": (1, 4),
    }  # fmt: skip
    assert found["image"].ravel().tolist() == [18, 19, 20, 21, 22, 23]
    assert found["ids"].ravel().tolist() == [12, 13, 14, 15]


def test_a_batch_axis_of_one_may_be_written_out(read):
    whole = arrays()
    wide = read(**{**whole, "image": whole["image"][:, None]})
    assert np.array_equal(wide.sample(2)["image"], read(**whole).sample(2)["image"])


def test_the_identity_follows_the_values(read):
    same, other = read(**arrays()).sha256, arrays()
    assert same == read(**arrays()).sha256
    other["ids"][0, 0] += 1
    assert read(**other).sha256 != same


def test_a_type_is_changed_only_where_no_value_is(read):
    wide = arrays(image=arrays()["image"].astype(np.float64), ids=arrays()["ids"].astype(np.int64))
    found = read(**wide).sample(1)
    assert (found["image"].dtype, found["ids"].dtype) == (np.float32, np.int32)
    wide["ids"][2, 1] = 2**40
    with pytest.raises(ArraysError, match="values that int32 cannot hold"):
        read(**wide)


NAN = np.full((5, 2, 3), np.nan, np.float32)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ids": None}, "no array named 'ids'"),
        ({"idz": np.zeros((5, 4))}, "'idz': found no input of that name.*did you mean 'ids'"),
        ({"image": np.zeros((5, 3, 2), np.float32)}, r"'image': found the shape \[5, 3, 2\]"),
        ({"image": np.zeros((2, 3), np.float32)}, r"found the shape \[2, 3\].*\[N, 2, 3\]"),
        ({"image": np.float32(1)}, r"found the shape \[\]"),
        ({"ids": np.zeros((5, 4))}, "'ids': found float64 values; expected int32"),
        ({"image": np.zeros((5, 2, 3), "U4")}, "found <U4 values"),
        ({"image": NAN}, "values that are not finite"),
        ({"image": np.full((5, 2, 3), 1e300)}, "values that are not finite"),
        ({"ids": np.zeros((4, 4), np.int32)}, "5 of image, 4 of ids"),
        ({"image": np.zeros((0, 2, 3), np.float32), "ids": np.zeros((0, 4), np.int32)},
         "found no samples"),
        ({"ids": np.array([[{}]] * 5, object)}, "Object arrays cannot be loaded"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused_by_name(read, changes, said):
    with pytest.raises(ArraysError, match=said):
        read(**arrays(**changes))


@pytest.mark.parametrize("bytes_", [b"", b"no zip at all", b"PK\x03\x04 and then nothing"])
def test_a_file_that_is_no_npz_is_refused(tmp_path, bytes_):
    (tmp_path / "a.npz").write_bytes(bytes_)
    with pytest.raises(ArraysError, match=r"expected an \.npz of plain arrays"):
        samples_from_npz(tmp_path / "a.npz", INPUTS)


def test_a_file_cut_short_one_array_alone_a_folder_and_nothing_are_refused(tmp_path):
    np.savez(tmp_path / "whole.npz", **arrays())
    whole = (tmp_path / "whole.npz").read_bytes()
    for cut in (len(whole) // 2, len(whole) - 3):
        (tmp_path / "cut.npz").write_bytes(whole[:cut])
        with pytest.raises(ArraysError, match=r"expected an \.npz of plain arrays"):
            samples_from_npz(tmp_path / "cut.npz", INPUTS)
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(ArraysError, match="one array without a name"):
        samples_from_npz(tmp_path / "one.npz", INPUTS)
    with pytest.raises(ArraysError, match="no plain file"):
        samples_from_npz(tmp_path, INPUTS)
    with pytest.raises(ArraysError, match="no such file"):
        samples_from_npz(tmp_path / "none.npz", INPUTS)
