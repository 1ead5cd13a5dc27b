"""A report's tables say the same in JSON, Markdown and HTML, and where their facts come from."""

import pytest

from devices.budget import Basis, Budget, Measurement
from devices.report import Table, report_from_json, to_html, to_json, to_markdown
from tests.devices.sample_report import fact, sample_report

AP = fact("ap", 61.3, 2.4, unit="points", basis=Basis.EMULATED, source="sample pictures")
EXACT = Measurement.exact("ap", 7.0, "points", basis=Basis.EMULATED, source="sample pictures")
TABLE = Table(
    name="by-class", title="Accuracy by class", words="On 12 pictures.",
    head=("Class", "Boxes", "AP"),
    rows=(("cat | dog", 7, AP), ("none <seen>", 0, None), ("one", 1, EXACT)),
)  # fmt: skip
REPORT = sample_report(Budget(), tables=(TABLE,))


def test_json_reads_back_facts_counts_words_and_what_is_unknown():
    read = report_from_json(to_json(REPORT))
    assert read.tables == (TABLE,)
    assert read == REPORT


def test_markdown_has_a_section_with_value_interval_and_basis():
    section = to_markdown(REPORT).partition("## Accuracy by class")[2].partition("## ")[0]
    assert section.split("\n")[2] == "On 12 pictures. Basis: emulated."
    assert section.split("\n")[4:9] == [
        "| Class | Boxes | AP |",
        "| --- | --- | --- |",
        "| cat \\| dog | 7 | 61.3 (58.9 to 63.7) |",
        "| none <seen> | 0 | unknown |",
        "| one | 1 | 7.00 |",
    ]


def test_html_has_it_escaped_with_its_basis():
    pytest.importorskip("jinja2", reason="the HTML needs jinja2: pip install 'jetpress[compress]'")
    section = to_html(REPORT).partition('<h2 id="by-class">')[2].partition("</section>")[0]
    assert '<span>61.3</span><span class="quiet line">58.9 to 63.7</span>' in section
    assert "none &lt;seen&gt;" in section
    assert '<span class="badge emulated">' in section
    assert 'data-label="Boxes" class="n"><span>7</span></td>' in section


def test_a_report_without_tables_has_no_such_section():
    assert sample_report(Budget()).tables == ()
    assert "Accuracy by class" not in to_markdown(sample_report(Budget()))


def test_a_row_of_another_width_is_refused():
    with pytest.raises(ValueError, match="by-class: a row of 1 cells"):
        Table(name="by-class", title="t", words="w", head=("a", "b"), rows=(("x",),))
