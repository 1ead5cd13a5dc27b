"""Flags of an engine that is built: the same for whoever builds it and whoever runs it.

They are a part of the engine's key, so a command that lacked one could not find what another built.
"""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, TypeVar

import click

from edge.engines import BoardOptions
from edge.engines.cuda import BACKENDS
from edge.engines.tensorrt.cache import default_cache
from edge.places import NAME, PLACE, require_cache

__all__ = ["CACHE_FLAG", "board_options", "engine_flags", "refuse_unused", "tell"]

_Command = TypeVar("_Command", bound=Callable[..., Any])  # what click's decorators take

CACHE_FLAG = click.option(
    "--engine-cache", "cache", type=PLACE, metavar="DIR",
    help="Where engines are kept. Default: in JETPRESS_CACHE or your cache.",
)  # fmt: skip
_FLAGS = (
    CACHE_FLAG,
    click.option("--dla", "dla_core", type=click.IntRange(min=0), metavar="N",
                 help="An engine for that DLA core; what it cannot run goes to the GPU."),
    click.option("--batch-max", default=1, type=click.IntRange(min=1), metavar="N",
                 help="Most frames in one inference, where the model's batch is open."),
    click.option("--workspace-mb", type=click.FloatRange(min=1), metavar="X",
                 help="Scratch for one kernel. Default: by the board's memory."),
    click.option("--version-compatible", is_flag=True,
                 help="For later TensorRTs of its major version too; 8.6 or later."),
    click.option("--cuda", type=NAME, metavar="NAME",
                 help="How CUDA is called: " + ", ".join(BACKENDS)
                 + ". Default: the first installed."),
)  # fmt: skip
NAMES = {"dla_core": None, "batch_max": 1, "workspace_mb": None, "version_compatible": False,
         "cuda": None}  # fmt: skip  # with what they are when nobody gave them


def engine_flags(command: _Command) -> _Command:
    """Add `--engine-cache`, `--dla` ... to a command; `board_options` takes what they gave."""
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command


def board_options(
    flags: Dict[str, Any], *, rebuild: bool = False, gpu_pixels: bool = False
) -> BoardOptions:
    """Takes the flags out of click's values; progress goes to standard error, beside the result."""
    cache = flags.pop("cache") or default_cache(os.environ)
    require_cache(cache)
    given = {name: flags.pop(name) for name in NAMES}
    return BoardOptions(cache=cache, tell=tell, rebuild=rebuild, gpu_pixels=gpu_pixels, **given)


def refuse_unused(flags: Dict[str, Any], engine: str) -> None:
    """Raise UsageError for a flag that this engine, which is not built, would not look at."""
    for name, default in (*NAMES.items(), ("cpu_pixels", False)):
        if flags[name] != default:
            flag = {"dla_core": "dla"}.get(name, name).replace("_", "-")
            raise click.UsageError(f"--{flag} is for engines that are built; --engine {engine} "
                                   "is not: add --engine tensorrt, or leave it out.")  # fmt: skip


def tell(line: str) -> None:
    """One line of progress on standard error."""
    click.echo(f"edge: {line}", err=True)
