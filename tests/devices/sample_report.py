"""SAMPLE data for tests of the report: made-up numbers of plausible size; nothing here was run."""

from devices.budget import Basis, Budget, Measurement, Refusal
from devices.profile import Profile, load_profile
from devices.report import Input, Origin, Report, Stage
from devices.roofline import LayerTime

HASHES = tuple(f"{index:x}{'5b0c9e' * 11}"[:64] for index in range(1, 9))
PARTS = ("expand/Conv", "expand/Relu6", "depthwise/Conv", "project/Conv")


def fact(
    name, value, spread=0.0, unit="MB", basis=Basis.PREDICTED, source="roofline"
) -> Measurement:
    return Measurement(name=name, value=value, low=value - spread, high=value + spread, unit=unit,
                       basis=basis, source=source)  # fmt: skip


def stage(name, words, numbers) -> Stage:
    ap50, ap, params, macs, ms, engine = numbers
    host = {"unit": "points", "basis": Basis.EMULATED, "source": "held-out frames, onnxruntime"}
    fps = Measurement(name="fps", value=1000 / ms, low=1000 / (ms * 1.2), high=1000 / (ms * 0.8),
                      unit="frames/s", basis=Basis.PREDICTED, source="roofline")  # fmt: skip
    facts = (
        fact("ap50", ap50, 2.4, **host),
        fact("ap", ap, 1.3, **host),
        fact("params", params, unit="parameters", source="counted in the ONNX graph"),
        fact("macs", macs, unit="MAC", source="counted in the ONNX graph"),
        fact("latency_ms", ms, 0.2 * ms, unit="ms", source="roofline, jetson-nano, MAXN, fp16"),
        fps,
        fact("engine_mb", engine, 1.0, source="weights in fp16 + plan, jetson-nano"),
        fact("memory_mb", 800 + 3 * engine, 120, source="process floor + weights + arena + frames"),
    )
    return Stage(name=name, words=words, facts=facts, layers=layers(ms))


def layers(total_ms: float) -> tuple:
    bounds = ("memory", "compute", "memory", "floor", "compute")
    raw = [
        (f"/backbone/block_{i // 4}/{PARTS[i % 4]} + Relu6", bounds[i % 5], 1 / (1 + 0.13 * i))
        for i in range(61)
    ]
    scale = total_ms / sum(weight for _, _, weight in raw)
    return tuple(
        LayerTime(kernel=name, op="conv", ms=weight * scale, bound=bound)
        for name, bound, weight in raw
    )


def stages() -> tuple:
    return (
        stage("baseline", "as published, FP32 weights", (61.3, 17.4, 3.05e6, 7.3e8, 13.1, 9.1)),
        stage("prune", "34 % of the channels cut", (48.6, 12.9, 1.32e6, 3.1e8, 6.04, 5.6)),
        stage("distil", "taught on the scene", (68.2, 21.2, 1.32e6, 3.1e8, 6.04, 5.6)),
        stage("fp16", "runs in FP16 by builder flag", (68.1, 21.2, 1.32e6, 3.1e8, 6.04, 5.6)),
    )  # fmt: skip


def sample_report(budget: Budget, profile: "Profile | None" = None, **changes) -> Report:
    profile = profile or load_profile("jetson-nano")
    done = stages()
    drop = fact("accuracy_drop_pt", -6.8, 1.9, unit="points", basis=Basis.EMULATED,
                source="held-out frames, onnxruntime")  # fmt: skip
    facts = {item.name: item for item in (*done[-1].facts, drop)}
    verdict = budget.judge(facts)
    fields = {
        "title": "SSDLite-MobileNetV2 person (sample)",
        "profile": profile.name,
        "board": profile.title,
        "board_mode": profile.mode(None).name,
        "verdict": verdict.outcome,
        "basis": verdict.basis,
        "checks": verdict.checks,
        "stages": done,
        "refusals": (
            *filter(None, (profile.refuse("int8"),)),
            Refusal(what="corrupt images", reason="file ends early", count=3, instead="skipped"),
            Refusal(what="channels kept", reason="coupled with an output of the head", count=24),
        ),
        "lineage": tuple(
            Origin(name=item.name, key=HASHES[4], input_sha256=HASHES[i],
                   output_sha256=HASHES[i + 1],
                   params={"seed": 0, "steps": 240, "frames": [0, 560]} if i else {})
            for i, item in enumerate(done)
        ),
        "inputs": (
            Input(role="model", name="ssdlite_mobilenet_v2_person", sha256=HASHES[5], note="MIT"),
            Input(role="data", name="vtest.avi", sha256=HASHES[6], note="795 frames, 768x576"),
            Input(role="labels", name="vtest-labels.json", sha256=HASHES[7], note="64 frames"),
        ),
        "notes": ("Latency is that of the engine alone, batch 1: no camera, no decode.",
                  "Fitted on published runs of other networks on this board: 13 % mean error."),
        "command": "compress --profile jetson-nano",
    }  # fmt: skip
    return Report(**{**fields, **changes})
