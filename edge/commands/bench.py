"""`edge bench`: a bundle's engine measured on the board, as a record that a release can rest on."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Iterator, Optional, Tuple

import click

from devices.errors import JetpressError
from devices.measured import BenchRecord, LayerPair, Percentiles, record_to_json, write_record
from edge.board_bench import BoardPlan, bench_on_board
from edge.bundle import open_bundle
from edge.clock import RealClock
from edge.engine_flags import board_options, engine_flags, tell
from edge.engines import EngineOptions
from edge.places import NAME, PLACE, require_output
from edge.session import board_of

__all__ = ["bench", "render_record"]

LAYERS_SHOWN = 8


@click.command()
@click.argument("bundle", type=PLACE)
@click.option("--profile", type=NAME, metavar="NAME",
              help="The board. Default: the one it was made for.")  # fmt: skip
@click.option("--mode", type=NAME, metavar="NAME",
              help="Refuse to measure in any other power mode.")  # fmt: skip
@click.option("--runs", default=200, show_default=True, type=click.IntRange(1, 100_000),
              metavar="N", help="Inferences to time.")  # fmt: skip
@click.option("--warmup", default=20, show_default=True, type=click.IntRange(0, 100_000),
              metavar="N", help="Inferences before them.")  # fmt: skip
@engine_flags
@click.option("-o", "--output", type=PLACE, metavar="FILE.json",
              help="Write the record, for `edge gate --measured`.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def bench(bundle: Path, **flags: Any) -> None:  # noqa: ANN401  # click's values
    """Measure BUNDLE on this board: latency, memory, power, every layer beside its prediction.

    The engine is built first when it is not there. Nothing is measured on a computer that does not
    say itself that it is the board.
    """
    opened, output = open_bundle(bundle), flags["output"]
    require_output(output, "-o")  # before minutes are spent
    options = EngineOptions(
        profile=board_of(opened, flags["profile"]),
        clock=RealClock(),
        mode=flags["mode"],
        board=board_options(flags),
    )
    plan = BoardPlan(warmup=flags["warmup"], runs=flags["runs"])
    record = bench_on_board(opened, options, plan)
    failure = None if output is None else _written(output, record)
    if flags["as_json"]:
        click.echo(record_to_json(record).decode().rstrip("\n"))
    else:
        click.echo(render_record(record))
    if failure is not None:
        raise failure
    if output is not None:
        tell(f"next: edge gate {shlex.quote(str(bundle))} --for {options.profile.name} --release "
              f"--measured {shlex.quote(str(output))}")  # fmt: skip


def _written(path: Path, record: BenchRecord) -> Optional[JetpressError]:
    """Why the record could not be written; None when it was. It is printed either way."""
    try:
        write_record(path, record)
    except JetpressError as error:
        return error
    return None


def render_record(record: BenchRecord) -> str:
    """The record for a terminal, a line for each thing."""
    board = record.board
    rows = [
        ("measured", f"{record.bundle_name}, {record.precision}, on {board.profile}, power mode "
                     f"{board.mode or 'not told'}, TensorRT {board.tensorrt}"),
        ("gpu", _spread(record.gpu) + ", copies not in it"),
        ("host", _spread(record.host) + ", from call to return"),
        *((fact.name, fact.text()) for fact in record.facts),
        *((sensor.name, f"{sensor.mean:.4g} {sensor.unit} [{sensor.low:.4g} .. {sensor.high:.4g}], "
                        f"{sensor.samples} readings") for sensor in record.sensors),
    ]  # fmt: skip
    if record.golden_db is not None:
        rows.append(("golden", f"the sealed outputs came out at {record.golden_db:.1f} dB"))
    rows += _layer_rows(record.layers)
    rows += [("note", note) for note in record.notes]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {words}" for name, words in rows)


def _layer_rows(pairs: Tuple[LayerPair, ...]) -> Iterator[Tuple[str, str]]:
    """The layers that took most, longest first; all are in the record."""
    timed = sorted((p for p in pairs if p.measured_ms), key=lambda p: -(p.measured_ms or 0))
    for pair in timed[:LAYERS_SHOWN]:
        name = pair.layers[0] + (f" and {len(pair.layers) - 1} more" if pair.layers[1:] else "")
        told = "nothing" if pair.predicted_ms is None else f"{pair.predicted_ms:.4f} ms"
        yield "layer", f"{pair.measured_ms:.4f} ms measured, {told} predicted: {name}"


def _spread(of: Percentiles) -> str:
    return (f"p50 {of.p50_ms:.3f} ms, p90 {of.p90_ms:.3f}, p95 {of.p95_ms:.3f}, "
            f"p99 {of.p99_ms:.3f}, max {of.max_ms:.3f}; {of.count} inferences")  # fmt: skip
