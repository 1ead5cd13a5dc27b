"""A reader that goes away costs no verdict; a disk that is full is one message and exit code 2."""

from __future__ import annotations

import errno
import io
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from devices.command import run_command

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "devices"]


class Broken(io.StringIO):
    """A stream that cannot be written to, as the system says it."""

    def __init__(self, code):
        super().__init__()
        self.code = code

    def write(self, text):
        raise OSError(self.code, os.strerror(self.code))


def exit_of(monkeypatch, *arguments, **streams):
    monkeypatch.setattr(sys, "argv", ["devices", *arguments])
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    with pytest.raises(SystemExit) as stopped:
        run_command("devices")
    return stopped.value.code


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("arguments", [["list"], ["--help"]])
def test_output_that_cannot_be_written_is_one_message(monkeypatch, capsys, code, arguments):
    broken = Broken(code)
    assert exit_of(monkeypatch, *arguments, stdout=broken) == 2
    assert sys.stdout is broken  # as it was before
    assert capsys.readouterr().err == (
        f"devices: standard output: found {os.strerror(code)}; expected room for what is printed; "
        "make room, or send it elsewhere\n"
    )


def test_the_end_of_the_process_fails_on_a_full_file_no_second_time(tmp_path):
    def no_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run([*COMMAND, "list"], stdout=out, stderr=subprocess.PIPE, text=True,
                              cwd=str(ROOT), preexec_fn=no_room)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "found File too large" in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["list"], ["--help"]])
def test_a_full_device_is_one_message(tmp_path, unbuffered, arguments):
    """Click tries an empty write first and passes over its error; an unbuffered one meets it."""
    try:
        os.mknod(str(tmp_path / "full"), stat.S_IFCHR | 0o666, os.makedev(1, 7))
        out = (tmp_path / "full").open("wb", buffering=0)
    except PermissionError:
        pytest.skip("only root makes device nodes, and only where they can be opened")
    with out:
        done = subprocess.run([*COMMAND, *arguments], stdout=out, stderr=subprocess.PIPE,
                              text=True, cwd=str(ROOT),
                              env={**os.environ, "PYTHONUNBUFFERED": unbuffered})  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "standard output: found No space left on device" in done.stderr
    assert stat.S_ISCHR((tmp_path / "full").stat().st_mode)


def closed_pipe():
    """The end of a pipe that is written to, its reader gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("streams", [("stdout",), ("stdout", "stderr")])
def test_a_reader_that_went_away_is_no_error(streams):
    writer = closed_pipe()
    kept = {name: subprocess.PIPE for name in ("stderr",) if name not in streams}
    done = subprocess.run([*COMMAND, "list"], cwd=str(ROOT), text=True,
                          **{name: writer for name in streams}, **kept)  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr or "") == (0, "")


def test_a_commands_own_code_outlives_a_reader_that_went_away(monkeypatch):
    def verdict():
        print("a verdict", flush=True)  # noqa: T201
        sys.exit(3)

    monkeypatch.setattr("devices.cli.profile_names", verdict)
    assert exit_of(monkeypatch, "list", stdout=Broken(errno.EPIPE)) == 3


def test_standard_error_that_is_full_hides_no_exit_code(monkeypatch, capsys):
    assert exit_of(monkeypatch, "no-such-command", stderr=Broken(errno.ENOSPC)) == 2


def test_a_stream_that_a_shell_closed_is_no_error(monkeypatch):
    assert exit_of(monkeypatch, "list", stdout=None) == 0
