"""Every console session in every README runs and prints what it says.

A block fenced as ```console is a session: `$ command` lines, each followed by its output. A line
that is only `...` stands for any lines; `...` within a line for any text. A block that follows the
comment `<!-- assets -->` needs the packaged default and a finished run: it is marked `assets`, the
run is made when it is not there, and its decimal numbers may differ by a third: training sums in
another order on another processor.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READMES = sorted(
    path
    for path in (ROOT / name for name in ("", "devices", "calib", "edge", "compress"))
    if (path / "README.md").is_file()
)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
BLOCK = re.compile(r"(<!-- assets -->\n+)?```console\n(.*?)```", re.S)


def sessions():
    for folder in READMES:
        for number, match in enumerate(BLOCK.finditer((folder / "README.md").read_text())):
            packaged = bool(match.group(1))
            marks = [pytest.mark.assets, pytest.mark.slow] if packaged else []
            name = f"{folder.name if folder != ROOT else 'top'}-{number}"
            yield pytest.param(match.group(2), packaged, id=name, marks=marks)


def steps(block):
    command, expected = None, []
    for line in block.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, expected
            command, expected = line[2:], []
        elif command and command.endswith("\\"):
            command = command[:-1] + line.strip()
        else:
            expected.append(line)
    if command:
        yield command, expected


def pattern(expected):
    lines = [
        r"(?:.*\n)*?" if line.strip() == "..." else
        re.escape(line.rstrip()).replace(r"\.\.\.", ".*") + r"[ ]*\n"
        for line in expected
    ]  # fmt: skip
    return re.compile("".join(lines) + r"\s*", re.M)


def run(command, session):
    env = dict(os.environ, PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
               COLUMNS="100", SESSION=str(session))  # fmt: skip
    done = subprocess.run(
        command, shell=True, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900
    )
    output = done.stdout + done.stderr
    return output if output.endswith("\n") else output + "\n"


@pytest.fixture(scope="session")
def packaged_run(tmp_path_factory):
    """The run that the sessions marked `assets` show; one that was made before is gone on from."""
    bundle = ROOT / "runs" / "ssdlite-person-jetson-nano" / "bundle"
    if not bundle.is_dir():
        output = run("compress --profile jetson-nano", tmp_path_factory.mktemp("session"))
        assert bundle.is_dir(), output


def alike(found, shown):
    """Whether the numbers of two texts are the same but for a third; their words are."""
    numbers = [[float(word) for word in NUMBER.findall(text)] for text in (found, shown)]
    if NUMBER.sub("0", found) != NUMBER.sub("0", shown) or len(numbers[0]) != len(numbers[1]):
        return False
    return all(abs(a - b) <= max(abs(b) / 3, 0.05) for a, b in zip(*numbers))


def as_shown(output, expected):
    """`output` with each line replaced by the line of `expected` that it is alike, if any is."""
    words = [re.sub(r" {2,}", "  ", line.replace("  (kept from before)", "").rstrip())
             for line in output.splitlines()]  # fmt: skip
    shown = {re.sub(r" {2,}", "  ", line.rstrip()): line for line in expected}
    return "".join(next((shown[s] for s in shown if alike(line, s)), line) + "\n" for line in words)


@pytest.mark.parametrize(("block", "packaged"), list(sessions()))
def test_a_session_prints_what_it_says(block, packaged, tmp_path, request):
    if packaged:
        request.getfixturevalue("packaged_run")
    else:  # what an earlier version of the session left behind
        for folder in {Path(name) for name in re.findall(r"runs/readme-\w+", block)}:
            shutil.rmtree(ROOT / folder, ignore_errors=True)
    for command, expected in steps(block):
        output = run(command, tmp_path)
        compared = as_shown(output, expected) if packaged else output
        assert pattern(expected).fullmatch(compared), (
            f"$ {command}\n{output}\n--- expected\n" + "\n".join(expected)
        )


def test_numbers_of_a_trained_net_may_differ_by_a_third_and_words_may_not():
    assert as_shown("fp16  81.0 points  (kept from before)", ["fp16   83.4 points"]) == (
        "fp16   83.4 points\n"
    )
    for other in ("fp16  40.0 points", "fp16  81.0 percent", "int8  81.0 points"):
        assert as_shown(other, ["fp16   83.4 points"]) == other + "\n"


def test_the_comparison_can_fail():
    assert pattern(["a ... c", "..."]).fullmatch("a b c\nx\ny\n")
    assert not pattern(["a ... c"]).fullmatch("a b d\n")
    assert not pattern(["a"]).fullmatch("a\nb\n")


def test_links_between_files_lead_somewhere():
    for folder in READMES:
        text = (folder / "README.md").read_text()
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (folder / target).exists(), f"{folder.name}/README.md: {target}"
