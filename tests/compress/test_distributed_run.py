"""A whole run under torchrun: fetched, pressed, sealed and told by one process, trained by all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compress.job import Job, run_job
from compress.progress import Quiet
from compress.recipe import Choice
from compress.train_follow import run_together
from devices.budget import Budget
from edge.bundle import open_bundle
from tests.compress.test_distributed_passes import NANO, ROOT, STUDENT, prepared

pytest.importorskip("onnxruntime", reason="needs the extra 'compress'")


class Voice(Quiet):
    def say(self, line):
        sys.stdout.write(line + "\n")


def run(folder, launched):
    """The whole of `compress`, but for its flags."""
    job = Job(source=STUDENT, profile=NANO, budget=Budget(), cache=folder, data=folder / "frames",
              choice=Choice(prune="off", distil_steps=6), threads=1, out=folder / "run",
              teacher="tests.compress.user_nets:large")  # fmt: skip
    return run_together(launched, job, lambda: run_job(job, Voice()))


@pytest.mark.slow
def test_it_ends_in_a_bundle_and_a_report_and_one_process_speaks(tmp_path):
    folder = prepared(tmp_path / "job")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "tests.compress.test_distributed_run", str(folder),
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]  # no limit was set, so none is broken
    assert done.stdout.count("baseline ") == 1
    assert done.stdout.count("distil ") >= 1
    bundle = open_bundle(folder / "run" / "bundle")
    assert [step.name for step in bundle.manifest.lineage] == ["import", "distil", "fp16", "seal"]
    assert (folder / "run" / "report.html").is_file()
    assert not list((folder / "run" / ".passes").glob("partial*"))


def test_without_torchrun_it_is_the_run_itself(tmp_path, capsys):
    folder = prepared(tmp_path / "alone")
    assert run(folder, launched=False) == 0
    assert capsys.readouterr().out.count("baseline ") == 1


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), launched=True))
