"""A PyTorch module, or a `package.module:factory` that makes one, to ONNX at a given opset.

The export is static (batch as in the example), names its tensors, and gives the same bytes for the
same weights: no path, no stack, no producer version stays in the file. Batch norms are folded by
the exporter; zero padding before a convolution becomes the convolution's own `pads`, because

    conv(pad(x, p), pads=q) == conv(x, pads=p + q)      for zero padding of H and W

    ExportError   a JetpressError: no such factory, one that fails, or a module ONNX cannot express
"""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compress.onnx_clean import fold_constants, fold_pads, name_weights, state_shapes
from compress.zoo.arch import Arch
from devices.errors import JetpressError, nearest

if TYPE_CHECKING:
    import onnx
    import torch
    from torch import fx, nn

__all__ = ["ExportError", "Names", "export_detector", "export_onnx", "load_factory", "users_code"]


_KNOWN_NOISE = (
    # The TorchScript exporter is the only one that gives a true opset 13 (JetPack 4).
    ".*legacy TorchScript-based ONNX export",
    "The feature will be removed. Please remove usage of this function",
    # It cannot fold the slice that reverses a pad's amounts; `compress.onnx_clean` folds it.
    "Constant folding - Only steps=1 can be constant folded",
    # Of layers that have no other mode; what is exported is in eval mode.
    "ONNX export mode is set to TrainingMode.EVAL, but operator 'instance_norm'",
)


class ExportError(JetpressError):
    """A module cannot be found, or cannot become ONNX."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """What the tensors of the ONNX graph are called, in the order of the module's own."""

    inputs: tuple[str, ...] = ("images",)
    outputs: tuple[str, ...] = ("logits", "boxes")


def export_detector(module: nn.Module, path: Path, *, opset: int) -> None:
    """Write one of the zoo's nets: `images` (1, 3, S, S) -> `logits`, `boxes`."""
    import torch

    arch = module.arch
    if not isinstance(arch, Arch):
        raise TypeError(f"{type(module).__name__} was not built by compress.zoo")
    image = torch.zeros(1, 3, arch.size, arch.size)
    export_onnx(module, (image,), path, names=Names(), opset=opset)


def export_onnx(
    module: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    path: Path,
    *,
    names: Names,
    opset: int,
) -> None:
    """Write `module` in eval mode as ONNX at exactly `opset`; the module is left as it was.

    A graph module (a cut net) gets node names from the layers' paths, as other modules do.
    Raises `ExportError` when the exporter cannot express the module at that opset.
    """
    import onnx
    from torch import fx

    if isinstance(module, fx.GraphModule):
        model = _graph_module(module, example_inputs, names, opset)
    else:
        model = onnx.load_from_string(_traced(module, example_inputs, names, opset))
    fold_constants(model)
    fold_pads(model.graph)
    name_weights(model.graph)
    _strip(model)
    try:
        state_shapes(model)
        onnx.checker.check_model(model, full_check=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise ExportError(
            type(module).__name__,
            found=f"an export whose shapes contradict each other: {_first_line(error)}",
            expected="a graph that ONNX's own checker takes",
            cure="keep data-dependent shapes and branches out of forward()",
        ) from error
    path.write_bytes(model.SerializeToString(deterministic=True))


def _graph_module(
    module: fx.GraphModule, example_inputs: tuple[torch.Tensor, ...], names: Names, opset: int
) -> onnx.ModelProto:
    """The export of a graph: operation by operation, so that each node says whose it is."""
    import onnx

    from compress.channels.scoped import operation_of, readable_names, scoped

    model = onnx.load_from_string(_traced(scoped(module), example_inputs, names, opset))
    readable = readable_names(module)
    for node in model.graph.node:
        path = readable.get(operation_of(node.name))
        if path is not None:
            node.name = f"/{path}/{node.name.rpartition('/')[2]}"
    return model


@contextmanager
def users_code(
    where: str, *, doing: str, expected: str, cure: str, kind: type[JetpressError] = ExportError
) -> Iterator[None]:
    """Around a call of code the user wrote: whatever it raises becomes one error in four parts.

    `kind` of error, with `doing` saying what the code was asked for.
    """
    try:
        yield
    except JetpressError:
        raise
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        found = f"{type(error).__name__}: {_first_line(error)}".removesuffix(": ")
        raise kind(where, found=f"{found} ({doing})", expected=expected, cure=cure) from error


def _first_line(error: BaseException) -> str:
    return next((line.strip()[:200] for line in str(error).splitlines() if line.strip()), "")


def load_factory(reference: str) -> nn.Module:
    """Call the factory that `package.module:factory` names; what it returns must be a module.

    torch is seeded with 0 for the call, so weights that nobody trained are the same each time; the
    caller's random state is left alone. Raises `ExportError` when a part is missing, the user's
    code fails, or the result is not a `torch.nn.Module`.
    """
    import torch
    from torch import nn

    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise ExportError(
            reference,
            found="no 'module:factory' pair",
            expected="package.module:factory, or the path of an ONNX file",
            cure="check the spelling; a file must exist and end in .onnx",
        )
    factory = _attribute(reference, module_name, attribute)
    if not callable(factory):
        raise ExportError(
            reference,
            found=f"a {type(factory).__name__}",
            expected="a function without arguments",
            cure="name a function that returns the model",
        )
    call = users_code(
        reference,
        doing="calling the factory without arguments",
        expected="a function that returns the model",
        cure="correct it, and give each of its arguments a default",
    )
    with torch.random.fork_rng(devices=[]), call:
        torch.manual_seed(0)
        module = factory()
    if not isinstance(module, nn.Module):
        raise ExportError(
            reference,
            found=f"a {type(module).__name__} returned",
            expected="a torch.nn.Module",
            cure="return the model itself from the factory",
        )
    return module.eval()


def _attribute(reference: str, module_name: str, attribute: str) -> object:
    with users_code(
        reference,
        doing=f"importing {module_name}",
        expected="a module Python can import",
        cure="correct it; what only a script does belongs under `if __name__ == '__main__':`",
    ):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise ExportError(
                reference,
                found=f"no module {error.name!r}",
                expected="a module Python can import",
                cure="install it, or put its folder on PYTHONPATH",
            ) from error
    if not hasattr(module, attribute):
        public = tuple(name for name in vars(module) if not name.startswith("_"))
        raise ExportError(
            reference,
            found=f"no {attribute!r} in {module_name}",
            expected="a function of that name",
            cure=nearest(attribute, public),
        )
    return getattr(module, attribute)


def _traced(
    module: nn.Module, example_inputs: tuple[torch.Tensor, ...], names: Names, opset: int
) -> bytes:
    import torch

    buffer = io.BytesIO()
    training = module.training
    call = users_code(
        type(module).__name__,
        doing="tracing it for ONNX",
        expected="a forward() that torch.onnx can follow",
        cure="give and take plain tensors in forward()",
    )
    try:
        with call, warnings.catch_warnings(), torch.no_grad():
            for message in _KNOWN_NOISE:
                warnings.filterwarnings("ignore", message=message)
            _write(module.eval(), example_inputs, buffer, names, opset)
    finally:
        module.train(training)
    return buffer.getvalue()


def _write(
    module: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    buffer: io.BytesIO,
    names: Names,
    opset: int,
) -> None:
    import torch

    try:
        torch.onnx.export(
            module, example_inputs,
            buffer,  # type: ignore[arg-type]  # the stub forgets that buffers are taken
            dynamo=False, opset_version=opset,
            input_names=list(names.inputs), output_names=list(names.outputs),
        )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(
            type(module).__name__,
            found=_first_line(error),
            expected=f"operations ONNX has at opset {opset}",
            cure="replace the operation, or choose a profile with a newer opset",
        ) from error


def _strip(model: onnx.ModelProto) -> None:
    """Forget who exported this, when and from where."""
    model.producer_name, model.producer_version, model.doc_string = "jetpress", "", ""
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
