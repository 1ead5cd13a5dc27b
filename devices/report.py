"""Report: titled facts with units and basis; the only code that renders JSON, Markdown and HTML.

One `Report` says what was asked, what was found and why; `to_json`, `to_markdown`, `to_html` and
`checks_text` say it to machines, reviewers, readers and terminals. It holds no clock and no random
choice, so the same facts give the same bytes. Only `to_html` needs a package (jinja2).

ReportError   a report file that cannot be read back
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple, Union

import msgspec

from devices.budget import EXIT_CODES, LIMITS, Basis, Check, Measurement, Outcome, Refusal, Verdict
from devices.errors import JetpressError
from devices.jsonfile import decoded
from devices.measured import LayerPair
from devices.roofline import LayerTime
from devices.wholefile import write_whole

__all__ = ["COLUMNS", "FORMAT", "Column", "Figure", "Image", "Input", "Origin", "Report",
           "ReportError", "Stage", "Table", "basis_words", "bound_words", "change_words",
           "checks_text", "digits_of", "number", "report_from_json", "span", "to_html", "to_json",
           "to_markdown", "verdict_words", "write_report"]  # fmt: skip

FORMAT = 1


class ReportError(JetpressError):
    """A report file that is not one, or is of another format."""


class Column(msgspec.Struct, frozen=True):
    """How a fact of a stage is titled; `better` is +1 (more is better), -1 (less) or 0."""

    title: str
    unit: str
    better: int


COLUMNS = {
    "ap50": Column("AP50", "points", 1),
    "ap": Column("AP", "points", 1),
    "agreement": Column("Agreement", "points", 1),
    "top1": Column("Top-1", "points", 1),
    "top5": Column("Top-5", "points", 1),
    "sqnr_db": Column("Output SQNR", "dB", 1),
    "accuracy_drop_pt": Column("Accuracy drop", "points", -1),
    "params": Column("Parameters", "parameters", -1),
    "macs": Column("MACs", "MAC", -1),
    "latency_ms": Column("Latency", "ms", -1),
    "fps": Column("Throughput", "frames/s", 1),
    "engine_mb": Column("Engine", "MB", -1),
    "memory_mb": Column("Memory", "MB", -1),
}
"""Facts of a stage in the order they are shown; a fact of another name follows under its name."""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """The model after one pass (or the baseline): what was done, what it costs, where time goes."""

    name: str
    words: str
    facts: Tuple[Measurement, ...]
    layers: Tuple[LayerTime, ...] = ()

    def fact(self, name: str) -> Optional[Measurement]:
        """The fact of that name, or None when it is not known."""
        return next((fact for fact in self.facts if fact.name == name), None)


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Facts side by side: `name` for machines; `title`, `words` and `head` for people.

    The first cell of a row says what it is about; each other is a fact, a count, words, or None
    where nothing is known.
    """

    name: str
    title: str
    words: str
    head: Tuple[str, ...]
    rows: Tuple[Tuple[Union[Measurement, int, str, None], ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.head):
                raise ValueError(f"{self.name}: a row of {len(row)} cells under {self.head}")

    @property
    def bases(self) -> Tuple[Basis, ...]:
        """Where its facts come from; each basis once."""
        cells = (cell for row in self.rows for cell in row)
        return tuple(sorted({cell.basis for cell in cells if isinstance(cell, Measurement)}))


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """One link of the lineage: which step, with which parameters, made what from what."""

    name: str
    key: str
    params: Dict[str, Any]  # JSON values; what a pass was given
    input_sha256: str = ""
    output_sha256: str = ""
    note: str = ""


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """Something the run was given: its role (model, data, labels, ...), its name and its hash."""

    role: str
    name: str
    sha256: str = ""
    note: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run or a gate has to say; `profile` is a board's name, `board` its title.

    `board_mode` is the power mode judged; `basis` the weakest basis of the facts behind the checks,
    `release` whether it passed as a release.
    `tables` are facts in more detail than a stage has. `beside` holds what was predicted of each
    layer and what was measured; `command` is what to type to get it again.
    """

    format: int = FORMAT
    title: str
    profile: str
    board: str
    board_mode: str = ""
    verdict: Outcome
    basis: Optional[Basis]
    checks: Tuple[Check, ...]
    release: bool = False
    stages: Tuple[Stage, ...] = ()
    tables: Tuple[Table, ...] = ()
    refusals: Tuple[Refusal, ...] = ()
    lineage: Tuple[Origin, ...] = ()
    inputs: Tuple[Input, ...] = ()
    beside: Tuple[LayerPair, ...] = ()
    notes: Tuple[str, ...] = ()
    command: str = ""

    @property
    def exit_code(self) -> int:
        """0 pass, 3 fail, 4 inconclusive."""
        return EXIT_CODES[self.verdict]


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """A picture inside a figure: a caption, what it shows in words, and a `data:` URI."""

    label: str
    alt: str
    src: str

    def __post_init__(self) -> None:
        if not self.src.startswith("data:image/"):
            raise ValueError(f"{self.label}: a report is self-contained, {self.src[:40]!r} is not")


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """Something to look at in the HTML: one inline SVG, or images side by side."""

    title: str
    caption: str
    svg: str = ""
    images: Tuple[Image, ...] = ()


def to_json(report: Report) -> bytes:
    """The report for machines: UTF-8, two spaces, keys in the order of the fields."""
    return msgspec.json.format(msgspec.json.encode(report, order="sorted"), indent=2) + b"\n"


def report_from_json(data: bytes, *, where: str = "report.json") -> Report:
    """Read `to_json` back; `ReportError` names the field at fault."""

    def fault(found: str) -> ReportError:
        return ReportError(where, found=found, expected=f"a report of format {FORMAT}",
                           cure="run the command that wrote it again")  # fmt: skip

    report = decoded(data, msgspec.json.Decoder(Report), fault)
    if report.format != FORMAT:
        raise ReportError(where, found=f"format {report.format}", expected=f"format {FORMAT}",
                          cure="read it with the version that wrote it")  # fmt: skip
    return report


def to_markdown(report: Report) -> str:
    """The report for reviewers: verdict first, then checks, stages, refusals, lineage, inputs."""
    from devices.report_text import markdown

    return markdown(report)


def to_html(report: Report, figures: Tuple[Figure, ...] = ()) -> str:
    """The report for readers: one file that opens offline; `MissingExtraError` without jinja2."""
    from devices.report_page import page

    return page(report, figures)


def write_report(path: Path, report: Report) -> None:
    """Write the report as its file's ending says: .json, .md or .html. Raises ReportError."""
    faces: Dict[str, Callable[[Report], Union[bytes, str]]] = {
        ".json": to_json, ".md": to_markdown, ".html": to_html,
    }  # fmt: skip
    if path.suffix not in faces:
        raise ReportError(str(path), found=f"the ending {path.suffix!r}",
                          expected="one of " + ", ".join(faces),
                          cure="name the file so")  # fmt: skip
    text = faces[path.suffix](report)
    try:
        write_whole(path, text if isinstance(text, bytes) else text.encode())
    except OSError as error:
        raise ReportError(str(path), found=error.strerror or str(error),
                          expected="a file that can be written",
                          cure="name another place for the report") from error  # fmt: skip


def checks_text(
    verdict: Verdict,
    *,
    profile: str,
    mode: str = "",
    refusals: Tuple[Refusal, ...] = (),
    notes: Tuple[str, ...] = (),
) -> str:
    """The checks for a terminal: an aligned table; board, refusals, notes; the verdict; the basis.

    The basis is always the last line. Text is wrapped at 100 columns.
    """
    from devices.report_text import described, terminal

    return terminal(verdict, profile, described(profile, mode, refusals, notes))


def verdict_words(outcome: Outcome, checks: Tuple[Check, ...]) -> str:
    """The outcome in one sentence that names what decided it.

    >>> verdict_words(Outcome.PASS, ())
    'No limit was set, so none is broken.'
    >>> verdict_words(Outcome.INCONCLUSIVE, ())
    'No limit is broken, but what is refused or doubted forbids a pass.'
    """
    names = [_decided_by(check) for check in checks if check.outcome is outcome]
    if outcome is Outcome.PASS:
        return "Every limit holds." if names else "No limit was set, so none is broken."
    if not names and outcome is Outcome.FAIL:
        return "Refused: the board cannot honour what was asked."
    if not names:
        return "No limit is broken, but what is refused or doubted forbids a pass."
    if outcome is Outcome.FAIL:
        return f"Outside the limit: {', '.join(names)}."
    return f"The facts do not decide: {', '.join(names)}."


def basis_words(basis: Optional[Basis], profile: str, release: bool = False) -> str:
    """What a verdict rests on, in a sentence; `release`: it passed as one.

    >>> basis_words(Basis.PREDICTED, "jetson-nano")
    'predicted - nothing ran on a jetson-nano; not a release gate'
    """
    if release and basis is Basis.EMULATED:
        return (
            f"measured - on a {profile}; accuracy was emulated on a host, whose outputs the engine "
            "on the board repeated"
        )
    if basis is Basis.MEASURED:
        return f"measured - every fact was read on a {profile}"
    if basis is Basis.EMULATED:
        return f"emulated - a host ran in place of a {profile}; not a release gate"
    if basis is Basis.PREDICTED:
        return f"predicted - nothing ran on a {profile}; not a release gate"
    return f"none - no fact about a {profile} is known; not a release gate"


def number(value: float, unit: str, digits: int = 3) -> str:
    """A value for people, without its unit, to `digits` figures; counts get an SI prefix.

    >>> number(3_051_234, "parameters"), number(6.0423, "ms"), number(816.8, "MB"), number(0, "MB")
    ('3.05 M', '6.04', '817', '0.00')
    """
    if unit in ("parameters", "MAC"):
        for size, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
            if abs(value) >= size:
                return f"{value / size:.{digits}g}{prefix}"
        return f"{value:.0f}"
    whole = len(f"{abs(value):.0f}")
    return f"{value:.{max(0, digits - whole)}f}"


def span(fact: Measurement, digits: int = 3) -> str:
    """The interval of a fact for people; empty when the number is exact."""
    if fact.low == fact.high:
        return ""
    return f"{number(fact.low, fact.unit, digits)} to {number(fact.high, fact.unit, digits)}"


def digits_of(check: Check) -> int:
    """How many figures keep a fact apart from its bound: 100.04 MB is not the 100 MB allowed."""
    if check.fact is None:
        return 3
    apart = [
        value
        for value in (check.fact.low, check.fact.value, check.fact.high)
        if value != check.bound
    ]
    for digits in range(3, 9):
        bound = number(check.bound, check.unit, digits)
        if all(number(value, check.unit, digits) != bound for value in apart):
            return digits
    return 9


def bound_words(check: Check) -> str:
    """A limit for people: `at most 150 MB`."""
    side = "at least" if LIMITS[check.limit].at_least else "at most"
    unit = check.unit[:-1] if check.bound == 1 and check.unit == "points" else check.unit
    return f"{side} {check.bound:g} {unit}"


def _decided_by(check: Check) -> str:
    if check.fact is None:
        return f"{check.limit} ({check.reason})"
    digits = digits_of(check)
    value = number(check.fact.value, check.unit, digits)
    interval = span(check.fact, digits)
    between = f", {interval}" if interval and check.outcome is Outcome.INCONCLUSIVE else ""
    return f"{check.limit} ({value}{between}; {bound_words(check)})"


def change_words(before: Measurement, after: Measurement) -> str:
    """How a fact moved: a difference for points, a percentage otherwise.

    >>> ms = dict(unit="ms", basis=Basis.PREDICTED, source="s")
    >>> change_words(Measurement.exact("a", 10, **ms), Measurement.exact("a", 4, **ms))
    '−60 %'
    """
    delta = after.value - before.value
    if after.unit == "points":
        text = f"{delta:+.1f}"
    elif before.value == 0:
        return ""
    else:
        text = f"{100 * delta / before.value:+.0f} %"
    return "±0" if text.strip("+-0. %") == "" else text.replace("-", "−")
