"""The project speaks of itself alone: no machine's paths, no registry's hosts."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BANNED = {
    "a path of one machine": re.compile(r"(^|[\s\"'(=])/(work|root|home/\w+|Users/\w+)/"),
    "a registry's host": re.compile(
        r"(pypi|npmjs|pythonhosted|debian|ubuntu|pytorch)\.(org|com)/(simple|packages|debian|whl)"
    ),
}


def tracked():
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout, so there is no list of the project's files")
    return [ROOT / name for name in listing.stdout.splitlines() if name != "LICENSE"]


@pytest.mark.parametrize("what", BANNED)
def test_no_file_names(what):
    found = []
    for path in tracked():
        if not path.is_file() or path == Path(__file__):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a binary file has no words
        found += [f"{path.relative_to(ROOT)}: {match.group(0)}" for match in
                  BANNED[what].finditer(text)]  # fmt: skip
    assert not found
