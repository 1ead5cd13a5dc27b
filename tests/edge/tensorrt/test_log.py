"""What TensorRT logs is kept, sorted and bounded, and nothing gets out of its callback."""

from __future__ import annotations

import signal
import threading

import pytest

from edge.engines.tensorrt.log import LINES_MAX, Heard, hearing, keep_interrupt, listener, logger
from tests.edge.tensorrt.fake import VERSIONS, made

NO_DRIVER = "CUDA initialization failure with error: cudaError 35"
NO_DEVICE = "createInferRuntime: cudaError 100"
STUB = "cudaError 34"


@pytest.mark.parametrize("version", VERSIONS)
def test_errors_and_warnings_are_kept_and_the_rest_is_not(version):
    trt, _ = made(version)
    heard = Heard()
    log = logger(trt)
    assert isinstance(log, trt.ILogger)
    with hearing(heard):
        for name in ("VERBOSE", "INFO", "WARNING", "ERROR", "INTERNAL_ERROR"):
            log.log(getattr(trt.ILogger.Severity, name), f"a line of {name}")
    log.log(trt.ILogger.Severity.ERROR, "when nobody listens any more")
    assert heard.errors == ("a line of ERROR", "a line of INTERNAL_ERROR")
    assert heard.warnings == ("a line of WARNING",)
    assert (heard.dropped, heard.interrupted) == (0, False)


def test_a_severity_that_nobody_knows_is_no_error():
    trt, _ = made("10.3.0")
    heard = Heard()
    with hearing(heard):
        logger(trt).log(None, "of a later version")
    assert heard.errors == heard.warnings == ()


def test_a_text_that_is_repeated_is_kept_once_where_it_first_stood():
    heard = Heard()
    for text in ("b", "a", "b", "c", "a"):
        heard.warning(text)
    assert heard.warnings == ("b", "a", "c")
    assert heard.dropped == 0


def test_what_is_over_the_limit_is_counted_and_the_kinds_have_limits_of_their_own():
    heard = Heard()
    for number in range(LINES_MAX + 3):
        heard.warning(f"weight {number} is INT64")
    heard.warning("weight 0 is INT64")  # known: not dropped
    assert len(heard.warnings) == LINES_MAX
    assert heard.warnings[-1] == f"weight {LINES_MAX - 1} is INT64"
    assert heard.dropped == 3
    heard.error("out of memory")
    assert heard.errors == ("out of memory",)
    assert heard.dropped == 3


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ((), "no reason in its log"),
        (("no tactic", "build failed"), "no tactic"),
        ((NO_DRIVER, NO_DEVICE, STUB, "no tactic", "build failed"), "no tactic"),
        ((NO_DEVICE, NO_DRIVER), NO_DEVICE),
    ],
    ids=["silent", "first", "not the want of a GPU", "nothing but the want of a GPU"],
)
def test_the_reason_is_the_first_error_that_tells_something(errors, reason):
    heard = Heard()
    for text in errors:
        heard.error(text)
    assert heard.reason == reason


def test_what_was_forgiven_is_a_warning_and_explains_nothing_that_follows():
    heard = Heard()
    heard.warning("a warning")
    heard.error("the timing cache is of another version")
    heard.forgive()
    assert heard.errors == ()
    assert heard.warnings == ("a warning", "the timing cache is of another version")
    assert heard.reason == "no reason in its log"
    heard.error("no tactic")
    assert heard.reason == "no tactic"


@pytest.mark.parametrize("severity", ["ERROR", "WARNING"])
def test_ctrl_c_in_the_callback_is_kept_for_later(severity, monkeypatch):
    def interrupted(self, kept, text):
        raise KeyboardInterrupt

    trt, _ = made("8.2.1")
    heard = Heard()
    log = logger(trt)
    monkeypatch.setattr(Heard, "_keep", interrupted)
    with hearing(heard):
        log.log(getattr(trt.ILogger.Severity, severity), "a line")
    assert heard.interrupted


def test_tensorrt_has_one_logger_and_who_began_to_hear_last_hears():
    trt, _ = made("10.3.0")
    first, second = Heard(), Heard()
    log = logger(trt)
    assert logger(trt) is log, "a second one would be ignored, and the first one freed"
    with hearing(first):
        with hearing(second):
            log.log(trt.ILogger.Severity.ERROR, "of the second")
        assert listener() is first
        log.log(trt.ILogger.Severity.ERROR, "of the first")
    assert listener() is None
    assert (first.errors, second.errors) == (("of the first",), ("of the second",))


def test_a_thread_hears_its_own_and_tensorrts_threads_tell_who_began_last():
    trt, _ = made("10.3.0")
    log, error = logger(trt), trt.ILogger.Severity.ERROR
    engine, building = Heard(), Heard()
    hears, done = threading.Event(), threading.Event()

    def run():
        with hearing(engine):
            hears.set()
            done.wait(10)
            log.log(error, "of the engine")

    thread = threading.Thread(target=run)
    with hearing(building):
        thread.start()
        hears.wait(10)
        log.log(error, "of the build")
        done.set()
        thread.join()
        worker = threading.Thread(target=log.log, args=(error, "of a worker of the build"))
        worker.start()
        worker.join()
    assert engine.errors == ("of the engine",)
    assert building.errors == ("of the build", "of a worker of the build")


def interrupted_inside(heard, error=None):
    """Whether what stands behind the Ctrl-C was still reached."""
    reached = []

    def run():
        with keep_interrupt(heard):
            signal.raise_signal(signal.SIGINT)
            reached.append(heard.interrupted)
            if error is not None:
                raise error

    with pytest.raises(KeyboardInterrupt):
        run()
    return reached


@pytest.mark.parametrize("error", [None, ValueError("the build failed")], ids=["went on", "failed"])
def test_ctrl_c_waits_for_the_end_and_counts_more_than_what_failed_by_it(error):
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert interrupted_inside(Heard(), error) == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_ctrl_c_nothing_is_raised_and_errors_are_as_they_were():
    heard = Heard()
    with keep_interrupt(heard):
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    with pytest.raises(ValueError, match="no plan"), keep_interrupt(heard):
        raise ValueError("no plan")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not heard.interrupted


def test_a_programs_own_handler_stays():
    heard, caught = Heard(), []
    before = signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
    try:
        with keep_interrupt(heard):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (caught, heard.interrupted) == ([signal.SIGINT], False)


def test_in_another_thread_the_handler_is_left_alone():
    heard, seen = Heard(), []

    def run():
        with keep_interrupt(heard):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
