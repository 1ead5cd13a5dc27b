"""An ONNX graph becomes the kernels TensorRT would run, counted; what has no price is named."""

import msgspec
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="a board has no onnx; costs are computed on a host")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from devices.errors import JetpressError  # noqa: E402
from edge.cost import CostError, costs_from_onnx  # noqa: E402


class Net:
    """The smallest ONNX writer that can build the graphs below."""

    def __init__(self, *input_shape, opset=13):
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)]
        self.nodes, self.weights, self.opset, self.domains = [], [], opset, []

    def weight(self, *shape, dtype=np.float32):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ones(shape, dtype), name))
        return name

    def ints(self, *values):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def add(self, op, *inputs, outputs=1, domain="", **attributes):
        names = [f"{op.lower()}{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(
            helper.make_node(op, list(inputs), names, name=names[0], domain=domain, **attributes)
        )
        return names[0] if outputs == 1 else names

    def conv(self, x, c_in, c_out, k=3, group=1, **attributes):
        weight = self.weight(c_out, c_in // group, k, k)
        return self.add("Conv", x, weight, self.weight(c_out), group=group, pads=[k // 2] * 4,
                        **attributes)  # fmt: skip

    def qdq(self, x, dtype=np.int8):
        scale, zero = self.weight(), self.weight(dtype=dtype)
        return self.add("DequantizeLinear", self.add("QuantizeLinear", x, scale, zero), scale, zero)

    def qconv(self, x, c_in, c_out, k=1):
        stored = self.weight(c_out, c_in, k, k, dtype=np.int8)
        scale, zero = self.weight(c_out), self.weight(c_out, dtype=np.int8)
        weight = self.add("DequantizeLinear", stored, scale, zero, axis=0)
        return self.add("Conv", x, weight, pads=[k // 2] * 4)

    def model(self, *outputs):
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        for info in infos:
            info.type.tensor_type.ClearField("shape")
        graph = helper.make_graph(self.nodes, "net", self.inputs, infos, self.weights)
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(domain, 1) for domain in self.domains]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.fixture
def costs(tmp_path):
    def compute(net, *outputs):
        path = tmp_path / "net.onnx"
        onnx.save(net.model(*outputs), str(path))
        return costs_from_onnx(path)

    return compute


def ops(result):
    return [kernel.op for kernel in result.kernels]


def test_a_convolution_is_counted_exactly(costs):
    net = Net(1, 3, 8, 10)
    result = costs(net, net.conv("x", 3, 16, strides=[2, 2]))
    (kernel,) = result.kernels
    assert (kernel.op, kernel.kernel_size, kernel.out_hw) == ("conv", (3, 3), (4, 5))
    assert (kernel.in_channels, kernel.out_channels, kernel.groups) == (3, 16, 1)
    assert kernel.macs == result.macs == 16 * 4 * 5 * 3 * 9
    assert (kernel.read_elems, kernel.write_elems) == (3 * 8 * 10, 16 * 4 * 5)
    assert kernel.weight_elems == result.params == 16 * 3 * 9 + 16
    assert (result.batch, result.opset, result.unknown_ops) == (1, 13, ())
    assert (result.input_elems, result.output_elems) == (240, 320)


@pytest.mark.parametrize(("group", "op"), [(8, "dwconv"), (2, "gconv")])
def test_groups_divide_the_work(costs, group, op):
    net = Net(1, 8, 4, 4)
    (kernel,) = costs(net, net.conv("x", 8, 8, group=group)).kernels
    assert (kernel.op, kernel.groups) == (op, group)
    assert kernel.macs == 8 * 16 * (8 // group) * 9


def test_a_transposed_convolution_is_counted_from_its_input(costs):
    net = Net(1, 4, 5, 5)
    out = net.add("ConvTranspose", "x", net.weight(4, 6, 2, 2), strides=[2, 2])
    (kernel,) = costs(net, out).kernels
    assert (kernel.op, kernel.macs) == ("deconv", 4 * 25 * 6 * 4)
    assert kernel.out_hw == (10, 10)


def test_matrix_products_are_counted_and_told_apart(costs):
    net = Net(1, 12)
    gemm = net.add("Gemm", "x", net.weight(5, 12), net.weight(5), transB=1)
    result = costs(net, gemm)
    assert (ops(result), result.macs, result.params) == (["gemm"], 60, 65)
    net = Net(1, 4, 6)
    turned = net.add("Transpose", "x", perm=[0, 2, 1])
    result = costs(net, net.add("MatMul", "x", turned))
    assert ops(result) == ["copy", "attention"]
    assert result.macs == 4 * 4 * 6


def test_batch_norm_activation_and_residual_ride_in_the_convolution(costs):
    net = Net(1, 4, 6, 6)
    first = net.add("Relu", net.conv("x", 4, 4))
    y = net.conv(net.conv(first, 4, 4), 4, 4)
    y = net.add("BatchNormalization", y, *(net.weight(4) for _ in range(4)))
    out = net.add("Relu", net.add("Add", y, first))
    result = costs(net, out)
    assert ops(result) == ["conv", "conv", "conv"]
    assert len(result.kernels[2].nodes) == 4
    assert result.kernels[2].read_elems == 2 * 144
    assert result.params == 3 * (4 * 4 * 9 + 4) + 8  # of the norm: scale and shift


@pytest.mark.parametrize("kind", ["swish", "hardswish"])
def test_an_activation_spelled_in_nodes_is_one_epilogue(costs, kind):
    net = Net(1, 4, 6, 6)
    y = net.conv("x", 4, 4)
    if kind == "swish":
        gate = net.add("Sigmoid", y)
    else:
        shifted = net.add("Add", y, net.weight())
        gate = net.add("Div", net.add("Clip", shifted, net.weight(), net.weight()), net.weight())
    result = costs(net, net.add("Mul", y, gate))
    assert ops(result) == ["conv"]
    assert result.params == 4 * 4 * 9 + 4  # the scalars of the activation are not weights


def test_a_tensor_wanted_twice_is_not_swallowed(costs):
    net = Net(1, 4, 6, 6)
    y = net.conv("x", 4, 4)
    result = costs(net, net.add("Relu", y), net.add("MaxPool", y, kernel_shape=[2, 2]))
    assert ops(result) == ["conv", "pointwise", "pool"]


def test_an_output_of_the_network_is_not_swallowed(costs):
    net = Net(1, 4, 6, 6)
    y = net.conv("x", 4, 4)
    assert ops(costs(net, y, net.add("Relu", y))) == ["conv", "pointwise"]


def test_a_gate_that_comes_later_is_its_own_kernel(costs):
    net = Net(1, 4, 6, 6)
    y = net.conv("x", 4, 4)
    gate = net.add("Sigmoid", net.conv(net.add("GlobalAveragePool", y), 4, 4, k=1))
    result = costs(net, net.add("Mul", y, gate))
    assert ops(result) == ["conv", "pool", "conv", "pointwise"]
    assert result.kernels[-1].read_elems == 144 + 4


def test_a_pointwise_chain_is_one_kernel(costs):
    net = Net(1, 4, 6, 6)
    out = net.add("Exp", net.add("Sqrt", net.add("Abs", "x")))
    (kernel,) = costs(net, out).kernels
    assert (kernel.op, len(kernel.nodes), kernel.macs) == ("pointwise", 3, 0)


def test_a_concat_is_written_in_place_once_and_copied_the_second_time(costs):
    net = Net(1, 4, 6, 6)
    a, b = net.conv("x", 4, 4), net.conv("x", 4, 8)
    both = net.add("Concat", a, b, axis=1)
    result = costs(net, net.conv(both, 12, 4))
    assert ops(result) == ["conv", "conv", "conv"]
    again = net.add("Concat", a, net.conv(both, 12, 4), axis=1)
    result = costs(net, net.conv(again, 8, 4))
    assert ops(result) == ["conv", "conv", "conv", "copy", "conv"]
    copy = result.kernels[3]
    assert (copy.read_elems, copy.write_elems) == (144, 144)


def test_a_concat_across_rows_must_be_copied(costs):
    net = Net(1, 4, 6, 6)
    joined = net.add("Concat", net.conv("x", 4, 4), net.conv("x", 4, 4), axis=3)
    result = costs(net, net.add("MaxPool", joined, kernel_shape=[2, 2]))
    assert ops(result) == ["conv", "conv", "copy", "pool"]


def test_constants_shapes_and_views_cost_nothing(costs):
    net = Net(1, 4, 6, 6)
    shape = net.add("Shape", "x")
    batch = net.add("Gather", shape, net.ints(0))
    target = net.add("Concat", batch, net.ints(-1), axis=0)
    flat = net.add("Reshape", "x", target)
    turned = net.add("Transpose", net.weight(7, 144), perm=[1, 0])
    result = costs(net, net.add("MatMul", flat, turned))
    assert ops(result) == ["gemm"]
    assert result.params == 7 * 144
    assert result.kernels[0].read_elems == 144


def test_a_transpose_moves_bytes_unless_it_moves_only_ones(costs):
    net = Net(1, 4, 6, 6)
    moved = net.add("Transpose", net.conv("x", 4, 4), perm=[0, 2, 3, 1])
    assert ops(costs(net, moved)) == ["conv", "copy"]
    net = Net(1, 4, 1, 1)
    still = net.add("Transpose", net.conv("x", 4, 4), perm=[0, 2, 3, 1])
    assert ops(costs(net, still)) == ["conv"]


def test_q_dq_folds_into_its_neighbours_and_marks_them_int8(costs):
    net = Net(1, 4, 6, 6)
    y = net.add("Relu", net.qconv(net.qdq("x"), 4, 8))
    out = net.qconv(net.qdq(y), 8, 8, k=3)
    result = costs(net, out)
    assert ops(result) == ["reformat", "conv", "conv"]
    assert [kernel.int8 for kernel in result.kernels] == [False, True, True]
    assert [kernel.writes_int8 for kernel in result.kernels] == [True, True, False]
    assert result.params == 4 * 8 + 8 * 8 * 9  # neither scales nor zero points


def test_a_convolution_with_float_weights_is_not_int8(costs):
    net = Net(1, 4, 6, 6)
    result = costs(net, net.conv(net.qdq("x"), 4, 8))
    assert [kernel.int8 for kernel in result.kernels] == [False, False]


def test_a_tensor_wanted_in_float_and_int8_is_converted_once(costs):
    net = Net(1, 4, 6, 6)
    y = net.conv("x", 4, 4)
    branch = net.qconv(net.qdq(y), 4, 4)
    result = costs(net, net.add("Add", branch, y))
    assert ops(result) == ["conv", "reformat", "conv"]
    assert len(result.kernels[2].nodes) == 2


def test_a_residual_with_only_the_skip_quantized_stays_in_the_convolution(costs):
    net = Net(1, 4, 6, 6)
    y = net.qconv(net.qdq("x"), 4, 4)
    again = net.qdq(y)
    out = net.add("Add", net.qconv(again, 4, 4), again)
    result = costs(net, out)
    assert ops(result) == ["reformat", "conv", "conv"]
    assert result.kernels[1].writes_int8
    assert result.kernels[2].int8


def test_peak_live_counts_what_is_alive_at_once_without_inputs_and_outputs(costs):
    net = Net(1, 4, 6, 6)
    a = net.conv("x", 4, 8)  # 288
    b = net.conv(a, 8, 2)  # 72
    result = costs(net, net.conv(b, 2, 4))
    assert result.peak_live_elems == 288 + 72
    c = net.conv(b, 2, 2)
    result = costs(net, net.add("Mul", a, net.conv(c, 2, 8)))
    assert result.peak_live_elems == 288 + 72 + 288 - 0  # a waits while c and the last run


def test_one_kernel_holds_nothing_between_kernels(costs):
    net = Net(1, 4, 6, 6)
    assert costs(net, net.conv("x", 4, 8)).peak_live_elems == 0


def test_a_custom_op_is_named_and_never_free(costs):
    net = Net(1, 4, 6, 6)
    net.domains.append("acme")
    odd = net.add("Wobble", net.conv("x", 4, 4), domain="acme")
    result = costs(net, net.conv(odd, 4, 4))
    assert result.unknown_ops == ("acme::Wobble",)
    assert ops(result) == ["conv", "other", "conv"]
    assert result.kernels[1].read_elems == result.kernels[1].write_elems == 144


def test_an_output_whose_size_the_data_decides_is_named(costs):
    net = Net(1, 10, 4)
    scores = net.weight(1, 2, 10)
    out = net.add("NonMaxSuppression", "x", scores, net.ints(5), net.weight(1), net.weight(1))
    result = costs(net, out)
    assert result.unknown_ops == ("NonMaxSuppression",)
    assert ops(result) == ["nms"]


def test_a_dynamic_shape_is_refused_with_the_way_out(costs):
    net = Net("batch", 3, "h", 8)
    with pytest.raises(
        CostError, match=r"input 'x': found dynamic shape \(batch, 3, h, 8\)"
    ) as said:
        costs(net, net.conv("x", 3, 4))
    assert "export with a fixed size" in said.value.cure


def test_a_batch_left_open_is_counted_as_one_and_said(costs, tmp_path):
    nets = [Net(batch, 3, 8, 8) for batch in (1, "batch", 0)]
    fixed, *opened = (costs(net, net.add("Flatten", net.conv("x", 3, 4))) for net in nets)
    assert (fixed.batch_open, [net.batch_open for net in opened]) == (False, [True, True])
    assert [msgspec.structs.replace(net, batch_open=False) for net in opened] == [fixed, fixed]
    net = Net("batch", 3, 8, 8)
    model = net.model(net.conv("x", 3, 4))
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info(model.graph.output[0].name, 1, ["batch", 4, 8, 8])
    )
    onnx.save(model, str(tmp_path / "named.onnx"))
    assert costs_from_onnx(tmp_path / "named.onnx").output_elems == 4 * 64


@pytest.mark.parametrize(
    "content", [b"", b"not a network", b"\x08\x07\x12\x00" + bytes(range(200))]
)
def test_bytes_that_are_no_network_are_refused(tmp_path, content):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(CostError, match=r"broken.onnx: found") as said:
        costs_from_onnx(path)
    assert said.value.expected


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(JetpressError, match="no such file"):
        costs_from_onnx(tmp_path / "absent.onnx")
    with pytest.raises(JetpressError, match="readable ONNX file"):
        costs_from_onnx(tmp_path)


def test_a_truncated_file_is_refused(tmp_path):
    net = Net(1, 4, 6, 6)
    content = net.model(net.conv("x", 4, 4)).SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CostError, match=r"cut.onnx"):
        costs_from_onnx(path)


@pytest.mark.parametrize("damage", ["input", "attribute", "shape"])
def test_a_graph_that_contradicts_itself_is_refused(tmp_path, damage):
    net = Net(1, 4, 6, 6)
    model = net.model(net.add("Relu", net.conv("x", 4, 4)))
    conv = model.graph.node[0]
    if damage == "input":
        conv.input[0] = "nowhere"
    elif damage == "attribute":
        next(a for a in conv.attribute if a.name == "pads").ints.extend([7, 7, 7])
    else:
        model.graph.initializer[0].dims[:] = [4]
    path = tmp_path / "torn.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CostError, match=r"torn.onnx"):
        costs_from_onnx(path)


def test_a_damaged_file_never_ends_in_a_traceback(tmp_path):
    net = Net(1, 4, 6, 6)
    shape = net.add("Concat", net.add("Gather", net.add("Shape", "x"), net.ints(0)), net.ints(-1),
                    axis=0)  # fmt: skip
    flat = net.add("Reshape", net.conv("x", 4, 4), shape)
    whole = net.model(net.add("Gemm", flat, net.weight(144, 5))).SerializeToString()
    rng = np.random.default_rng(0)
    path = tmp_path / "fuzz.onnx"
    refused = 0
    for _ in range(60):
        torn = bytearray(whole)
        for at in rng.integers(0, len(torn), size=3):
            torn[at] = rng.integers(256)
        path.write_bytes(torn)
        try:
            costs_from_onnx(path)
        except CostError:
            refused += 1
    assert refused > 8


def test_the_same_file_costs_the_same_twice(costs):
    net = Net(1, 4, 6, 6)
    out = net.add("Relu", net.conv("x", 4, 4))
    assert costs(net, out) == costs(net, out)


def test_a_node_nobody_needs_costs_nothing(costs):
    net = Net(1, 4, 6, 6)
    net.conv("x", 4, 64)
    assert ops(costs(net, net.conv("x", 4, 4))) == ["conv"]
