"""The runner: finished passes are found again, changed ones are not, broken ones leave the rest."""

from __future__ import annotations

import shutil
from functools import partial
from importlib import metadata

import msgspec
import pytest

from compress.passes import PASSES, Context, PassError, key_of, pass_from_name, run_passes, software
from compress.progress import Quiet
from devices.budget import Refusal
from devices.errors import JetpressError
from devices.profile import load_profile
from edge.bundle import open_bundle
from tests.edge.make_bundle import make_bundle, tiny_model

pytest.importorskip("onnx", reason="needs the extra 'compress'")


class Rename(msgspec.Struct, frozen=True, kw_only=True):
    """A toy pass: the same model under another name; `runs` tells what was really computed."""

    to: str
    runs: list
    refuse: bool = False
    break_promise: bool = False

    @property
    def name(self):
        return "rename"

    def settings(self, context):
        return {"to": self.to, "seed": context.seed}

    def requires(self, source, context):
        return Refusal(what="rename", reason="told to") if self.refuse else None

    def apply(self, source, folder, context):
        self.runs.append(self.to)
        (folder / "model.onnx").write_bytes(tiny_model())
        return msgspec.structs.replace(source.manifest, name=self.to, files={})

    def ensures(self, source, result):
        if self.break_promise:
            raise PassError("rename", found="a", expected="b", cure="c")


@pytest.fixture
def first(tmp_path):
    make_bundle(tmp_path / "first")
    return open_bundle(tmp_path / "first")


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def context(store, seed=0):
    return Context(
        profile=load_profile("jetson-nano"),
        train=None,
        teacher=None,
        progress=Quiet(),
        scratch=store,
        seed=seed,
    )


def test_a_pass_writes_a_sealed_bundle_with_its_lineage_and_costs(first, store):
    (result,) = run_passes(first, [Rename(to="b", runs=[])], store, context(store))
    manifest = open_bundle(result.bundle.root).manifest
    assert manifest.name == "b"
    assert [step.name for step in manifest.lineage] == ["import", "rename"]
    assert manifest.lineage[-1].input_sha256 == first.sha256
    assert manifest.lineage[-1].params == {"to": "b", "seed": 0}
    assert "costs.json" in manifest.files


def test_a_finished_pass_is_not_run_again_and_gives_the_same_bytes(first, store):
    runs = []
    (before,) = run_passes(first, [Rename(to="b", runs=runs)], store, context(store))
    (after,) = run_passes(first, [Rename(to="b", runs=runs)], store, context(store))
    assert (before.reused, after.reused, runs) == (False, True, ["b"])
    assert before.bundle.sha256 == after.bundle.sha256


def test_the_same_inputs_give_the_same_bytes_in_another_folder(first, store, tmp_path):
    (here,) = run_passes(first, [Rename(to="b", runs=[])], store, context(store))
    other = tmp_path / "other"
    (there,) = run_passes(first, [Rename(to="b", runs=[])], other, context(other))
    assert here.bundle.sha256 == there.bundle.sha256


@pytest.mark.parametrize("changed", ["settings", "seed", "input"])
def test_what_decides_the_output_decides_the_key(first, store, tmp_path, changed):
    step, around, source = Rename(to="b", runs=[]), context(store), first
    before = key_of(step, source, around)
    if changed == "settings":
        step = Rename(to="c", runs=[])
    elif changed == "seed":
        around = context(store, seed=1)
    else:
        make_bundle(tmp_path / "second", precision="int8")
        source = open_bundle(tmp_path / "second")
    assert key_of(step, source, around) != before


def test_a_damaged_finished_pass_is_done_again(first, store):
    runs = []
    (result,) = run_passes(first, [Rename(to="b", runs=runs)], store, context(store))
    model = result.bundle.path("model.onnx")
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    (again,) = run_passes(first, [Rename(to="b", runs=runs)], store, context(store))
    assert (again.reused, runs) == (False, ["b", "b"])
    assert open_bundle(again.bundle.root).sha256 == result.bundle.sha256


def test_a_run_killed_between_passes_goes_on_from_the_last_finished_one(first, store):
    runs = []
    passes = [Rename(to="b", runs=runs), Rename(to="c", runs=runs)]
    for _ in run_passes(first, passes, store, context(store)):
        break  # killed after the first
    results = list(run_passes(first, passes, store, context(store)))
    assert runs == ["b", "c"]
    assert [result.reused for result in results] == [True, False]


def test_what_a_killed_pass_left_half_done_is_not_taken_for_its_result(first, store):
    (store / "partial-rename").mkdir(parents=True)
    (store / "partial-rename" / "stray.bin").write_bytes(b"half")
    (result,) = run_passes(first, [Rename(to="b", runs=[])], store, context(store))
    assert "stray.bin" not in result.bundle.manifest.files


def test_a_refused_pass_hands_the_bundle_on_and_says_why(first, store):
    refused, done = run_passes(
        first,
        [Rename(to="b", runs=[], refuse=True), Rename(to="c", runs=[])],
        store,
        context(store),
    )
    assert refused.bundle is first
    assert refused.refusal.reason == "told to"
    assert [step.name for step in done.bundle.manifest.lineage] == ["import", "rename"]


def test_an_error_names_the_pass_and_those_that_ran_before_it(first, store):
    class Failing(Rename, frozen=True, kw_only=True):
        def apply(self, source, folder, context):
            raise JetpressError("node 3", found="a", expected="b", cure="c")

    passes = [
        Rename(to="b", runs=[]),
        Rename(to="x", runs=[], refuse=True),
        Failing(to="c", runs=[]),
    ]
    with pytest.raises(PassError) as error:
        list(run_passes(first, passes, store, context(store)))
    assert str(error.value) == ("rename after import -> rename: node 3: found a; expected b; c")


@pytest.mark.parametrize("distribution", ["opencv-python", "opencv-contrib-python-headless"])
def test_the_opencv_that_reads_frames_is_part_of_the_key(monkeypatch, first, store, distribution):
    def version(name, installed):
        if name not in installed:
            raise metadata.PackageNotFoundError
        return installed[name]

    keys = []
    for number in ("4.1", "4.2"):
        with monkeypatch.context() as patched:
            patched.setattr(metadata, "version", partial(version, installed={distribution: number}))
            assert software()[distribution] == number
            keys.append(key_of(Rename(to="b", runs=[]), first, context(store)))
    assert keys[0] != keys[1]


def test_a_broken_promise_is_an_error_and_is_not_kept(first, store):
    runs = []
    broken = Rename(to="b", runs=runs, break_promise=True)
    with pytest.raises(PassError, match="found a; expected b; c"):
        list(run_passes(first, [broken], store, context(store)))
    (result,) = run_passes(first, [Rename(to="b", runs=runs)], store, context(store))
    assert not result.reused


def test_the_input_of_a_pass_is_never_changed(first, store, tmp_path):
    shutil.copytree(first.root, tmp_path / "copy")
    list(run_passes(first, [Rename(to="b", runs=[])], store, context(store)))
    assert open_bundle(first.root).sha256 == open_bundle(tmp_path / "copy").sha256


@pytest.mark.parametrize("name", PASSES)
def test_every_entry_of_the_table_is_a_pass(name):
    sizes = {"height": 32, "width": 32} if name == "resize" else {}
    step = pass_from_name(name)(**sizes)
    assert step.name == name
    for promise in ("settings", "requires", "apply", "ensures"):
        assert callable(getattr(step, promise))
