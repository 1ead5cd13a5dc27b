"""TensorRT's Python names by version: what `api_names.json` says, read once.

    >>> from tests.edge.tensorrt.api import members  # doctest: +SKIP

The module itself is the class "". Enums are classes; their values are members. Names that begin
with two underscores are left out, except the module's `__version__`.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

NAMES = Path(__file__).parent / "api_names.json"
RTX = "rtx-1.7.1"
RTX_WORD = "rtx"  # as marks in the source call it


@functools.lru_cache(maxsize=None)
def _tables():
    """{version: {class: frozenset of members}}"""
    stored = json.loads(NAMES.read_text())
    order = tuple(stored["versions"])
    tables = {version: {} for version in order}
    for name, groups in stored["classes"].items():
        for spans, found in groups.items():
            for version in _spanned(spans, order):
                tables[version].setdefault(name, set()).update(found.split())
    return {
        version: {name: frozenset(found) for name, found in table.items()}
        for version, table in tables.items()
    }


def _spanned(spans, order):
    for span in spans.split():
        first, _, last = span.partition("..")
        yield from order[order.index(first) : order.index(last or first) + 1]


def versions():
    """Every TensorRT version in the table, oldest first; TensorRT-RTX is not among them."""
    return tuple(version for version in _tables() if version != RTX)


def between(first, last):
    """The versions from `first` to `last`, both included."""
    order = versions()
    return order[order.index(first) : order.index(last) + 1]


def classes(version):
    """Names of the classes and enums of a version; "" is the module."""
    return frozenset(_tables()[version])


def members(version, name):
    """What the class of that name has in that version; empty where there is no such class."""
    return _tables()[version].get(name, frozenset())
