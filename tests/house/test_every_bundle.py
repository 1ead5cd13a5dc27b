"""One bundle that NVIDIA's builder refuses fails the whole run, in one process or in several."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests import conftest


def result(digest, refused=()):
    return {"bundles": [digest], "files": [digest], "profiles": ["jetson-agx-thor"],
            "asked": True, "refused": list(refused)}  # fmt: skip


@pytest.fixture
def finish(monkeypatch):
    """Ends a run in which `found` was found; returns its exit status and what it passes on."""
    monkeypatch.setattr(conftest, "_results", [])

    def run(found, *, worker=False, status=pytest.ExitCode.OK):
        monkeypatch.setattr(conftest, "check", lambda sealed: found)
        config = SimpleNamespace(workeroutput={}) if worker else SimpleNamespace()
        session = SimpleNamespace(config=config, exitstatus=status)
        conftest.pytest_sessionfinish(session)
        return session.exitstatus, getattr(config, "workeroutput", None)

    return run


class Terminal:
    def __init__(self):
        self.lines = []

    def write_line(self, line):
        self.lines.append(line)


def said():
    terminal = Terminal()
    conftest.pytest_terminal_summary(terminal)
    return terminal.lines


REFUSED = ("a1", "jetson-agx-thor int8: model.onnx: no")


def test_a_refused_bundle_fails_the_run_and_is_named(finish):
    assert finish(result("a1", [REFUSED])) == (pytest.ExitCode.TESTS_FAILED, None)
    first, second = said()
    assert first.startswith("0 of 1 bundles for Orin/Thor profiles parse and build")
    assert REFUSED[1] in second


def test_a_run_without_one_ends_as_it_would(finish):
    assert finish(None)[0] == pytest.ExitCode.OK
    assert said() == []
    assert finish(result("a1"))[0] == pytest.ExitCode.OK
    assert finish(None, status=pytest.ExitCode.INTERRUPTED)[0] == pytest.ExitCode.INTERRUPTED


def test_what_workers_found_is_counted_once_and_fails_the_process_that_started_them(finish):
    nodes = []
    for digest, refused in (("a1", [REFUSED]), ("b2", []), ("b2", [])):
        status, output = finish(result(digest, refused), worker=True)
        assert status == pytest.ExitCode.OK
        conftest._results.clear()  # each in a process of its own
        nodes.append(SimpleNamespace(workeroutput=output))
    for node in nodes:
        conftest.pytest_testnodedown(node, None)
    conftest.pytest_testnodedown(SimpleNamespace(), "crashed")
    assert finish(None)[0] == pytest.ExitCode.TESTS_FAILED
    assert said()[0].startswith("1 of 2 bundles")
