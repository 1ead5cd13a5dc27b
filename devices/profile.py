"""Profile and PowerMode: what a board is and what is legal on it; one TOML file per board.

ProfileError                 a board's file is wrong, or no such board or mode
 '- PrecisionError           a precision that this board cannot run was asked for
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Dict, Literal, Optional, Tuple, Union

import msgspec

from devices.architecture import Architecture, architecture
from devices.budget import LIMITS, Budget, Refusal
from devices.errors import JetpressError, nearest
from devices.jetpack import JetPack, jetpack_line, jetpack_lines
from devices.tomlfile import read_toml, wrong

__all__ = [
    "PRECISIONS",
    "BudgetLine",
    "Confusion",
    "Fact",
    "PowerMode",
    "PrecisionError",
    "Profile",
    "ProfileError",
    "load_profile",
    "profile_for",
    "profile_names",
]

PRECISIONS = ("fp32", "fp16", "int8")
Status = Literal["stated", "derived", "from memory, unverified"]
_FOLDER = Path(__file__).parent / "profiles"
_NUMBERS = (
    "sm_count",
    "gpu_mhz_max",
    "l2_kib",
    "memory_gb",
    "bus_bits",
    "dram_gb_per_s",
    "cuda_visible_mib",
    "dla_cores",
)
_UNITS = {
    "_mhz_max": "MHz",
    "_kib": "KiB",
    "_mib": "MiB",
    "_gb": "GB",
    "_bits": "bits",
    "_gb_per_s": "GB/s",
    "_cores": "",
    "_count": "",
}


class ProfileError(JetpressError):
    """A board's file is wrong, or there is no such board or power mode."""


class PrecisionError(ProfileError):
    """The board cannot run the precision that was asked for."""


class Fact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fact; its unit is in its key, `source` names an entry of the file's `[sources]`."""

    value: Union[int, float, str]
    status: Status
    source: str
    note: str = ""


class PowerMode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Clocks under one nvpmodel mode; `watts` is None for an uncapped mode."""

    name: str
    sm_count: int
    gpu_mhz: float
    emc_mhz: float
    watts: Optional[float] = None
    status: Status
    source: str
    note: str = ""

    def __post_init__(self) -> None:
        for field in ("sm_count", "gpu_mhz", "emc_mhz"):
            value = getattr(self, field)
            if not (math.isfinite(value) and value > 0):
                raise wrong(field, value, "a number more than 0")
        if self.gpu_mhz > 5000:
            raise wrong("gpu_mhz", self.gpu_mhz, "MHz, 5000 at most")


class BudgetLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One default limit and why it is what it is."""

    value: float
    reason: str


class Confusion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another board this one is often taken for, and what tells them apart."""

    name: str
    difference: str


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One board: facts, power modes, software line, default limits; all from its TOML file."""

    name: str
    title: str
    family: str
    sm: str
    default_jetpack: str
    default_mode: str
    facts: Dict[str, Fact]
    power_modes: Tuple[PowerMode, ...]
    limits: Dict[str, BudgetLine]
    sources: Dict[str, str]
    confused_with: Tuple[Confusion, ...] = ()
    part_numbers: Tuple[str, ...] = ()  # as nvpmodel tables name the module; empty: not known
    nvpmodel_table: Literal["", "plain", "super"] = ""  # of its modes, where one module has two
    notes: Tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_facts(self)
        _check_modes(self)
        for limit in self.limits:
            if limit not in LIMITS:
                raise wrong(f"limits.{limit}", "an unknown limit", "one of " + ", ".join(LIMITS))

    def number(self, key: str) -> float:
        """The numeric fact of that key, in the unit the key names."""
        value = self.facts[key].value
        if isinstance(value, str):
            raise ProfileError(
                f"{self.name}: {key}",
                found=f"text {value!r}",
                expected="a number",
                cure="ask for a fact that is a number",
            )
        return float(value)

    @property
    def architecture(self) -> Architecture:
        """What all boards of this GPU family share."""
        return architecture(self.family)

    @property
    def precisions(self) -> Tuple[str, ...]:
        """What TensorRT runs natively here, widest first."""
        return tuple(name for name in PRECISIONS if name in self.architecture.ops_per_sm_clock)

    @property
    def jetpack(self) -> JetPack:
        """The software line assumed unless told otherwise."""
        return jetpack_line(self.default_jetpack)

    @property
    def jetpacks(self) -> Tuple[JetPack, ...]:
        """Every line that supports this board, oldest first."""
        return tuple(line for line in jetpack_lines() if self.name in line.boards)

    @property
    def opset_max(self) -> int:
        """Highest ONNX opset the default JetPack's TensorRT reads."""
        return self.jetpack.opset_max

    @property
    def budget(self) -> Budget:
        """The default limits, without their reasons."""
        return Budget(**{name: line.value for name, line in self.limits.items()})

    @property
    def cuda_visible_mb(self) -> float:
        """Memory the board shows to CUDA, MB of 1e6 bytes; the system takes its part of it."""
        return self.number("cuda_visible_mib") * 2**20 / 1e6

    def mode(self, name: Optional[str] = None) -> PowerMode:
        """The power mode of that name; the default one for None."""
        wanted = self.default_mode if name is None else name
        for mode in self.power_modes:
            if mode.name.lower() == wanted.lower():
                return mode
        known = tuple(mode.name for mode in self.power_modes)
        raise ProfileError(
            f"{self.name}: power mode {wanted!r}",
            found="no such mode",
            expected="one of its modes",
            cure=nearest(wanted, known),
        )

    def dram_gb_per_s(self, mode: PowerMode) -> float:
        """Peak memory bandwidth in GB/s: bus bits x 2 x EMC clock / 8."""
        return self.number("bus_bits") * 2 * mode.emc_mhz * 1e6 / 8 / 1e9

    def refuse(self, precision: str) -> Optional[Refusal]:
        """None when the board runs that precision; else why not, what it needs, what instead.

        >>> load_profile("jetson-orin-nano").refuse("int8") is None
        True
        """
        if precision not in PRECISIONS:
            raise PrecisionError(
                f"precision {precision!r}",
                found="an unknown precision",
                expected="a known one",
                cure=nearest(precision, PRECISIONS),
            )
        if precision in self.precisions:
            return None
        why = self.architecture.missing[precision]
        return Refusal(
            what=f"{precision} on {self.name}",
            reason=f"SM {self.sm}: {why.reason}; it would have needed {why.needs}",
            instead=why.instead,
        )

    def refuse_opset(self, opset: int) -> Optional[Refusal]:
        """None when the default JetPack's TensorRT reads that ONNX opset; else why not.

        >>> load_profile("jetson-nano").refuse_opset(13) is None
        True
        """
        line = self.jetpack
        if line.opset_min <= opset <= line.opset_max:
            return None
        return Refusal(
            what=f"ONNX opset {opset} on {self.name}",
            reason=f"TensorRT {line.tensorrt} of JetPack {line.versions} reads ONNX opset "
            f"{line.opset_min} to {line.opset_max}",
            instead=f"export at opset {line.opset_max}, or compress with --profile {self.name}",
        )


def profile_names() -> Tuple[str, ...]:
    """Every board, smallest GPU first."""
    return tuple(sorted((path.stem for path in _FOLDER.glob("*.toml")), key=_strength))


@functools.lru_cache(maxsize=None)
def load_profile(name: str) -> Profile:
    """The board of that name.

    Raises:
        ProfileError: no such board (the nearest names are suggested), or its file is wrong.
    """
    known = tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))
    if name not in known:
        raise ProfileError(
            f"profile {name!r}",
            found="no such board",
            expected="a known board",
            cure=nearest(name, known),
        )
    return read_profile(_FOLDER / f"{name}.toml")


def profile_for(part_number: str, nvpmodel_table: str = "") -> Profile:
    """The board whose module has that part number, under that nvpmodel table.

    Raises:
        ProfileError: no board lists the number, or several do and the table does not tell.

    >>> profile_for("p3767-0003", "super").name
    'jetson-orin-nano-super'
    """
    boards = tuple(load_profile(name) for name in profile_names())
    found = tuple(board for board in boards if part_number.lower() in board.part_numbers)
    if not found:
        known = {number for board in boards for number in board.part_numbers}
        raise ProfileError(
            f"part number {part_number!r}",
            found="no board with that number",
            expected="a number that a profile lists",
            cure=nearest(part_number.lower(), tuple(sorted(known))),
        )
    if len(found) > 1:
        found = tuple(board for board in found if board.nvpmodel_table == nvpmodel_table) or found
    if len(found) > 1:
        tables = (f"{board.nvpmodel_table} for {board.name}" for board in found)
        raise ProfileError(
            f"part number {part_number!r}",
            found=f"{len(found)} boards under the nvpmodel table {nvpmodel_table!r}",
            expected="the table its modes come from",
            cure="say " + " or ".join(tables),
        )
    return found[0]


def read_profile(path: Path) -> Profile:
    """The board described by a file; its name must be the file's."""
    profile = read_toml(path, Profile, ProfileError)
    if profile.name != path.stem:
        raise ProfileError(
            f"{path.name}: $.name",
            found=profile.name,
            expected=path.stem,
            cure=f"correct {path.name}",
        )
    return profile


def unit_of(key: str) -> str:
    """The unit a fact's key names, for tables.

    >>> unit_of("dram_gb_per_s"), unit_of("gpu_mhz_max"), unit_of("cpu")
    ('GB/s', 'MHz', '')
    """
    for suffix in sorted(_UNITS, key=len, reverse=True):
        if key.endswith(suffix):
            return _UNITS[suffix]
    return ""


def _strength(name: str) -> Tuple[str, float, str]:
    profile = load_profile(name)
    mode = profile.mode()
    return profile.sm.zfill(5), mode.sm_count * mode.gpu_mhz, name


def _check_facts(profile: Profile) -> None:
    for key in _NUMBERS:
        if key not in profile.facts:
            raise wrong(f"facts.{key}", "nothing", "a fact with value, status and source")
        value = profile.facts[key].value
        if isinstance(value, str) or not (math.isfinite(value) and value >= 0):
            raise wrong(f"facts.{key}.value", repr(value), "a number, 0 or more")
    cited = [(f"facts.{key}.source", fact.source) for key, fact in profile.facts.items()]
    cited += [(f"power_modes[{i}].source", m.source) for i, m in enumerate(profile.power_modes)]
    for address, source in cited:
        if source not in profile.sources:
            raise wrong(address, repr(source), "a name from [sources]")


def _check_modes(profile: Profile) -> None:
    names = [mode.name for mode in profile.power_modes]
    if profile.default_mode not in names:
        raise wrong("default_mode", repr(profile.default_mode), "one of " + ", ".join(names))
    if len(set(names)) != len(names):
        raise wrong("power_modes", "a mode named twice", "each name once")
    most = profile.number("sm_count")
    for index, mode in enumerate(profile.power_modes):
        if mode.sm_count > most:
            raise wrong(f"power_modes[{index}].sm_count", mode.sm_count, f"{most:g} at most")
        if mode.gpu_mhz > profile.number("gpu_mhz_max"):
            expected = f"facts.gpu_mhz_max at most, {profile.number('gpu_mhz_max'):g}"
            raise wrong(f"power_modes[{index}].gpu_mhz", mode.gpu_mhz, expected)
