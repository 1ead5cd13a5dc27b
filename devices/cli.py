"""`devices`: which boards there are, what each allows, and what a network would cost on it."""

from __future__ import annotations

import importlib
import json
import textwrap
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import click
import msgspec

from devices.budget import LIMITS, Measurement
from devices.command import SETTINGS
from devices.errors import JetpressError
from devices.forecast import Forecast, forecast
from devices.profile import PRECISIONS, Profile, load_profile, profile_names, unit_of
from devices.roofline import Costs, LayerTime

__all__ = ["READERS", "cli", "read_costs"]

READERS = {  # reached by name: `devices` is the lowest floor and imports nothing above it
    ".onnx": "edge.cost:costs_from_onnx",
    ".json": "devices.costs:costs_from_json",  # the costs.json of a bundle
}
Row = Sequence[str]


class InputError(JetpressError):
    """The file is not one that can be priced, or the request does not fit it."""


@click.group(context_settings=SETTINGS)
def cli() -> None:
    """Jetson boards as facts: list them, show one, predict a network's latency and memory."""


@cli.command("list")
def list_boards() -> None:
    """Every board, smallest GPU first."""
    rows = [("board", "GPU", "SMs", "memory", "precisions", "default mode", "JetPack", "opset")]
    for name in profile_names():
        board = load_profile(name)
        mode = board.mode()
        rows.append(
            (
                name,
                board.architecture.title,
                str(mode.sm_count),
                f"{board.number('memory_gb'):g} GB",
                " ".join(board.precisions),
                f"{mode.name}, {mode.gpu_mhz:g} MHz",
                board.jetpack.versions,
                f"{board.jetpack.opset_min} to {board.opset_max}",
            )
        )
    _table(rows, right=(2, 3))


@cli.command()
@click.argument("name")
def show(name: str) -> None:
    """Facts of one board, each with its unit, how sure it is, and where it was read."""
    board = load_profile(name)
    part = f", module {' '.join(board.part_numbers)}" if board.part_numbers else ""
    click.echo(f"{board.name}: {board.title}, {board.architecture.title}{part}")
    for other in board.confused_with:
        _wrapped(f"not {other.name}: {other.difference}", hang="    ")
    _heading("facts")
    for key, fact in board.facts.items():
        value = f"{fact.value:g}" if isinstance(fact.value, (int, float)) else fact.value
        note = f"; {fact.note}" if fact.note else ""
        _wrapped(
            f"  {_label(key):14} {(value + ' ' + unit_of(key)).strip():26} "
            f"{fact.status}, {fact.source}{note}"
        )
    _show_modes(board)
    _show_software(board)
    _heading("default limits")
    for limit, line in board.limits.items():
        _wrapped(f"  {limit:18} {line.value:g} {LIMITS[limit].unit}: {line.reason}")
    if board.notes:
        _heading("notes")
        for note in board.notes:
            _wrapped(f"  {note}")
    _heading("sources")
    for source, text in board.sources.items():
        _wrapped(f"  {source:14} {text}")


@cli.command("predict")
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.onnx|costs.json")
@click.option("--profile", "name", help="Board to predict for; see `devices list`.")
@click.option("--all", "every", is_flag=True, help="Predict for every board.")
@click.option("--precision", type=click.Choice(PRECISIONS),
              help="Default: int8 when the file holds Q/DQ, else fp16.")  # fmt: skip
@click.option("--mode", help="Power mode; default: the board's own. See `devices show`.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every kernel.")
def predict_command(model: Path, name: Optional[str], every: bool, precision: Optional[str],
                    mode: Optional[str], as_json: bool) -> None:  # fmt: skip
    """Predict latency, engine size and memory of a network. Nothing runs on a board."""
    names = _chosen(name, every, mode)
    costs = read_costs(model)
    forecasts = [_forecast(costs, load_profile(board), precision, mode) for board in names]
    if as_json:
        click.echo(_as_json(model, costs, forecasts))
    elif every:
        _show_all(model, costs, forecasts)
    elif forecasts[0].layers:
        _show_one(model, costs, forecasts[0])
    if not every and forecasts[0].refusals:
        raise _as_error(model, forecasts[0])


def read_costs(path: Path) -> Costs:
    """Costs of the network in a file, read by what its suffix names in `READERS`."""
    target = READERS.get(path.suffix.lower())
    if target is None:
        raise InputError(
            str(path),
            found=f"suffix {path.suffix!r}",
            expected="one of " + ", ".join(READERS),
            cure="export the network to ONNX first",
        )
    module, _, function = target.partition(":")
    reader: Callable[[Path], Costs] = getattr(importlib.import_module(module), function)
    return reader(path)


def _chosen(name: Optional[str], every: bool, mode: Optional[str]) -> Tuple[str, ...]:
    if every == (name is not None):
        raise InputError(
            "devices predict",
            found="both --profile and --all" if every else "neither --profile nor --all",
            expected="one of them",
            cure="name a board (see: devices list) or ask for all",
        )
    if every and mode is not None:
        raise InputError(
            "devices predict --all",
            found=f"--mode {mode}",
            expected="no mode: boards name theirs differently",
            cure="ask for one board with --profile",
        )
    if name is None:
        return profile_names()
    load_profile(name).mode(mode)
    return (name,)


def _forecast(
    costs: Costs, board: Profile, precision: Optional[str], mode: Optional[str]
) -> Forecast:
    quantized = any(kernel.int8 for kernel in costs.kernels)
    wanted = precision or ("int8" if quantized else "fp16")
    return forecast(costs, board, precision=wanted, mode=mode)


def _as_error(model: Path, refused: Forecast) -> InputError:
    first = refused.refusals[0]
    reasons = "; ".join(refusal.reason for refusal in refused.refusals)
    return InputError(
        f"{model}: {first.what}",
        found=f"a refusal: {reasons}",
        expected="what the board can build and hold",
        cure=first.instead,
    )


def _show_one(model: Path, costs: Costs, shown: Forecast) -> None:
    _describe(model, costs)
    click.echo(f"{shown.profile}, {shown.mode}, {shown.precision}; no board was touched")
    _heading("")
    _table([(f"  {title}", *_cells(fact)) for title, fact in _costing(shown)], right=(1,))
    _heading("where the time goes, predicted")
    _table(_by_class(shown.layers), right=(1, 2, 3, 4, 5, 6))
    _heading("how far to trust it")
    for note in shown.notes:
        _wrapped(f"  {note}")
    click.echo("  engine only: no camera, no preparation, no decoding of boxes")


def _costing(shown: Forecast) -> List[Tuple[str, Measurement]]:
    """The facts that depend on the board, each with its title."""
    titles = {"latency_ms": "latency", "fps": "throughput", "engine_mb": "engine file",
              "memory_mb": "memory"}  # fmt: skip
    return [(titles[fact.name], fact) for fact in shown.facts if fact.name in titles]


def _show_all(model: Path, costs: Costs, forecasts: Sequence[Forecast]) -> None:
    _describe(model, costs)
    rows: List[Row] = [("board", "mode", "", "latency, ms", "", "frames/s", "engine, MB",
                        "memory, MB", "basis")]  # fmt: skip
    for shown in forecasts:
        if not shown.refusals:
            latency, fps, engine, memory = (fact for _, fact in _costing(shown))
            rows.append((shown.profile, shown.mode, shown.precision, f"{latency.value:.2f}",
                         _span(latency), f"{fps.value:.0f}", f"{engine.value:.1f}",
                         f"{memory.value:.0f}", latency.basis.value))  # fmt: skip
    if len(rows) > 1:
        _table(rows, right=(3, 5, 6, 7))
    refused: Dict[Tuple[str, str], List[str]] = {}
    for shown in forecasts:
        for refusal in shown.refusals:
            refused.setdefault((refusal.reason, refusal.instead), []).append(shown.profile)
    for (reason, instead), names in refused.items():
        _wrapped(f"refused: {', '.join(names)}: {reason}. Instead: {instead}.",
                 hang="    ")  # fmt: skip


def _describe(model: Path, costs: Costs) -> None:
    assumed = " (assumed: the file leaves it open)" if costs.batch_open else ""
    click.echo(
        f"{model.name}: {costs.params / 1e6:.2f} M weights, "
        f"{costs.macs / 1e9:.3f} G multiply-adds, "
        f"{len(costs.kernels)} kernels, batch {costs.batch}{assumed}, opset {costs.opset}"
    )


def _by_class(layers: Tuple[LayerTime, ...]) -> List[Row]:
    total = sum(layer.ms for layer in layers) or 1.0
    rows: List[Row] = [("  kernels", "", "ms", "share", "compute", "memory", "floor")]
    kinds = {layer.op for layer in layers}
    spent = {kind: sum(layer.ms for layer in layers if layer.op == kind) for kind in kinds}
    for kind in sorted(spent, key=lambda name: (-spent[name], name)):
        bounds = [layer.bound for layer in layers if layer.op == kind]
        counts = [str(bounds.count(word) or "") for word in ("compute", "memory", "floor")]
        share = f"{100 * spent[kind] / total:.0f} %"
        rows.append((f"  {kind}", str(len(bounds)), f"{spent[kind]:.3f}", share, *counts))
    return rows


def _show_modes(board: Profile) -> None:
    _heading("power modes")
    rows: List[Row] = [("  mode", "watts", "SMs", "GPU MHz", "EMC MHz", "GB/s", "", "")]
    for mode in board.power_modes:
        default = "default" if mode.name == board.default_mode else ""
        rows.append(
            (
                f"  {mode.name}", f"{mode.watts:g}" if mode.watts else "-", str(mode.sm_count),
                f"{mode.gpu_mhz:g}", f"{mode.emc_mhz:g}", f"{board.dram_gb_per_s(mode):.1f}",
                default, f"{mode.status}, {mode.source}" + (f"; {mode.note}" if mode.note else ""),
            )
        )  # fmt: skip
    _table(rows, right=(1, 2, 3, 4, 5))


def _show_software(board: Profile) -> None:
    _heading("software")
    rows: List[Row] = [("  JetPack", "L4T", "CUDA", "TensorRT", "Python", "opset", "API", "")]
    for line in board.jetpacks:
        default = "default" if line.name == board.default_jetpack else ""
        rows.append((f"  {line.versions}", line.l4t, line.cuda, line.tensorrt, line.python,
                     f"{line.opset_min} to {line.opset_max}", line.dialect, default))  # fmt: skip
    _table(rows)
    for precision in PRECISIONS:
        refusal = board.refuse(precision)
        said = "yes" if refusal is None else f"no. {refusal.reason}. Instead: {refusal.instead}."
        _wrapped(f"  {precision}: {said}")


def _as_json(model: Path, costs: Costs, forecasts: Sequence[Forecast]) -> str:
    summary = {key: value for key, value in msgspec.to_builtins(costs).items() if key != "kernels"}
    whole = {"model": model.name, "costs": summary, "predictions": msgspec.to_builtins(forecasts)}
    return json.dumps(whole, indent=1)


def _cells(fact: Measurement) -> Row:
    return (f"{fact.value:.4g}", fact.unit, _span(fact), fact.basis.value)


def _span(fact: Measurement) -> str:
    return f"[{fact.low:.3g} .. {fact.high:.3g}]"


def _label(key: str) -> str:
    """A fact's key as words, without its unit: "dram_gb_per_s" -> "DRAM"."""
    for ending in ("_gb_per_s", "_mhz_max", "_kib", "_mib", "_gb", "_bits"):
        if key.endswith(ending):
            key = key[: -len(ending)]
    acronyms = ("sm", "cuda", "gpu", "l2", "dram", "cpu", "dla")
    return " ".join(word.upper() if word in acronyms else word for word in key.split("_"))


def _heading(text: str) -> None:
    click.echo(f"\n{text}" if text else "")


def _wrapped(text: str, hang: str = " " * 6) -> None:
    click.echo(textwrap.fill(text, width=100, subsequent_indent=hang, break_on_hyphens=False))


def _table(rows: Sequence[Row], right: Tuple[int, ...] = ()) -> None:
    """Columns two spaces apart, as wide as their widest cell; those in `right` flush right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        )
        click.echo("  ".join(cells).rstrip())
