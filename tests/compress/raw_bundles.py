"""Sealed FP32 bundles of small nets, as an import leaves them: what a pass starts from."""

from __future__ import annotations

import msgspec
import onnx

from calib.preprocess import Preprocess
from compress.workshop import Origin, start_workshop
from edge.bundle import Step, TensorSpec, seal
from edge.cost import costs_from_onnx
from edge.heads import RawHead, SsdHead
from edge.models import MODEL
from tests.compress.tiny_nets import SIZE, tiny_net
from tests.edge.make_bundle import tiny_manifest


def imported(folder, model, **fields):
    """A sealed FP32 bundle of an ONNX model with one picture input."""
    folder.mkdir()
    onnx.save(model, folder / MODEL)
    costs = costs_from_onnx(folder / MODEL)
    (folder / "costs.json").write_bytes(msgspec.json.encode(costs))
    manifest = msgspec.structs.replace(
        tiny_manifest(), precision="fp32", profile=None, head=RawHead(), task="raw", classes=(),
        opset=model.opset_import[0].version, lineage=(Step(name="import", key="k"),), **fields,
    )  # fmt: skip
    return seal(folder, manifest)


def specs(values):
    return tuple(
        TensorSpec(
            name=value.name,
            shape=tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim),
            dtype=onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
        )
        for value in values
    )


def raw(folder, model, **fields):
    (value,) = model.graph.input
    *_, height, width = (dim.dim_value for dim in value.type.tensor_type.shape.dim)
    fields.setdefault(
        "preprocess",
        Preprocess(height=height, width=width, mean=(127.5,) * 3, std=(127.5,) * 3),
    )
    return imported(
        folder, model, inputs=specs(model.graph.input), outputs=specs(model.graph.output), **fields
    )


def packaged(net):
    """Where a net of the packaged family says it came from."""
    return Origin(kind="packaged", arch=msgspec.json.decode(net.arch.to_json()))


def ssd(folder):
    """The packaged family, a quarter as wide."""
    net = tiny_net()
    anchors = net.arch.anchors
    manifest = msgspec.structs.replace(
        tiny_manifest(), precision="fp32", profile=None, opset=17, head=SsdHead(),
        preprocess=Preprocess(height=SIZE, width=SIZE, mean=(127.5,) * 3, std=(127.5,) * 3),
        inputs=(TensorSpec(name="images", shape=(1, 3, SIZE, SIZE)),),
        outputs=(TensorSpec(name="logits", shape=(1, anchors, 2)),
                 TensorSpec(name="boxes", shape=(1, anchors, 4))),
    )  # fmt: skip
    folder.mkdir()
    start_workshop(folder, packaged(net), net, manifest)
    costs = costs_from_onnx(folder / MODEL)
    (folder / "costs.json").write_bytes(msgspec.json.encode(costs))
    return seal(folder, manifest)
