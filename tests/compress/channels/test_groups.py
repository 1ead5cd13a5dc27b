"""Which indices of which tensors go together, said exactly; and groups as text."""

from __future__ import annotations

import functools

import pytest

torch = pytest.importorskip("torch", reason="pip install 'jetpress[compress]'")

from compress.channels.errors import PlanError  # noqa: E402
from compress.channels.groups import (  # noqa: E402
    groups_from_json,
    groups_to_json,
    plan_from_json,
    plan_to_json,
)
from compress.channels.prune import groups_of, prune_module  # noqa: E402
from tests.compress.channels.nets import KEPT, NETS, made  # noqa: E402

PICTURE = (torch.zeros(1, 3, 16, 16),)


@functools.cache
def groups(name):
    return {group.name: group for group in groups_of(made(NETS[name]), PICTURE)}


def parts(unit):
    return {(part.tensor, part.axis): part.indices for part in unit.parts}


def weights(unit):
    """Of convolutions and linear layers alone: tensors of two axes or more."""
    norms = ("bias", "running_mean", "running_var", ".1.weight", "norm.weight")
    return {key: places for key, places in parts(unit).items() if not key[0].endswith(norms)}


def test_a_unit_names_every_tensor_that_loses_an_index():
    found = groups("Residual")["a.0"]
    fields = ("weight", "bias", "running_mean", "running_var")
    assert parts(found.units[7]) == {
        ("a.0.weight", 0): (7,), **{(f"a.1.{field}", 0): (7,) for field in fields},
        ("b.0.weight", 1): (7,),
    }  # fmt: skip
    assert (found.makers, found.readers) == (("a.0.weight",), ("b.0.weight",))
    assert set(found.passers) == {f"a.1.{field}" for field in fields}


def test_a_sum_ties_its_makers_and_a_projection_frees_the_next():
    found = groups("Residual")
    assert weights(found["stem.0"].units[5]) == {
        ("stem.0.weight", 0): (5,), ("b.0.weight", 0): (5,), ("a.0.weight", 1): (5,),
        ("c.0.weight", 1): (5,), ("project.0.weight", 1): (5,),
    }  # fmt: skip
    assert set(found["project.0"].makers) == {"project.0.weight", "d.0.weight"}
    assert found["project.0"].width == 24


def test_chunk_and_concat_map_places():
    """C2f: channel 15 of cv1 is channel 3 of the second half and place 15 of the concat."""
    for name in ("C2f", "C2fSplit"):
        cv1 = groups(name)["cv1.0"]
        assert weights(cv1.units[3]) == {
            ("cv1.0.weight", 0): (3,), ("cv2.0.weight", 1): (3,)}  # fmt: skip
        assert weights(cv1.units[15]) == {
            ("cv1.0.weight", 0): (15,), ("m.0.a.0.weight", 1): (3,), ("m.0.b.0.weight", 0): (3,),
            ("m.1.a.0.weight", 1): (3,), ("m.1.b.0.weight", 0): (3,),
            ("cv2.0.weight", 1): (15, 27, 39),
        }  # fmt: skip


def test_a_shuffle_is_followed_channel_by_channel():
    """View (2, 8), transpose, flatten: place k of the halves lands on 2k and 2k + 1."""
    stem = groups("Shuffle")["stem.0"]
    assert weights(stem.units[1]) == {
        ("stem.0.weight", 0): (1,), ("one.2.0.weight", 0): (1,), ("two.2.0.weight", 0): (2, 3),
        ("last.0.weight", 1): (4, 5, 6, 7),
    }  # fmt: skip
    assert weights(stem.units[5]) == {
        ("stem.0.weight", 0): (5,), ("one.2.0.weight", 0): (5,), ("two.0.0.weight", 1): (2, 3),
    }  # fmt: skip
    assert weights(stem.units[10]) == {
        ("stem.0.weight", 0): (10,), ("one.0.0.weight", 1): (2,)}  # fmt: skip


def test_unbind_ties_the_same_place_of_each_part():
    stem = groups("Unbind")["stem.0"]
    assert [weights(unit)["stem.0.weight", 0] for unit in stem.units[:2]] == [(0, 8), (1, 9)]
    assert weights(stem.units[1])["a.0.weight", 1] == (1,)
    assert weights(stem.units[1])["a.0.weight", 0] == (1,)


def test_slices_and_indices_map_places():
    stem = groups("Slices")["stem.0"]
    read = {key[0]: places for key, places in weights(stem.units[13]).items() if key[1] == 1}
    assert read == {"b.0.weight": (6,), "c.0.weight": (2,)}
    picked = groups("Picked")["stem.0"]
    assert weights(picked.units[9]) == {
        ("stem.0.weight", 0): (9,), ("a.0.weight", 1): (4, 5), ("b.0.weight", 1): (1,)}  # fmt: skip


def test_a_flattened_channel_is_a_block_or_a_comb_of_inputs():
    a = groups("Flatten")["a.0"]
    unit = weights(a.units[2])
    assert unit["one.weight", 1] == tuple(range(32, 48))
    assert unit["two.weight", 1] == tuple(range(2, 96, 6))


def test_depthwise_goes_with_what_it_reads():
    found = groups("InvertedResidual")
    unit = weights(found["widen.0"].units[40])
    assert unit == {("widen.0.weight", 0): (40,), ("deep.0.weight", 0): (40,),
                    ("narrow.0.weight", 1): (40,)}  # fmt: skip
    stem = groups("Multiplier")["stem.0"]
    assert weights(stem.units[4])["twice.0.weight", 0] == (8, 9)
    assert weights(stem.units[4])["head.weight", 1] == (8, 9)


def test_grouped_layers_lose_the_same_place_of_each_group():
    found = groups("Grouped")
    assert weights(found["stem.0"].units[1]) == {
        ("stem.0.weight", 0): (1, 5, 9, 13), ("a.0.weight", 1): (1,)}  # fmt: skip
    assert weights(found["b.0"].units[0]) == {
        ("b.0.weight", 0): (0, 1, 8, 9), ("c.weight", 0): (0, 4), ("head.weight", 1): (0, 4),
    }  # fmt: skip


def test_squeeze_excite_gates_go_with_what_they_multiply():
    unit = weights(groups("SqueezeExcite")["a.0"].units[3])
    assert unit == {("a.0.weight", 0): (3,), ("up.weight", 0): (3,), ("down.weight", 1): (3,),
                    ("head.weight", 1): (3,)}  # fmt: skip


def test_transposed_convolutions_have_their_axes_swapped():
    found = groups("Transposed")
    assert weights(found["down.0"].units[20]) == {
        ("down.0.weight", 0): (20,), ("up.weight", 0): (20,)}  # fmt: skip
    assert weights(found["stem.0"].units[2]) == {
        ("stem.0.weight", 0): (2, 6, 10, 14), ("up.weight", 1): (2, 6, 10, 14),
        ("down.0.weight", 1): (2, 6, 10, 14), ("grouped.weight", 0): (2, 6, 10, 14),
    }  # fmt: skip
    assert weights(found["grouped"].units[5]) == {
        ("grouped.weight", 1): (5,), ("deep.weight", 0): (5, 11, 17, 23),
        ("last.0.weight", 1): (5, 11, 17, 23),
    }  # fmt: skip


def test_tied_weights_lose_the_same_indices_under_every_name():
    found = groups("Shared")["d"]
    unit = parts(found.units[4])
    assert unit["c.weight", 0] == unit["d.weight", 0] == (4,)
    assert unit["c.bias", 0] == unit["d.bias", 0] == (4,)


def test_group_norm_loses_whole_groups():
    unit = parts(groups("Norms")["a"].units[2])
    assert unit["group.weight", 0] == unit["a.weight", 0] == (8, 9, 10, 11)


def test_every_free_index_is_in_exactly_one_unit():
    for name in NETS:
        seen = set()
        for group in groups(name).values():
            for unit in group.units:
                places = {(p.tensor, p.axis, i) for p in unit.parts for i in p.indices}
                assert not places & seen, name
                seen |= places


@pytest.mark.parametrize("name", [*NETS, *KEPT])
def test_groups_survive_json_and_come_out_the_same_twice(name):
    net = NETS[name] if name in NETS else KEPT[name][0]
    first, second = (groups_to_json(groups_of(made(net), PICTURE)) for _ in range(2))
    assert first == second
    assert groups_to_json(groups_from_json(first)) == first
    assert groups_from_json(first) == groups_of(made(net), PICTURE)


def test_a_group_prints_what_a_cut_would_touch():
    assert str(groups("SqueezeExcite")["down"]) == (
        "down: 6 of 6 units can go; made by down.weight; carried by down.bias; read by up.weight"
    )
    assert str(groups("Pyramid")["fine"]) == (
        "fine: 0 of 6 units can go; made by fine.weight; carried by fine.bias; "
        "kept: output of the network"
    )


def test_a_plan_is_replayed_from_text_on_the_same_net():
    module = made(NETS["C2f"])
    text = groups_to_json(groups_of(module, PICTURE))
    plan = plan_to_json({"m.0.a.0": (5, 1, 5), "cv1.0": (15,)})
    assert plan_to_json(plan_from_json(plan)) == plan
    assert plan_from_json(plan) == {"cv1.0": (15,), "m.0.a.0": (1, 5)}
    first, second = (
        prune_module(module, PICTURE, plan_from_json(plan), groups=groups_from_json(text)).module
        for _ in range(2)
    )
    assert first.code == second.code
    states = [module.state_dict() for module in (first, second)]
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_groups_of_another_net_are_refused():
    others = groups_of(made(NETS["C3k2"]), PICTURE)
    with pytest.raises(PlanError, match=r"plan again with groups_of"):
        prune_module(made(NETS["C2f"]), PICTURE, {}, groups=others)


@pytest.mark.parametrize("text", ["", "{}", '[{"name": 3}]', '{"cut": {"a": ["x"]}}'])
def test_text_that_is_neither_is_refused(text):
    with pytest.raises(PlanError, match=r"groups\.json"):
        groups_from_json(text)
    with pytest.raises(PlanError, match=r"plan\.json"):
        plan_from_json(text)
