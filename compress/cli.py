"""`compress`: from arguments to a Job, from what happened to an exit code; the others by name."""

from __future__ import annotations

import errno
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from calib.preprocess import SIZE_MAX
from compress.lazycommand import LazyCommand
from compress.search.flags import search_flags, search_from_flags
from devices.command import EXIT_STOPPED, SETTINGS
from devices.errors import EXIT_BAD_INPUT, JetpressError
from devices.lazygroup import Entry
from devices.profile import load_profile
from edge.flags import FlagError, budget_from_flags, limit_flags

__all__ = ["cli", "image_size"]

FULL = {errno.ENOSPC, errno.EDQUOT}
CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}
OTHERS = {
    "lint": Entry(
        "compress.commands.lint:lint_command", "Say what a board's TensorRT will do with a file."
    ),
    "sensitivity": Entry(
        "compress.commands.sensitivity:sensitivity_command",
        "Say what each layer costs to quantize.",
    ),
}


@click.command(cls=LazyCommand, others=OTHERS, context_settings=SETTINGS)
@click.argument("model", required=False)
@click.option("--model", "named_model", metavar="MODEL", help="The same as MODEL.")
@click.option("--profile", "profile_name", required=True, metavar="NAME",
              help="The board, for example jetson-nano; `devices list` shows all. Several: a,b, "
                   "or all-orin for a family; they share the work.")  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR|VIDEO|FILE.npz",
              help="Frames to distil from and calibrate on; labels lying beside them judge the "
                   "result and never teach. An .npz: an array of samples for each input of "
                   "MODEL.")  # fmt: skip
@click.option("--labels", type=click.Path(path_type=Path), metavar="F",
              help="Of held-out frames: YOLO or VOC folder, COCO or jetpress JSON.")  # fmt: skip
@click.option("--teacher", metavar="T",
              help="Net to distil from: package.module:factory, or `none`.")  # fmt: skip
@click.option("--spec", type=click.Path(path_type=Path), metavar="FILE.toml",
              help="How pixels enter MODEL and what its outputs mean.")  # fmt: skip
@click.option("--size", metavar="HxW", help="Image size, for a MODEL that leaves it open.")
@click.option("--recipe", type=click.Path(path_type=Path), metavar="FILE.toml",
              help="Passes and their settings. Default: chosen for the board.")  # fmt: skip
@click.option("--prune", metavar="auto|off|RATIO",
              help="Share of the predicted latency to keep by cutting channels, at the precision "
                   "the run ends in. Default: auto, as suits the board.")  # fmt: skip
@click.option("--distil-steps", type=click.IntRange(min=0), metavar="N",
              help="Training steps; more is slower and usually better.")  # fmt: skip
@click.option("--dla", is_flag=True,
              help="Seal the model before Q/DQ too: INT8 on the board's DLA needs it.")  # fmt: skip
@click.option("--mode", metavar="NAME", help="Power mode of the board. Default: the profile's.")
@limit_flags
@search_flags
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR",
              help="Default: runs/<model>-<profile>.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1),
              help="Of every random choice.")  # fmt: skip
@click.option("--threads", default=2, show_default=True, type=click.IntRange(min=1),
              help="Of the arithmetic; another number rounds differently.")  # fmt: skip
def cli(model: str | None, named_model: str | None, profile_name: str, **options: Any) -> None:  # noqa: ANN401 - click's
    """Press MODEL until it fits a Jetson, and prove on this machine that it will.

    MODEL is an ONNX file or package.module:factory; without one the packaged person detector is
    compressed for its packaged street scene. Exit codes: 0 fits, 3 does not fit, 4 cannot be said
    from a prediction, 2 bad input.
    """
    try:
        code = _run(_one_model(model, named_model), profile_name, options)
    except JetpressError as error:
        click.echo(f"compress: {error}", err=True)
        code = EXIT_BAD_INPUT
    except KeyboardInterrupt:
        click.echo(
            "compress: stopped; finished passes are kept, the same command goes on", err=True
        )
        code = EXIT_STOPPED
    except OSError as error:
        if error.errno not in FULL | CLOSED:
            raise
        click.echo(f"compress: {_disk_words(error, options['out'])}", err=True)
        code = EXIT_BAD_INPUT
    click.get_current_context().exit(code)


def _run(model: str | None, profiles: str, options: dict[str, Any]) -> int:
    from compress.boards import boards_from_text
    from compress.console import Console
    from compress.fleet import run_fleet
    from compress.job import run_job
    from compress.search.run import run_search
    from compress.train_follow import run_together

    asked = search_from_flags(options)
    sys.path.append(str(Path.cwd()))  # a factory in a file beside the user is found, last
    boards = boards_from_text(profiles)
    for profile in boards:
        profile.mode(options["mode"])
        if options["dla"]:
            _require_dla(profile)
    source = _source(model, options)
    alone = len(boards) == 1
    folder = options["out"] or Path("runs") / f"{source.name}-{profiles.replace(',', '+')}"
    jobs = [_job(source, profile, options, None if alone else folder) for profile in boards]

    def run_one(job: Any, first: Any, voice: Any) -> int:  # noqa: ANN401 - of compress.job
        if asked is None:
            return run_job(job, voice, first)
        return run_search(job, asked, voice, first)

    together = "TORCHELASTIC_RUN_ID" in os.environ
    if together and asked is not None:
        raise FlagError("--search", found="a search under torchrun", expected="one of the two",
                        cure="use --workers N for a search")  # fmt: skip

    def lead() -> int:
        with Console(interactive=sys.stderr.isatty(), echo=click.echo) as console:
            if alone:
                return run_one(jobs[0], None, console)
            return run_fleet(jobs, folder, run_one, console)

    return run_together(together, jobs[0], lead)


def _job(source: Any, profile: Any, options: dict[str, Any], fleet: Path | None) -> Any:  # noqa: ANN401 - a Job
    """The job for one board; `fleet` is the folder of a call for several."""
    from compress.job import Job

    return Job(
        source=source,
        profile=profile,
        mode=options["mode"],
        budget=budget_from_flags(profile, options),
        data=options["data"],
        labels=options["labels"],
        teacher=options["teacher"],
        choice=_choice(options),
        recipe=options["recipe"],
        dla=options["dla"],
        out=options["out"] if fleet is None else fleet / profile.name,
        store=None if fleet is None else fleet / ".passes",
        cache=cache_folder(),
        seed=options["seed"],
        threads=options["threads"],
        command=shlex.join(["compress", *sys.argv[1:]]),
    )


def _one_model(model: str | None, named: str | None) -> str | None:
    if model is not None and named is not None:
        raise FlagError(
            "--model",
            found=f"{named!r} beside {model!r}",
            expected="one model",
            cure="give it once, with --model or without",
        )
    return named or model


def cache_folder() -> Path:
    """Where packaged files are kept: JETPRESS_CACHE, or the user's cache folder."""
    given = os.environ.get("JETPRESS_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jetpress"


def _source(model: str | None, options: dict[str, Any]) -> Any:  # noqa: ANN401 - a ModelSource
    from compress.import_model import source_from_text

    return source_from_text(model, spec=options["spec"], image_hw=image_size(options["size"]))


def _require_dla(profile: Any) -> None:  # noqa: ANN401 - a Profile
    from devices.profile import profile_names

    boards = [load_profile(name) for name in profile_names()]
    with_dla = [board.name for board in boards if board.number("dla_cores")]
    if profile.name not in with_dla:
        raise FlagError(
            "--dla",
            found=f"{profile.name}, which has no DLA",
            expected="a board that has one: " + ", ".join(with_dla),
            cure="leave --dla out: the GPU runs the bundle as it is",
        )


def _choice(options: dict[str, Any]) -> Any:  # noqa: ANN401 - a Choice
    from compress.recipe import Choice

    given = [f"--{name.replace('_', '-')}" for name in ("prune", "distil_steps")
             if options[name] is not None]  # fmt: skip
    if options["recipe"] is not None and given:
        raise FlagError(
            "--recipe",
            found=f"{' and '.join(given)} beside it",
            expected="the recipe alone, which says both",
            cure=f"write it into {options['recipe']}, or leave --recipe out",
        )
    return Choice(prune=options["prune"] or "auto", distil_steps=options["distil_steps"])


def image_size(text: str | None) -> tuple[int, int] | None:
    """(height, width) of HxW. Raises FlagError."""
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise FlagError(
            "--size",
            found=repr(text),
            expected="HEIGHTxWIDTH in pixels",
            cure="for example --size 224x224",
        )
    if max(int(height), int(width)) > SIZE_MAX:
        raise FlagError("--size", found=repr(text), expected=f"at most {SIZE_MAX} px a side",
                        cure="correct the flag")  # fmt: skip
    return int(height), int(width)


def _disk_words(error: OSError, out: Path | None) -> str:
    where = error.filename or out or Path("runs").absolute()
    full = error.errno in FULL
    return (
        f"{where}: found {'a full disk' if full else 'no permission to write'}; expected "
        f"{'room for the run' if full else 'a folder this user may write'}; "
        f"{'free some space' if full else 'choose another with --out'} and run the same command "
        "again, finished passes are kept"
    )
