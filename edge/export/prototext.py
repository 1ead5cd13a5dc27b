"""Protocol Buffers' text format, written: the little of it that a Triton configuration needs.

    name: "a"              a string
    kind: KIND_GPU         an enum's member: Symbol("KIND_GPU")
    dims: [ 1, 3 ]         a list of numbers
    input [ { ... }, ... ] a list of messages
    optimization { ... }   a message: a dict, in its own order

No package is needed for it on a board; tests parse what it writes with Google's own.
"""

from __future__ import annotations

from typing import Dict

__all__ = ["Message", "Symbol", "quoted", "text_from_message"]


class Symbol(str):
    """The name of an enum's member: written without quotes."""


Message = Dict[str, object]  # str, int, bool, Symbol, a Message, or a list of int or of Message

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def text_from_message(message: Message, indent: str = "") -> str:
    r"""The lines of a message, two spaces a level, every field on its own line.

    >>> print(text_from_message({"name": 'a"b', "dims": [1, 3], "cuda": {"graphs": True}}), end="")
    name: "a\"b"
    dims: [ 1, 3 ]
    cuda {
      graphs: true
    }
    """
    return "".join(_field(name, value, indent) for name, value in message.items())


def quoted(text: str) -> str:
    r"""A string literal; what is not printable ASCII becomes octal bytes of its UTF-8.

    >>> quoted("a\x01é")
    '"a\\001\\303\\251"'
    """
    return '"' + "".join(_letter(letter) for letter in text) + '"'


def _letter(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if " " <= letter <= "~":
        return letter
    return "".join(f"\\{byte:03o}" for byte in letter.encode("utf-8", "surrogateescape"))


def _field(name: str, value: object, indent: str) -> str:
    if isinstance(value, dict):
        return f"{indent}{name} {{\n{text_from_message(value, indent + '  ')}{indent}}}\n"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "".join(_field(name, item, indent) for item in value)
    return f"{indent}{name}: {_scalar(value)}\n"


def _scalar(value: object) -> str:
    if isinstance(value, Symbol):
        return str(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[ " + ", ".join(str(item) for item in value) + " ]"
    return str(value)
