"""What is wrong with a use of TensorRT's names, by the versions its module serves."""

from __future__ import annotations

from typing import Any, Iterator, List, Optional, Tuple

from tests.edge.tensorrt import api
from tests.edge.tensorrt.api_uses import MODULE, File, Use


def has(version: str, owner: str, name: str) -> bool:
    """Whether the name is there; a class is a member of the module, and so are its functions."""
    if owner == MODULE:
        return name in api.classes(version) or name in api.members(version, MODULE)
    return name in api.members(version, owner)


def faults_of(file: File) -> Tuple[str, ...]:
    """Each name that one of the versions lacks, each mark that is not true; empty when all hold."""
    if file.versions is None:
        named = [
            f"line {use.line}: {_shown(use)}, and no VERSIONS"
            for use in file.uses
            if use.name != "__version__"
        ]
        return (*file.faults, *named)
    return (*file.faults, *_use_faults(file), *_mark_faults(file))


def checked(file: File) -> Iterator[Tuple[str, Use]]:
    """(version, use) of everything that is looked up; TensorRT-RTX is one of the versions."""
    if file.versions is None:
        return
    served = api.between(*file.versions)
    for use in file.uses:
        if use.kind == "test":
            continue
        marks = file.marks.get(use.line, [])
        for version in (*served, api.RTX):
            if _serves(version, marks, served):
                yield version, use


def _serves(version: str, marks: List[Tuple[str, str]], served: Tuple[str, ...]) -> bool:
    """Whether a line with these marks is for that version."""
    kinds = {kind: known for kind, known in marks if known in (*api.versions(), api.RTX_WORD)}
    if version == api.RTX:
        reaches = served[-1] == api.versions()[-1]
        return (reaches or "only in" in kinds) and not ({"until", "not in"} & set(kinds))
    if "only in" in kinds:
        return False
    order = api.versions()
    first, last = kinds.get("from", order[0]), kinds.get("until", order[-1])
    return order.index(first) <= order.index(version) <= order.index(last)


def _use_faults(file: File) -> Iterator[str]:
    missing: dict = {}
    for version, use in checked(file):
        if not has(version, use.owner, use.name):
            missing.setdefault(use, []).append(version)
    for use, versions in missing.items():
        yield f"line {use.line}: no {_shown(use)} in {', '.join(versions)}"
    for use in file.uses:
        if use.kind == "test" and not any(
            has(v, use.owner, use.name) for v in (*api.versions(), api.RTX)
        ):
            yield f"line {use.line}: no version has {_shown(use)}, which is asked for"


def _mark_faults(file: File) -> Iterator[str]:
    served = api.between(*file.versions)
    for line, marks in file.marks.items():
        for kind, version in marks:
            if (version not in _all()) or ((version == api.RTX_WORD) != kind.endswith(" in")):
                yield f"line {line}: {kind} {version} names no version"
                break
        else:
            uses = [use for use in file.uses if use.line == line]
            reason = _untrue(marks, uses, served)
            if reason:
                yield f"line {line}: {reason}"


def _untrue(marks: Any, uses: List[Use], served: Tuple[str, ...]) -> Optional[str]:
    """Why a mark is not true: no name on its line is missing everywhere outside it."""
    words = " and ".join(f"{kind} {version}" for kind, version in marks)
    outside = [v for v in (*served, api.RTX) if not _serves(v, marks, served)]
    if served[-1] != api.versions()[-1]:
        outside = [v for v in outside if v != api.RTX]
    if not outside:
        return f"'{words}' leaves out none of this module's versions"
    if not any(not has(v, use.owner, use.name) for use in uses for v in outside):
        return f"'{words}' on a line whose names are everywhere"
    for version in outside:
        if all(has(version, use.owner, use.name) for use in uses):
            return f"'{words}', but {version} has every name of the line"
    return None


def _all() -> Tuple[str, ...]:
    return (*api.versions(), api.RTX, api.RTX_WORD)


def _shown(use: Use) -> str:
    return f"trt.{use.name}" if use.owner == MODULE else f"{use.owner}.{use.name}"
