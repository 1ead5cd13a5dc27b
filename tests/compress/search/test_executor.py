"""Executors: outcomes in any order, a death costs one candidate at most, nobody is left behind."""

from __future__ import annotations

import functools
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compress.search.candidate import Candidate
from compress.search.executor import InProcess, evaluated
from compress.search.workers import Workers
from tests.compress.search.objective import (
    evaluate,
    mortal_opener,
    opener,
    opener_that_fails,
)

FOUR = tuple(Candidate(prune=prune, steps=80) for prune in (1.0, 0.8, 0.6, 0.4))


def test_outcomes_come_in_the_order_asked_whoever_is_ready_first():
    class Backwards(InProcess):
        def as_completed(self):
            yield from reversed(list(super().as_completed()))

    heard = []
    found = evaluated(Backwards(evaluate), FOUR, lambda outcome: heard.append(outcome.candidate))
    assert found == tuple(map(evaluate, FOUR))
    assert heard == list(reversed(FOUR))


def test_workers_find_what_one_process_finds():
    with Workers(opener, 2) as workers:
        assert evaluated(workers, FOUR, lambda outcome: None) == tuple(map(evaluate, FOUR))
        more = (Candidate(prune=0.5, steps=80),)
        assert evaluated(workers, more, lambda outcome: None) == tuple(map(evaluate, more))
    assert not multiprocessing.active_children()


def test_a_candidate_whose_worker_died_is_tried_once_more(tmp_path):
    with Workers(functools.partial(mortal_opener, tmp_path, 1), 2) as workers:
        found = evaluated(workers, FOUR, lambda outcome: None)
    assert found == tuple(map(evaluate, FOUR))
    assert {mark.name for mark in tmp_path.iterdir()} == {"0.8", "0.6", "0.4"}


def test_a_candidate_that_kills_two_workers_has_failed_and_the_others_have_not(tmp_path):
    with Workers(functools.partial(mortal_opener, tmp_path, 9), 1) as workers:
        whole, cut = evaluated(workers, FOUR[:2], lambda outcome: None)
    assert whole == evaluate(FOUR[0])
    assert "died 2 times, by signal 9 (SIGKILL)" in cut.failed
    assert cut.score is None


def test_workers_that_cannot_begin_fail_their_candidates_and_do_not_hang(capfd):
    with Workers(opener_that_fails, 1) as workers:
        (outcome,) = evaluated(workers, FOUR[:1], lambda outcome: None)
    assert "exit code 1" in outcome.failed
    assert "no material" in capfd.readouterr().err


def test_workers_end_when_the_search_is_interrupted():
    def interrupt(outcome):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Workers(opener, 2) as workers:
        evaluated(workers, FOUR, interrupt)
    assert not multiprocessing.active_children()


PARENT = """
import functools, pathlib, sys
from compress.search.candidate import Candidate
from compress.search.workers import Workers
from tests.compress.search.objective import endless_opener
if __name__ == "__main__":
    with Workers(functools.partial(endless_opener, pathlib.Path(sys.argv[1])), 2) as workers:
        for prune in (0.5, 0.6):
            workers.submit(Candidate(prune=prune))
        list(workers.as_completed())
"""


def test_workers_die_with_a_parent_that_was_killed(tmp_path):
    """Else they would go on at desks that the next search sits down at."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    (tmp_path / "pids").mkdir()
    root = Path(__file__).parents[3]
    parent = subprocess.Popen([sys.executable, script, tmp_path / "pids"],
                              env={**os.environ, "PYTHONPATH": str(root)})  # fmt: skip
    try:
        assert _until(lambda: len(list((tmp_path / "pids").iterdir())) == 2)
    finally:
        parent.kill()
        parent.wait()
    pids = [int(path.name) for path in (tmp_path / "pids").iterdir()]
    assert _until(lambda: not any(map(_runs, pids)))


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _until(true):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.05)
    return False
