"""What can be checked of a finished model on this host: our rules, and NVIDIA's own parser.

The rules (`compress.lint`) know the board's ceiling and which precisions it has; a file that breaks
one is not sealed. NVIDIA's parser and builder (`compress.rtx`) are TensorRT-RTX's, on this host:
what they refuse is a doubt, not the end of the run, because a board's TensorRT may take it. A doubt
turns a pass into inconclusive and is shown beside the verdict. It is sealed into the manifest's
refusals: `edge gate` has no such parser, so its verdict cannot know, but its report shows them.

HostCheckError (a JetpressError)   a rule of TensorRT's is broken: the board would refuse the file
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from compress.lint import RULES, Finding, lint
from compress.quantize.int8 import load_model
from compress.rtx import RtxResult, parse_and_build
from devices.budget import Outcome, Refusal
from devices.errors import JetpressError, MissingExtraError
from devices.profile import Profile
from edge.gate import Judgement

__all__ = ["HostCheck", "HostCheckError", "check_on_host", "check_twin", "with_doubts"]


class HostCheckError(JetpressError):
    """The finished file breaks a rule of TensorRT's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCheck:
    """`words` say what was checked and found, a sentence each.

    `refusals` are what is not as it could be; `doubts` forbid a pass.
    """

    words: tuple[str, ...]
    refusals: tuple[Refusal, ...] = ()
    doubts: tuple[Refusal, ...] = ()


def check_on_host(
    path: Path, profile: Profile, build: Callable[[Path], RtxResult] = parse_and_build
) -> HostCheck:
    """Check the ONNX file at `path` for a board; `build` asks NVIDIA's parser and builder.

    Without the package that has them this is said, with the command that installs it. Raises
    HostCheckError when one of our rules finds an error.
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
        words=(*ours.words, *theirs.words),
        refusals=(*ours.refusals, *theirs.refusals),
        doubts=theirs.doubts,
    )


def check_twin(path: Path, build: Callable[[Path], RtxResult] = parse_and_build) -> HostCheck:
    """Ask NVIDIA's parser and builder about the typed twin, which TensorRT 11 would be given.

    Without the package nothing is said: `check_on_host` has said it.
    """
    try:
        theirs = _by_nvidia(build(path))
    except MissingExtraError:
        return HostCheck(words=())
    return HostCheck(
        words=tuple(f"{path.name}: {words}" for words in theirs.words),
        doubts=tuple(
            msgspec.structs.replace(doubt, what=f"{doubt.what}, of {path.name}")
            for doubt in theirs.doubts
        ),
    )


def with_doubts(judgement: Judgement, checked: HostCheck) -> Judgement:
    """The gate's judgement and the doubts of this host: a doubt takes a pass away, never more."""
    if not checked.doubts:
        return judgement
    verdict = judgement.verdict
    if verdict.outcome is Outcome.PASS:
        verdict = msgspec.structs.replace(verdict, outcome=Outcome.INCONCLUSIVE)
    return msgspec.structs.replace(
        judgement, verdict=verdict, refusals=(*judgement.refusals, *checked.doubts)
    )


def _by_rules(path: Path, profile: Profile) -> HostCheck:
    findings = lint(load_model(path), profile.opset_max, profile.refuse("int8") is None)
    _require_readable(findings, profile)
    asked = sum(not rule.needs_board for rule in RULES)
    words = f"{asked} of TensorRT's rules for {profile.name}: errors 0, warnings {len(findings)}"
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


def _require_readable(findings: tuple[Finding, ...], profile: Profile) -> None:
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more such)" if len(errors) > 1 else ""
        raise HostCheckError(
            f"the finished model: {errors[0].node}",
            found=f"{errors[0].found}{more}",
            expected=f"a file that TensorRT on {profile.name} reads as written",
            cure=f"{errors[0].cure}; nothing was sealed, and finished passes are kept",
        )


def _by_nvidia(result: RtxResult) -> HostCheck:
    does = "parse and build it" if result.built else "refuse it"
    words = (
        f"NVIDIA's parser and builder (TensorRT-RTX {result.version}, on this host, not the board) "
        f"{does}; warnings about Q/DQ {len(result.qdq_warnings)}"
    )
    doubts = [
        Refusal(what="NVIDIA's reading of Q/DQ", reason=line, instead="compare with the board")
        for line in dict.fromkeys(result.qdq_warnings)
    ]
    if not result.built:
        first = result.faults[0] if result.faults else None
        reason = f"{first.operator} {first.node}: {first.text}" if first else "; ".join(
            result.errors[:1]
        )  # fmt: skip
        doubts.append(
            Refusal(
                what="NVIDIA's parser and builder on this host",
                reason=reason or "the builder gave no reason",
                count=max(1, len(result.faults)),
                instead="the bundle is sealed all the same, but does not pass: the board's "
                "TensorRT may take it, try it there",
            )
        )
    return HostCheck(words=(words,), doubts=tuple(doubts))
