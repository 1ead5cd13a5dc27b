"""Under torchrun one process writes and all train; one that dies ends all, and nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import compress.train
from calib.samples import CalibrationSet
from compress.distributed import Group, joined
from compress.import_model import import_model, source_from_text
from compress.passes import Context, PassError, follow_passes, key_of, run_passes
from compress.passes import _ordered as ordered
from compress.press import Distil, Fp16
from compress.progress import Quiet
from compress.teacher import TwinTeacher
from compress.zoo.weights import load_weights
from devices.profile import load_profile
from edge.bundle import open_bundle
from tests.compress.user_nets import large, small

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")
pytest.importorskip("onnxruntime", reason="needs the extra 'compress'")

ROOT = Path(__file__).parents[2]
NANO = load_profile("jetson-nano")
STEPS = (4, 30)
DEAD_AT = 12  # of the second training's steps
STUDENT = source_from_text("tests.compress.user_nets:small", spec=None, image_hw=None)


def passes():
    return [*(Distil(steps=steps, batch=5, label_frames=8) for steps in STEPS), Fp16()]


def opened(folder):
    teacher = TwinTeacher(identity="large", net=large())
    frames = CalibrationSet.from_path(folder / "frames")
    return Context(profile=NANO, train=frames, teacher=teacher, progress=Quiet(),
                   scratch=folder / "store", threads=1)  # fmt: skip


def lead(folder, context):
    first = import_model(STUDENT, NANO, folder / "store", lambda name: Path(name))
    for result in run_passes(first, passes(), folder / "store", context):
        sys.stdout.write(f"{result.name} {result.reused} {result.bundle.sha256}\n")
        sys.stdout.flush()


def main(folder, mode):
    """What each process does."""
    with joined(True) as group:
        if mode == "dawdling":
            os.write(1, f"{os.getpid()}\n".encode())
            time.sleep(600)
        if mode == "dying" and group.rank == 1:
            _die_late()
        if group.leads:
            lead(folder, opened(folder))
            group.tell("the end")
        else:
            assert follow_passes(group, lambda: opened(folder)) == "the end"


def _die_late():
    step = compress.train._one_step

    def mortal(state, view, loss_at, number, group):
        if state.schedule.steps == STEPS[1] and number == DEAD_AT:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(state, view, loss_at, number, group)

    compress.train._one_step = mortal


def command(folder, mode):
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "tests.compress.test_distributed_passes", str(folder), mode,
    ]  # fmt: skip


def started(folder, mode):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command(folder, mode), cwd=ROOT, capture_output=True, text=True, env=env,
                          timeout=300)  # fmt: skip


def prepared(folder):
    (folder / "frames").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(12):
        picture = rng.integers(0, 255, (40, 40, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / "frames" / f"{index}.png"), picture)
    return folder


def lines(done):
    return [line.split() for line in done.stdout.splitlines() if line.count(" ") == 2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = prepared(tmp_path_factory.mktemp("whole"))
    done = started(folder, "whole")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, lines(done)


def weights(bundle):
    net = load_weights(small(), bundle.path("workshop/weights.npz"))
    return {name: value.numpy() for name, value in net.state_dict().items()}


@pytest.mark.slow
def test_two_processes_seal_what_one_does_within_rounding(whole, tmp_path):
    folder, said = whole
    assert [line[:2] for line in said] == [[n, "False"] for n in ("distil", "distil", "fp16")]
    store = folder / "store"
    assert sorted(path.name.partition("-")[0] for path in store.iterdir()) == [
        "distil", "distil", "fp16", "import",
    ]  # fmt: skip
    together = [open_bundle(p) for p in store.iterdir() if p.name.startswith("distil")]
    alone = prepared(tmp_path / "alone")
    first = import_model(STUDENT, NANO, alone / "store", lambda name: Path(name))
    for result in list(run_passes(first, passes(), alone / "store", opened(alone)))[:2]:
        steps = result.bundle.manifest.lineage[-1].params["steps"]
        (other,) = (b for b in together if b.manifest.lineage[-1].params["steps"] == steps)
        assert other.manifest.lineage[-1].key != result.bundle.manifest.lineage[-1].key
        before, mine, theirs = small().state_dict(), weights(result.bundle), weights(other)
        for name in mine:
            assert np.abs(mine[name] - theirs[name]).max() < 2e-5
            assert np.abs(mine[name] - before[name].numpy()).max() > 1e-4


@pytest.mark.slow
def test_dying_process_ends_all_with_a_reason_and_the_same_command_goes_on(whole, tmp_path):
    folder = prepared(tmp_path / "dying")
    done = started(folder, "dying")
    assert done.returncode != 0
    assert [line[:2] for line in lines(done)] == [["distil", "False"]]  # finished, and kept
    words = [line for line in done.stderr.splitlines() if "process 0 of 2: found" in line]
    assert any("another one gone" in line or "that torchrun ended it" in line for line in words)
    assert any("finished passes are kept, the same command goes on" in line for line in words)
    assert "Signal 9 (SIGKILL)" in done.stderr  # torchrun says which one it was
    again = started(folder, "again")
    assert again.returncode == 0, again.stderr[-3000:]
    assert [line[1] for line in lines(again)] == ["True", "False", "False"]
    assert [line[2] for line in lines(again)] == [line[2] for line in whole[1]]


@pytest.mark.slow
def test_processes_end_with_a_torchrun_that_was_killed(tmp_path):
    """It cannot end them any more; they would keep the folder from the next run."""
    folder = prepared(tmp_path / "orphans")
    with subprocess.Popen(
        command(folder, "dawdling"), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        for _ in range(2):
            assert int(process.stdout.readline()) > 1
        process.kill()
        process.communicate(timeout=60)  # the pipe ends with the last of them
    assert process.returncode == -signal.SIGKILL


class Told(Group):
    """A first process that says these words."""

    def hear(self):
        return said.pop(0)


said = []


def test_process_started_otherwise_than_the_first_is_refused(tmp_path):
    folder = prepared(tmp_path / "strange")
    first = import_model(STUDENT, NANO, folder / "store", lambda name: Path(name))
    context = opened(folder)
    step = Distil(steps=1, batch=2, label_frames=2)
    order = ordered(step, first, key_of(step, first, context), context)
    said[:] = [order, "the end"]
    assert follow_passes(Told(rank=1, size=2), lambda: opened(folder)) == "the end"
    (folder / "frames" / "0.png").unlink()
    said[:] = [order]
    with pytest.raises(PassError, match="distil in process 1 of 2: found other settings, frames"):
        follow_passes(Told(rank=1, size=2), lambda: opened(folder))
    assert not list((folder / "store").glob("distil*"))  # a follower leaves nothing


def test_number_of_processes_is_part_of_a_trainings_key_alone(tmp_path, monkeypatch):
    folder = prepared(tmp_path / "keys")
    first = import_model(STUDENT, NANO, folder / "store", lambda name: Path(name))
    context = opened(folder)
    trained, plain = Distil(steps=1), Fp16()
    one = [key_of(step, first, context) for step in (trained, plain)]
    monkeypatch.setattr("compress.passes.current_group", lambda: Group(size=2))
    two = [key_of(step, first, context) for step in (trained, plain)]
    assert (one[0] == two[0], one[1] == two[1]) == (False, True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
