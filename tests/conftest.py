"""Every bundle a test seals for an Orin or Thor goes through NVIDIA's builder at the end."""

from __future__ import annotations

import functools

import pytest

from tests.every_bundle import Sealed, check, summary

KEY = "nvidias_builder"
_sealed = Sealed()
_results = []


def pytest_configure(config):
    """Before any module does `from edge.bundle import seal`."""
    import edge.bundle

    real = edge.bundle.seal

    @functools.wraps(real)
    def seal(folder, manifest):
        bundle = real(folder, manifest)
        _sealed.remember(bundle)
        return bundle

    edge.bundle.seal = seal


def pytest_sessionfinish(session):
    """In each process of a run; one that only starts others adds what they found."""
    result = check(_sealed)
    if result is not None:
        _results.append(result)
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[KEY] = result
    elif any(one["refused"] for one in _results) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    result = getattr(node, "workeroutput", {}).get(KEY)
    if result is not None:
        _results.append(result)


def pytest_terminal_summary(terminalreporter):
    for line in summary(_results):
        terminalreporter.write_line(line)
