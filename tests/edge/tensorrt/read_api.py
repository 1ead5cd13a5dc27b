"""Make api_names.json: TensorRT's Python names, from wheels of its bindings and from its source.

    python tests/edge/tensorrt/read_api.py wheel FOLDER             # one unpacked wheel -> names
    python tests/edge/tensorrt/read_api.py source FOLDER            # one tag's python/src -> names
    python tests/edge/tensorrt/read_api.py compact NAMES.json       # {version: names} -> the file

Bindings of TensorRT 8.6 and later lie on the package index, without the libraries behind them: a
stub of each library, made by `cc`, lets them be imported and listed. 8.0 to 8.5 are in no index;
their names are read from the pybind11 source of the tags. Only names are read; nothing is copied.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

SYMBOLS = r"(?:create\w+_INTERNAL|get(?:Builder|Nv|Plugin)\w*|initLibNv\w+|_ZN1[14]nv\w+)"

LEAKS = frozenset((
    "attr", "common_enter", "common_exit", "ctypes", "os", "sys", "tensorrt", "tensorrt_rtx",
    "tensorrt_rtx_libs", "value", "warnings",
))  # fmt: skip  # of the module's own code, not of its API
SEVERITY = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")


def bindings_of(folder):
    """The compiled module of an unpacked bindings wheel, imported on stubs of its libraries.

    One version a process: they all have the same module name. Needs cc, nm and readelf.
    """
    extension = next(Path(folder).glob("tensorrt_bindings/tensorrt*.so"))
    wanted = _output("readelf", "-d", extension)
    libraries = re.findall(r"\(NEEDED\).*\[(libnv[^\]]+)\]", wanted)
    symbols = re.findall(
        rf" U ({SYMBOLS})$", _output("nm", "-D", "--undefined-only", extension), re.M
    )
    stubs = Path(tempfile.mkdtemp())
    (stubs / "stub.c").write_text("".join(
        f'void *f{index}(void) __asm__("{symbol}"); void *f{index}(void) {{ return 0; }}\n'
        for index, symbol in enumerate(symbols)
    ))  # fmt: skip
    for index, library in enumerate(libraries):
        source = "/dev/null" if index else str(stubs / "stub.c")
        command = ["cc", "-shared", "-fPIC", "-x", "c", source, f"-Wl,-soname,{library}"]
        subprocess.run([*command, "-o", str(stubs / library)], check=True)
        ctypes.CDLL(str(stubs / library), ctypes.RTLD_GLOBAL)
    sys.path.insert(0, str(folder))
    return importlib.import_module("tensorrt_bindings")


def _output(*command):
    return subprocess.run(
        [str(word) for word in command], check=True, stdout=subprocess.PIPE
    ).stdout.decode()


def listed(module):
    """{class: names} of an imported module, what a class inherits included."""
    table = {"<module>": []}
    for name in dir(module):
        found = getattr(module, name)
        if isinstance(found, type):
            table[name] = _members(found)
            if hasattr(found, "Severity"):
                table[f"{name}.Severity"] = _members(found.Severity)
        else:
            table["<module>"].append(name)
    return table


def _members(found):
    """Of an enum its values alone: `name` and `value` are Python's."""
    return sorted(getattr(found, "__members__", None) or dir(found))


def in_source(folder):
    """{class: names} from the pybind11 source below `folder` (a tag's python/src).

    A class has what `.def...`, `.value` and `py::enum_` say after its `py::class_`, and what the
    classes it derives from have.
    """
    table, parents, values = {"<module>": []}, {}, {}
    for path in sorted(Path(folder).rglob("*.cpp")):
        text = _without_comments(path.read_text(encoding="utf-8", errors="replace"))
        for statement in re.split(r";\s*\n", text):
            _read_statement(statement, table, parents, values)
    for name in table:
        for parent in parents.get(name, ()):
            table[name] += table.get(parent, ())
    return table


def _without_comments(text):
    return re.sub(r"/\*.*?\*/", "", re.sub(r"//[^\n]*", "", text), flags=re.S)


def _read_statement(statement, table, parents, values):
    table["<module>"] += re.findall(r"\bm\.def\(\s*\"(\w+)\"", statement)
    opening = r"py::(class_|enum_|bind_vector|exception)<([^;]*?)>\s*\(\s*(\w+),\s*\"(\w+)\""
    begun = re.search(opening, statement, re.S)
    if begun is None:
        return
    kind, arguments, _, name = begun.groups()
    found = table.setdefault(name, [])
    pattern = r"\.(?:def|def_\w+|value|attr)\(\s*\"(\w+)\""
    found += re.findall(pattern, statement[begun.end() :])
    parents[name] = [word.strip() for word in arguments.split(",")[1:] if kind == "class_"]


def order_of(version):
    """Sorts TensorRT's versions by number, TensorRT-RTX last."""
    kind, _, number = version.rpartition("-")
    return kind, tuple(int(part) for part in number.split("."))


def cleaned(table):
    """{class: members} without Python's own names; the module is the class ""."""
    result = {}
    for name, found in table.items():
        kept = {each for each in found if not each.startswith("_")}
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
        text = dumped(compact(json.loads(Path(place).read_text())))
    elif kind == "source":
        text = json.dumps(in_source(place))
    else:
        text = json.dumps(listed(bindings_of(place)))
    sys.stdout.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
