"""The `compress` command: `python -m compress`, and what the console script calls."""

from devices.command import run_command

__all__ = ["main"]


def main() -> None:
    """Exits with 0, with the command's own code, 2 for bad input or 130 for Ctrl-C."""
    run_command("compress")


if __name__ == "__main__":
    main()
