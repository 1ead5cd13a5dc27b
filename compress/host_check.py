"""What can be checked of a finished model on this host: our rules, and NVIDIA's own parser.

The rules (`compress.lint`) know the board's ceiling and which precisions it has. NVIDIA's parser
and builder (`compress.rtx`) are TensorRT-RTX's, on this host: what they refuse is a `Refusal`, not
the end of the run, because a board's TensorRT may have a plugin that they lack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compress.lint import RULES, lint
from compress.quantize.int8 import load_model
from compress.rtx import RtxResult, parse_and_build
from devices.budget import Refusal
from devices.errors import MissingExtraError
from devices.profile import Profile

__all__ = ["HostCheck", "check_on_host"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCheck:
    """`words` say what was checked and found, a sentence each; `refusals` what is not as it was."""

    words: tuple[str, ...]
    refusals: tuple[Refusal, ...] = ()


def check_on_host(
    path: Path, profile: Profile, build: Callable[[Path], RtxResult] = parse_and_build
) -> HostCheck:
    """Check the ONNX file at `path` for a board; `build` asks NVIDIA's parser and builder.

    Without the package that has them this is said, with the command that installs it.
    """
    ours = _by_rules(path, profile)
    try:
        theirs = _by_nvidia(build(path))
    except MissingExtraError as error:
        theirs = HostCheck(
            words=(),
            refusals=(
                Refusal(
                    what="asking NVIDIA's parser and builder",
                    reason=f"found {error.found}",
                    instead=f"our own rules alone; {error.cure}",
                ),
            ),
        )
    return HostCheck(
        words=(*ours.words, *theirs.words), refusals=(*ours.refusals, *theirs.refusals)
    )


def _by_rules(path: Path, profile: Profile) -> HostCheck:
    findings = lint(load_model(path), profile.opset_max, profile.refuse("int8") is None)
    errors = sum(finding.severity == "error" for finding in findings)
    words = (
        f"{len(RULES)} of TensorRT's rules for {profile.name}: errors {errors}, "
        f"warnings {len(findings) - errors}"
    )
    counted: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        counted.setdefault((finding.rule, finding.cure), []).append(finding.node)
    return HostCheck(
        words=(words,),
        refusals=tuple(
            Refusal(
                what=f"TensorRT rule {rule}",
                reason=f"broken at {nodes[0]}" + (" and elsewhere" if len(nodes) > 1 else ""),
                count=len(nodes),
                instead=cure,
            )
            for (rule, cure), nodes in counted.items()
        ),
    )


def _by_nvidia(result: RtxResult) -> HostCheck:
    does = "parse and build it" if result.built else "refuse it"
    words = (
        f"NVIDIA's parser and builder (TensorRT-RTX {result.version}, on this host, not the board) "
        f"{does}; warnings about Q/DQ {len(result.qdq_warnings)}"
    )
    refusals = [
        Refusal(what="NVIDIA's reading of Q/DQ", reason=line, instead="compare with the board")
        for line in dict.fromkeys(result.qdq_warnings)
    ]
    if not result.built:
        first = result.faults[0] if result.faults else None
        reason = f"{first.operator} {first.node}: {first.text}" if first else "; ".join(
            result.errors[:1]
        )  # fmt: skip
        refusals.append(
            Refusal(
                what="NVIDIA's parser and builder on this host",
                reason=reason or "the builder gave no reason",
                count=max(1, len(result.faults)),
                instead="the bundle is sealed all the same: the board's TensorRT may have a plugin "
                "for it, try it there",
            )
        )
    return HostCheck(words=(words,), refusals=tuple(refusals))
