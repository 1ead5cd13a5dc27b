"""The roofline times kernels by what binds them, scales with clocks, widens when it knows less."""

import functools
import itertools
from pathlib import Path

import msgspec
import pytest

from devices.architecture import HARNESSES, architecture, cell_for, chip_of, chips_of
from devices.budget import Basis
from devices.profile import PrecisionError, ProfileError, load_profile, profile_names
from devices.roofline import OP_CLASSES, Costs, Kernel, demand, predict

NET = msgspec.json.decode((Path(__file__).parent / "mobilenet_v2.json").read_bytes(), type=Costs)
NET_INT8 = msgspec.json.decode(
    (Path(__file__).parent / "mobilenet_v2-int8.json").read_bytes(), type=Costs
)
NANO, ORIN, AGX = map(load_profile, ("jetson-nano", "jetson-orin-nano", "jetson-agx-orin"))


def kernel(**changes):
    plain = Kernel(name="k", op="conv", nodes=("k",), macs=64 * 64 * 9 * 1024, in_channels=64,
                   out_channels=64, groups=1, kernel_size=(3, 3), out_hw=(32, 32),
                   read_elems=65536, write_elems=65536, weight_elems=36864, int8=False)  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


def network(*kernels, unknown=()):
    return Costs(kernels=kernels, params=1, macs=sum(k.macs for k in kernels), peak_live_elems=1,
                 input_elems=1, output_elems=1, unknown_ops=unknown, batch=1, opset=13)  # fmt: skip


def test_one_convolution_is_the_formula():
    need = demand(kernel(), NANO, NANO.mode(), build="fp16")
    assert need.matrix_s == pytest.approx(2 * 64 * 64 * 9 * 1024 / (512 * 921.6e6))
    assert need.memory_s == pytest.approx(2 * (65536 * 2 + 36864) / 25.6e9)
    assert (need.vector_s, need.waves) == (0.0, 1.0)
    cell = cell_for("jetson-nano", "fp16")
    expected_ms = need.matrix_s / cell.e_conv * 1e3 + cell.t0_us / 1e3
    latency = predict(network(kernel()), NANO, precision="fp16").latency_ms
    assert latency.value == pytest.approx(expected_ms)
    assert latency.value / latency.low == pytest.approx(cell.interval_factor)
    assert (latency.unit, latency.basis) == ("ms", Basis.PREDICTED)


def test_each_kernel_says_what_binds_it():
    copy = kernel(name="copy", op="copy", macs=0, read_elems=10**7, write_elems=10**7)
    heavy = kernel(name="heavy", macs=10**10)
    tiny = kernel(name="tiny", macs=10, read_elems=1, write_elems=1, weight_elems=1)
    bounds = predict(network(copy, heavy, tiny), NANO, precision="fp16").layers
    assert [(layer.kernel, layer.bound) for layer in bounds] == [
        ("copy", "memory"), ("heavy", "compute"), ("tiny", "floor")]  # fmt: skip
    assert sum(layer.ms for layer in bounds) == pytest.approx(
        predict(network(copy, heavy, tiny), NANO, precision="fp16").latency_ms.value
    )


def test_throughput_is_the_inverse_with_its_ends_swapped():
    prediction = predict(NET, NANO, precision="fp16")
    latency, fps = prediction.latency_ms, prediction.fps
    assert fps.value == pytest.approx(1000 / latency.value)
    assert fps.low == pytest.approx(1000 / latency.high)
    assert fps.high == pytest.approx(1000 / latency.low)
    assert (fps.unit, fps.basis) == ("frames/s", Basis.PREDICTED)


def test_channels_are_padded_to_what_the_tensor_cores_take():
    three = kernel(in_channels=3, macs=64 * 3 * 9 * 1024)
    eight = kernel(in_channels=8, macs=64 * 8 * 9 * 1024)
    of = [demand(k, ORIN, ORIN.mode(), build="fp16").matrix_s for k in (three, eight)]
    assert of[0] == pytest.approx(of[1])


def test_a_partly_filled_round_costs_a_whole_one():
    nine = kernel(out_hw=(9 * 128, 1))  # nine tiles on eight SMs
    assert demand(nine, ORIN, ORIN.mode(), build="fp16").waves == pytest.approx(16 / 9)
    one = kernel(out_hw=(1, 1))
    assert demand(one, AGX, AGX.mode(), build="fp16").waves == 8.0


def test_depthwise_runs_on_cuda_cores():
    need = demand(kernel(op="dwconv", groups=64), ORIN, ORIN.mode(), build="fp16")
    assert need.matrix_s == 0.0
    assert need.vector_s > 0.0


def test_int8_moves_half_the_bytes_and_the_rest_stays_fp16():
    q = kernel(int8=True, writes_int8=True)
    needs = [demand(k, ORIN, ORIN.mode(), build="int8") for k in (q, kernel())]
    assert needs[1].memory_s == pytest.approx(2 * needs[0].memory_s)
    assert needs[1].matrix_s == pytest.approx(2 * needs[0].matrix_s)
    mixed = demand(kernel(int8=True), ORIN, ORIN.mode(), build="int8")
    assert needs[0].memory_s < mixed.memory_s < needs[1].memory_s


def test_int8_on_a_nano_is_an_error_that_names_the_alternative():
    with pytest.raises(PrecisionError, match="no fast INT8") as said:
        predict(NET_INT8, NANO, precision="int8")
    assert said.value.cure == "prune, distil and run in fp16"


def test_fewer_sms_and_slower_clocks_take_longer_by_no_more_than_their_ratio():
    full = predict(NET, ORIN, precision="fp16").latency_ms
    slow = predict(NET, ORIN, precision="fp16", mode="7W").latency_ms
    ratio = (8 * 625) / (4 * 408)
    assert full.value < slow.value < full.value * ratio
    assert slow.high / slow.value > full.high / full.value
    with pytest.raises(ProfileError, match="no such mode"):
        predict(NET, ORIN, precision="fp16", mode="MAXN")


def test_boards_rank_as_published():
    order = ["jetson-nano", "jetson-tx2", "jetson-xavier-nx", "jetson-agx-orin"]
    times = [predict(NET, load_profile(name), precision="fp16").latency_ms.value for name in order]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("name", profile_names())
def test_every_legal_precision_of_every_mode_can_be_predicted(name):
    board = load_profile(name)
    for precision in board.precisions:
        for mode in board.power_modes:
            prediction = predict(NET_INT8, board, precision=precision, mode=mode.name)
            latency = prediction.latency_ms
            assert 0 < latency.low < latency.value < latency.high < 1000
            assert len(prediction.layers) == len(NET_INT8.kernels)
            assert prediction.notes


def test_a_board_without_its_own_row_says_so_and_is_wider():
    prediction = predict(NET, load_profile("jetson-nano-2gb"), precision="fp16")
    own = predict(NET, NANO, precision="fp16")
    assert any("no row of its own" in note for note in prediction.notes)
    assert not any("no row of its own" in note for note in own.notes)
    latency = prediction.latency_ms
    assert latency.high / latency.value > own.latency_ms.high / own.latency_ms.value
    assert latency.value == pytest.approx(own.latency_ms.value)  # the same chip and clocks


def test_rows_at_unstated_clocks_do_not_count_as_a_boards_own():
    for board, own in (("jetson-orin-nano", False), ("jetson-orin-nx", True)):
        notes = predict(NET, load_profile(board), precision="fp16").notes
        assert any("no row of its own" in note for note in notes) is not own
    assert "8 of them at unstated clocks" in cell_for("jetson-orin-nano", "fp16").basis


def test_an_int8_engine_is_no_more_certain_than_the_fp16_kernels_in_it():
    board = load_profile("jetson-xavier-nx")
    eight, half = (cell_for(board.name, name).interval_factor for name in ("int8", "fp16"))
    assert eight < half
    q = kernel(int8=True, writes_int8=True)
    for kernels, expected in (((q,), eight), ((q, kernel()), half), ((kernel(),), half)):
        latency = predict(network(*kernels), board, precision="int8").latency_ms
        assert latency.high / latency.value == pytest.approx(expected)


PLAIN = {  # networks that each bind another resource
    "mobilenet_v2": NET,
    "mobilenet_v2-int8": NET_INT8,
    "windows": network(*(kernel(macs=10**8, out_hw=(hw, hw)) for hw in (1, 7, 13, 40, 160))),
    "products": network(*(kernel(macs=10**7, kernel_size=(1, 1), out_channels=width)
                          for width in (1, 64, 72, 1280))),
    "depthwise": network(*(kernel(op="dwconv", groups=64, macs=10**6 * n) for n in (1, 9))),
    "copies": network(*(kernel(op="copy", macs=0, read_elems=10**n) for n in (3, 5, 7))),
    "floors": network(*(kernel(macs=10, read_elems=1, write_elems=1, weight_elems=1),) * 50),
    "int8": network(*(kernel(int8=True, writes_int8=True, macs=10**n) for n in (5, 7, 9))),
}  # fmt: skip


def no_worse(board, mode, than, mode_of):
    """Of one architecture, and no fact of the first is behind the second's."""
    return board.family == than.family and (
        mode.sm_count >= mode_of.sm_count
        and mode.gpu_mhz >= mode_of.gpu_mhz
        and board.dram_gb_per_s(mode) >= than.dram_gb_per_s(mode_of)
        and board.number("l2_kib") >= than.number("l2_kib")
    )


@pytest.mark.parametrize("net", PLAIN)
def test_a_board_and_mode_that_is_no_worse_in_any_fact_is_not_slower(net):
    settings = [(board, mode) for board in map(load_profile, profile_names())
                for mode in board.power_modes]  # fmt: skip

    @functools.lru_cache(maxsize=None)
    def ms(board_name, mode_name, precision, harness):
        board = load_profile(board_name)
        prediction = predict(PLAIN[net], board, precision=precision, mode=mode_name,
                             harness=harness)  # fmt: skip
        return prediction.latency_ms.value

    pairs = [(a, b) for a in settings for b in settings if a is not b and no_worse(*a, *b)]
    assert len(pairs) > 60
    for (board, mode), (other, other_mode) in pairs:
        for how in itertools.product(board.precisions, HARNESSES):
            ours, theirs = (board.name, mode.name), (other.name, other_mode.name)
            assert ms(*ours, *how) <= ms(*theirs, *how) * (1 + 1e-9), (ours, theirs, how)


def test_every_board_is_of_one_chip_and_a_larger_chip_is_not_worse():
    for board in map(load_profile, profile_names()):
        chips = chips_of(board.family)
        assert chip_of(board.name) in chips
        for precision in board.precisions:
            cells = [cell_for(chip.boards[0], precision) for chip in chips.values()]
            for small, large in zip(cells, cells[1:]):
                for name in ("e_conv", "e_1x1", "e_dw", "e_mem"):
                    assert getattr(large, name) >= getattr(small, name)
                for name in ("t0_us", "t0_python_us", "wave_power"):
                    assert getattr(large, name) <= getattr(small, name)


def test_an_unknown_operation_widens_the_interval_and_is_named():
    odd = network(kernel(), kernel(name="odd", op="other", macs=0), unknown=("acme::Wobble",))
    wide, narrow = (predict(net, ORIN, precision="fp16") for net in (odd, network(kernel())))
    assert any("acme::Wobble" in note for note in wide.notes)
    factor = wide.latency_ms.high / wide.latency_ms.value
    assert factor == pytest.approx(1.5 * narrow.latency_ms.high / narrow.latency_ms.value)


def test_who_enqueues_sets_the_floor():
    times = [predict(NET, ORIN, precision="fp16", harness=name).latency_ms.value
             for name in ("graph", "c++", "python")]  # fmt: skip
    assert times == sorted(times)
    cell = cell_for("jetson-orin-nano", "fp16")
    assert times[1] - times[0] == pytest.approx(0.6 * cell.t0_us * len(NET.kernels) / 1e3)
    with pytest.raises(ProfileError, match="harness 'cpp'"):
        predict(NET, ORIN, precision="fp16", harness="cpp")


def test_an_empty_network_takes_no_time():
    prediction = predict(network(), NANO, precision="fp16")
    assert (prediction.latency_ms.value, prediction.fps.value, prediction.layers) == (0.0, 0.0, ())


def test_every_interval_is_at_least_what_two_publishers_differ_by():
    for name in profile_names():
        board = load_profile(name)
        for precision in board.precisions:
            cell = cell_for(board.name, precision)
            assert cell.interval_factor >= 1.5
            assert cell.basis


def test_kernel_classes_of_the_stored_network_are_known():
    assert {k.op for k in NET.kernels} <= set(OP_CLASSES)
    assert architecture(ORIN.family).title == "Ampere, SM 8.7"
