"""The study: it finds a known front, and tries the same whoever works, killed or not."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("optuna", reason="needs the extra 'compress'")

from compress.search.candidate import Candidate, SearchError
from compress.search.executor import InProcess
from compress.search.front import front_of, pick
from compress.search.journal import Journal
from compress.search.space import Space
from compress.search.study import GENERATION, Plan, generation_of, search
from compress.search.workers import Workers
from devices.budget import Budget
from tests.compress.search.objective import drop_of, evaluate, latency_of, opener

SPACE = Space(prune=(1.0, 0.8, 0.65, 0.48, 0.35, 0.25), steps=(80, 160, 240, 480))
ALL = SPACE.candidates()
FIRST = (Candidate(prune=0.48, precision="fp16", steps=240),)


class Counting(InProcess):
    """Counts what is evaluated, and is killed before evaluation number `fatal`."""

    def __init__(self, fatal=None):
        super().__init__(self.count)
        self.done, self.fatal = [], fatal

    def count(self, candidate):
        if len(self.done) == self.fatal:
            raise KeyboardInterrupt
        self.done.append(candidate)
        return evaluate(candidate)


def plan(**changes):
    return Plan(**{"possible": ALL, "first": FIRST, "seed": 3, "trials_max": 17, **changes})


def run(folder, executor=None, wanted=None, clock=lambda: 0.0):
    wanted = wanted or plan()
    journal = Journal(folder / "search.journal", wanted.key)
    told = []
    trials = search(wanted, executor or Counting(), journal, clock, told.append)
    return trials, told


def test_every_candidate_is_there_once_and_fp16_knows_no_float_layers():
    assert len(ALL) == len(set(ALL)) == 6 * 4 * 3
    assert {c.float_layers for c in ALL if c.precision == "fp16"} == {"auto"}


def test_the_search_comes_near_the_best_of_the_space_with_a_quarter_of_the_work(tmp_path):
    inside = [c for c in ALL if latency_of(c) <= 4.0]
    best = min(map(drop_of, inside))
    trials, _ = run(tmp_path, wanted=plan(possible=tuple(inside), first=()))
    taken = pick([t.whole for t in trials if t.whole], Budget(fps_min=250.0))
    assert taken is not None
    assert taken.verdict.exit_code == 0
    assert drop_of(taken.outcome.candidate) <= best + 0.5
    assert all(latency_of(trial.candidate) <= 4.0 for trial in trials)


def test_the_front_of_the_whole_space_is_the_one_that_arithmetic_gives():
    """Steps cost nothing on the board, and INT8 throughout wins nothing."""
    best = [c for c in ALL if c.steps == 480 and c.float_layers == "auto"]
    beaten = {c for c in best for o in best if o != c and latency_of(o) <= latency_of(c)
              and o.prune <= c.prune and drop_of(o) <= drop_of(c)}  # fmt: skip
    front = {outcome.candidate for outcome in front_of(tuple(map(evaluate, ALL)))}
    assert front == set(best) - beaten
    assert len(front) >= 6


def test_the_worse_half_of_a_generation_is_not_trained_whole(tmp_path):
    trials, told = run(tmp_path)
    assert told == list(trials)
    assert trials[0].short is None
    assert trials[0].candidate == FIRST[0]
    for start in range(1, len(trials), GENERATION):
        four = trials[start : start + GENERATION]
        assert [trial.whole is not None for trial in four].count(True) == 2
        assert all(trial.short.candidate.trained_steps * 4 == trial.candidate.steps
                   for trial in four)  # fmt: skip


def test_the_same_seed_tries_the_same_and_another_does_not(tmp_path):
    found = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        (tmp_path / name).mkdir()
        found.append(run(tmp_path / name, wanted=plan(seed=seed))[0])
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize("fatal", [0, 1, 3, 6, 7, 13])
def test_a_killed_search_goes_on_and_ends_in_the_same_trials(tmp_path, fatal):
    (tmp_path / "once").mkdir()
    once, _ = run(tmp_path / "once")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Counting(fatal))
    kept = len(Journal(tmp_path / "search.journal", plan().key).trials)
    again, told = run(tmp_path)
    assert again == once
    assert len(told) == len(once) - kept


def test_a_search_killed_while_it_wrote_a_generation_down_does_not_write_it_twice(tmp_path):
    (tmp_path / "once").mkdir()
    once, _ = run(tmp_path / "once")
    journal = Journal(tmp_path / "search.journal", plan().key)
    for trial in once[:3]:  # the middle of generation 1
        journal.append(trial, elapsed_s=1.0)
    assert run(tmp_path)[0] == once


def test_two_workers_try_what_one_process_tries(tmp_path):
    (tmp_path / "alone").mkdir()
    alone, _ = run(tmp_path / "alone", wanted=plan(trials_max=9))
    with Workers(opener, 2) as workers:
        assert run(tmp_path, workers, plan(trials_max=9))[0] == alone


def test_a_finished_search_is_read_back_and_a_longer_one_goes_on(tmp_path):
    whole, _ = run(tmp_path, wanted=plan(trials_max=9))
    executor = Counting()
    assert run(tmp_path, executor, plan(trials_max=9))[0] == whole
    assert executor.done == []
    longer, _ = run(tmp_path, executor, plan(trials_max=13))
    assert longer[:9] == whole
    assert len(longer) == 13


def test_what_would_be_the_same_model_is_not_tried_again(tmp_path):
    """No layer is left float here, so INT8 throughout is INT8."""
    trials, _ = run(tmp_path, wanted=plan(trials_max=None))
    known = {}
    for trial in trials:
        whole = (trial.candidate.precision, trial.candidate.prune, trial.candidate.steps)
        known.setdefault(whole, []).append(trial)
    assert len(known) == 6 * 4 * 2  # every model of the space that is one of its own
    for pair in (pair for pair in known.values() if len(pair) > 1):
        numbers = [generation_of(trial.number) for trial in pair]
        assert pair[0].candidate.float_layers == "none" or numbers[0] == numbers[1]


def test_time_ends_a_search_between_generations_and_counts_earlier_sittings(tmp_path):
    def minutes():
        step = iter(range(10**6))
        return lambda: 60.0 * next(step)

    timed = plan(trials_max=None, seconds_max=600.0)
    trials, _ = run(tmp_path, wanted=timed, clock=minutes())
    assert 0 < len(trials) < len(ALL)
    assert generation_of(len(trials)).start == len(trials)  # whole generations
    assert run(tmp_path, wanted=timed, clock=minutes())[0] == trials


def test_a_search_without_an_end_ends_with_the_space(tmp_path):
    few = ALL[:6]
    trials, _ = run(tmp_path, wanted=plan(possible=few, first=(), trials_max=None))
    assert sorted(map(str, (trial.candidate for trial in trials))) == sorted(map(str, few))


def test_a_damaged_journal_says_what_to_do(tmp_path):
    run(tmp_path, wanted=plan(trials_max=1))
    path = tmp_path / "search.journal"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines).replace("trial", "tr"))
    with pytest.raises(SearchError, match="remove this file"):
        run(tmp_path, wanted=plan(trials_max=1))
