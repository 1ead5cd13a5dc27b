"""A second witness beside the rules: does NVIDIA's own parser see the same faults?

It is TensorRT-RTX's, on this host. For each rule that found something it agrees, takes the file
without a word, stopped earlier, or cannot know (the board decides, or it is speed alone). What it
refuses and no rule explains becomes a finding of its own: a rule is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compress.rtx import RtxResult, parse_and_build
from compress.rules.finding import Finding, Severity
from compress.rules.operator_table import SINCE
from compress.rules.table import RULES
from devices.errors import MissingExtraError
from devices.profile import Profile

__all__ = ["Answer", "Testimony", "ask_nvidia"]

Answer = Literal["agrees", "takes it without a word", "stopped earlier", "cannot know", "not asked"]
_SAYS = {rule.name: rule.nvidia_says for rule in RULES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Testimony:
    """`words` for people, a line each; `answers` by rule; `findings` that only NVIDIA has."""

    words: tuple[str, ...]
    answers: dict[str, Answer]
    findings: tuple[Finding, ...] = ()


def ask_nvidia(
    path: Path,
    profile: Profile,
    findings: tuple[Finding, ...],
    build: Callable[[Path], RtxResult] = parse_and_build,
) -> Testimony:
    """Hold the findings of our rules against NVIDIA's parser and builder.

    Without the package one line says what to install.
    """
    rules = list(dict.fromkeys(finding.rule for finding in findings))
    try:
        result = build(path)
    except MissingExtraError as error:
        line = f"NVIDIA's parser was not asked: found {error.found}; {error.cure}"
        return Testimony(words=(line,), answers=dict.fromkeys(rules, "not asked"))
    heard = _heard(result)
    answers = {rule: _answer(_SAYS[rule], heard, result) for rule in rules}
    explained = [f for f in findings if f.severity == "error" and answers[f.rule] == "agrees"]
    alone = tuple(_alone(result, profile, answers, explained=bool(explained)))
    does = "builds it" if result.built else "refuses it"
    words = [f"NVIDIA's parser (TensorRT-RTX {result.version}, on this host, not the board) {does}"]
    words += [f"  {rule}: {answer}" for rule, answer in answers.items()]
    words += [f"  {finding.rule}: no rule of ours says so" for finding in alone]
    return Testimony(words=tuple(words), answers=answers, findings=alone)


def _heard(result: RtxResult) -> str:
    faults = [fault.text for fault in result.faults]
    return "\n".join((*faults, *result.errors, *result.warnings)).lower()


def _answer(says: str, heard: str, result: RtxResult) -> Answer:
    if not says:
        return "cannot know"
    if says in heard:
        return "agrees"
    return "takes it without a word" if result.built else "stopped earlier"


def _alone(
    result: RtxResult, profile: Profile, answers: dict[str, Answer], *, explained: bool
) -> Iterator[Finding]:
    if not result.built and not explained:
        fault = result.faults[0] if result.faults else None
        version = profile.jetpack.tensorrt_version
        has = fault is not None and SINCE.get(fault.operator, (99,)) <= version
        lacks = fault is not None and "plugin" in fault.text.lower()
        text = fault.text if fault else next(iter(result.errors), "it gave no reason")
        yield _finding(
            "nvidia-refuses",
            "warning" if has and lacks else "error",
            (fault.node or "the file") if fault else "the file",
            text.strip().splitlines()[0],
        )
    if result.qdq_warnings and answers.get("uint8-zero-point") != "agrees":
        yield _finding("nvidia-warns", "warning", "the file", result.qdq_warnings[0])


def _finding(rule: str, severity: Severity, node: str, found: str) -> Finding:
    return Finding(
        rule=rule,
        severity=severity,
        node=node,
        found=found,
        source="TensorRT-RTX's parser and builder, on this host, not the board",
        consequence="the board's parser is of the same source: expect the same there",
        cure="change that node, or try it on the board",
    )
