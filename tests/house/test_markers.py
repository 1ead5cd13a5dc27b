"""A marker that pyproject.toml declares marks a test, or it is a promise that nobody keeps."""

import re
from pathlib import Path

import pytest

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
MARKERS = [line.partition(":")[0] for line in SETTINGS["markers"]]
USED = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"\bmark\.(\w+)", path.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("name", MARKERS)
def test_a_marker_marks_a_test(name):
    assert name in USED


def test_those_of_a_board_are_declared():
    assert {"jetson", "gpu", "camera"} <= set(MARKERS)
