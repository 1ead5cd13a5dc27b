"""What is taken under a budget, what is said when nothing fits, and how it is drawn."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from compress.plots import Tried, front_drawing
from compress.search.candidate import Candidate, Outcome
from compress.search.front import dominates, excess, pick
from devices.budget import Basis, Budget
from tests.compress.search.objective import evaluate, fact

WHOLE = evaluate(Candidate(steps=480))  # 10 ms, the most accurate
HALF = evaluate(Candidate(prune=0.5, steps=480))
INT8 = evaluate(Candidate(precision="int8", steps=480))  # 5 ms, 0.5 points worse
FAILED = Outcome(candidate=Candidate(prune=0.25), failed="a reason")
NS = "{http://www.w3.org/2000/svg}"


def test_the_most_accurate_inside_every_limit_is_taken_for_certain():
    taken = pick([HALF, INT8, WHOLE, FAILED], Budget(fps_min=150.0))
    assert taken.outcome == INT8
    assert "for certain" in taken.words
    assert pick([HALF, INT8, WHOLE], Budget()).outcome == WHOLE


def test_one_that_may_be_inside_is_taken_only_where_none_is_for_certain():
    at = INT8.fact("accuracy_drop_pt").value  # known to a tenth of a point
    taken = pick([WHOLE, INT8], Budget(fps_min=150.0, accuracy_drop_max=at))
    assert taken.outcome == INT8
    assert "not certain: accuracy_drop_max" in taken.words
    safer = evaluate(Candidate(prune=0.9, precision="int8", steps=480), spread=0.0)
    bound = safer.fact("accuracy_drop_pt").value
    unsure = evaluate(Candidate(precision="int8", steps=480), spread=5.0)
    assert pick([unsure, safer], Budget(fps_min=150.0, accuracy_drop_max=bound)).outcome == safer


def test_where_nothing_fits_the_nearest_and_the_limit_nobody_kept_are_named():
    taken = pick([HALF, INT8, WHOLE], Budget(fps_min=300.0))
    assert taken.outcome == INT8  # 200 frames/s as HALF, and more accurate
    assert "breaks fps_min" in taken.words
    assert taken.never == ("fps_min",)
    assert excess(taken.verdict) == abs(200.0 - 300.0) / 300.0


def test_limits_that_are_kept_apart_but_not_together_are_said_to_be():
    taken = pick([HALF, WHOLE], Budget(fps_min=150.0, accuracy_drop_max=1.0))
    assert taken.never == ()
    assert "all of them by nothing" in taken.words


def test_nothing_is_taken_where_all_failed():
    assert pick([FAILED], Budget()) is None
    assert not dominates(FAILED, WHOLE)
    assert not dominates(WHOLE, FAILED)


def tried(name, ms, drop, kind):
    lost = fact("accuracy_drop_pt", drop, "points", 0.2, Basis.EMULATED)
    return Tried(name=name, cost=fact("latency_ms", ms, "ms"), accuracy=lost, kind=kind)


POINTS = (
    tried("a", 4.0, 3.0, "front"),
    tried("b", 6.0, 1.0, "taken"),
    tried("c", 8.0, 2.0, "beaten"),
    tried("d", 5.0, 6.0, "short"),
)


def test_less_lost_is_drawn_higher_and_the_taken_one_on_top():
    figure = front_drawing(POINTS, cost_max=7.0, accuracy_bound=2.5)
    svg = ET.fromstring(figure.svg)
    dots = [dot for dot in svg.iter(NS + "circle") if dot.find(NS + "title") is not None]
    at = {dot[0].text.split(":")[0]: dot for dot in dots}
    assert list(at) == ["d", "c", "a", "b"]
    heights = {name: float(dot.get("cy")) for name, dot in at.items()}
    assert heights["b"] < heights["c"] < heights["a"] < heights["d"]
    assert float(at["a"].get("cx")) < float(at["b"].get("cx")) < float(at["c"].get("cx"))
    bars = [item for item in svg.iter(NS + "line") if item.get("class") == "error"]
    assert [(bar.get("x1"), bar.get("x2")) for bar in bars] == [(at["b"].get("cx"),) * 2]
    limits = [item for item in svg.iter(NS + "line") if item.get("class") == "limit"]
    assert len(limits) == 2
    assert heights["c"] < float(limits[1].get("y1")) < heights["a"]
    marks = [item.text for item in svg.iter(NS + "text")]
    assert {"2", "4", "6"} <= set(marks)
    assert "Accuracy drop, points, emulated" in marks
    assert "b: 1 points [0.8 .. 1.2] emulated at 6 ms predicted" in svg.get("aria-label")
    route = next(svg.iter(NS + "polyline")).get("points").split()
    assert [point.split(",")[0] for point in route] == [at["a"].get("cx"), at["b"].get("cx")]


def test_limits_outside_the_picture_and_pictures_without_points_are_not_drawn():
    svg = ET.fromstring(front_drawing(POINTS, cost_max=900.0).svg)
    assert not [item for item in svg.iter(NS + "line") if item.get("class") == "limit"]
    assert front_drawing(()) is None
    assert front_drawing(POINTS[:1]).svg == front_drawing(POINTS[:1]).svg
