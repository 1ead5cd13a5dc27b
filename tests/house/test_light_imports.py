"""Every module imports with none of the heavy packages installed, and imports none of them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "nncf", "cv2", "tensorrt",
    "tensorrt_rtx", "pycuda", "cuda", "matplotlib", "rich", "jinja2", "faster_coco_eval", "optuna",
    "tensorboard",
)  # fmt: skip
BLOCK = """
import importlib, sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {heavy!r}:
            raise ImportError(f"blocked: {{name}}")
sys.meta_path.insert(0, Wall())
sys.path.insert(0, {root!r})
for name in {names!r}:
    importlib.import_module(name)
"""


def modules(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] != "__main__":
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("package", ["devices", "calib", "edge", "compress"])
def test_a_package_imports_without_any_heavy_package(package):
    names = list(modules(package))
    assert names
    code = BLOCK.format(heavy=set(HEAVY), root=str(ROOT), names=names)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_wall_stops_a_heavy_import():
    code = BLOCK.format(heavy={"json"}, root=str(ROOT), names=["json"])
    result = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    assert "blocked: json" in result.stderr
