"""`edge export`: a bundle as the folder another server reads."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import click

from edge.bundle import Bundle, open_bundle
from edge.export import Export, ExportOptions, profile_of
from edge.export.deepstream import plan_config
from edge.export.folder import check_place, write_exports
from edge.export.triton import BACKENDS, plan_repository
from edge.places import NAME, PLACE

__all__ = ["export"]

Planner = Callable[[Bundle, ExportOptions], Export]
_ONLY = {"backend": "triton", "instances": "triton", "name": "triton", "parser": "deepstream"}


@click.command()
@click.argument("bundle", type=PLACE)
@click.option("--triton", type=PLACE, metavar="DIR", help="Write a Triton model repository.")
@click.option("--deepstream", type=PLACE, metavar="DIR", help="Write an nvinfer configuration.")
@click.option("--profile", type=NAME, metavar="NAME",
              help="The board. Default: the one it was made for.")  # fmt: skip
@click.option("--batch", type=click.IntRange(1, 1024), default=1, show_default=True, metavar="N",
              help="Frames in one inference, at most; above 1 for an open batch.")  # fmt: skip
@click.option("--dla", type=click.IntRange(min=0), multiple=True, metavar="CORE",
              help="Run on this DLA core instead of the GPU; Triton takes several.")  # fmt: skip
@click.option("--backend", type=click.Choice(BACKENDS),
              help="Of Triton. tensorrt: a plan, built on the board. onnxruntime: at once, "
                   "anywhere. Default: tensorrt.")  # fmt: skip
@click.option("--instances", type=click.IntRange(1, 64), metavar="N",
              help="Of Triton: models at work at once. Default: by the GPU.")  # fmt: skip
@click.option("--name", metavar="NAME", help="Of Triton: the model's name. Default: the bundle's.")
@click.option("--parser", metavar="LIB:FUNCTION",
              help="Of nvinfer: what decodes the outputs. Default: nothing.")  # fmt: skip
def export(bundle: Path, **flags: Any) -> None:  # noqa: ANN401  # click's values
    """Write BUNDLE as a folder for Triton or for DeepStream; nothing is run.

    A new or an empty folder is filled, whole or not at all.
    """
    jobs = _jobs(flags)
    opened = open_bundle(bundle)
    options = ExportOptions(
        profile=profile_of(opened, flags["profile"]),
        name=opened.manifest.name if flags["name"] is None else flags["name"],
        backend=flags["backend"] or BACKENDS[0],
        batch_max=flags["batch"],
        instances=flags["instances"],
        dla_cores=tuple(sorted(set(flags["dla"]))),
        parser=_parser(flags["parser"]),
    )
    planned: List[Tuple[str, Path, Export]] = []
    for kind, folder, plan in jobs:
        check_place(folder, opened)
        planned.append((kind, folder, plan(opened, options)))
    write_exports([(folder, content) for _, folder, content in planned], opened)
    for kind, folder, content in planned:
        _tell(kind, folder, content)


def _jobs(flags: Dict[str, Any]) -> List[Tuple[str, Path, Planner]]:
    planners: Dict[str, Planner] = {"triton": plan_repository, "deepstream": plan_config}
    jobs = [(kind, flags[kind], plan) for kind, plan in planners.items() if flags[kind] is not None]
    if not jobs:
        raise click.UsageError("nothing to write: give --triton DIR or --deepstream DIR.")
    kinds = {kind for kind, _, _ in jobs}
    for flag, kind in _ONLY.items():
        if flags[flag] is not None and kind not in kinds:
            raise click.UsageError(f"--{flag} is for --{kind}.")
    places = [Path(os.path.realpath(str(folder))) for _, folder, _ in jobs]
    if any(one in (other, *other.parents) for one, other in itertools.permutations(places, 2)):
        raise click.UsageError(
            "--triton and --deepstream need a folder each, neither inside the other."
        )
    return jobs


def _parser(text: Optional[str]) -> Optional[Tuple[str, str]]:
    if text is None:
        return None
    library, _, function = text.rpartition(":")
    if not library or not function.isidentifier():
        raise click.UsageError("--parser takes a library and a function: libssd.so:ParseSsd.")
    return library, function


def _tell(kind: str, folder: Path, content: Export) -> None:
    size_mb = sum(map(len, content.files.values())) / 1e6
    click.echo(f"{kind:<10} {folder}, {len(content.files)} files, {size_mb:.2f} MB")
    for name in sorted((*content.files, *(f"{empty}/" for empty in content.folders))):
        click.echo(f"           {name}")
    for note in content.notes:
        click.echo(f"note       {note}")
