"""Which passes a run does, in order: chosen for the board, or read from a TOML file.

    [[pass]]
    name = "prune"
    latency_ratio_max = 0.45    # the fields of the pass

The choice for a board: prune and distil where INT8 is not legal, because nothing else makes such a
board faster (a model of the user's own only where it is not fast enough as it is); distil alone
where INT8 already halves the work; INT8 wherever it is legal, else FP16. Every recipe, chosen or
read, that cannot end in INT8 ends in FP16, and says why.

RecipeError (a JetpressError)   a pass or a field nobody knows, or an order that cannot work
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from compress.passes import PASSES, Pass, pass_from_name
from devices.budget import Refusal
from devices.errors import JetpressError, nearest
from devices.profile import Profile
from devices.tomlfile import read_toml

__all__ = ["Choice", "Recipe", "RecipeError", "choose_recipe", "load_recipe"]

LAST = ("int8", "fp16")
AFTER = "tune"  # may follow int8
STEPS_UNCUT = 160  # a whole net has less to win back than a cut one, and a step costs twice as much


class RecipeError(JetpressError):
    """A recipe that cannot be followed."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The passes in order, and what was decided against while choosing them."""

    passes: tuple[Pass, ...]
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was asked of the default recipe; `prune` is "auto", "off" or a latency ratio 0..1.

    With `fps_min` "auto" cuts only what that many predicted frames a second ask for.
    """

    prune: str = "auto"
    fps_min: float | None = None
    distil_steps: int | None = None
    tune_steps: int = 0  # of quantization-aware distillation, where the run ends in INT8


def choose_recipe(profile: Profile, choice: Choice, *, has_frames: bool) -> Recipe:
    """The passes for this board. INT8 without frames to calibrate on is refused, never invented."""
    steps: list[Pass] = []
    ratio = _prune_ratio(choice.prune)
    if ratio != 0.0 and (ratio is not None or profile.refuse("int8") is not None):
        given: dict[str, Any] = {"latency_ratio_max": ratio}
        if ratio is None:
            given = {"if_it_pays": True, "fps_min": choice.fps_min}
        steps.append(pass_from_name("prune")(**given))
    training = choice.distil_steps
    if training is None and not steps:
        training = STEPS_UNCUT
    steps.append(pass_from_name("distil")(**({} if training is None else {"steps": training})))
    steps.append(pass_from_name("int8")())
    if choice.tune_steps:
        steps.append(pass_from_name(AFTER)(steps=choice.tune_steps))
    return _ending(tuple(steps), profile, has_frames=has_frames)


def load_recipe(path: Path, profile: Profile, *, has_frames: bool) -> Recipe:
    """Read a TOML recipe for a board. Raises RecipeError with the pass and the field at fault."""
    table: dict[str, Any] = read_toml(path, dict, RecipeError)
    entries = table.pop("pass", [])
    if table or not isinstance(entries, list) or not entries:
        raise RecipeError(
            str(path),
            found="keys " + (", ".join(sorted(table)) or "without any [[pass]]"),
            expected="[[pass]] tables only",
            cure="start each pass with [[pass]] and its name",
        )
    steps = tuple(_pass_from_table(path, number, entry) for number, entry in enumerate(entries))
    _check_order(path, [step.name for step in steps])
    return _ending(steps, profile, has_frames=has_frames)


def _check_order(path: Path, names: list[str]) -> None:
    """One precision, last; after int8 there may be a tune."""
    end = names[:-1] if names[-2:] == ["int8", AFTER] else names
    if not end or end[-1] not in LAST or any(name in (*LAST, AFTER) for name in end[:-1]):
        raise RecipeError(
            str(path),
            found=" -> ".join(names),
            expected=f"exactly one of {', '.join(LAST)}, and it last; after int8 a tune may follow",
            cure='end the recipe with name = "int8" or name = "fp16"',
        )


def _ending(steps: tuple[Pass, ...], profile: Profile, *, has_frames: bool) -> Recipe:
    """The steps with a last one that this board can do; cutting is planned for its precision."""
    at = next(at for at, step in enumerate(steps) if step.name in LAST)
    refusal = _int8_refusal(profile, has_frames=has_frames) if steps[at].name == "int8" else None
    last = steps[at:] if refusal is None else (pass_from_name("fp16")(),)
    before = (_planned_for(step, last[0].name) for step in steps[:at])
    return Recipe(passes=(*before, *last), refusals=() if refusal is None else (refusal,))


def _planned_for(step: Any, precision: str) -> Pass:  # noqa: ANN401 - a Struct behind a Pass
    planned: Pass = step
    if planned.name == "prune":
        planned = msgspec.structs.replace(step, precision=precision)
    return planned


def _int8_refusal(profile: Profile, *, has_frames: bool) -> Refusal | None:
    """Why this run cannot end in INT8; which of the other passes apply, each says itself."""
    refusal = profile.refuse("int8")
    if refusal is not None:
        return msgspec.structs.replace(refusal, instead="the run ends in fp16")
    if has_frames:
        return None
    return Refusal(
        what="INT8",
        reason="ranges are read off real frames, and none were given",
        instead="the run ends in fp16; pass --data FOLDER, VIDEO or arrays in an .npz for INT8",
    )


def _pass_from_table(path: Path, number: int, entry: dict[str, Any]) -> Pass:
    where = f"{path}: $.pass[{number}]"
    known = tuple(name for name in PASSES if name != "seal")
    name = entry.get("name")
    if name not in known:
        raise RecipeError(
            where,
            found=f"name = {name!r}",
            expected="a pass",
            cure=nearest(str(name), known),
        )
    fields = {key: value for key, value in entry.items() if key != "name"}
    if name == "prune" and "precision" in fields:
        raise RecipeError(
            where,
            found=f"precision = {fields['precision']!r}",
            expected="none: cutting is planned for the precision of the last pass",
            cure="leave it out",
        )
    try:
        made: Pass = msgspec.convert(fields, pass_from_name(name), strict=False)
    except msgspec.ValidationError as error:
        raise RecipeError(
            where, found=str(error), expected=f"the fields of {name}", cure="correct the table"
        ) from error
    except (TypeError, ValueError) as error:
        raise RecipeError(
            where, found=str(error), expected=f"the fields of {name}", cure="correct the table"
        ) from error
    return made


def _prune_ratio(text: str) -> float | None:
    """None for "auto", 0.0 for "off", else the ratio."""
    if text == "auto":
        return None
    if text == "off":
        return 0.0
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0.0 < ratio < 1.0:
        raise RecipeError(
            "--prune",
            found=repr(text),
            expected="auto, off, or a latency ratio between 0 and 1 such as 0.5",
            cure="for half the predicted latency say --prune 0.5",
        )
    return ratio
