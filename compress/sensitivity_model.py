"""What MODEL names, as both halves of a sensitivity table take it: an ONNX graph and a torch net.

    an ONNX file        the graph as a run of `compress` imports it; the net is converted from it
    a .pt2 file,        the net itself; the graph is its export
    a factory

ImportModelError (a JetpressError)   no such model, or one that the board's parser cannot take
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from compress.import_model import (
    FACTORY,
    ImportModelError,
    ModelSource,
    import_model,
    source_from_text,
)
from compress.onnx_source import (
    check_for_board,
    check_runs,
    fixed_shapes,
    load_onnx,
    raised_for_int8,
    state_outputs,
    tensor_specs,
)
from compress.prune_sensitivity import Net
from compress.workshop import load_net
from devices.budget import Refusal
from devices.plainfile import kind_of
from devices.profile import Profile
from edge.bundle import Manifest, TensorSpec

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

__all__ = ["Model", "read_model", "what_stands"]

Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Model:
    """The graph; `module` and `manifest` of what was none. `notes` say what was changed."""

    graph: ModelProto
    module: nn.Module | None = None
    manifest: Manifest | None = None
    notes: tuple[Refusal, ...] = ()

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return tensor_specs(self.graph.graph.input, self.graph)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return tensor_specs(self.graph.graph.output, self.graph)

    def net(self, feed: Feed) -> Net:
        """The net, in eval mode, that takes the arrays of `feed` in the order of `inputs`.

        Raises UnsupportedError or UnprovenError for a file that cannot be converted.
        """
        if self.module is not None:
            return Net(module=self.module)
        from compress.from_onnx.convert import translated
        from compress.from_onnx.prove import prove

        made = translated(self.graph, feed)
        prove(self.graph, made.module, feed)
        nodes = self.graph.graph.node
        return Net(module=made.module, layers={
            item.parameter: nodes[item.node].name or nodes[item.node].output[0]
            for item in made.bindings
        })  # fmt: skip


def read_model(
    path: Path, profile: Profile, spec: Path | None, image_hw: tuple[int, int] | None
) -> Model:
    """Raises JetpressError on bad input."""
    text = str(path)
    factory = FACTORY.match(text) is not None
    stands = what_stands(path)
    if not factory and stands != "a file":
        raise ImportModelError(
            text,
            found=stands,
            expected="an ONNX or .pt2 file, or package.module:factory",
            cure="check the path",
        )
    if factory or path.suffix == ".pt2":
        return _exported(source_from_text(text, spec=spec, image_hw=image_hw), profile)
    graph = fixed_shapes(load_onnx(path), text, image_hw)
    check_for_board(graph, text, profile)
    graph, notes = raised_for_int8(graph, profile)
    state_outputs(graph, text)
    model = Model(graph=graph, notes=notes)
    check_runs(graph, text, model.inputs, model.outputs)
    return model


def what_stands(path: Path) -> str:
    """`a file`, `a folder` and so on; why it cannot be told, where it cannot."""
    try:
        return kind_of(path.stat().st_mode)
    except OSError as error:
        return error.strerror or str(error)


def _exported(source: ModelSource, profile: Profile) -> Model:
    """What a run of `compress` makes of a net: its export, and how its pixels enter."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = import_model(source, profile, Path(folder), _no_weights)
        graph, module = load_onnx(bundle.path("model.onnx")), load_net(bundle)
    manifest = bundle.manifest
    return Model(graph=graph, module=module, manifest=manifest, notes=manifest.refusals)


def _no_weights(asset: str) -> Path:
    raise AssertionError(f"{asset} is only asked for by the packaged model")
