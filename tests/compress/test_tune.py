"""Q/DQ stay where they are while weights learn; the answers get nearer to the float network's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from calib.samples import CalibrationSet
from compress.distill import Run
from compress.export import Names, export_onnx
from compress.lint import lint
from compress.passes import Context, pass_from_name, run_passes
from compress.quantize.int8 import Int8Options, load_model, quantize_int8
from compress.quantize.prepare import prepare
from compress.quantize.sensitivity import Answers, sqnr_of_noise
from compress.recipe import Choice, RecipeError, choose_recipe, load_recipe
from compress.train import Checkpoint
from compress.tune import TuneError, TuneOptions, tuned
from devices.profile import load_profile
from tests.compress.raw_bundles import raw
from tests.compress.test_teach import Bars

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")
onnx = pytest.importorskip("onnx", reason="needs the extra 'compress'")

ORIN = load_profile("jetson-orin-nano")


class Uneven(torch.nn.Module):
    """One depthwise channel a hundred times the others, which matter more: a scale loses them."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 16, 3, 2, 1)
        self.depthwise = torch.nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.mix = torch.nn.Conv2d(16, 16, 1)
        self.head = torch.nn.Conv2d(16, 6, 1)
        with torch.no_grad():
            self.depthwise.weight[0] *= 100
            self.mix.weight[:, 0] *= 0.01

    def forward(self, images):
        found = torch.nn.functional.silu(self.stem(images))
        found = torch.nn.functional.silu(self.mix(self.depthwise(found)))
        return torch.sigmoid(self.head(found))


@pytest.fixture(scope="module")
def float_path(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tune") / "float.onnx"
    names = Names(inputs=("images",), outputs=("scores",))
    export_onnx(Uneven(), (torch.zeros(1, 3, 32, 32),), path, names=names, opset=17)
    return path


@pytest.fixture(scope="module")
def feeds():
    rng = np.random.default_rng(0)
    return [{"images": rng.normal(0, 1, (1, 3, 32, 32)).astype(np.float32)} for _ in range(12)]


@pytest.fixture(scope="module")
def int8(float_path, feeds):
    out = float_path.with_name("int8.onnx")
    quantize_int8(float_path, feeds, out, Int8Options(keep_float=(), equalize=False))
    return load_model(out)


@pytest.fixture(scope="module")
def exact(float_path):
    return prepare(load_model(float_path), 17)


def batch_at(step):
    return np.random.default_rng(step).normal(0, 1, (4, 3, 32, 32)).astype(np.float32)


def test_answers_get_nearer_and_nothing_but_weights_changes(float_path, feeds, int8, exact):
    options = TuneOptions(steps=80, lr_max=0.3)
    made, log = tuned((int8, exact), feeds, batch_at, options, Run(threads=1))
    answers = Answers(load_model(float_path), feeds)
    before, after = (sqnr_of_noise(answers.noise(model)) for model in (int8, made))
    assert after > before + 1.0
    assert np.mean(log.losses[-10:]) < np.mean(log.losses[:10]) - 0.4  # of the logarithm
    assert [node for node in made.graph.node] == [node for node in int8.graph.node]
    assert made.graph.output == int8.graph.output
    stored = [{t.name: onnx.numpy_helper.to_array(t) for t in m.graph.initializer}
              for m in (int8, made)]  # fmt: skip
    moved = {
        name for name, value in stored[0].items() if not np.array_equal(value, stored[1][name])
    }
    scales = {node.input[1] for node in int8.graph.node if "QuantizeLinear" in node.op_type}
    assert moved
    assert not moved & scales
    assert not [found for found in lint(made, 17, True) if found.severity == "error"]


def test_the_same_call_gives_the_same_bytes_also_when_it_was_killed(int8, exact, feeds, tmp_path):
    options = TuneOptions(steps=6)
    whole, _ = tuned((int8, exact), feeds, batch_at, options, Run(threads=1))

    class Killed:
        def update(self, done):
            if done == 4:
                raise KeyboardInterrupt

    kept = Checkpoint(path=tmp_path / "c", key="k", every_steps=2)
    with pytest.raises(KeyboardInterrupt):
        tuned(
            (int8, exact), feeds, batch_at, options, Run(threads=1, tick=Killed(), checkpoint=kept)
        )
    again, log = tuned((int8, exact), feeds, batch_at, options, Run(threads=1, checkpoint=kept))
    assert log.resumed_from == 2
    assert again.SerializeToString(deterministic=True) == whole.SerializeToString(
        deterministic=True
    )


def test_a_float_file_has_nothing_to_tune(exact, feeds):
    with pytest.raises(TuneError, match="no Q/DQ"):
        tuned((exact, exact), feeds, batch_at, TuneOptions(steps=1), Run(threads=1))


def test_the_pass_tunes_an_int8_bundle_and_refuses_a_float_one(float_path, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for at in range(6):
        frame = np.random.default_rng(at).integers(0, 255, (40, 40, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{at}.png"), frame)
    source = raw(tmp_path / "float", load_model(float_path))
    context = Context(profile=ORIN, train=CalibrationSet.from_folder(folder), teacher=None,
                      progress=Bars(), scratch=tmp_path, threads=1)  # fmt: skip
    tune = pass_from_name("tune")(steps=3, batch=2)
    int8 = pass_from_name("int8")(keep_float=())
    quantized, made = run_passes(source, [int8, tune], tmp_path / "store", context)
    assert made.refusal is None
    assert made.bundle.manifest.precision == "int8"
    assert [step.name for step in made.bundle.manifest.lineage] == ["import", "int8", "tune"]
    same = ("ranges.json", "costs.json")
    files = made.bundle.manifest.files
    assert all(files[name] == quantized.bundle.manifest.files[name] for name in same)
    assert context.progress.seen["tuning INT8"] == (3, 3)
    (refused,) = run_passes(source, [tune], tmp_path / "store", context)
    assert "there is no Q/DQ" in refused.refusal.reason


def test_a_recipe_may_end_in_int8_and_tune_and_nowhere_else(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('[[pass]]\nname = "int8"\n[[pass]]\nname = "tune"\nsteps = 7\n')
    recipe = load_recipe(path, ORIN, has_frames=True)
    assert [step.name for step in recipe.passes] == ["int8", "tune"]
    nano = load_recipe(path, load_profile("jetson-nano"), has_frames=True)
    assert [step.name for step in nano.passes] == ["fp16"]
    chosen = choose_recipe(ORIN, Choice(tune_steps=5), has_frames=True)
    assert [step.name for step in chosen.passes][-2:] == ["int8", "tune"]
    for names in (["tune"], ["tune", "int8"], ["fp16", "tune"], ["int8", "tune", "tune"]):
        path.write_text("".join(f'[[pass]]\nname = "{name}"\n' for name in names))
        with pytest.raises(RecipeError, match="after int8 a tune may follow"):
            load_recipe(path, ORIN, has_frames=True)


@pytest.mark.parametrize("field", [{"steps": 0}, {"batch": 0}, {"lr_max": 0.0}])
def test_options_that_cannot_be_are_refused(field):
    with pytest.raises(ValueError, match="1 or more"):
        TuneOptions(**field)
