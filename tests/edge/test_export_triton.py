"""A Triton repository says what the manifest says, in the format Triton's own classes read."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import random
import shlex
import stat
import subprocess
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from devices.jetpack import jetpack_line
from devices.profile import Profile
from edge.bundle import BundleError, TensorSpec
from edge.commands.export import export
from edge.export import ExportError
from edge.export.deepstream import plan_config
from edge.export.folder import write_export
from edge.export.prototext import Symbol, quoted, text_from_message
from edge.export.triton import plan_repository
from tests.edge.export_cases import classifier, options, sealed


@pytest.fixture(scope="session")
def pb():
    """Triton's compiled ModelConfig, read by path: its package would import grpc."""
    pytest.importorskip("google.protobuf", reason="no protobuf on this interpreter")
    spec = importlib.util.find_spec("tritonclient")
    if spec is None:
        pytest.skip("no tritonclient on this interpreter: pip install 'jetpress[dev]'")
    path = Path(spec.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    found = importlib.util.spec_from_file_location("model_config_pb2", path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture
def parsed(pb):
    from google.protobuf import text_format

    def parse(planned, name="tiny"):
        text = planned.files[f"{name}/config.pbtxt"].decode()
        return text_format.Parse(text, pb.ModelConfig())

    return parse


def test_a_fixed_batch_is_no_batch_and_every_tensor_is_the_manifests(tmp_path, pb, parsed):
    bundle = sealed(tmp_path / "b")
    config = parsed(plan_repository(bundle, options(bundle)))
    assert (config.name, config.backend, config.platform) == ("tiny", "tensorrt", "tensorrt_plan")
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    for tensors, specs in (
        (config.input, bundle.manifest.inputs),
        (config.output, bundle.manifest.outputs),
    ):
        assert [(t.name, tuple(t.dims), t.data_type) for t in tensors] == [
            (spec.name, spec.shape, pb.TYPE_FP32) for spec in specs
        ]
    assert config.optimization.cuda.graphs
    warmup = config.model_warmup[0]
    assert (warmup.batch_size, tuple(warmup.inputs["images"].dims)) == (1, (1, 3, 48, 64))
    assert warmup.inputs["images"].zero_data


def test_an_open_batch_is_gathered_and_sizes_are_those_of_one_frame(tmp_path, parsed):
    bundle = sealed(tmp_path / "b", batch_open=True)
    planned = plan_repository(bundle, options(bundle, batch_max=4))
    config = parsed(planned)
    assert config.max_batch_size == 4
    assert [tuple(t.dims) for t in (*config.input, *config.output)] == [
        (3, 48, 64), (24, 3), (24, 4),
    ]  # fmt: skip
    assert list(config.dynamic_batching.preferred_batch_size) == [4]
    # the Nano's limit is 15 frames/s: a tenth of 66.7 ms
    assert config.dynamic_batching.max_queue_delay_microseconds == 6667
    assert not config.optimization.cuda.graphs
    script = planned.files["tiny/build/build.sh"].decode()
    assert "--minShapes=images:1x3x48x64" in script
    assert "--optShapes=images:2x3x48x64" in script
    assert "--maxShapes=images:4x3x48x64" in script


@pytest.mark.parametrize("costs", [True, False])
def test_a_batch_is_refused_where_the_model_does_not_leave_it_open(tmp_path, costs):
    bundle = sealed(tmp_path / "b", costs=costs)
    with pytest.raises(ExportError, match="open batch for --batch 4") as caught:
        plan_repository(bundle, options(bundle, batch_max=4))
    assert ("costs.json" in caught.value.found) is not costs


@pytest.mark.parametrize(
    ("profile", "count"), [("jetson-nano", 1), ("jetson-orin-nano", 2), ("jetson-agx-orin", 2)]
)
def test_instances_are_by_the_gpu_or_as_asked(tmp_path, pb, parsed, profile, count):
    bundle = sealed(tmp_path / "b")
    config = parsed(plan_repository(bundle, options(bundle, profile=profile)))
    group = config.instance_group[0]
    assert (group.count, list(group.gpus)) == (count, [0])
    assert group.kind == pb.ModelInstanceGroup.KIND_GPU
    asked = parsed(plan_repository(bundle, options(bundle, profile=profile, instances=5)))
    assert asked.instance_group[0].count == 5


def test_each_dla_core_is_a_group_beside_the_gpu(tmp_path, pb, parsed):
    bundle = sealed(tmp_path / "b")
    planned = plan_repository(
        bundle, options(bundle, profile="jetson-agx-xavier", dla_cores=(0, 1))
    )
    config = parsed(planned)
    devices = [group.secondary_devices[0] for group in config.instance_group]
    kind = pb.ModelInstanceGroup.SecondaryDevice.KIND_NVDLA
    assert [(device.kind, device.device_id) for device in devices] == [(kind, 0), (kind, 1)]
    assert not config.optimization.cuda.graphs
    script = planned.files["tiny/build/build.sh"].decode()
    assert "--useDLACore=0" in script
    assert "--allowGPUFallback" in script


@pytest.mark.parametrize(
    ("profile", "precision", "match"),
    [
        ("jetson-nano", "fp16", "jetson-nano with 0 DLA cores"),
        ("jetson-agx-xavier", "int8", "Q/DQ"),
        ("jetson-agx-xavier", "fp32", "no other"),
    ],
)
def test_a_dla_is_refused_where_there_is_none_or_it_cannot(tmp_path, profile, precision, match):
    bundle = sealed(tmp_path / "b", precision=precision)
    with pytest.raises(ExportError, match=match):
        plan_repository(bundle, options(bundle, profile=profile, dla_cores=(0,)))


@pytest.mark.parametrize(
    ("profile", "precision", "flags"),
    [
        ("jetson-nano", "fp16", {"--fp16", "--workspace=183"}),  # 192 MB, TensorRT 8.2
        ("jetson-nano", "fp32", {"--workspace=183"}),
        ("jetson-orin-nano", "int8", {"--int8", "--fp16", "--memPoolSize=workspace:457"}),
    ],
)
def test_the_plan_is_built_with_the_bundles_precision(tmp_path, profile, precision, flags):
    bundle = sealed(tmp_path / "b", precision=precision)
    script = plan_repository(bundle, options(bundle, profile=profile)).files["tiny/build/build.sh"]
    lines = {line.strip(" \\") for line in script.decode().splitlines()}
    assert flags == {line for line in lines if line.startswith("--")}


def test_labels_belong_to_the_output_of_a_classifier_alone(tmp_path, parsed):
    detector = plan_repository(sealed(tmp_path / "d"), options(sealed(tmp_path / "d")))
    assert [output.label_filename for output in parsed(detector).output] == ["", ""]
    assert detector.files["tiny/labels.txt"] == b"disc\nbox\n"
    bundle = classifier(tmp_path / "c", classes=("a", "b c"))
    named = plan_repository(bundle, options(bundle))
    assert [output.label_filename for output in parsed(named).output] == ["labels.txt"]
    assert named.files["tiny/labels.txt"] == b"a\nb c\n"
    for name in ("two\nlines", "bell\a"):
        odd = classifier(tmp_path / "o", classes=("a", name))
        with pytest.raises(ExportError, match="label file"):
            plan_repository(odd, options(odd))


def test_onnxruntime_is_served_at_once_and_the_notes_say_what_it_is_not(tmp_path, pb, parsed):
    bundle = sealed(tmp_path / "b", precision="int8")
    planned = plan_repository(bundle, options(bundle, backend="onnxruntime"))
    config = parsed(planned)
    assert (config.backend, config.platform, config.default_model_filename) == (
        "onnxruntime", "", "model.onnx",
    )  # fmt: skip
    assert config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_AUTO
    assert planned.files["tiny/1/model.onnx"] == bundle.read("model.onnx")
    assert not any("build" in name for name in planned.files)
    assert any("emulates its INT8" in note for note in planned.notes)


def test_what_the_config_says_is_what_onnxruntime_finds_in_the_file(tmp_path, parsed):
    ort = pytest.importorskip("onnxruntime", reason="the extra `emulate` is not installed")
    bundle = sealed(tmp_path / "b")
    planned = plan_repository(bundle, options(bundle, backend="onnxruntime"))
    session = ort.InferenceSession(planned.files["tiny/1/model.onnx"])
    config = parsed(planned)
    for tensors, found in (
        (config.input, session.get_inputs()),
        (config.output, session.get_outputs()),
    ):
        assert [(t.name, list(t.dims)) for t in tensors] == [(f.name, f.shape) for f in found]


def test_wide_integers_are_what_each_tensorrt_makes_of_them(tmp_path, pb, parsed):
    outputs = (TensorSpec(name="ids", shape=(1, 5), dtype="int64"),)
    bundle = sealed(tmp_path / "b", precision="int8", outputs=outputs)
    kinds = {}
    for profile in ("jetson-agx-xavier", "jetson-orin-nano"):  # TensorRT 8.5 and 10.3
        config = parsed(plan_repository(bundle, options(bundle, profile=profile)))
        kinds[profile] = config.output[0].data_type
    assert kinds == {"jetson-agx-xavier": pb.TYPE_INT32, "jetson-orin-nano": pb.TYPE_INT64}
    for dtype in ("float64", "complex64"):
        odd = sealed(tmp_path / "o", outputs=(TensorSpec(name="x", shape=(1,), dtype=dtype),))
        with pytest.raises(ExportError, match=dtype):
            plan_repository(odd, options(odd))


def test_odd_names_come_back_as_they_were(pb):
    from google.protobuf import text_format

    rng = random.Random(5)
    alphabet = "ab\"\\'\n\r\t\0\x7f{}[]:;,#é漢😀 \x0b"
    for _ in range(300):
        name = "".join(rng.choice(alphabet) for _ in range(rng.randint(0, 12)))
        text = text_from_message({"name": name, "input": [{"name": name, "dims": [1, -1]}]})
        config = text_format.Parse(text, pb.ModelConfig())
        assert (config.name, config.input[0].name) == (name, name), quoted(name)
        assert list(config.input[0].dims) == [1, -1]


def test_the_text_is_the_one_that_was_looked_at():
    message = {"kind": Symbol("KIND_GPU"), "count": 2, "cuda": {"graphs": True}, "dims": []}
    assert text_from_message(message) == (
        "kind: KIND_GPU\ncount: 2\ncuda {\n  graphs: true\n}\ndims: [  ]\n"
    )


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\nb"])
def test_a_name_that_is_no_folder_is_refused(tmp_path, name):
    bundle = sealed(tmp_path / "b", name=name)
    with pytest.raises(ExportError, match="--name"):
        plan_repository(bundle, options(bundle))
    assert "ok/config.pbtxt" in plan_repository(bundle, options(bundle, name="ok")).files


def fake_trtexec(folder):
    """A program of that name that copies the model to where the plan goes."""
    folder.mkdir()
    program = folder / "trtexec"
    program.write_text(
        '#!/bin/sh\nfor flag in "$@"; do case "$flag" in --saveEngine=*) out=${flag#*=};; esac; '
        'done\ncp model.onnx "$out"; echo "$@" > "$out.flags"\n'
    )
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_the_script_builds_the_plan_once_the_model_is_the_sealed_one(tmp_path):
    bundle = sealed(tmp_path / "b", name='it\'s a "net"')
    repository, env = tmp_path / "repo", fake_trtexec(tmp_path / "bin")
    write_export(repository, plan_repository(bundle, options(bundle)), bundle)
    model = repository / bundle.manifest.name
    script = model / "build" / "build.sh"
    assert stat.S_IMODE(script.stat().st_mode) == 0o755
    assert list((model / "1").iterdir()) == []
    done = subprocess.run(["sh", str(script)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (model / "1" / "model.plan").read_bytes() == bundle.read("model.onnx")
    flags = (model / "1" / "model.plan.partial.flags").read_text().split()
    assert "--fp16" in flags
    (model / "1" / "model.plan").unlink()
    (model / "build" / "model.onnx").write_bytes(b"another model")
    done = subprocess.run(["sh", str(script)], env=env, capture_output=True, text=True)
    assert done.returncode != 0
    assert not (model / "1" / "model.plan").exists()


def test_a_computer_without_tensorrt_is_told_so(tmp_path):
    if Path("/usr/src/tensorrt/bin/trtexec").exists():
        pytest.skip("TensorRT is installed here")
    bundle = sealed(tmp_path / "b")
    write_export(tmp_path / "repo", plan_repository(bundle, options(bundle)), bundle)
    script = tmp_path / "repo" / "tiny" / "build" / "build.sh"
    env = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(["/bin/sh", str(script)], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "run it on the board" in done.stderr
    assert list((tmp_path / "repo" / "tiny" / "1").iterdir()) == []


def test_the_plan_is_made_of_the_model_that_edge_build_takes(tmp_path, monkeypatch):
    """TensorRT 11 has no precision flags: it takes the file with FP16 in its types."""
    bundle = sealed(tmp_path / "b", strong=b"the strong model", profile="jetson-agx-orin")
    asked = options(bundle)
    weak = plan_repository(bundle, asked)
    assert weak.files["tiny/build/model.onnx"] == bundle.read("model.onnx")
    line = msgspec.structs.replace(jetpack_line("7.2"), tensorrt="11.4.1", dialect="tensors-strong")
    monkeypatch.setattr(Profile, "jetpack", property(lambda self: line))
    strong = plan_repository(bundle, asked)
    assert strong.files["tiny/build/model.onnx"] == b"the strong model"
    script = strong.files["tiny/build/build.sh"].decode()
    assert "--fp16" not in script
    assert hashlib.sha256(b"the strong model").hexdigest() in script


def test_the_command_writes_both_and_tells_what_is_left_to_do(tmp_path):
    bundle = sealed(tmp_path / "b")
    done = CliRunner().invoke(
        export,
        [str(bundle.root), "--triton", str(tmp_path / "t"), "--deepstream", str(tmp_path / "d")],
    )
    assert done.exit_code == 0, done.output
    assert (tmp_path / "t" / "tiny" / "1").is_dir()
    assert (tmp_path / "d" / "config_infer_primary.txt").is_file()
    assert "run tiny/build/build.sh on the board" in done.output
    assert bundle.sha256 in (tmp_path / "t" / "tiny" / "config.pbtxt").read_text()
    assert bundle.sha256 in (tmp_path / "d" / "config_infer_primary.txt").read_text()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--triton DIR or --deepstream DIR"),
        (["--deepstream", "d", "--backend", "tensorrt"], "--backend is for --triton"),
        (["--triton", "d", "--parser", "a.so:F"], "--parser is for --deepstream"),
        (["--triton", "d", "--deepstream", "./d"], "a folder each"),
        (["--triton", "d", "--deepstream", "d/x"], "neither inside the other"),
        (["--triton", "d/x/y", "--deepstream", "d"], "neither inside the other"),
        (["--deepstream", "d", "--parser", "nothing"], "a library and a function"),
    ],
)
def test_flags_that_contradict_are_told(tmp_path, flags, said):
    done = CliRunner().invoke(export, [str(sealed(tmp_path / "b").root), *flags])
    assert done.exit_code == 2
    assert said in done.output


def test_what_is_to_be_typed_is_quoted(tmp_path):
    bundle = sealed(tmp_path / "b")
    name = "$(id); it's"
    note = plan_repository(bundle, options(bundle, name=name)).notes[0]
    assert shlex.split(note.partition(" on the board")[0]) == ["run", f"{name}/build/build.sh"]


@pytest.mark.parametrize("missing", ["inputs", "outputs"])
@pytest.mark.parametrize("plan", [plan_repository, plan_config])
def test_a_model_without_tensors_is_one_error(tmp_path, plan, missing):
    bundle = sealed(tmp_path / "b", **{missing: ()})
    with pytest.raises(ExportError, match=f"found no {missing}"):
        plan(bundle, options(bundle))


def test_a_damaged_bundle_is_not_exported(tmp_path):
    bundle = sealed(tmp_path / "b")
    (bundle.root / "model.onnx").write_bytes(b"other")
    done = CliRunner().invoke(export, [str(bundle.root), "--triton", str(tmp_path / "t")])
    assert isinstance(done.exception, BundleError)
    assert not (tmp_path / "t").exists()


def test_a_bundle_the_board_cannot_run_is_not_exported_for_it(tmp_path):
    for changes, match in (({"precision": "int8"}, "SM 5.3"), ({"opset": 17}, "opset 17")):
        bundle = sealed(tmp_path / "b", **changes)
        with pytest.raises(ExportError, match=match):
            options(bundle, profile="jetson-nano")
    homeless = sealed(tmp_path / "b", profile=None)
    with pytest.raises(ExportError, match="--profile"):
        options(homeless)
