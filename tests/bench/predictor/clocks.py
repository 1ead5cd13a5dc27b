"""Published rows at other clocks, none of them in the fit: does the model scale as boards do?

python -m tests.bench.predictor.clocks ROWS.csv
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import msgspec

from devices.profile import Profile, load_profile
from devices.roofline import predict
from tests.bench.predictor.rows import costs_of, row_from

_CLOCKS = re.compile(r"clk:gpu_mhz=([\d.]+);\s*emc_mhz=([\d.]+)")


def at_clocks(board: str, gpu_mhz: float, emc_mhz: float) -> Profile:
    """The board with one more power mode, named "clocked"."""
    profile = load_profile(board)
    mode = msgspec.structs.replace(profile.mode(), name="clocked", gpu_mhz=gpu_mhz, emc_mhz=emc_mhz)
    return msgspec.structs.replace(profile, power_modes=(*profile.power_modes, mode))


def main() -> None:
    """Print predicted against published for every row whose clocks are stated."""
    with Path(sys.argv[1]).open(newline="") as file:
        for raw in csv.DictReader(file):
            clocks = _CLOCKS.search(raw["notes"])
            row = row_from(raw)
            if clocks is None or row is None:
                continue
            gpu_mhz, emc_mhz = map(float, clocks.groups())
            profile = at_clocks(row.board, gpu_mhz, emc_mhz)
            costs = costs_of(row.net, row.size_px, row.precision == "int8")
            latency = predict(
                costs, profile, precision=row.precision, mode="clocked", harness=row.harness
            ).latency_ms
            print(
                f"{row.board:18} {row.precision} {row.net:16} GPU {gpu_mhz:7.1f} EMC {emc_mhz:.1f}",
                f"published {row.latency_ms:6.3f} ms  predicted {latency.value:6.3f}",
                f"[{latency.low:.2f} .. {latency.high:.2f}]",
            )


if __name__ == "__main__":
    main()
