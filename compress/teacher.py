"""Whom a student learns from: the packaged COCO detector, or a net the user names.

TeacherError (a JetpressError)   a teacher that cannot teach this student
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compress.distill import check_outputs, named_outputs
from compress.export import load_factory, users_code
from compress.tiles import Labeller
from compress.workshop import has_workshop, is_packaged, load_net
from devices.errors import JetpressError
from edge.bundle import Bundle
from edge.heads import SsdHead

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Itself", "SceneTeacher", "Teacher", "TeacherError", "TwinTeacher", "open_teacher"]


class TeacherError(JetpressError):
    """A teacher that cannot teach this student."""


@dataclass(frozen=True, kw_only=True)
class SceneTeacher:
    """Nets that label a scene on tiles; they need not have the student's outputs."""

    identity: str
    labellers: tuple[Labeller, ...]


@dataclass(frozen=True, kw_only=True)
class TwinTeacher:
    """A net whose outputs line up with the student's, name by name and shape by shape."""

    identity: str
    net: nn.Module


@dataclass(frozen=True, kw_only=True)
class Itself:
    """The student as it came: what a cut net learns from when nobody else was named."""

    bundle: Bundle

    @property
    def identity(self) -> str:
        """The bundle's hash; the net is opened when it teaches."""
        return f"itself {self.bundle.sha256}"

    @functools.cached_property
    def net(self) -> nn.Module:
        """The whole net."""
        return load_net(self.bundle)


Teacher = SceneTeacher | TwinTeacher | Itself


def open_teacher(
    text: str | None, student: Bundle, weights: Callable[[str], Path]
) -> Teacher | None:
    """The teacher that was asked for; without a word, the packaged one for the packaged student.

    Any other student that can be trained is its own, which counts only once it was cut.

    `weights(asset)` gives the path of a packaged file. Raises TeacherError when its outputs do not
    line up with the student's.
    """
    if text == "none":
        return None
    if text is None:
        if not is_packaged(student):
            return Itself(bundle=student) if has_workshop(student) else None
        return _packaged(student, weights("teacher"))
    net = load_factory(text)
    _check_lined_up(text, net, student)
    return TwinTeacher(identity=f"{text} {_state_sha256(net)}", net=net)


def _packaged(student: Bundle, path: Path) -> SceneTeacher:
    from compress.zoo.ssd_mobilenet import build_teacher

    manifest = student.manifest
    assert isinstance(manifest.head, SsdHead)  # every net of the family has one
    labeller = Labeller(net=build_teacher(path), preprocess=manifest.pixels, head=manifest.head)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return SceneTeacher(identity=f"packaged {digest}", labellers=(labeller,))


def _check_lined_up(text: str, net: nn.Module, student: Bundle) -> None:
    import torch

    manifest = student.manifest
    names = tuple(spec.name for spec in manifest.outputs)
    images = torch.zeros(*manifest.inputs[0].shape)
    call = users_code(
        text,
        doing=f"running it on an input of {list(images.shape)}",
        expected="a teacher that takes the student's input",
        cure="choose one of the same input size, or --teacher none",
        kind=TeacherError,
    )
    with call, torch.no_grad():
        given = named_outputs(net(images), names, text)
        shapes = {name: tuple(value.shape) for name, value in given.items()}
    check_outputs(
        {spec.name: tuple(spec.shape) for spec in manifest.outputs},
        shapes,
    )
    senseless = [name for name, value in given.items() if not bool(torch.isfinite(value).all())]
    if senseless:
        raise TeacherError(
            text,
            found=f"values that are not finite in {', '.join(senseless)}, for an input of zeros",
            expected="a teacher whose outputs can be learnt",
            cure="check its weights, or --teacher none",
        )


def _state_sha256(net: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
