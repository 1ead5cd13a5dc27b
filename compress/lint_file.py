"""One `compress lint` from a path to an exit code: read, ask the rules and NVIDIA, cure, say.

LintError (a JetpressError)   a file that cannot be read or written, or a cure that cannot be proven
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from compress.lint import RULES, Finding, lint_for_board
from compress.lint_fix import LintError, Mended, mend
from compress.rtx import RtxResult, parse_and_build
from compress.witness import Testimony, ask_nvidia
from devices.profile import Profile, load_profile
from devices.wholefile import write_whole

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["EXIT_BROKEN", "lint_file"]

EXIT_BROKEN = 3
_NODES_SHOWN = 6


class Say(Protocol):
    """Prints a line, on standard error if `err`."""

    def __call__(self, message: str, *, err: bool = False) -> None: ...


def lint_file(
    path: Path,
    profile_name: str,
    *,
    say: Say,
    as_json: bool = False,
    out: Path | None = None,
    build: Callable[[Path], RtxResult] = parse_and_build,
) -> int:
    """Lint the file for a board; with `out`, write it with the safe cures applied.

    Returns 0, or EXIT_BROKEN while a finding would change results or fail the build. Raises
    JetpressError on bad input; then nothing is written.
    """
    profile = load_profile(profile_name)
    model = _read(path)
    if out is not None:
        _check_out(path, model, out)
    findings = lint_for_board(model, profile)
    lines: list[str] = []
    if out is not None:
        mended = mend(model, profile, findings)
        _write(out, mended.model)
        lines += _mended_lines(mended, out)
        path, findings = out, mended.remaining
    testimony = ask_nvidia(path, profile, findings, build)
    findings = _errors_first((*findings, *testimony.findings))
    if as_json:
        for line in lines:
            say(line, err=True)
        if "not asked" in testimony.answers.values() or not testimony.answers:
            say(testimony.words[0], err=True)
        say(_json(findings, testimony))
    else:
        for line in (*lines, *_text(findings), *testimony.words, _summary(findings, profile)):
            say(line)
    return EXIT_BROKEN if any(f.severity == "error" for f in findings) else 0


def _read(path: Path) -> ModelProto:
    if not path.is_file():
        raise LintError(str(path), found="no such file" if not path.exists() else "no file",
                        expected="an ONNX file", cure="check the path")  # fmt: skip
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs

    try:
        model = onnx.load(str(path))
        _check(model)
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise LintError(
            str(path),
            found=next(iter(str(error).strip().splitlines()), type(error).__name__),
            expected="a readable ONNX model",
            cure="export it again, and copy external data files along",
        ) from error
    return model


def _check(model: ModelProto) -> None:
    """ONNX's own checker, but outputs may leave their shape out, as they may for TensorRT."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.output:
        value.type.tensor_type.shape.SetInParent()
    onnx.checker.check_model(copy)


def _check_out(path: Path, model: ModelProto, out: Path) -> None:
    """Before any work: OUT is no part of the input, and can be written."""
    inputs = [path, *_beside(path)]
    if any(other.exists() and out.exists() and other.samefile(out) for other in inputs):
        raise LintError(f"-o {out}", found="the input itself", expected="another file",
                        cure="the input is never written to: give another name")  # fmt: skip
    if out.exists() and not out.is_file():
        found = "a folder" if out.is_dir() else "a device or pipe"
    elif not out.absolute().parent.is_dir():
        found = "no such folder"
    elif not os.access(out.absolute().parent, os.W_OK):
        found = "no permission to write"
    else:
        return
    raise LintError(f"-o {out}", found=found, expected="a file that can be written",
                    cure="give another name")  # fmt: skip


def _beside(path: Path) -> list[Path]:
    """The files that hold the model's external data."""
    import onnx

    tensors = onnx.load(str(path), load_external_data=False).graph.initializer
    names = {e.value for t in tensors for e in t.external_data if e.key == "location"}
    return [path.parent / name for name in sorted(names)]


def _write(out: Path, model: ModelProto) -> None:
    try:
        write_whole(out, model.SerializeToString(deterministic=True))
    except OSError as error:
        raise LintError(f"-o {out}", found=error.strerror or str(error),
                        expected="a file that can be written",
                        cure="choose another; nothing was written") from error  # fmt: skip


def _errors_first(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: finding.severity != "error"))


def _json(findings: tuple[Finding, ...], testimony: Testimony) -> str:
    told = [
        {**dataclasses.asdict(finding), "nvidia": testimony.answers.get(finding.rule, "says it")}
        for finding in findings
    ]
    return msgspec.json.format(msgspec.json.encode(told), indent=2).decode()


def _text(findings: tuple[Finding, ...]) -> list[str]:
    """A block a rule and cure: severity, rule, how many, the nodes; then why and what to do."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.rule, finding.severity, finding.cure), []).append(finding)
    lines = []
    for (rule, severity, cure), group in groups.items():
        nodes = list(dict.fromkeys(finding.node for finding in group))
        more = len(nodes) - _NODES_SHOWN
        shown = ", ".join(nodes[:_NODES_SHOWN]) + (f" and {more} more" if more > 0 else "")
        lines += [
            f"{severity:8} {rule} at {shown}",
            f"         found: {group[0].found}",
            f"         so: {group[0].consequence}",
            f"         cure: {cure}",
            f"         source: {group[0].source}",
        ]
    return lines


def _summary(findings: tuple[Finding, ...], profile: Profile) -> str:
    errors = sum(finding.severity == "error" for finding in findings)
    return (
        f"{len(RULES)} rules for {profile.name} (TensorRT {profile.jetpack.tensorrt}): errors "
        f"{errors}, warnings {len(findings) - errors}"
    )


def _mended_lines(mended: Mended, out: Path) -> list[str]:
    lines = [f"fixed    {words}" for words in mended.fixed] or ["fixed    nothing"]
    lines += [f"left     {words}" for words in mended.left]
    lines += [f"measured {words}" for words in mended.measured]
    return [*lines, f"wrote    {out}"]
