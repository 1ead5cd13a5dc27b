"""A `.pt2` file (torch.export.save) as a module that trains, evaluates and can be cut.

torch gives back a graph of operators without `.train()` and `.eval()`. Here every convolution,
linear layer and batch norm of it becomes a layer of torch.nn again, under the name it had, and
dropout goes back into its place; all other operators stay as they are.

Reading such a file runs what it holds, as importing a module does: take it from someone you trust.

Pt2Error (a JetpressError)   no such file, one that torch cannot read, or a net in training mode
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.channels.modules import place
from compress.channels.reading import stored_names
from compress.channels.trace import rebuilt
from devices.errors import JetpressError

if TYPE_CHECKING:
    import torch
    from torch import fx, nn
    from torch.export import ExportedProgram

    Tensors = dict[str, torch.Tensor]

__all__ = ["Pt2Error", "load_pt2"]


class Pt2Error(JetpressError):
    """A .pt2 file that holds no net which can be worked on."""


def load_pt2(path: Path) -> fx.GraphModule:
    """The net of the file, in eval mode; its state dict has the names of the module exported.

    `image_hw` of the net is the size of its first input, where that is a picture. The batch size is
    free where the file leaves it free (`torch.export.Dim`). Raises Pt2Error.
    """
    program = _read(path)
    _check_evaluating(program, path)
    net = rebuilt(program, _layers(program))
    net.graph.eliminate_dead_code()
    net.recompile()
    shape = _input_shape(program)
    if len(shape) == 4:
        setattr(net, "image_hw", (shape[2], shape[3]))  # noqa: B010 - no tensor and no layer
    return net


def _read(path: Path) -> ExportedProgram:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about itself
            return torch.export.load(path)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, AssertionError,
            zipfile.BadZipFile) as error:  # fmt: skip
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        raise Pt2Error(
            str(path),
            found=f"{type(error).__name__}: {first[:200]}",
            expected="a file that torch.export.save wrote",
            cure="export again: torch.export.save(torch.export.export(net.eval(), inputs), path)",
        ) from error


def _input_shape(program: ExportedProgram) -> tuple[int, ...]:
    """Of the first thing that is given and not stored; a free size counts as 0."""
    stored = stored_names(program)
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name not in stored:
            sizes = getattr(node.meta.get("val"), "shape", ())
            return tuple(size if isinstance(size, int) else 0 for size in sizes)
    return ()


def _check_evaluating(program: ExportedProgram, path: Path) -> None:
    """A graph that was traced while training would drop out and shift its norms for ever."""
    flags = {"batch_norm.default": 5, "dropout.default": 2, "dropout_.default": 2}
    for node in program.graph.nodes:
        at = flags.get(str(node.target).removeprefix("aten."))
        if at is not None and len(node.args) > at and node.args[at]:
            raise Pt2Error(
                f"{path}: {node.name}",
                found="a net exported in training mode",
                expected="one in evaluation mode",
                cure="call net.eval() before torch.export.export",
            )


def _layers(program: ExportedProgram) -> nn.Module:
    """A tree of layers for the operators that were the whole work of one."""
    from torch import nn

    root, paths = nn.Module(), stored_names(program)
    tensors: Tensors = {**program.state_dict, **program.constants}
    for path, tensor in tensors.items():
        place(root, path, tensor)
    for node in program.graph.nodes:
        make = _MAKERS.get(str(node.target))
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        where = stack[-1][0].partition("@")[0] if stack else ""
        if make is None or not where:
            continue
        read = [getattr(item, "name", None) for item in node.args]
        given = [tensors.get(paths.get(name or "", "")) for name in read]
        owned = [paths.get(name or "", "") for name in read[1:]]
        if all(path.rpartition(".")[0] == where for path in owned if path):
            place(root, where, make(list(node.args), given))
    return root.eval()


def _conv(dims: int, transposed: bool) -> Any:  # noqa: ANN401 - a maker of layers
    def make(args: list[Any], given: list[torch.Tensor | None]) -> nn.Module:
        from torch import nn

        weight = given[1]
        assert weight is not None
        more = args[3:] + [None] * (9 - len(args))
        if transposed:
            stride, padding, extra, groups, dilation = more[:5]
            ends = (weight.shape[0], weight.shape[1] * (groups or 1))
        else:
            stride, padding, dilation, groups = more[:4]
            ends, extra = (weight.shape[1] * (groups or 1), weight.shape[0]), None
        named = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
                 "output_padding": extra}  # fmt: skip
        kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{dims}d")
        settings = {key: _sizes(value) for key, value in named.items() if value is not None}
        layer = kind(*ends, tuple(weight.shape[2:]), bias=given[2:3] not in ([], [None]),
                     **settings)  # fmt: skip
        return _holding(layer, given[1:3], ("weight", "bias"))

    return make


def _sizes(value: object) -> Any:  # noqa: ANN401 - an int or a tuple of them
    return tuple(value) if isinstance(value, list | tuple) else value


def _linear(args: list[Any], given: list[torch.Tensor | None]) -> nn.Module:
    from torch import nn

    weight = given[1]
    assert weight is not None
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=given[2:3] not in ([], [None]))
    return _holding(layer, given[1:3], ("weight", "bias"))


def _norm(args: list[Any], given: list[torch.Tensor | None]) -> nn.Module:
    from torch import nn

    mean = given[3]
    assert mean is not None
    layer = nn.BatchNorm2d(len(mean), eps=args[7], momentum=args[6], affine=given[1] is not None)
    return _holding(layer, given[1:5], ("weight", "bias", "running_mean", "running_var"))


def _dropout(args: list[Any], given: list[torch.Tensor | None]) -> nn.Module:
    from torch import nn

    return nn.Dropout(args[1])


def _holding(
    layer: nn.Module, tensors: list[torch.Tensor | None], names: tuple[str, ...]
) -> nn.Module:
    for name, tensor in zip(names, tensors, strict=False):
        if tensor is not None:
            setattr(layer, name, tensor)
    return layer


_MAKERS = {
    **{f"aten.conv{n}d.default": _conv(n, transposed=False) for n in (1, 2, 3)},
    **{f"aten.conv_transpose{n}d.{kind}": _conv(n, transposed=True)
       for n, kind in ((1, "default"), (2, "input"), (3, "input"))},
    "aten.linear.default": _linear,
    "aten.batch_norm.default": _norm,
    "aten.dropout.default": _dropout,
}  # fmt: skip
