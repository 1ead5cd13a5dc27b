"""Two processes take the steps of one: same weights, whatever a loss or a norm asks of a batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compress.distill import DistilOptions, Pair, Run, distil_outputs, distil_scene
from compress.distributed import apart, current_group, joined
from compress.per_frame import takes_batches
from compress.train import Checkpoint, Means, Schedule, Watch, deterministic, train
from compress.train_together import shares
from tests.compress.tiny_nets import box_scene, tiny_net

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")

ROOT = Path(__file__).parents[2]
STEPS = 20
TOLERANCE = 2e-5  # of a weight, after STEPS steps of AdamW that moved it by 1e-2 or more


def images(step, count=5, side=8):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(count, 3, side, side, generator=generator)


class Net(torch.nn.Module):
    """Norms as modules and by themselves, dropout of both kinds, and a layer nobody uses."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = torch.nn.Conv2d(3, 6, 3, bias=False)
        self.norm = torch.nn.BatchNorm2d(6)
        self.drop = torch.nn.Dropout2d(0.2)
        self.hidden = torch.nn.Linear(6 * 36, 8, bias=False)
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("var", torch.ones(8))
        self.last = torch.nn.Linear(8, 2)
        self.unused = torch.nn.Linear(2, 2)

    def forward(self, images):
        found = self.drop(torch.relu(self.norm(self.stem(images)))).flatten(1)
        hidden = torch.nn.functional.batch_norm(
            self.hidden(found), self.mean, self.var, training=self.training
        )
        return {"y": self.last(torch.nn.functional.dropout(hidden, 0.1, self.training)),
                "features": [found]}  # fmt: skip


def positives(model, step=77):
    """A loss over those frames alone that are bright: how many there are differs by share."""
    batch = images(step)
    error = (model(batch)["y"] - batch.mean((1, 2, 3))[:, None]).square().sum(1)
    bright = batch[:, 0, 0, 0] > 0
    return error[bright].sum() / bright.sum().clamp(min=1) + 0.1 * error.mean()


def norms(folder, schedule=None, loss=positives):
    model = Net()
    means = Means(watch=Watch(loss=lambda m: positives(m), every_steps=5))
    schedule = schedule or Schedule(steps=STEPS, lr_max=0.01, ema_decay=0.5, live_norm_share=0.7)
    checkpoint = Checkpoint(path=folder / "state.pt", key="a", every_steps=4)
    train(model, loss, schedule, checkpoint=checkpoint, means=means)
    return model


class Doubled(torch.nn.Module):
    """In double precision: its last maps are of one cell, whose norms magnify each rounding."""

    def __init__(self, net):
        super().__init__()
        self.net = net.double()

    def forward(self, images):
        return tuple(value.float() for value in self.net(images.double()))


def scene(folder):
    model = Doubled(tiny_net())
    options = DistilOptions(steps=4, batch=5, live_norm_share=1.0)
    distil_scene(model, box_scene(6), options, Run(threads=1), box_scene(3, seed=5))
    return model


def outputs(folder):
    pair = Pair(student=_small(4, 1), teacher=_small(8, 2), names=("y",))
    options = DistilOptions(steps=6, features=(("0", "0"), ("3", "3")), lr_max=0.01)
    distil_outputs(pair, lambda step: images(step).numpy(), options, Run(threads=1))
    return pair.student


def few(folder):
    """One frame in a batch, for two processes; its norm is frozen."""
    model = Net()
    train(model, lambda m, step: m(images(step, 1))["y"].square().mean(), Schedule(steps=5))
    return model


def looped(folder):
    class Single(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = _small(4, 1)

        def forward(self, batch):
            return self.inner(batch.reshape(1, 3, 8, 8))

    model = takes_batches(Single().eval(), (torch.zeros(1, 3, 8, 8),))
    schedule = Schedule(steps=5, lr_max=0.01, live_norm_share=1.0)
    train(model, lambda m, step: m(images(step)).square().mean(), schedule)
    return model


def _small(width, seed):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, width, 3, bias=False), torch.nn.BatchNorm2d(width), torch.nn.Flatten(),
        torch.nn.Linear(width * 36, 3),
    )  # fmt: skip


CASES = {case.__name__: case for case in (norms, scene, outputs, few, looped)}
CASES["again"] = norms


def weights(model):
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def started(folder, *words, count=2):
    """torchrun, as a user starts it, of this file."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
        str(count), "-m", "tests.compress.test_distributed_train", str(folder), *words,
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env, timeout=300)


def main(folder, *names):
    """What each process does: every case, its weights kept under its rank."""
    with joined(True) as group, deterministic(seed=0, threads=1):
        with apart():
            assert current_group().size == 1
        assert current_group() == group
        for name in names:
            home = folder / f"{name}-{group.rank}"
            home.mkdir()
            np.savez(folder / f"{name}-{group.rank}.npz", **weights(CASES[name](home)))
            assert list(home.iterdir()) == []


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    done = started(folder, *CASES)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_processes_end_in_the_weights_of_one(together, tmp_path, name):
    start = {"norms": Net, "few": Net, "scene": lambda: Doubled(tiny_net())}.get(name)
    with deterministic(seed=0, threads=1):
        alone = weights(CASES[name](tmp_path))
    for rank in (0, 1):
        with np.load(together / f"{name}-{rank}.npz") as found:
            assert sorted(found) == sorted(alone)
            far = {key: float(np.abs(found[key] - alone[key]).max()) for key in alone}
            assert max(far.values()) <= TOLERANCE, max(far.items(), key=lambda item: item[1])
    if start is not None:  # the steps were worth comparing
        begun = weights(start())
        assert max(float(np.abs(begun[key] - alone[key]).max()) for key in alone) > 1e-3


@pytest.mark.parametrize("name", CASES)
def test_all_processes_end_in_the_same_bytes(together, name):
    with np.load(together / f"{name}-0.npz") as one, np.load(together / f"{name}-1.npz") as other:
        assert all(one[key].tobytes() == other[key].tobytes() for key in one)


def test_two_processes_give_the_same_bytes_again(together):
    with np.load(together / "norms-0.npz") as one, np.load(together / "again-0.npz") as other:
        assert all(one[key].tobytes() == other[key].tobytes() for key in one)


def test_every_frame_is_in_one_share():
    for whole in range(1, 12):
        for size in range(1, 5):
            parts = shares(whole, size)
            assert len(parts) == size
            assert [i for start, stop in parts for i in range(start, stop)] == list(range(whole))
            assert max(b - a for a, b in parts) - min(b - a for a, b in parts) <= 1


def test_who_was_not_started_by_torchrun_is_alone():
    with joined(False) as group:
        assert (group.rank, group.size, group.leads) == (0, 1, True)
        group.tell("nobody hears")
    assert current_group().size == 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
