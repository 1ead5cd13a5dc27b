"""`edge`: the table of its commands; each lives in `edge/commands`, imported when it is run."""

from __future__ import annotations

from devices.command import SETTINGS
from devices.lazygroup import Entry, LazyGroup

__all__ = ["cli"]

cli = LazyGroup(
    {
        "run": Entry("edge.commands.run:run", "Run a bundle on every frame of a source."),
        "build": Entry(
            "edge.commands.build:build",
            "Build a bundle's engine on the board, or say what it takes.",
        ),
        "bench": Entry("edge.commands.bench:bench", "Measure a bundle on the board."),
        "cache": Entry("edge.commands.cache:cache", "List the engines that were built here."),
        "gate": Entry("edge.commands.gate:gate", "Compare a bundle with every limit of a board."),
        "export": Entry("edge.commands.export:export", "Write a bundle for Triton or DeepStream."),
        "verify": Entry(
            "edge.commands.verify:verify", "Check every byte of a bundle; say what it is."
        ),
        "doctor": Entry(
            "edge.commands.doctor:doctor", "Say what this computer lacks, and the cure."
        ),
    },
    name="edge",
    help="Run a sealed bundle behind a camera loop, or judge it for a board.",
    context_settings=SETTINGS,
)
