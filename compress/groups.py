"""Channels that must be cut together in the SSD-MobileNetV2 family: the coupling, named, printable.

Cutting channel c of a group means dropping index c from every tensor the group lists. Four kinds:

    stem, blocks.N.expand, last,       one width inside the net; a depthwise convolution keeps its
    extras.N.squeeze, extras.N.out     input's channels, so it is cut with them
    stage.K                            the output of block K and of the residual blocks after it:
                                       they are added together, so they lose the same channels

A head reads a tap, so its depthwise convolutions and its last convolutions follow the tap's group.
What the heads write (scores and boxes of the anchors) is the net's contract and is in no group.

A cut channel is worth nothing to the rest of the net exactly when its activations are all zero.
After a norm that means gamma = beta = 0 there (`zeroed`): gamma alone would leave beta, and a
depthwise convolution of zeros still leaves its own norm's beta - gamma * mean / sigma. Then ReLU6
and convolutions (no bias) keep it zero, and dropping it changes no output (`sliced`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.zoo.arch import TAP, Arch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Weights = Mapping[str, NDArray[np.float32]]

__all__ = ["Group", "groups_of", "resized", "sliced", "zeroed"]

_NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One width of the net: who makes these channels, who passes them on, who reads them.

    Names are module paths. `makers` end in `conv` and `norm`; so do `passers`, which are depthwise.
    `readers` are convolutions (`X.conv` or a head's `predict`) that take the channels in.
    `gates` are the modules whose outputs together carry everything the channels say.

    >>> from compress.zoo.arch import student_arch
    >>> print(groups_of(student_arch())[1])
    stage.0: 16 channels, made by blocks.0.project; read by blocks.1.expand.conv
    """

    name: str
    width: int
    makers: tuple[str, ...]
    passers: tuple[str, ...]
    readers: tuple[str, ...]

    @property
    def gates(self) -> tuple[str, ...]:
        """Modules to watch: the depthwise ones that pass the channels on, else their makers."""
        return self.passers if self.passers and not self._read_directly else self.makers

    @property
    def _read_directly(self) -> bool:
        return any(reader.endswith(("last.conv", ".squeeze.conv")) for reader in self.readers)

    def tensors(self) -> tuple[tuple[str, int], ...]:
        """(name in the state dict, axis) of everything that loses an index with a channel."""
        found = [(f"{reader}.weight", 1) for reader in self.readers]
        for module in (*self.makers, *self.passers):
            found.append((f"{module}.conv.weight", 0))
            found += [(f"{module}.norm.{field}", 0) for field in _NORM]
        return tuple(found)

    def norms(self) -> tuple[str, ...]:
        """Gamma and beta of every norm in the group."""
        modules = (*self.makers, *self.passers)
        return tuple(f"{module}.norm.{field}" for module in modules for field in _NORM[:2])

    def __str__(self) -> str:
        via = f"; passed by {', '.join(self.passers)}" if self.passers else ""
        made, read = ", ".join(self.makers), ", ".join(self.readers)
        return f"{self.name}: {self.width} channels, made by {made}{via}; read by {read}"


def groups_of(arch: Arch) -> tuple[Group, ...]:
    """Every group of a net, in the order data flows; each width of `arch` is in exactly one."""
    return (_stem(arch), *_stages_and_expansions(arch), *_tail(arch))


def _stem(arch: Arch) -> Group:
    first = "blocks.0.expand" if arch.blocks[0].expand else "blocks.0"
    passers = () if arch.blocks[0].expand else ("blocks.0.depthwise",)
    readers = (f"{first}.conv",) if arch.blocks[0].expand else ("blocks.0.project.conv",)
    return Group(name="stem", width=arch.stem, makers=("stem",), passers=passers, readers=readers)


def _stages_and_expansions(arch: Arch) -> list[Group]:
    found: list[Group] = []
    for index, block in enumerate(arch.blocks):
        if block.expand:
            found.append(_expansion(arch, index))
        if not block.residual:
            found.append(_stage(arch, index))
    return found


def _expansion(arch: Arch, index: int) -> Group:
    name = f"blocks.{index}"
    passers: tuple[str, ...] = (f"{name}.depthwise",)
    readers: tuple[str, ...] = (f"{name}.project.conv",)
    if index == TAP:
        heads = _head(arch, 0)
        passers, readers = passers + heads[0], readers + heads[1]
    return Group(name=f"{name}.expand", width=arch.blocks[index].expand,
                 makers=(f"{name}.expand",), passers=passers, readers=readers)  # fmt: skip


def _stage(arch: Arch, first: int) -> Group:
    """Block `first`, the residual blocks that add to its output, and the layer after them."""
    end = first + 1
    while end < len(arch.blocks) and arch.blocks[end].residual:
        end += 1
    members = range(first, end)
    passers: tuple[str, ...] = ()
    readers = [f"blocks.{index}.expand.conv" for index in members[1:]]
    if end == len(arch.blocks):
        readers.append("last.conv")
    elif arch.blocks[end].expand:
        readers.append(f"blocks.{end}.expand.conv")
    else:
        passers, readers = (f"blocks.{end}.depthwise",), [*readers, f"blocks.{end}.project.conv"]
    makers = tuple(f"blocks.{index}.project" for index in members)
    return Group(name=f"stage.{first}", width=arch.blocks[first].out, makers=makers,
                 passers=passers, readers=tuple(readers))  # fmt: skip


def _tail(arch: Arch) -> list[Group]:
    passers, predicts = _head(arch, 1)
    found = [Group(name="last", width=arch.last, makers=("last",), passers=passers,
                   readers=("extras.0.squeeze.conv", *predicts))]  # fmt: skip
    for index, extra in enumerate(arch.extras):
        name = f"extras.{index}"
        found.append(Group(name=f"{name}.squeeze", width=extra.squeeze,
                           makers=(f"{name}.squeeze",), passers=(f"{name}.depthwise",),
                           readers=(f"{name}.project.conv",)))  # fmt: skip
        passers, predicts = _head(arch, index + 2)
        following = index + 1 < len(arch.extras)
        after = (f"extras.{index + 1}.squeeze.conv",) if following else ()
        found.append(Group(name=f"{name}.out", width=extra.out, makers=(f"{name}.project",),
                           passers=passers, readers=(*after, *predicts)))  # fmt: skip
    return found


def _head(arch: Arch, level: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(depthwise modules, last convolutions) of both heads on one feature map."""
    heads = (f"heads.{level}.boxes", f"heads.{level}.logits")
    passers = tuple(f"{head}.depthwise" for head in heads) if arch.lite else ()
    return passers, tuple(f"{head}.predict" for head in heads)


def resized(arch: Arch, widths: Mapping[str, int]) -> Arch:
    """The same net with the widths of the named groups replaced.

    >>> from compress.zoo.arch import student_arch
    >>> resized(student_arch(), {"stage.1": 20}).blocks[2].out
    20
    """
    blocks, stage = [], 0
    for index, block in enumerate(arch.blocks):
        stage = stage if block.residual else index
        blocks.append(dataclasses.replace(
            block,
            expand=widths.get(f"blocks.{index}.expand", block.expand),
            out=widths.get(f"stage.{stage}", block.out),
        ))  # fmt: skip
    extras = tuple(
        dataclasses.replace(extra, squeeze=widths.get(f"extras.{index}.squeeze", extra.squeeze),
                            out=widths.get(f"extras.{index}.out", extra.out))
        for index, extra in enumerate(arch.extras)
    )  # fmt: skip
    return dataclasses.replace(
        arch, stem=widths.get("stem", arch.stem), last=widths.get("last", arch.last),
        blocks=tuple(blocks), extras=extras,
    )  # fmt: skip


def sliced(weights: Weights, group: Group, kept: Iterable[int]) -> dict[str, NDArray[np.float32]]:
    """The tensors of one group with only the `kept` channels, by name; others are not in it."""
    import numpy as np

    index = np.asarray(list(kept), np.int64)
    return {
        name: np.ascontiguousarray(np.take(weights[name], index, axis=_axis(weights, name, axis)))
        for name, axis in group.tensors()
    }


def zeroed(weights: Weights, group: Group, cut: Iterable[int]) -> dict[str, NDArray[np.float32]]:
    """Gammas and betas of one group with the `cut` channels silenced, by name."""
    import numpy as np

    index = np.asarray(list(cut), np.int64)
    found = {}
    for name in group.norms():
        found[name] = np.array(weights[name])
        found[name][index] = 0
    return found


def _axis(weights: Weights, name: str, axis: int) -> int:
    if name not in weights:
        raise KeyError(f"{name}: not among the {len(weights)} tensors of the net")
    return axis
