"""On a board only numpy, msgspec and click are imported until an engine or source is opened."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {"numpy", "msgspec", "click", "tomli", "devices", "calib", "edge", "typing_extensions",
           "importlib_metadata", "zipp"}  # fmt: skip  # the last three: click's, on Python 3.8
HELP_MIB = 30
LOOK = """
import importlib, json, sys
sys.path.insert(0, {root!r})
before = set(sys.modules)
for name in {names!r}:
    importlib.import_module(name)
command = {command!r}
if command:
    from edge.cli import cli
    try:
        cli(command, prog_name="edge")
    except SystemExit:
        pass
origins = {{name.partition(".")[0]: (getattr(module, "__file__", None) or "")
           for name, module in list(sys.modules.items()) if name not in before}}
ours = ("site-packages", {root!r})
foreign = sorted(name for name, path in origins.items() if any(part in path for part in ours))
with open("/proc/self/status") as status:  # ru_maxrss would count the process that started this one
    peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
rss_mib = peak_kib / 1024
print("LOOK" + json.dumps([foreign, rss_mib]))
"""


def look(names, command=()):
    code = LOOK.format(root=str(ROOT), names=names, command=list(command))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    foreign, rss_mib = json.loads(result.stdout.rpartition("LOOK")[2])
    return set(foreign), rss_mib


def board_modules():
    for package in ("devices", "calib", "edge"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[-1] != "__main__":
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_the_whole_board_path_imports_only_its_three_packages():
    foreign, _ = look(list(board_modules()))
    assert "numpy" in foreign
    assert foreign <= ALLOWED, foreign - ALLOWED


def test_help_answers_without_numpy_in_little_memory():
    foreign, rss_mib = look([], ["--help"])
    assert foreign <= {"click", "devices", "edge"}
    assert rss_mib <= HELP_MIB, f"{rss_mib:.1f} MiB"


@pytest.mark.parametrize("module", ["numpy", "edge.session"])
def test_the_look_sees_what_is_imported(module):
    assert module.partition(".")[0] in look([module])[0]
