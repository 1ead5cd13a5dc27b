"""Export: a sealed bundle as the folder another server reads; what all of them share.

EdgeError
 '- ExportError     a bundle the other server cannot run as sealed, or a folder in the way

An export is planned as bytes by a pure function (`triton.plan_repository`,
`deepstream.plan_config`) and written by `folder.write_export`, whole or not at all.
"""

from __future__ import annotations

import dataclasses
from typing import Dict, NoReturn, Optional, Tuple

from devices.profile import Profile, load_profile
from edge.bundle import Bundle
from edge.errors import EdgeError
from edge.gate import read_costs

__all__ = ["Export", "ExportError", "ExportOptions", "batch_of", "header", "labels_file",
           "profile_of", "refuse", "require_tensors"]  # fmt: skip


class ExportError(EdgeError):
    """A bundle cannot be run by the other server as it was sealed, or a folder is in the way."""


@dataclasses.dataclass(frozen=True)
class Export:
    """What is to be written: content by relative POSIX path, empty folders, and what to tell.

    `scripts` are the files that can be run; `notes` what its reader must do, or must know.
    """

    files: Dict[str, bytes]
    folders: Tuple[str, ...] = ()
    scripts: Tuple[str, ...] = ()
    notes: Tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What is asked for beside the bundle; `batch_max` 1 leaves the batch alone.

    `dla_cores` empty: the GPU. `parser` is the library and the function that decode outputs for
    nvinfer. `instances` None: as many as the board's GPU is worth.
    """

    profile: Profile
    name: str
    backend: str = "tensorrt"
    batch_max: int = 1
    instances: Optional[int] = None
    dla_cores: Tuple[int, ...] = ()
    parser: Optional[Tuple[str, str]] = None


def profile_of(bundle: Bundle, name: Optional[str]) -> Profile:
    """The board the export is for: the one named, else the bundle's own. Refuses what it cannot."""
    wanted = name or bundle.manifest.profile
    if wanted is None:
        refuse(bundle.manifest.name, "a bundle for any board", "one board",
               "name it with --profile")  # fmt: skip
    profile = load_profile(wanted)
    manifest = bundle.manifest
    for refusal in (profile.refuse(manifest.precision), profile.refuse_opset(manifest.opset)):
        if refusal is not None:
            refuse(manifest.name, f"{refusal.what}: {refusal.reason}",
                   f"a bundle that {profile.name} can run", refusal.instead)  # fmt: skip
    return profile


def require_tensors(bundle: Bundle) -> None:
    """Refuse a bundle whose model takes nothing or gives nothing: no server loads it."""
    for what, specs in (("inputs", bundle.manifest.inputs), ("outputs", bundle.manifest.outputs)):
        if not specs:
            refuse(bundle.manifest.name, f"no {what}", "one at least", "compress the model again")


def batch_of(bundle: Bundle, options: ExportOptions) -> int:
    """The most frames in one inference; refuses more than one where the model's batch is fixed."""
    costs = read_costs(bundle)
    wanted = options.batch_max
    if wanted > 1 and (costs is None or not costs.batch_open):
        why = "no costs.json says that it is open" if costs is None else "it is fixed in the file"
        refuse(bundle.manifest.name, f"a model of batch 1 ({why})",
               f"an open batch for --batch {wanted}",
               "leave --batch away, or compress a model whose batch is open")  # fmt: skip
    if wanted > 1 and options.dla_cores:
        refuse(bundle.manifest.name, f"--batch {wanted} on a DLA", "a fixed batch",
               "leave --batch away: a DLA takes no size that may change")  # fmt: skip
    return wanted


def labels_file(bundle: Bundle, separator: str = "\n") -> bytes:
    """The names of the classes in order, each ended or parted by `separator`."""
    for name in bundle.manifest.classes:
        if separator in name or not name.isprintable():
            refuse(f"{bundle.manifest.name}: class {name!r}", f"{separator!r} or an unprintable "
                   "character in it", "a name that fits a label file",
                   "rename the class and compress again")  # fmt: skip
    text = separator.join(bundle.manifest.classes)
    return (text if separator != "\n" or not text else text + "\n").encode()


def header(bundle: Bundle, profile: Profile, what: str) -> str:
    """The comment at the top of every file that is written: what, for what, from what."""
    name = "".join(letter if letter.isprintable() else "?" for letter in bundle.manifest.name)
    line = profile.jetpack
    return (
        f"# {what} of {name}, {bundle.manifest.precision}, for {profile.name}\n"
        f"# bundle sha256 {bundle.sha256}\n"
        f"# TensorRT {line.tensorrt} of JetPack {line.versions} is assumed; unproven until it ran "
        "on a board\n"
    )


def refuse(where: str, found: str, expected: str, cure: str) -> NoReturn:
    """Raise the ExportError of these four parts."""
    raise ExportError(where, found=found, expected=expected, cure=cure)
