"""One store for several workers: a pass is made once, seen by all, and never half."""

from __future__ import annotations

import shutil
import threading
import time

import msgspec
import pytest

from compress.passes import Context
from compress.progress import Quiet
from compress.search.sharing import Desk, press
from devices.budget import Refusal
from devices.profile import load_profile
from edge.bundle import open_bundle
from tests.edge.make_bundle import make_bundle, tiny_model

pytest.importorskip("onnx", reason="needs the extra 'compress'")


class Slow(msgspec.Struct, frozen=True, kw_only=True):
    """Takes a moment, notes a label, and tells how often it was done."""

    name: str
    runs: list
    refused: bool = False

    def settings(self, context):
        return {"name": self.name}

    def requires(self, source, context):
        return Refusal(what="slow", reason="told to") if self.refused else None

    def apply(self, source, folder, context):
        self.runs.append(threading.current_thread().name)
        time.sleep(0.2)
        (context.scratch / "labels-1.json").write_text("[1]")
        (folder / "model.onnx").write_bytes(tiny_model())
        return msgspec.structs.replace(source.manifest, name=self.name, files={})

    def ensures(self, source, result):
        assert result.manifest.name == self.name


@pytest.fixture
def first(tmp_path):
    make_bundle(tmp_path / "first")
    return open_bundle(tmp_path / "first")


def context(desk):
    return Context(profile=load_profile("jetson-nano"), train=None, teacher=None, progress=Quiet(),
                   scratch=desk.own)  # fmt: skip


def desks(tmp_path, count):
    return [Desk.numbered(tmp_path / "store", number) for number in range(1, count + 1)]


def test_four_workers_that_need_one_pass_make_it_once(first, tmp_path):
    runs, found = [], []

    def work(desk):
        bundle, _ = press(first, (Slow(name="a", runs=runs), Slow(name="b", runs=runs)), desk,
                          context(desk))  # fmt: skip
        found.append(bundle.sha256)

    threads = [threading.Thread(target=work, args=(desk,)) for desk in desks(tmp_path, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runs) == 2
    assert len(set(found)) == 1
    assert len(found) == 4


def test_what_one_worker_labelled_the_next_finds(first, tmp_path):
    one, two = desks(tmp_path, 2)
    press(first, (Slow(name="a", runs=[]),), one, context(one))
    press(first, (Slow(name="b", runs=[]),), two, context(two))
    assert (one.store / "labels-1.json").read_text() == "[1]"
    assert (two.own / "labels-1.json").read_text() == "[1]"
    assert not list(one.store.glob(".labels*"))


def test_a_damaged_pass_is_made_again_and_a_refused_one_goes_on(first, tmp_path):
    (desk,) = desks(tmp_path, 1)
    runs = []
    bundle, _ = press(first, (Slow(name="a", runs=runs),), desk, context(desk))
    (bundle.root / "model.onnx").write_bytes(b"half")
    again, (result,) = press(first, (Slow(name="a", runs=runs),), desk, context(desk))
    assert len(runs) == 2
    assert not result.reused
    assert again.sha256 == bundle.sha256
    shutil.rmtree(desk.own)
    desk = desks(tmp_path, 1)[0]
    _, results = press(first, (Slow(name="c", runs=runs, refused=True),
                               Slow(name="a", runs=runs)), desk, context(desk))  # fmt: skip
    assert [result.refusal is not None for result in results] == [True, False]
    assert results[1].reused
    assert len(runs) == 2
