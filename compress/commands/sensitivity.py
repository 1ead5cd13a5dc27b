"""`compress sensitivity`: what each layer costs to quantize for a board, each group to prune."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from devices.command import SETTINGS
from devices.errors import EXIT_BAD_INPUT, JetpressError
from devices.profile import load_profile
from edge.places import NAME, PLACE

__all__ = ["sensitivity_command"]


@click.command("sensitivity", context_settings=SETTINGS)
@click.argument("model", type=PLACE)
@click.option("--profile", "profile_name", required=True, type=NAME, metavar="NAME",
              help="The board, such as jetson-orin-nano; `devices list` shows all.")  # fmt: skip
@click.option("--data", required=True, type=PLACE, metavar="DIR|VIDEO|FILE.npz",
              help="Frames to calibrate on, chosen as `compress` would; or an array for each "
                   "input, the first axis counting samples, for a MODEL that takes no one "
                   "image.")  # fmt: skip
@click.option("--spec", type=PLACE, metavar="FILE.toml", help="How pixels enter MODEL.")
@click.option("--size", metavar="HxW", help="Image size, for a MODEL that leaves it open.")
@click.option("--what", type=click.Choice(["quantize", "prune", "both"]), default="both",
              show_default=True, help="Which half to tell.")  # fmt: skip
@click.option("--mode", type=NAME, metavar="NAME",
              help="Power mode of the board. Default: the profile's.")  # fmt: skip
@click.option("--frames", "frames_max", type=click.IntRange(min=1), metavar="N",
              help="At most so many frames, evenly spread. Default: all that `compress` would "
                   "calibrate on.")  # fmt: skip
@click.option("--html", type=PLACE, metavar="OUT.html", help="Write a page with plots, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def sensitivity_command(model: Path, profile_name: str, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - click's
    """Say what each layer of MODEL costs to quantize for a board, and each group to prune.

    MODEL is an ONNX or .pt2 file, or package.module:factory. Quantizing, layer by layer: noise in
    the net's answers when it alone is INT8, share of the MACs, predicted time; then the net as a
    whole, and which layers `compress` would leave float. Pruning, group of channels by group: noise
    in the answers when its least important quarter and half are cut, nothing trained again, and
    what that wins in time and MACs; the best to cut first. A half that cannot be had is missing,
    with the reason.

    Noise is emulated on this host, times are predicted; nothing is measured on a board. Exit codes:
    0 told, 2 bad input.
    """
    from compress.cli import image_size
    from compress.console import Console
    from compress.sensitivity import Board
    from compress.sensitivity_file import Request, tell_sensitivity

    code = 0
    sys.path.append(str(Path.cwd()))  # a factory in a file beside the user is found, last
    try:
        profile = load_profile(profile_name)
        profile.mode(options["mode"])
        asked = Request(
            model=model,
            board=Board(profile=profile, mode=options["mode"]),
            data=options["data"],
            what=options["what"],
            spec=options["spec"],
            image_hw=image_size(options["size"]),
            frames_max=options["frames_max"],
            html=options["html"],
            as_json=as_json,
        )
        with Console(interactive=sys.stderr.isatty(), echo=click.echo) as console:
            lines: list[str] = []
            tell_sensitivity(asked, console, lines.append)
        for line in lines:
            click.echo(line)
    except JetpressError as error:
        click.echo(f"compress: {error}", err=True)
        code = EXIT_BAD_INPUT
    click.get_current_context().exit(code)
