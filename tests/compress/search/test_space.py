"""The space is data: read from TOML with the address of a fault, printed, each candidate once."""

from __future__ import annotations

import pytest

from compress.press import Distil, Fp16, Int8, Prune
from compress.recipe import load_recipe
from compress.recipe_file import recipe_toml
from compress.search.candidate import Candidate, SearchError, passes_of
from compress.search.space import Space, load_space
from devices.profile import load_profile


def written(tmp_path, text):
    path = tmp_path / "space.toml"
    path.write_text(text)
    return path


def test_a_space_is_read_and_what_is_not_named_is_the_default(tmp_path):
    space = load_space(written(tmp_path, 'prune = [1.0, 0.5]\nimages = ["", "64x48"]\n'))
    assert space == Space(prune=(1.0, 0.5), images=("", "64x48"))
    assert ("image size", "its own, 64x48") in space.lines()
    assert len(space.candidates()) == 2 * 2 * 3 * len(space.steps)


def test_a_whole_net_with_nobody_to_learn_from_has_one_length_of_training():
    space = Space(prune=(1.0, 0.5), steps=(80, 160), precisions=("fp16",))
    assert space.candidates(whole_is_taught=False) == (
        Candidate(), Candidate(prune=0.5, steps=80), Candidate(prune=0.5, steps=160),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("prune = []", ["prune", "no choice", "at least one"]),
        ("prune = [0.0]", ["prune", "above 0"]),
        ("prune = [0.5, 0.5]", ["prune", "each once"]),
        ("steps = [-1]", ["steps", "0 or more"]),
        ('images = ["64"]', ["images", "HEIGHTxWIDTH"]),
        ('images = ["64x999999"]', ["images", "px a side"]),
        ('precisions = ["int4"]', ["precisions", "int4"]),
        ("width = [1]", ["width"]),
    ],
)
def test_a_fault_in_a_space_has_its_address(tmp_path, text, parts):
    with pytest.raises(SearchError) as caught:
        load_space(written(tmp_path, text))
    assert all(part in str(caught.value) for part in ["space.toml", *parts])


@pytest.mark.parametrize(
    ("candidate", "passes"),
    [
        (Candidate(), (Fp16(),)),
        (Candidate(precision="int8", float_layers="none", steps=80),
         (Distil(steps=80), Int8(keep_float=()))),
        (Candidate(prune=0.65, precision="int8", steps=240),
         (Prune(latency_ratio_max=0.65, precision="int8"), Distil(), Int8())),
        (Candidate(steps=80, short=True), (Distil(steps=20), Fp16())),
    ],
)  # fmt: skip
def test_a_candidate_is_a_recipe_and_the_recipe_reads_back_to_its_passes(
    tmp_path, candidate, passes
):
    assert passes_of(candidate) == passes
    path = written(tmp_path, recipe_toml(passes, comment="two\nlines"))
    recipe = load_recipe(path, load_profile("jetson-orin-nano"), has_frames=True)
    assert recipe.passes == passes
    assert recipe.refusals == ()
