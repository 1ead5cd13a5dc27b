import struct

import numpy as np
import pytest

from compress.zoo.graphdef import GraphDefError, read_constants


def varint(value):
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number, payload):
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def tensor(array, dtype=1, values=None):
    dims = b"".join(field(2, field(1, size)) for size in array.shape)
    content = field(4, array.tobytes()) if values is None else field(5, values)
    return field(1, dtype) + field(2, dims) + content


def const(name, payload, op=b"Const"):
    entry = field(1, b"value") + field(2, field(8, payload))
    return field(1, field(1, name) + field(2, op) + field(5, entry))


def write(tmp_path, data):
    path = tmp_path / "graph.pb"
    path.write_bytes(data)
    return path


def test_float_constants_come_with_name_shape_and_values(tmp_path):
    weights = np.arange(6, dtype="<f4").reshape(1, 2, 3)
    other = const(b"shape", tensor(np.array([3], "<i4"), dtype=3))
    node = const(b"conv/weights", tensor(weights))
    relu = field(1, field(1, b"relu") + field(2, b"Relu6"))
    found = read_constants(write(tmp_path, relu + node + other + field(4, b"versions")))
    assert list(found) == ["conv/weights"]
    assert found["conv/weights"].dtype == np.float32
    np.testing.assert_array_equal(found["conv/weights"], weights)


def test_one_value_fills_a_whole_tensor(tmp_path):
    node = const(b"zeros", tensor(np.zeros((2, 3), "<f4"), values=struct.pack("<f", 1.5)))
    assert read_constants(write(tmp_path, node))["zeros"].tolist() == [[1.5] * 3] * 2


def test_a_scalar_keeps_its_empty_shape(tmp_path):
    node = const(b"scale", tensor(np.array(0.5, "<f4")))
    assert read_constants(write(tmp_path, node))["scale"].shape == ()


@pytest.mark.parametrize("cut", [1, 7, 20, 40])
def test_a_truncated_graph_is_refused_by_name(tmp_path, cut):
    data = const(b"conv/weights", tensor(np.ones((4, 4), "<f4")))
    with pytest.raises(GraphDefError, match=r"graph\.pb: found bytes that are not"):
        read_constants(write(tmp_path, data[:-cut]))


@pytest.mark.parametrize("data", [b"<html>not found</html>", b"\x00" * 9, b"\x80" * 99, b"PK\x03"])
def test_another_kind_of_file_is_refused(tmp_path, data):
    with pytest.raises(GraphDefError):
        read_constants(write(tmp_path, data))


def test_an_empty_file_and_a_missing_one_are_refused(tmp_path):
    with pytest.raises(GraphDefError, match="no float constant"):
        read_constants(write(tmp_path, b""))
    with pytest.raises(GraphDefError, match="No such file"):
        read_constants(tmp_path / "absent.pb")


def test_a_tensor_with_too_few_values_is_refused(tmp_path):
    short = field(1, 1) + field(2, field(2, field(1, 4))) + field(4, struct.pack("<2f", 1, 1))
    with pytest.raises(GraphDefError, match=r"shape \(4,\) with 2 values"):
        read_constants(write(tmp_path, const(b"w", short)))
