"""Every detector's head goes to the other servers, or is told what it lacks there."""

from __future__ import annotations

import pytest

from edge.export.deepstream import CONFIG, plan_config
from edge.export.triton import plan_repository
from edge.heads import BOX_HEADS, DflHead, EndToEndHead, SsdHead, YunetHead
from tests.edge.export_cases import nvinfer_values, options, sealed

PARSER = ("/opt/libparse.so", "Parse")


def values_of(export, group="property"):
    return nvinfer_values(export.files[CONFIG].decode()).get(group, {})


@pytest.mark.parametrize("kind", BOX_HEADS)
def test_without_a_parser_nvinfer_attaches_raw_outputs_and_says_of_which_head(tmp_path, kind):
    bundle = sealed(tmp_path / "b", head=kind())
    export = plan_config(bundle, options(bundle))
    values = values_of(export)
    assert (values["network-type"], values["output-tensor-meta"]) == ("100", "1")
    tag = "SSD" if kind is SsdHead else kind.__struct_config__.tag
    (note,) = [note for note in export.notes if "no parser" in note]
    assert f"no parser for a {tag} head" in note.replace("an ", "a ")


@pytest.mark.parametrize("kind", BOX_HEADS)
def test_with_a_parser_the_limits_are_the_heads(tmp_path, kind):
    head = kind(score_min=0.125, top_k=7)
    bundle = sealed(tmp_path / "b", head=head)
    export = plan_config(bundle, options(bundle, parser=PARSER))
    values, limits = values_of(export), values_of(export, "class-attrs-all")
    assert (values["network-type"], values["parse-bbox-func-name"]) == ("0", "Parse")
    assert (limits["pre-cluster-threshold"], limits["topk"]) == ("0.125", "7")
    if kind is EndToEndHead:  # its boxes are suppressed already
        assert (values["cluster-mode"], "nms-iou-threshold" in limits) == ("4", False)
    else:
        assert values["cluster-mode"] == "2"
        assert float(limits["nms-iou-threshold"]) == head.iou_max
    assert any("Parse of /opt/libparse.so must decode" in note for note in export.notes)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (DflHead(), "a dfl head as the manifest describes it: scores still want their sigmoid"),
        (YunetHead(), "a yunet head as the manifest describes it: scores are probabilities"),
        (SsdHead(softmax=True), "the SSD head: softmax scores, anchors"),
        (SsdHead(), "the SSD head: sigmoid scores, anchors"),
    ],
)
def test_the_parsers_duty_is_said(tmp_path, head, words):
    bundle = sealed(tmp_path / "b", head=head)
    export = plan_config(bundle, options(bundle, parser=PARSER))
    assert any(words in note for note in export.notes)


@pytest.mark.parametrize("kind", BOX_HEADS)
def test_triton_serves_the_raw_outputs_of_any_head(tmp_path, kind):
    bundle = sealed(tmp_path / "b", head=kind())
    export = plan_repository(bundle, options(bundle))
    config = next(data for name, data in export.files.items() if name.endswith("config.pbtxt"))
    for spec in bundle.manifest.outputs:
        assert f'name: "{spec.name}"' in config.decode()
