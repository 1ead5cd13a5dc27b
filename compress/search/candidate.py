"""Candidate and Outcome: what may be done to a model, as data, and what came of doing it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from compress.passes import Pass, pass_from_name
from devices.budget import Measurement, Refusal
from devices.errors import JetpressError

__all__ = ["SHORT_FRAMES", "SHORT_STEPS", "WHOLE", "Candidate", "Outcome", "SearchError",
           "passes_of"]  # fmt: skip

SHORT_STEPS = 4  # a short trial learns for one step in so many
SHORT_FRAMES = 3  # and is judged on one frame in so many
WHOLE = 1.0  # a latency ratio that cuts nothing


class SearchError(JetpressError):
    """A search that cannot be made, or a budget that nothing in its space can keep."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One model of the space.

    `prune` is the share of the predicted latency that is kept, 1 for all; `image` is "HxW" or "",
    the model's own size; `float_layers` "auto" leaves layers that hurt out of INT8. A `short`
    candidate is the same learnt for a quarter of the steps, judged on a third of the frames.
    """

    prune: float = WHOLE
    image: str = ""
    precision: Literal["fp16", "int8"] = "fp16"
    float_layers: Literal["auto", "none"] = "auto"
    steps: int = 0
    short: bool = False

    def shortened(self) -> Candidate:
        """The cheaper rung of this candidate."""
        return msgspec.structs.replace(self, short=True)

    @property
    def trained_steps(self) -> int:
        """How many steps are trained."""
        return max(1, self.steps // SHORT_STEPS) if self.short and self.steps else self.steps

    def __str__(self) -> str:
        parts = (
            self.precision + (" throughout" if self.float_layers == "none" else ""),
            "whole" if self.prune == WHOLE else f"cut to {self.prune:g} of the latency",
            f"{self.image} px" if self.image else "",
            f"{self.trained_steps} steps" if self.steps else "",
        )
        return ", ".join(part for part in parts if part)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a candidate: facts of the last pass, or why there is none.

    `bundle_sha256` is the last pass's; `refusals` are passes that did not apply; `left_float`
    counts the layers that stay out of INT8.
    """

    candidate: Candidate
    facts: tuple[Measurement, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    bundle_sha256: str = ""
    left_float: int = 0
    failed: str = ""

    @property
    def twin(self) -> Candidate | None:
        """A candidate that would be the same model: INT8 throughout, where no layer hurt."""
        made = self.candidate
        if (
            self.failed
            or self.left_float
            or (made.precision, made.float_layers) != ("int8", "auto")
        ):
            return None
        return msgspec.structs.replace(made, float_layers="none", short=False)

    def fact(self, name: str) -> Measurement | None:
        """The fact of that name, or None when it is not known."""
        return next((fact for fact in self.facts if fact.name == name), None)

    @property
    def accuracy(self) -> Measurement | None:
        """The fact that says how good it is; more is better but for `accuracy_drop_pt`."""
        return self.fact("accuracy_drop_pt") or self.fact("sqnr_db")

    @property
    def score(self) -> float | None:
        """Accuracy as a number, more is better; None when it failed or nothing judged."""
        fact = self.accuracy
        if self.failed or fact is None:
            return None
        return -fact.value if fact.name == "accuracy_drop_pt" else fact.value

    @property
    def latency_ms(self) -> float | None:
        """Predicted latency; None when it failed or cannot be predicted."""
        fact = self.fact("latency_ms")
        return None if self.failed or fact is None else fact.value


def passes_of(candidate: Candidate) -> tuple[Pass, ...]:
    """The passes that make it, in order; a recipe of the same passes makes the same bytes."""
    passes: list[Any] = []
    if candidate.image:
        height, _, width = candidate.image.partition("x")
        passes.append(pass_from_name("resize")(height=int(height), width=int(width)))
    if candidate.prune < WHOLE:
        made = pass_from_name("prune")
        passes.append(made(latency_ratio_max=candidate.prune, precision=candidate.precision))
    if candidate.steps:
        passes.append(pass_from_name("distil")(steps=candidate.trained_steps))
    last = pass_from_name(candidate.precision)
    keeps = candidate.precision == "int8" and candidate.float_layers == "none"
    passes.append(last(keep_float=()) if keeps else last())
    return tuple(passes)
