"""A build tells how it goes: phases where TensorRT has a monitor, else time; it can be ended."""

from __future__ import annotations

import threading

import pytest

from edge.engines.tensorrt import monitor
from edge.engines.tensorrt.log import Heard
from edge.engines.tensorrt.monitor import progress
from tests.edge.tensorrt.fake import VERSIONS, made

MONITORED = [version for version in VERSIONS if version.startswith(("10.", "11."))]
NEVER_S = 600.0  # longer than any test: what is told was told because something happened
OFTEN_S = 0.001
WAIT_S = 60.0


class Told:
    """Lines, without the seconds that nobody can know; `wait` until there are so many."""

    def __init__(self):
        self.lines, self._changed = [], threading.Condition()

    def __call__(self, line):
        head, _, words = line.partition(" s")
        assert head.startswith("building the engine, ")
        assert int(head.rpartition(" ")[2]) >= 0
        with self._changed:
            self.lines.append(words)
            self._changed.notify_all()

    def wait(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.lines) >= count, WAIT_S)


def site(version, heard=None):
    """Module, its builder's configuration, what is heard and what is told."""
    trt, _ = made(version)
    return trt, trt.IBuilderConfig(), heard or Heard(), Told()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_monitor_is_set_where_there_is_one(version):
    trt, config, heard, told = site(version)
    with progress(trt, config, heard, told, NEVER_S):
        if version in MONITORED:
            assert isinstance(config.progress_monitor, trt.IProgressMonitor)
    assert hasattr(trt.IBuilderConfig, "progress_monitor") == (version in MONITORED)
    assert told.lines == []


def test_each_phase_of_the_two_outer_levels_is_told_once_and_in_order():
    trt, config, heard, told = site("10.3.0")
    with progress(trt, config, heard, told, NEVER_S):
        phases = config.progress_monitor
        phases.phase_start("Building Engine", None, 2)
        phases.phase_start("Timing", "Building Engine", 3)
        phases.phase_start("Timing one", "Timing", 9)  # flickers by
        assert phases.step_complete("Timing one", 0)
        phases.phase_finish("Timing one")
        phases.phase_finish("Timing")
        phases.phase_start("Serializing", "Building Engine", 1)
        phases.phase_finish("Serializing")
        phases.phase_finish("Building Engine")
    assert told.lines == [": Building Engine", ": Timing", ": Serializing"]


def test_from_time_to_time_the_innermost_phase_and_its_steps_are_told():
    trt, config, heard, told = site("11.4.0")
    with progress(trt, config, heard, told, OFTEN_S):
        phases = config.progress_monitor
        phases.phase_start("Building Engine", None, 2)
        phases.phase_start("Timing", "Building Engine", 40)
        for step in range(7):
            assert phases.step_complete("Timing", step)
        told.wait(len(told.lines) + 3)
        assert told.lines[-1] == ": Timing 7 of 40"
        phases.phase_finish("Timing")
        told.wait(len(told.lines) + 3)
        assert told.lines[-1] == ": Building Engine 0 of 2"


@pytest.mark.parametrize("version", ["8.0.1", "8.6.1"])
def test_without_a_monitor_the_time_alone_is_told(version):
    trt, config, heard, told = site(version)
    with progress(trt, config, heard, told, OFTEN_S):
        told.wait(3)
    assert set(told.lines) == {""}


def test_a_step_of_a_phase_that_never_began_does_no_harm():
    trt, config, heard, told = site("10.3.0")
    with progress(trt, config, heard, told, NEVER_S):
        phases = config.progress_monitor
        assert phases.step_complete("unknown", 4)
        phases.phase_finish("unknown")
        phases.phase_finish("unknown")


@pytest.mark.parametrize("version", MONITORED)
def test_ctrl_c_that_was_heard_ends_the_build_at_its_next_step(version):
    trt, config, heard, told = site(version)
    with progress(trt, config, heard, told, NEVER_S):
        phases = config.progress_monitor
        phases.phase_start("Building Engine", None, 2)
        assert phases.step_complete("Building Engine", 0) is True
        heard.interrupted = True
        assert phases.step_complete("Building Engine", 1) is False
        phases.phase_finish("Building Engine")


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("begin", ("a", None, 1)), ("step", ("a", 0)), ("end", ("a",))],
    ids=["start", "step", "finish"],
)
def test_ctrl_c_in_a_callback_is_kept_and_ends_the_build(method, arguments, monkeypatch):
    def interrupted(self, *given):
        raise KeyboardInterrupt

    names = {"begin": "phase_start", "step": "step_complete", "end": "phase_finish"}
    trt, config, heard, told = site("10.3.0")
    with progress(trt, config, heard, told, NEVER_S):
        with monkeypatch.context() as patch:
            patch.setattr(monitor._Phases, method, interrupted)
            assert not getattr(config.progress_monitor, names[method])(*arguments)
        assert heard.interrupted
        assert config.progress_monitor.step_complete("a", 0) is False


@pytest.mark.parametrize("failure", [BrokenPipeError("the pipe is closed"),
                                     ValueError("I/O operation on closed file")])  # fmt: skip
def test_a_listener_that_is_gone_is_an_error_after_the_build_and_not_in_it(failure):
    trt, config, heard, _ = site("10.3.0")
    reached = []

    def gone(line):
        raise failure

    def run():
        with progress(trt, config, heard, gone, NEVER_S):
            phases = config.progress_monitor
            phases.phase_start("Building Engine", None, 1)
            reached.append(phases.step_complete("Building Engine", 0))
            phases.phase_finish("Building Engine")

    with pytest.raises(type(failure), match=str(failure)):
        run()
    assert reached == [True]


def test_what_the_build_raised_is_not_hidden_by_a_listener_that_is_gone():
    trt, config, heard, _ = site("10.3.0")

    def gone(line):
        raise BrokenPipeError

    def run():
        with progress(trt, config, heard, gone, NEVER_S):
            config.progress_monitor.phase_start("Building Engine", None, 1)
            raise RuntimeError("of the build")

    with pytest.raises(RuntimeError, match="of the build"):
        run()


def test_afterwards_nothing_more_is_told_and_no_thread_is_left():
    trt, config, heard, told = site("8.2.1")
    with progress(trt, config, heard, told, OFTEN_S):
        told.wait(1)
    count = len(told.lines)
    assert not [one for one in threading.enumerate() if one.name == "build-progress"]
    assert len(told.lines) == count
