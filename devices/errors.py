"""The four-part error every package raises: where, what was found, what was expected, what to do.

JetpressError
 |- devices.profile.ProfileError, devices.report.ReportError, ...
 |- calib.*                      one tree per package, drawn at the top of the file that owns it
 |- edge.*
 '- compress.*

Command lines turn a `JetpressError` into one message on standard error and exit code 2.
"""

from __future__ import annotations

__all__ = ["EXIT_BAD_INPUT", "JetpressError", "MissingExtraError", "nearest"]

EXIT_BAD_INPUT = 2


class JetpressError(Exception):
    """Base of every error meant for a user.

    >>> str(JetpressError("a.onnx", found="opset 21", expected="9 to 13", cure="export at 13"))
    'a.onnx: found opset 21; expected 9 to 13; export at 13'
    """

    def __init__(self, where: str, *, found: str, expected: str, cure: str) -> None:
        super().__init__(f"{where}: found {found}; expected {expected}; {cure}")
        self.where = where
        self.found = found
        self.expected = expected
        self.cure = cure


class MissingExtraError(JetpressError):
    """An optional package is not installed.

    >>> str(MissingExtraError("cv2", extra="emulate", needed_for="images"))
    "images: found no package 'cv2'; expected it installed; run: pip install 'jetpress[emulate]'"
    """

    def __init__(self, package: str, *, extra: str, needed_for: str) -> None:
        super().__init__(
            needed_for,
            found=f"no package {package!r}",
            expected="it installed",
            cure=f"run: pip install 'jetpress[{extra}]'",
        )
        self.package = package
        self.extra = extra


def nearest(name: str, known: tuple[str, ...]) -> str:
    """A half sentence that suggests the closest known name, whatever its case, or lists them all.

    >>> nearest("jetson-nan", ("jetson-nano", "board"))
    "did you mean 'jetson-nano'?"
    >>> nearest("zzz", ("a", "b"))
    'known: a, b'
    """
    import difflib

    spelt = {word.lower(): word for word in reversed(known)}
    close = difflib.get_close_matches(name.lower(), tuple(spelt), n=2, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(spelt[word]) for word in close) + "?"
    return "known: " + ", ".join(known)
