"""Which passes a board gets, and how a recipe file that cannot be followed is refused."""

from __future__ import annotations

import pytest

from compress.recipe import Choice, RecipeError, choose_recipe, load_recipe
from devices.profile import load_profile, profile_names


def names(recipe):
    return [step.name for step in recipe.passes]


def chosen(profile, *, has_frames=True, **choice):
    return choose_recipe(load_profile(profile), Choice(**choice), has_frames=has_frames)


def test_a_nano_prunes_distils_and_ends_in_fp16_saying_why():
    recipe = chosen("jetson-nano")
    assert names(recipe) == ["prune", "distil", "fp16"]
    (refusal,) = recipe.refusals
    assert "DP4A" in refusal.reason
    assert "SM 6.1" in refusal.reason
    assert refusal.instead == "the run ends in fp16"


def test_an_orin_keeps_its_channels_and_ends_in_int8():
    recipe = chosen("jetson-orin-nano")
    assert names(recipe) == ["distil", "int8"]
    assert recipe.refusals == ()


@pytest.mark.parametrize("profile", profile_names())
def test_every_board_ends_in_a_precision_it_has(profile):
    last = names(chosen(profile))[-1]
    assert load_profile(profile).refuse(last) is None


def test_int8_without_frames_is_refused_never_invented():
    recipe = chosen("jetson-orin-nano", has_frames=False)
    assert names(recipe)[-1] == "fp16"
    assert "--data" in recipe.refusals[0].instead


def test_prune_takes_a_ratio_and_off():
    assert chosen("jetson-orin-nano", prune="0.7").passes[0].latency_ratio_max == 0.7
    assert names(chosen("jetson-nano", prune="off")) == ["distil", "fp16"]


@pytest.mark.parametrize("text", ["half", "0", "1", "-0.5", "nan", "50%"])
def test_a_prune_ratio_outside_0_to_1_is_refused(text):
    with pytest.raises(RecipeError, match="--prune"):
        chosen("jetson-nano", prune=text)


def test_distil_steps_reach_the_pass():
    assert chosen("jetson-nano", distil_steps=7).passes[1].steps == 7


INT8 = '[[pass]]\nname = "prune"\n[[pass]]\nname = "int8"\n'


def write(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def load(tmp_path, text, profile="jetson-orin-nano", *, has_frames=True):
    return load_recipe(write(tmp_path, text), load_profile(profile), has_frames=has_frames)


@pytest.mark.parametrize(
    ("profile", "has_frames", "reason"),
    [("jetson-nano", True, "DP4A"), ("jetson-orin-nano", False, "none were given")],
)
def test_a_recipe_that_cannot_end_in_int8_ends_in_fp16_and_says_why(
    tmp_path, profile, has_frames, reason
):
    recipe = load(tmp_path, INT8, profile, has_frames=has_frames)
    assert names(recipe) == ["prune", "fp16"]
    (refusal,) = recipe.refusals
    assert reason in refusal.reason
    assert refusal.instead.startswith("the run ends in fp16")


def test_cutting_is_planned_for_the_precision_the_run_ends_in(tmp_path):
    assert load(tmp_path, INT8).passes[0].precision == "int8"
    assert load(tmp_path, INT8, "jetson-nano").passes[0].precision == "fp16"
    assert chosen("jetson-orin-nano", prune="0.7").passes[0].precision == "int8"
    assert chosen("jetson-nano").passes[0].precision == "fp16"


def test_a_recipe_file_sets_passes_and_their_fields(tmp_path):
    recipe = load(
        tmp_path, '[[pass]]\nname = "prune"\nlatency_ratio_max = 0.6\n[[pass]]\nname = "fp16"\n'
    )
    assert names(recipe) == ["prune", "fp16"]
    assert recipe.passes[0].latency_ratio_max == 0.6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[pass]]\nname = "prun"\n', "did you mean 'prune'"),
        ('[[pass]]\nname = "fp16"\nbits = 4\n', "bits"),
        ('[[pass]]\nname = "int8"\nframes_max = "many"\n', "frames_max"),
        ('[[pass]]\nname = "prune"\nlatency_ratio_max = 7.0\n', "latency_ratio_max"),
        ('[[pass]]\nname = "prune"\n', "exactly one of int8, fp16"),
        ('[[pass]]\nname = "int8"\n[[pass]]\nname = "distil"\n', "exactly one of int8, fp16"),
        (
            '[[pass]]\nname = "prune"\nprecision = "fp16"\n[[pass]]\nname = "int8"\n',
            "the precision of the last pass",
        ),
        ("", "pass"),
        ("steps = 3\n", "steps"),
        ("[[pass\n", "recipe.toml"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused_with_its_place(tmp_path, text, words):
    with pytest.raises(RecipeError, match=words):
        load(tmp_path, text)
