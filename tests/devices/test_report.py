"""A report says the same to machines, reviewers, readers and terminals; a guess never releases."""

import json
import re
import sys
from html.parser import HTMLParser

import msgspec
import pytest

from devices.budget import Basis, Budget, Measurement, Outcome
from devices.errors import MissingExtraError
from devices.report import (
    Figure,
    Image,
    ReportError,
    basis_words,
    change_words,
    checks_text,
    number,
    report_from_json,
    span,
    to_html,
    to_json,
    to_markdown,
)
from devices.report_page import change, gauge
from tests.devices.sample_report import fact, sample_report

KEYS = {"profile", "verdict", "checks", "stages", "refusals", "lineage", "inputs"}
BUDGETS = {
    "pass": Budget(fps_min=30.0, engine_mb_max=40.0, accuracy_drop_max=1.0),
    "fail": Budget(fps_min=500.0, engine_mb_max=40.0),
    "inconclusive": Budget(fps_min=150.0),
}
VOID = {"meta", "link", "img", "br", "line", "circle"}


class Page(HTMLParser):
    """Tags must close in order; every address and every image's words are kept."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.alts, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        known = dict(attrs)
        self.addresses += [known[key] for key in ("src", "href") if key in known]
        if tag == "img":
            self.alts.append(known.get("alt", ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(html):
    page = Page()
    page.feed(html)
    assert page.open == []
    return page


@pytest.mark.parametrize("outcome", BUDGETS)
def test_json_has_the_promised_keys_and_reads_back(outcome):
    report = sample_report(BUDGETS[outcome])
    plain = json.loads(to_json(report))
    assert set(plain) >= KEYS
    assert plain["verdict"] == outcome
    assert plain["checks"][0]["fact"]["basis"] == "predicted"
    assert report_from_json(to_json(report)) == report


def test_the_same_facts_give_the_same_bytes():
    first, second = sample_report(BUDGETS["pass"]), sample_report(BUDGETS["pass"])
    assert to_json(first) == to_json(second)
    assert to_markdown(first) == to_markdown(second)


def test_a_file_that_is_no_report_is_refused_with_the_field():
    with pytest.raises(ReportError, match="missing required field"):
        report_from_json(b'{"title": "x"}')
    other = to_json(msgspec.structs.replace(sample_report(Budget()), format=9))
    with pytest.raises(ReportError, match="found format 9; expected format 1"):
        report_from_json(other)


def test_markdown_says_the_verdict_first_and_every_check_with_its_basis():
    lines = to_markdown(sample_report(BUDGETS["fail"])).splitlines()
    assert lines[2].startswith("**FAIL** (exit 3). Outside the limit: fps_min (166; at least 500")
    row = next(line for line in lines if line.startswith("| `fps_min`"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["`fps_min`", "at least 500 frames/s", "166", "frames/s", "138 to 207",
                     "predicted", "fail", "roofline"]  # fmt: skip
    assert any(line.startswith("| int8 on jetson-nano | 1 | ") for line in lines)
    assert any("55b0c9e5b0c9 |" in line for line in lines)


def test_a_pipe_or_a_newline_in_a_name_stays_in_its_cell():
    report = sample_report(Budget(), title="a | b\nc")
    assert to_markdown(report).splitlines()[0] == "# a \\| b c"


def test_every_stage_shows_each_fact_with_unit_interval_change_and_basis():
    text = to_markdown(sample_report(BUDGETS["pass"]))
    row = next(line for line in text.splitlines() if line.startswith("| distil |"))
    assert "| 68.2, (65.8 to 70.6), +6.9, emulated |" in row
    assert "| 6.04, (4.83 to 7.25), −54 %, predicted |" in row
    assert "| 1.32 M, −57 %, counted |" in row


@pytest.mark.parametrize("basis", [None, *Basis])
def test_only_measurements_may_release(basis):
    words = basis_words(basis, "jetson-nano")
    assert ("not a release gate" in words) == (basis is not Basis.MEASURED)
    assert "jetson-nano" in words


@pytest.mark.parametrize("outcome", BUDGETS)
def test_the_terminal_ends_with_the_basis_and_columns_line_up(outcome):
    report = sample_report(BUDGETS[outcome])
    verdict = BUDGETS[outcome].judge({item.name: item for item in report.stages[-1].facts})
    lines = checks_text(verdict, profile="jetson-nano").splitlines()
    assert lines[-1] == "basis: predicted - nothing ran on a jetson-nano; not a release gate"
    starts = {line.index("predicted") for line in lines[1:-2] if "predicted" in line}
    assert starts == {lines[0].index("basis")}


def test_the_terminal_shows_an_unknown_fact_as_unknown():
    verdict = Budget(fps_min=1.0).judge({})
    text = checks_text(verdict, profile="jetson-nano")
    assert re.search(r"fps_min +at least 1 frames/s +unknown", text)
    assert "inconclusive: The facts do not decide: fps_min (fps is not known)." in text
    assert text.endswith("basis: none - no fact about a jetson-nano is known; not a release gate")


def test_html_is_self_contained_well_formed_and_says_the_verdict_first():
    pytest.importorskip("jinja2", reason="the HTML needs the compress extra")
    image = Image(label="l", alt="two people", src="data:image/png;base64,AA==")
    figure = Figure(title="Frames", caption="c", images=(image,))
    html = to_html(sample_report(BUDGETS["fail"]), (figure,))
    page = parsed(html)
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    assert page.alts == ["two people"]
    assert "script" not in page.tags
    assert not re.search(r"url\(|@import|https?://", html)
    assert html.index('class="verdict fail"') < html.index("<table")
    assert "Nothing ran on a jetson-nano. Not a release gate." in html


def test_html_escapes_what_the_user_named():
    pytest.importorskip("jinja2", reason="the HTML needs the compress extra")
    html = to_html(sample_report(Budget(), title="<script>alert(1)</script>"))
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_html_of_an_empty_report_still_says_why():
    pytest.importorskip("jinja2", reason="the HTML needs the compress extra")
    empty = sample_report(Budget(fps_min=1.0), stages=(), refusals=(), lineage=(), inputs=(),
                          notes=(), command="",
                          checks=Budget(fps_min=1.0).judge({}).checks)  # fmt: skip
    html = to_html(empty)
    parsed(html)
    assert "fps is not known" in html
    assert "Nothing was refused" in html


def test_without_jinja2_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"jetpress\[compress\]"):
        to_html(sample_report(Budget()))


def test_a_figure_from_elsewhere_is_refused():
    with pytest.raises(ValueError, match="self-contained"):
        Image(label="x", alt="y", src="https://example.com/a.png")


def test_a_gauge_puts_the_allowed_side_where_the_limit_says():
    at_least, at_most = (
        BUDGETS["fail"]
        .judge(
            {"fps": fact("fps", 100.0, 10.0, unit="frames/s"), "engine_mb": fact("engine_mb", 20.0)}
        )
        .checks
    )
    low = gauge(at_least)
    assert low.value < low.bound == low.allowed_left
    assert low.low < low.value < low.low + low.width
    high = gauge(at_most)
    assert (high.allowed_left, high.width) == (0.0, 0.0)
    assert high.value < high.bound == high.allowed_width
    gained = Budget(accuracy_drop_max=0.0).judge(
        {"accuracy_drop_pt": fact("accuracy_drop_pt", -5.0, 1.0, unit="points")}
    )
    negative = gauge(gained.checks[0])
    assert 0 < negative.low < negative.value < negative.bound <= 100


def test_a_change_is_called_better_only_when_the_intervals_part():
    before, near, far = (
        fact("latency_ms", value, 1.0, unit="ms") for value in (10.0, 9.0, 5.0)
    )  # fmt: skip
    assert change("latency_ms", before, near).verdict == "unclear"
    assert change("latency_ms", before, far) == ("−50 %", "better")
    assert change("latency_ms", far, before) == ("+100 %", "worse")
    assert change("latency_ms", before, before) is None
    assert change("latency_ms", None, far) is None


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [(0, "ms", "0.00"), (9.996, "ms", "10.0"), (999.6, "MB", "1000"), (-6.8, "points", "-6.80"),
     (7.3e8, "MAC", "730 M"), (12, "parameters", "12"), (0.0421, "ms", "0.04")],
)  # fmt: skip
def test_numbers_keep_three_figures(value, unit, words):
    assert number(value, unit) == words


def test_a_fact_just_over_its_bound_never_looks_equal_to_it():
    verdict = Budget(engine_mb_max=100.0).judge({"engine_mb": fact("engine_mb", 100.04)})
    assert verdict.outcome is Outcome.FAIL
    assert "100.04 MB" in checks_text(verdict, profile="p")


def test_odd_changes_and_exact_spans():
    zero = Measurement.exact("x", 0.0, "MB", basis=Basis.PREDICTED, source="s")
    one = Measurement.exact("x", 1.0, "MB", basis=Basis.PREDICTED, source="s")
    assert change_words(zero, one) == ""
    assert change_words(one, one) == "±0"
    assert span(one) == ""
