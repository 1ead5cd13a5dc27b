"""Executors: outcomes in any order, a death costs one candidate at most, nobody is left behind."""

from __future__ import annotations

import functools
import multiprocessing

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
