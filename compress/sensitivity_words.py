"""How the numbers of a sensitivity table are written, in text and on its page."""

from __future__ import annotations

import math

__all__ = ["decibels", "milliseconds", "rate", "share_words"]


def decibels(value: float) -> str:
    """One decimal; words for what is no number.

    >>> decibels(12.34), decibels(float("-inf")), decibels(float("nan"))
    ('12.3', 'not finite', 'not finite')
    """
    return f"{value:.1f}" if math.isfinite(value) else "not finite"


def share_words(share: float) -> str:
    """A share of 1 in per cent, without the sign.

    >>> share_words(0.8123), share_words(0.00312), share_words(0.0)
    ('81.2', '0.31', '0.00')
    """
    percent = 100 * share
    return f"{percent:.1f}" if percent >= 1 else f"{percent:.2f}"


def milliseconds(value: float | None) -> str:
    """Four decimals: what one group wins is little.

    >>> milliseconds(0.01234), milliseconds(None)
    ('0.0123', 'unknown')
    """
    return "unknown" if value is None else f"{value or 0:.4f}"


def rate(value: float | None) -> str:
    """What is lost for a millisecond, dB/ms; words where nothing is won.

    >>> rate(12.345), rate(0.0321), rate(None)
    ('12.3', '0.032', 'no gain')
    """
    if value is None:
        return "no gain"
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.3f}" if value < 1 else f"{value:.1f}"
