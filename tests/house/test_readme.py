"""Every console session in every README runs and prints what it says.

A block fenced as ```console is a session: `$ command` lines, each followed by its output. A line
that is only `...` stands for any lines; `...` within a line for any text. A block that follows the
comment `<!-- assets -->` needs the packaged default and a finished run: it is marked `assets`.
"""

import os
import re
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
BLOCK = re.compile(r"(<!-- assets -->\n+)?```console\n(.*?)```", re.S)


def sessions():
    for folder in READMES:
        for number, match in enumerate(BLOCK.finditer((folder / "README.md").read_text())):
            marks = [pytest.mark.assets, pytest.mark.slow] if match.group(1) else []
            name = f"{folder.name if folder != ROOT else 'top'}-{number}"
            yield pytest.param(match.group(2), id=name, marks=marks)


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


@pytest.mark.parametrize("block", list(sessions()))
def test_a_session_prints_what_it_says(block, tmp_path):
    env = dict(os.environ, PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
               COLUMNS="100", SESSION=str(tmp_path))  # fmt: skip
    for command, expected in steps(block):
        done = subprocess.run(
            command, shell=True, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900
        )
        output = done.stdout + done.stderr
        wanted = pattern(expected)
        if not output.endswith("\n"):
            output += "\n"
        assert wanted.fullmatch(output), f"$ {command}\n{output}\n--- expected\n" + "\n".join(
            expected
        )


def test_the_comparison_can_fail():
    assert pattern(["a ... c", "..."]).fullmatch("a b c\nx\ny\n")
    assert not pattern(["a ... c"]).fullmatch("a b d\n")
    assert not pattern(["a"]).fullmatch("a\nb\n")


def test_links_between_files_lead_somewhere():
    for folder in READMES:
        text = (folder / "README.md").read_text()
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (folder / target).exists(), f"{folder.name}/README.md: {target}"
