"""What goes wrong when channels are traced, grouped or cut.

ChannelsError, a JetpressError
 |- TraceError   the module cannot be turned into a graph that computes the same
 |- CutError     the chosen channels cannot go, or the cut net is not what it must be
 '- PlanError    a plan or a list of groups does not belong to this net, or is no such text
"""

from __future__ import annotations

from devices.errors import JetpressError

__all__ = ["ChannelsError", "CutError", "PlanError", "TraceError"]


class ChannelsError(JetpressError):
    """Base of every error of this package."""


class TraceError(ChannelsError):
    """A module that torch.export cannot follow, or whose graph computes something else."""


class CutError(ChannelsError):
    """Channels that cannot go, or a cut that did not keep its promise."""


class PlanError(ChannelsError):
    """Groups or choices that are not this net's."""
