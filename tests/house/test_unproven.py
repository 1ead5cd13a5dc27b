"""What the code calls unproven has a self-test for the board, or a reason why none can prove it."""

import re
from pathlib import Path

import pytest

from edge.selftest import TESTS

ROOT = Path(__file__).parents[2]
CLAIM = re.compile(r"unproven|never ran on a (?:board|device|Jetson)", re.I)
COVERED = {
    "edge/engines/pixels.py": "preprocess-kernel",
    "edge/engines/nvmm.py": "nvmm",
    "edge/export/__init__.py": "another program's: the exported folder says so to who deploys it",
    "edge/export/deepstream.py": "another program's: nvinfer has no door that we could ask by",
}
CLAIMING = sorted(
    str(path.relative_to(ROOT))
    for package in ("devices", "calib", "edge")
    for path in (ROOT / package).rglob("*.py")
    if path.parent.name != "selftest" and CLAIM.search(path.read_text(encoding="utf-8"))
)


@pytest.mark.parametrize("name", CLAIMING)
def test_a_claim_that_nobody_proved_has_a_self_test_or_a_reason(name):
    covered = COVERED.get(name, "")
    assert covered in TESTS or " " in covered, f"{name}: add a self-test, or say why there is none"


def test_the_claim_is_recognised():
    assert CLAIM.search("It never ran on a board: `differences` counts.")
    assert CLAIM.search("is unproven until it ran on a board")
    assert not CLAIM.search("proven on a host")
