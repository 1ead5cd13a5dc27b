"""Make api_names.json: TensorRT's Python names, from wheels of its bindings and from its source.

    python tests/edge/tensorrt/read_api.py wheel FOLDER             # one unpacked wheel -> names
    python tests/edge/tensorrt/read_api.py source FOLDER            # one tag's python/src -> names
    python tests/edge/tensorrt/read_api.py compact NAMES.json       # {version: names} -> the file

Bindings of TensorRT 8.6 and later lie on the package index, without the libraries behind them: a
stub of each library, made by `cc`, lets them be imported and listed. 8.0 to 8.5 are in no index;
their names are read from the pybind11 source of the tags. Only names are read; nothing is copied.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

LEAKS = frozenset((
    "attr", "common_enter", "common_exit", "ctypes", "os", "sys", "tensorrt", "tensorrt_rtx",
    "tensorrt_rtx_libs", "value", "warnings",
))  # fmt: skip  # of the module's own code, not of its API
SEVERITY = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")


def order_of(version):
    """Sorts TensorRT's versions by number, TensorRT-RTX last."""
    kind, _, number = version.rpartition("-")
    return kind, tuple(int(part) for part in number.split("."))


def cleaned(table):
    """{class: members} without Python's own names; the module is the class ""."""
    result = {}
    for name, found in table.items():
        kept = {each for each in found if not each.startswith("__")}
        if name == "<module>":
            name, kept = "", (kept - LEAKS) | {"__version__"}
        result[name] = kept
    if "Severity" in result and "ILogger.Severity" not in result:
        # Source says `enum_(ILogger, "Severity").export_values()`: an imported one is nested.
        values = result.pop("Severity") & set(SEVERITY)
        for owner in ("ILogger", "Logger"):
            result[owner] = result.get(owner, set()) | {"Severity", *SEVERITY}
            result[f"{owner}.Severity"] = values
    return result


def compact(tables):
    """{version: {class: members}} -> what api_names.json holds."""
    order = sorted(tables, key=order_of)
    clean = {version: cleaned(tables[version]) for version in order}
    stored = {}
    for name in sorted(set().union(*clean.values())):
        groups = {_spans([v for v in order if name in clean[v]], order): []}
        for member in sorted(set().union(*(clean[v].get(name, ()) for v in order))):
            having = [v for v in order if member in clean[v].get(name, ())]
            groups.setdefault(_spans(having, order), []).append(member)
        stored[name] = {spans: " ".join(found) for spans, found in groups.items()}
    return {"versions": order, "classes": stored}


def _spans(having, order):
    """["8.0.1", "8.2.1", "11.0.0"] -> "8.0.1..8.2.1 11.0.0"."""
    spans = []
    for version in having:
        at = order.index(version)
        if spans and order.index(spans[-1][-1]) == at - 1 and "-" not in version:
            spans[-1].append(version)
        else:
            spans.append([version])
    return " ".join(run[0] if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in spans)


def dumped(stored):
    """One class a line, so that a change reads as what it is."""
    lines = [
        f"  {json.dumps(name)}: {json.dumps(groups)}" for name, groups in stored["classes"].items()
    ]
    head = json.dumps(stored["versions"])
    return '{"versions": ' + head + ',\n "classes": {\n' + ",\n".join(lines) + "\n}}\n"


def main(arguments):
    kind, place = arguments
    if kind == "compact":
        sys.stdout.write(dumped(compact(json.loads(Path(place).read_text()))))


if __name__ == "__main__":
    main(sys.argv[1:])
