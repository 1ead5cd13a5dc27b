"""`compress lint`: what a board's TensorRT will really do with an ONNX file, and the safe cures."""

from __future__ import annotations

from pathlib import Path

import click

from devices.command import SETTINGS
from devices.errors import EXIT_BAD_INPUT, JetpressError
from edge.flags import FlagError

__all__ = ["lint_command"]

PATH = click.Path(path_type=Path)


@click.command("lint", context_settings=SETTINGS)
@click.argument("model", type=PATH)
@click.option("--profile", "profile_name", required=True, metavar="NAME",
              help="The board, for example jetson-nano; `devices list` shows all.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True,
              help="Print the findings as a list: rule, node, severity and the rest.")  # fmt: skip
@click.option("--fix", is_flag=True, help="Apply the safe cures and write OUT.onnx.")
@click.option("-o", "--out", type=PATH, metavar="OUT.onnx", help="Where --fix writes.")
def lint_command(
    model: Path, profile_name: str, as_json: bool, fix: bool, out: Path | None
) -> None:
    """Say what a board's TensorRT will really do with MODEL, an ONNX file.

    Rules are asked first, then NVIDIA's own parser and builder where TensorRT-RTX is installed.
    Exit codes: 0 nothing changes results or fails the build, 3 something does, 2 bad input.
    """
    from compress.lint_file import lint_file

    try:
        if fix != (out is not None):
            raise FlagError(
                "--fix",
                found="--fix alone" if fix else "-o alone",
                expected="both: --fix -o OUT.onnx",
                cure="add the other, the input is never written to",
            )
        code = lint_file(model, profile_name, as_json=as_json, out=out, say=click.echo)
    except JetpressError as error:
        click.echo(f"compress: {error}", err=True)
        code = EXIT_BAD_INPUT
    click.get_current_context().exit(code)
