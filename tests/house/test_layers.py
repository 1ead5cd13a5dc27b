"""The folders form a tower: an import may point down, never up."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOOR = {"devices": 0, "calib": 1, "edge": 2, "compress": 3}
LOOP = tuple(
    f"edge.{room}."
    for room in (
        "sources",
        "pipeline",
        "sinks",
        "slots",
        "daemon",
        "telemetry",
        "web",
        "session",
        "pacing",
        "clock",
        "metrics",
        "summary",
    )
)
WORKSHOP_ONLY = ("torch", "onnx", "nncf", "onnxscript", "compress")
MODULES = [path for package in FLOOR for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path):
    home = path.relative_to(ROOT).parts[0]
    for name in imports(path):
        package = name.partition(".")[0]
        if package in FLOOR:
            assert FLOOR[package] <= FLOOR[home], f"{home} may not import {name}"
            if home == "compress" and package == "edge":
                assert not f"{name}.".startswith(LOOP), (
                    f"compress may not reach into the loop: {name}"
                )


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_board_path_never_names_the_workshops_packages(path):
    """`edge/cost.py` alone reads ONNX graphs, on a host, when a bundle is sealed."""
    if path.relative_to(ROOT).parts[0] == "compress" or name_of(path) == "edge/cost.py":
        return
    named = {name.partition(".")[0] for name in imports(path)}
    assert not named & set(WORKSHOP_ONLY)


def test_the_rule_sees_an_upward_import(tmp_path):
    (tmp_path / "bad.py").write_text("from compress.passes import run\nimport edge.gate\n")
    assert list(imports(tmp_path / "bad.py")) == ["compress.passes.run", "edge.gate"]
