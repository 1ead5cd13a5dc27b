"""`torchrun -m compress`: a net taught by two processes, killed at a random moment, gone on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from edge.bundle import open_bundle
from tests.compress.test_distributed_passes import ROOT, prepared

pytest.importorskip("onnxruntime", reason="needs the extra 'compress'")

MOMENT_S = random.Random(os.urandom(4)).uniform(4, 14)  # another one each time; a failure names it


def started(folder, out):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "compress", "tests.compress.user_nets:small", "--profile", "jetson-nano",
        "--data", str(folder / "frames"), "--teacher", "tests.compress.user_nets:large",
        "--distil-steps", "60", "--threads", "1", "--out", str(folder / out),
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
        start_new_session=True,
    )  # fmt: skip


def sealed(folder):
    bundle = open_bundle(folder / "bundle")
    assert "distil" in [step.name for step in bundle.manifest.lineage]
    return bundle.sha256


@pytest.mark.slow
def test_a_run_killed_at_a_random_moment_ends_in_the_same_bundle(tmp_path):
    folder = prepared(tmp_path / "run")
    process = started(folder, "whole")
    said, errors = process.communicate()
    assert said.count("baseline ") == 1, errors[-3000:]
    process = started(folder, "broken")
    time.sleep(MOMENT_S)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    process = started(folder, "broken")
    _, errors = process.communicate()
    assert sealed(folder / "broken") == sealed(folder / "whole"), (MOMENT_S, errors[-3000:])
