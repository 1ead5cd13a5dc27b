"""What the code calls unproven has a self-test for the board, or a reason why none can prove it."""

import ast
import re
from pathlib import Path

import pytest

from edge.selftest import TESTS

ROOT = Path(__file__).parents[2]
CLAIM = re.compile(r"unproven|never ran on a (?:board|device|Jetson)", re.I)
COVERED = {
    "edge/engines/pixels.py": "preprocess-kernel",
    "edge/engines/nvmm.py": "nvmm",
    "edge/engines/tensorrt/frame_input.py": "nvmm",
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


def ends(name):
    """How the self-test can end, by the functions of its module that it reaches."""
    module, _, first = TESTS[name].place.partition(":")
    tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    found, todo, seen = set(), [first], set()
    while todo:
        function = functions.get(todo.pop())
        if function is None or function.name in seen:
            continue
        seen.add(function.name)
        called = {node.func.id for node in ast.walk(function)
                  if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}  # fmt: skip
        found |= called & {"passed", "failed", "impossible"}
        todo += called
    return found


@pytest.mark.parametrize("name", TESTS)
def test_a_self_test_can_pass_and_can_fail(name):
    """One that is never possible keeps every board from exit code 0, and proves nothing."""
    assert {"passed", "failed"} <= ends(name)


def test_the_claim_is_recognised():
    assert CLAIM.search("It never ran on a board: `differences` counts.")
    assert CLAIM.search("is unproven until it ran on a board")
    assert not CLAIM.search("proven on a host")
