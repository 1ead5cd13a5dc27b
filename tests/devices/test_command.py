"""Every command ends the same way: 0, its own code, 2 with one message, 130 for Ctrl-C."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from devices.command import EXIT_STOPPED, run_command

ROOT = Path(__file__).parents[2]
PACKAGES = ("devices", "calib", "edge")


def exit_of(monkeypatch, package, *arguments):
    monkeypatch.setattr(sys, "argv", [package, *arguments])
    with pytest.raises(SystemExit) as stopped:
        run_command(package)
    return stopped.value.code


@pytest.mark.parametrize("package", PACKAGES)
def test_short_and_long_help_are_the_same(monkeypatch, capsys, package):
    assert exit_of(monkeypatch, package, "-h") == 0
    short = capsys.readouterr().out
    assert exit_of(monkeypatch, package, "--help") == 0
    assert short == capsys.readouterr().out
    assert "Usage: " + package in short


@pytest.mark.parametrize("package", PACKAGES)
def test_wrong_usage_is_exit_code_2(monkeypatch, capsys, package):
    assert exit_of(monkeypatch, package, "no-such-command") == 2
    assert "No such command" in capsys.readouterr().err


@pytest.mark.parametrize("package", PACKAGES)
def test_ctrl_c_is_130_and_one_line_while_imports_run(monkeypatch, capsys, package):
    real = importlib.import_module

    def interrupted(name, *rest):
        if name == f"{package}.cli":
            raise KeyboardInterrupt
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", interrupted)
    assert exit_of(monkeypatch, package) == EXIT_STOPPED == 130
    assert capsys.readouterr().err == f"{package}: stopped\n"


def test_ctrl_c_is_130_inside_a_command(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("devices.cli.profile_names", interrupted)
    assert exit_of(monkeypatch, "devices", "list") == 130
    out, err = capsys.readouterr()
    assert (out, err.strip()) == ("", "devices: stopped")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_way_in_imports_nothing_that_takes_time(package):
    code = (
        f"import sys, {package}.__main__; "
        "print(sorted({'click', 'msgspec', 'numpy'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         cwd=str(ROOT))  # fmt: skip
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_package_runs_as_a_module(package):
    run = subprocess.run([sys.executable, "-m", package, "-h"], capture_output=True, text=True,
                         cwd=str(ROOT))  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
