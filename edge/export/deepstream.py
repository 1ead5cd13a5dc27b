"""A DeepStream folder of a bundle: nvinfer's configuration, labels, the model, the plan's script.

    DIR/config_infer_primary.txt   config-file-path of nvinfer
    DIR/labels.txt, model.onnx
    DIR/build.sh                   writes the plan on the board; INT8 needs it

nvinfer computes y = net-scale-factor * (x - offsets[c]): one scale for all channels, offsets in the
order of the model's channels; it fills a letterbox with black. What a bundle does otherwise cannot
be said in this file, and is refused: boxes would come out, slightly wrong, and nobody would know.
"""

from __future__ import annotations

from typing import Dict, Tuple

from calib.preprocess import Preprocess
from edge.bundle import Bundle
from edge.export import (
    Export,
    ExportOptions,
    batch_of,
    header,
    labels_file,
    refuse,
    require_tensors,
)
from edge.export.nvinfer import Value, section
from edge.export.plan import build_script, check_dla, plan_model
from edge.goldeninputs import is_picture_net
from edge.heads import BOX_HEADS, BoxHead, ClassifyHead, EndToEndHead, Head, SsdHead

__all__ = ["CONFIG", "plan_config", "preprocess_keys"]

CONFIG = "config_infer_primary.txt"
LABELS = "labels.txt"
NETWORK_MODE = {"fp32": 0, "int8": 1, "fp16": 2}
DETECTOR, CLASSIFIER, OTHER = 0, 1, 100  # network-type
NMS, NO_CLUSTERING = 2, 4  # cluster-mode
BILINEAR = 1  # scaling-filter
SCALE_SPREAD_MAX = 1e-6  # of the standard deviations: what float32 cannot tell apart


def plan_config(bundle: Bundle, options: ExportOptions) -> Export:
    """Everything the folder holds. Refuses pixels, inputs and cores that nvinfer cannot express."""
    if len(options.dla_cores) > 1:
        refuse("--dla", f"{len(options.dla_cores)} cores", "one: nvinfer runs on one",
               "export once for each core")  # fmt: skip
    check_dla(bundle, options)
    require_tensors(bundle)
    batch = batch_of(bundle, options)
    _check_input(bundle)
    plan = f"model.onnx_b{batch}_{_device(options)}_{bundle.manifest.precision}.engine"
    values = _network_keys(bundle, options, batch, plan)
    values.update(preprocess_keys(bundle.manifest.pixels, bundle.manifest.name))
    outputs, classes, notes = _head_keys(bundle, options)
    values.update(outputs)
    text = header(bundle, options.profile, "nvinfer configuration")
    text += "".join(f"# {note}\n" for note in (*notes, *_pixel_notes(bundle)))
    text += "\n" + section("property", values)
    if classes:
        text += "\n" + section("class-attrs-all", classes)
    files = {
        CONFIG: text.encode(),
        "model.onnx": plan_model(bundle, options)[1],
        "build.sh": build_script(bundle, options, plan, batch),
    }
    if bundle.manifest.classes:
        classifier = isinstance(bundle.manifest.head, ClassifyHead)
        files[LABELS] = labels_file(bundle, ";" if classifier else "\n")
    return Export(
        files=files,
        scripts=("build.sh",),
        notes=(*_plan_notes(bundle), *notes, *_pixel_notes(bundle)),
    )


def preprocess_keys(preprocess: Preprocess, where: str) -> Dict[str, Value]:
    """The keys that give nvinfer the bundle's own pixels; refuses what they cannot say."""
    low, high = min(preprocess.std), max(preprocess.std)
    if high - low > SCALE_SPREAD_MAX * high:
        refuse(where, "std " + ", ".join(f"{value:g}" for value in preprocess.std),
               "one std for all channels: nvinfer has one net-scale-factor, and with it channels "
               f"would be up to {high / low:.2f} times what the model was trained on",
               "compress with one std for all channels, or use --triton")  # fmt: skip
    letterbox = preprocess.resize == "letterbox"
    if letterbox and preprocess.pad_value != 0:
        refuse(where, f"a letterbox filled with grey {preprocess.pad_value}",
               "black (pad_value 0): nvinfer fills with it alone, and the net would see bars it "
               "was not trained on",
               "compress with pad_value 0 or with resize stretch, or use --triton")  # fmt: skip
    keys: Dict[str, Value] = {
        "net-scale-factor": 1.0 / preprocess.std[0],
        "offsets": tuple(float(mean) for mean in preprocess.mean),
        "model-color-format": 0 if preprocess.colour == "rgb" else 1,
        "maintain-aspect-ratio": letterbox,
        "symmetric-padding": letterbox,
        "scaling-filter": BILINEAR,
    }
    return keys


def _network_keys(
    bundle: Bundle, options: ExportOptions, batch: int, plan: str
) -> Dict[str, Value]:
    manifest = bundle.manifest
    values: Dict[str, Value] = {"gie-unique-id": 1, "process-mode": 1, "gpu-id": 0}
    if manifest.precision != "int8":  # see _plan_notes
        values["onnx-file"] = "model.onnx"
    values["model-engine-file"] = plan
    if manifest.classes:
        values["labelfile-path"] = LABELS
    values["batch-size"] = batch
    values["network-mode"] = NETWORK_MODE[manifest.precision]
    values["infer-dims"] = tuple(manifest.inputs[0].shape[1:])
    values["output-blob-names"] = tuple(spec.name for spec in manifest.outputs)
    if options.dla_cores:
        values.update({"enable-dla": True, "use-dla-core": options.dla_cores[0]})
    return values


def _head_keys(
    bundle: Bundle, options: ExportOptions
) -> Tuple[Dict[str, Value], Dict[str, Value], Tuple[str, ...]]:
    """Keys of the outputs, keys of every class, and what to tell about them."""
    head, count = bundle.manifest.head, len(bundle.manifest.classes)
    if isinstance(head, ClassifyHead):
        return _classifier_keys(head, options)
    if not isinstance(head, BOX_HEADS) or options.parser is None:
        note = (f"network-type 100: nvinfer has no parser for {_head_name(head)}, so it "
                "attaches the raw outputs (output-tensor-meta) and draws no boxes")  # fmt: skip
        cure = "to have it draw them, write a parser library and export with --parser LIB:FUNCTION"
        return {"network-type": OTHER, "output-tensor-meta": True}, {}, (note, cure)
    return _detector_keys(head, count, options.parser)


def _detector_keys(
    head: BoxHead, classes: int, parser: Tuple[str, str]
) -> Tuple[Dict[str, Value], Dict[str, Value], Tuple[str, ...]]:
    library, function = parser
    alone = isinstance(head, EndToEndHead)  # its boxes stand for nobody else: nothing to cluster
    keys: Dict[str, Value] = {
        "network-type": DETECTOR, "num-detected-classes": classes,
        "cluster-mode": NO_CLUSTERING if alone else NMS,
        "custom-lib-path": library, "parse-bbox-func-name": function,
    }  # fmt: skip
    limits: Dict[str, Value] = {"pre-cluster-threshold": head.score_min}
    if not isinstance(head, EndToEndHead):
        limits["nms-iou-threshold"] = head.iou_max
    limits["topk"] = head.top_k
    note = f"{function} of {library} must decode {_duty(head)}"
    return keys, limits, (note,)


def _duty(head: BoxHead) -> str:
    """What the parser library has to do, in words."""
    if not isinstance(head, SsdHead):
        scores = "scores still want their sigmoid" if head.logits else "scores are probabilities"
        return f"{_head_name(head)} as the manifest describes it: {scores}; labels from class 0"
    first = "class 1 of the logits, class 0 is background" if head.background else "class 0"
    scores = "softmax" if head.softmax else "sigmoid"
    return (f"the SSD head: {scores} scores, anchors and "
            f"variances of the manifest; the first label is {first}")  # fmt: skip


def _classifier_keys(
    head: ClassifyHead, options: ExportOptions
) -> Tuple[Dict[str, Value], Dict[str, Value], Tuple[str, ...]]:
    if options.parser is not None:
        library, function = options.parser
        return (
            {"network-type": CLASSIFIER, "custom-lib-path": library, "classifier-threshold": 0.0,
             "parse-classifier-func-name": function},
            {}, (f"{function} of {library} must decode the scores",),
        )  # fmt: skip
    if head.softmax:
        note = ("network-type 100: the model gives logits and nvinfer's own classifier takes them "
                "for probabilities, so raw outputs are attached (output-tensor-meta)")  # fmt: skip
        cure = "take the softmax yourself, or write a parser and export with --parser LIB:FUNCTION"
        return {"network-type": OTHER, "output-tensor-meta": True}, {}, (note, cure)
    return {"network-type": CLASSIFIER, "classifier-threshold": 0.0}, {}, ()


def _check_input(bundle: Bundle) -> None:
    manifest = bundle.manifest
    shapes = [(spec.shape, spec.dtype) for spec in manifest.inputs]
    if not is_picture_net(manifest):
        found = ", ".join(f"{dtype} {' x '.join(map(str, shape))}" for shape, dtype in shapes)
        wanted = "1 x 3 x height x width"
        if manifest.preprocess is not None:
            wanted = " x ".join(map(str, manifest.preprocess.shape))
        refuse(manifest.name, f"inputs {found}", f"one image, float32 {wanted}",
               "use --triton, which takes any inputs")  # fmt: skip


def _device(options: ExportOptions) -> str:
    """As nvinfer names the plans it writes itself, so that it finds this one again."""
    return f"dla{options.dla_cores[0]}" if options.dla_cores else "gpu0"


def _head_name(head: Head) -> str:
    """As its tag in the manifest: an SSD head, a yolov8 head."""
    if isinstance(head, SsdHead):
        return "an SSD head"
    tag = str(type(head).__struct_config__.tag)
    return f"an {tag} head" if tag[0] in "aeiou" else f"a {tag} head"


def _plan_notes(bundle: Bundle) -> Tuple[str, ...]:
    if bundle.manifest.precision == "int8":
        return ("run build.sh on the board first: without a calibration file nvinfer turns INT8 "
                "off and tries FP16, so it is given no onnx-file to build from",)  # fmt: skip
    return ("run build.sh on the board first, or nvinfer builds at its first start, minutes "
            "without a picture",)  # fmt: skip


def _pixel_notes(bundle: Bundle) -> Tuple[str, ...]:
    scaler = ("nvinfer resizes with the board's own scaler: how near its pixels are to those of "
              "calib.preprocess is unproven until it ran on a board")  # fmt: skip
    if bundle.manifest.pixels.resize != "letterbox":
        return (scaler,)
    return scaler, ("the letterbox may differ by one pixel: nvinfer cuts the resized side down, "
                    "calib.preprocess rounds it")  # fmt: skip
