"""Foresight: what is predicted before training is near what a cut gives, and rules out no more."""

from __future__ import annotations

import numpy as np
import pytest

from compress.export import load_factory
from compress.passes import PASSES
from compress.search.candidate import Candidate
from compress.search.foresight import TOLERANCE, foresee
from compress.search.sharing import Desk
from compress.search.space import Space, aimed, allowed
from devices.budget import Budget
from devices.profile import load_profile

pytest.importorskip("torch", reason="needs the extra 'compress'")
cv2 = pytest.importorskip("cv2", reason="needs the extra 'compress'")

WIDE = "tests.compress.user_nets:wide"
NANO = load_profile("jetson-nano")


def opened(tmp_path, model, profile=NANO):
    """The material of a job for a user's net and twelve pictures, and the desk at it."""
    from compress.import_model import source_from_text
    from compress.job import Job
    from compress.material import open_material
    from compress.recipe import Choice
    from compress.search.evaluation import Silent

    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for index in range(12):
        cv2.imwrite(str(folder / f"{index}.png"), rng.integers(0, 255, (32, 32, 3), np.uint8))
    job = Job(
        source=source_from_text(model, spec=None, image_hw=None), profile=profile,
        budget=Budget(), choice=Choice(), cache=tmp_path, data=folder, out=tmp_path / "run",
    )  # fmt: skip
    return open_material(job, Silent()), Desk.numbered(job.passes, 0)


@pytest.mark.slow
def test_a_cut_is_foreseen_near_what_it_comes_to(tmp_path):
    from compress.search.candidate import passes_of
    from compress.search.sharing import press
    from devices.forecast import forecast
    from edge.gate import read_costs

    material, desk = opened(tmp_path, WIDE)
    space = Space(prune=(1.0, 0.5), steps=(0,), images=("",))
    wanted = allowed(space, material)
    assert wanted.space.precisions == ("fp16",)  # the Nano has no INT8
    assert any("DP4A" in refusal.reason for refusal in wanted.refusals)
    seen = foresee(wanted, material, desk, Budget())
    whole, cut = (seen.of(candidate) for candidate in wanted.candidates)
    latency = {fact.name: fact.value for fact in cut.facts}
    before = {fact.name: fact.value for fact in whole.facts}
    assert 0.35 * before["latency_ms"] < latency["latency_ms"] <= 0.5 * before["latency_ms"]
    bundle, _ = press(material.first, passes_of(Candidate(prune=0.5)), desk, material.context)
    real = forecast(read_costs(bundle), NANO, precision="fp16")
    for name in ("latency_ms", "engine_mb", "memory_mb"):
        assert latency[name] == pytest.approx(real.fact(name).value, rel=0.15), name
    for name in ("params", "macs"):
        assert latency[name] < 0.7 * before[name]


@pytest.mark.slow
def test_a_candidate_is_ruled_out_only_beyond_interval_and_tolerance(tmp_path):
    material, desk = opened(tmp_path, WIDE)
    wanted = allowed(Space(prune=(1.0,), steps=(0,), images=("",)), material)
    (whole,) = wanted.candidates
    fps = next(fact for fact in foresee(wanted, material, desk, Budget()).of(whole).facts
               if fact.name == "fps")  # fmt: skip
    for factor, possible in (
        (1.0, True),
        (1 + 0.9 * TOLERANCE, True),
        (1 + 1.1 * TOLERANCE, False),
    ):
        budget = Budget(fps_min=fps.high * factor, accuracy_drop_max=0.0)
        assert foresee(wanted, material, desk, budget).is_possible(whole) is possible
    just = aimed(allowed(Space(), material), material, fps.low / 0.55)
    assert 0.55 in just.space.prune
    assert aimed(wanted, material, fps.low) == wanted


def test_a_size_the_net_does_not_take_falls_away_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setitem(PASSES, "resize", "compress.resize:Resize")
    name = "tests.compress.search.fixed_net:one_size"
    load_factory(name)
    material, desk = opened(tmp_path, name)
    wanted = allowed(Space(images=("", "32x32", "16x16"), prune=(1.0,)), material)
    assert wanted.space.images == ("", "16x16")
    seen = foresee(wanted, material, desk, Budget())
    assert [refusal.what for refusal in seen.refusals] == ["images of 16x16 px"]
    assert {c.image for c in wanted.candidates if seen.is_possible(c)} == {""}


def test_sizes_below_the_net_s_own_are_offered_on_a_grid(tmp_path, monkeypatch):
    monkeypatch.setitem(PASSES, "resize", "compress.resize:Resize")
    material, _ = opened(tmp_path, WIDE)
    assert allowed(Space(), material).space.images == ("", "80x80", "72x72", "64x64")
