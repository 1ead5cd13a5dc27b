"""The one way into every command: what an error, a wrong flag and Ctrl-C print, and the exit code.

Nothing heavy is imported here, so that Ctrl-C is caught while the command's own imports run.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, Dict, Union

from devices.errors import EXIT_BAD_INPUT, JetpressError
from devices.output import guarded

__all__ = ["EXIT_STOPPED", "SETTINGS", "run_command"]

EXIT_STOPPED = 130  # Ctrl-C, as a shell says it
SETTINGS: Dict[str, Any] = {  # of every click command
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
}


def run_command(package: str) -> None:
    """Run `cli` of `<package>.cli` and exit: errors as one message on standard error."""
    with guarded():
        code = _code(package)
    sys.exit(code)


def _code(package: str) -> Union[int, str, None]:
    try:
        try:
            code = _run(package)
        except SystemExit as asked:  # a command's own code, a verdict's
            code = asked.code
        if sys.stdout is not None:  # it is None where a shell closed it
            sys.stdout.flush()
    except KeyboardInterrupt:
        _tell(f"{package}: stopped")
        code = EXIT_STOPPED
    except JetpressError as error:
        _tell(f"{package}: {error}")
        code = EXIT_BAD_INPUT
    return code


def _run(package: str) -> Union[int, str, None]:
    import click

    try:
        cli = importlib.import_module(f"{package}.cli").cli
        return cli(prog_name=package, standalone_mode=False) or 0
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        error.show()
        return error.exit_code


def _tell(line: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(line + "\n")
