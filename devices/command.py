"""The one way into every command: what an error, a wrong flag and Ctrl-C print, and the exit code.

Nothing heavy is imported here, so that Ctrl-C is caught while the command's own imports run.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, Dict

from devices.errors import EXIT_BAD_INPUT, JetpressError

__all__ = ["EXIT_STOPPED", "SETTINGS", "run_command"]

EXIT_STOPPED = 130  # Ctrl-C, as a shell says it
SETTINGS: Dict[str, Any] = {  # of every click command
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
}


def run_command(package: str) -> None:
    """Run `cli` of `<package>.cli` and exit: errors as one message on standard error."""
    try:
        code = _run(package)
    except KeyboardInterrupt:
        sys.stderr.write(f"{package}: stopped\n")
        code = EXIT_STOPPED
    sys.exit(code)


def _run(package: str) -> int:
    import click

    try:
        cli = importlib.import_module(f"{package}.cli").cli
        return cli(prog_name=package, standalone_mode=False) or 0
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except JetpressError as error:
        sys.stderr.write(f"{package}: {error}\n")
        return EXIT_BAD_INPUT
