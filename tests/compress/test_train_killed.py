"""A process killed at random moments, again and again, ends in the bytes of one left alone."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compress.train import Checkpoint, Means, Schedule, Watch, deterministic, train
from compress.train_events import open_events

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")

ROOT = Path(__file__).parents[2]
STEPS = 80
MOMENTS = int.from_bytes(os.urandom(4), "little")  # another one each time; a failure names it


def trained(folder: Path, pause=lambda: None, tick=None) -> str:
    """Train with everything a state can hold; the hash of the weights and of the log."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Dropout(0.2),
        torch.nn.Flatten(), torch.nn.Linear(8 * 36, 2),
    )  # fmt: skip

    def loss_at(model, step=999):
        images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        return (model(images) - images.mean((1, 2, 3))[:, None]).square().mean()

    def slow(model, step):
        pause()
        return loss_at(model, step)

    means = Means(watch=Watch(loss=loss_at, every_steps=7, patience=9),
                  events=open_events(f"tensorboard:{folder / 'events'}"))  # fmt: skip
    schedule = Schedule(steps=STEPS, lr_max=0.02, ema_decay=0.9, live_norm_share=0.6)
    checkpoint = Checkpoint(path=folder / "state.pt", key="a", every_steps=3)
    with deterministic(seed=0, threads=1):
        log = train(net, slow, schedule, checkpoint=checkpoint, means=means, tick=tick)
    digest = hashlib.sha256(repr((log.held_out, log.best_step, log.stopped_at)).encode())
    for name, tensor in net.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


class Said:
    def update(self, done):
        sys.stdout.write(f"{done}\n")
        sys.stdout.flush()


def trained_slowly(folder: str) -> None:
    digest = trained(Path(folder), lambda: time.sleep(0.02), Said())
    sys.stdout.write(f"{digest}\n")


def started(folder: Path) -> subprocess.Popen:
    code = "import sys, tests.compress.test_train_killed as t; t.trained_slowly(sys.argv[1])"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0, 1])
def test_process_killed_at_random_moments_ends_in_the_same_bytes(tmp_path, moment):
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    wanted = trained(tmp_path / "whole")
    moments = random.Random(MOMENTS + moment)
    words = f"seed {MOMENTS + moment}"
    process = started(tmp_path / "broken")
    first = int(process.stdout.readline())
    assert first < STEPS - 40, words  # there is still something to kill
    time.sleep(moments.uniform(0.1, 0.8))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, words
    process = started(tmp_path / "broken")
    said, _ = process.communicate()
    assert said.split()[-1] == wanted, words
    assert int(said.split()[0]) > 1, words  # it went on, it did not begin again
    assert [path.name for path in (tmp_path / "broken").iterdir()] == ["events"], words


class StopError(Exception):
    pass


def test_loop_killed_at_random_steps_again_and_again_ends_in_the_same_bytes(tmp_path):
    (tmp_path / "whole").mkdir()
    wanted = trained(tmp_path / "whole")
    (tmp_path / "broken").mkdir()
    moments = random.Random(MOMENTS)
    killed, found = 0, ""
    while not found:
        left = iter(range(moments.randint(3, 12)))

        def burn(left=left):
            if next(left, None) is None:
                raise StopError

        try:
            found = trained(tmp_path / "broken", burn)
        except StopError:
            killed += 1
    assert killed > 3, f"seed {MOMENTS}"
    assert found == wanted, f"seed {MOMENTS}"
