"""Board: which Jetson this computer is, read below a file-system root that is a parameter.

    module         /proc/device-tree/compatible      "nvidia,p3768-0000+p3767-0003-super"
                   /etc/nv_boot_control.conf         "TNSPEC 3767-301-0003-F.1-1-0-..."
                   /proc/device-tree/nvidia,dtsfilename, nvidia,boardids   (JetPack 4)
    software       /etc/nv_tegra_release             "# R36 (release), REVISION: 4.0, ..."
    power modes    /etc/nvpmodel.conf                "< POWER_MODEL ID=0 NAME=15W >"
    the mode now   /var/lib/nvpmodel/status          "pmode:0000"
    in a container /proc/sys/kernel/osrelease        "5.15.148-tegra"

The module comes first from what the running kernel was told, because it describes this hardware; a
disk may come from another module. `model` is free text that carriers' makers write and often get
wrong, so nothing is decided by it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Dict, Iterator, Optional, Tuple

import msgspec

from devices.jetpack import jetpack_lines
from devices.profile import Profile, ProfileError, load_profile, profile_for
from edge.sysfs import Missing, below, text, texts

__all__ = ["Board", "identify", "jetpack_name", "power_mode"]

TREE = "/proc/device-tree"
_PART = re.compile(r"p(\d{4})-(\d{4})(-super)?")
_TNSPEC = re.compile(r"^TNSPEC\s+(\d{4})-\w+-(\d{4})", re.M)
_BOARD_ID = re.compile(r"(\d{4}):(\d{4})")
_RELEASE = re.compile(r"R(\d{1,4})\s*\(release\),\s*REVISION:\s*(\d{1,4}(?:\.\d{1,4})*)")
_POWER_MODEL = re.compile(r"^\s*<\s*POWER_MODEL\s+ID=(\d{1,4})\s+NAME=([^\s>]+)", re.M)
_PMODE = re.compile(r"pmode:\s*(\d{1,8})")
_MODE_WORDS = re.compile(r"(?:MODE_)?(\d+W|MAX[NPQ](?:_SUPER)?)(?:_|$)")
# Boards that are modules; other p-numbers of a device tree are carriers.
_MODULES = ("2180", "2888", "3310", "3448", "3489", "3636", "3668", "3701", "3767", "3834")


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """What a computer says it is. On one that is no Jetson everything is None.

    `profile` is the name of the profile whose module this is; None when none lists it, and
    `reason` says why. `mode` is the profile's name for the power mode that is on.
    """

    model: Optional[str] = None  # "NVIDIA Jetson Orin Nano Developer Kit"
    part_number: Optional[str] = None  # "p3767-0003"
    l4t: Optional[str] = None  # "36.4.0"
    power_mode: Optional[str] = None  # "15W", as nvpmodel names it
    profile: Optional[str] = None
    jetpack: Optional[str] = None  # "6.2", a name of devices.jetpack
    soc: Optional[str] = None  # "tegra234"; "tegra" when only the kernel's name tells
    nvpmodel_table: Optional[str] = None  # "plain" or "super"
    power_modes: Tuple[str, ...] = ()  # all that nvpmodel has, by its numbers
    mode: Optional[str] = None
    reason: str = ""

    @property
    def is_jetson(self) -> bool:
        """Whether anything here speaks of a Jetson, known or not."""
        return self.l4t is not None or (self.soc or "").startswith("tegra")


def identify(root: Path = Path("/")) -> Board:
    """The board under `root`; nothing is run, only files are read, and none of them must exist."""
    compatible = texts(below(root, f"{TREE}/compatible"))
    model, release = text(below(root, f"{TREE}/model")), _release(root)
    soc = _soc(root, compatible)
    part, doubt = _part_number(root, compatible)
    modes = _power_modes(root)
    table = _table(root, compatible, modes)
    jetson = soc is not None or release is not None
    profile, reason = _profile(part, table or "", jetson)
    now = _mode_now(root, modes)
    return Board(
        model=model if isinstance(model, str) and jetson else None,
        part_number=part,
        l4t=release,
        power_mode=now,
        profile=None if profile is None else profile.name,
        jetpack=None if release is None else jetpack_name(release),
        soc=soc,
        nvpmodel_table=table,
        power_modes=tuple(modes[key] for key in sorted(modes)),
        mode=_profile_mode(profile, now, table),
        reason=reason or doubt,
    )


def jetpack_name(l4t: str) -> Optional[str]:
    """The JetPack line whose images hold that L4T; None when none does.

    >>> jetpack_name("36.4.4"), jetpack_name("32.7.1"), jetpack_name("32.5.1"), jetpack_name("99.9")
    ('6.2', '4.6', '4.4', None)
    """
    version = _numbers(l4t)
    for line in jetpack_lines():
        first, _, last = line.l4t.partition(" to ")
        low, high = _numbers(first), _numbers(last or first)
        if version and low <= version[: len(low)] and version[: len(high)] <= high:
            return line.name
    return None


def power_mode(root: Path) -> Optional[str]:
    """The mode that is on now, as nvpmodel names it; None when it does not say."""
    return _mode_now(root, _power_modes(root))


def _numbers(version: str) -> Tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d{1,8}", version))


def _release(root: Path) -> Optional[str]:
    said = text(below(root, "/etc/nv_tegra_release"))
    found = None if isinstance(said, Missing) else _RELEASE.search(said)
    return None if found is None else f"{found.group(1)}.{found.group(2)}"


def _soc(root: Path, compatible: Tuple[str, ...]) -> Optional[str]:
    """The chip. A container hides the device tree, yet its kernel is still called -tegra."""
    for name in compatible:
        if name.startswith("nvidia,tegra"):
            return name.partition(",")[2]
    kernel = text(below(root, "/proc/sys/kernel/osrelease"))
    return "tegra" if isinstance(kernel, str) and "tegra" in kernel else None


def _part_number(root: Path, compatible: Tuple[str, ...]) -> Tuple[Optional[str], str]:
    """The module's number, and a doubt when two places name different ones."""
    told = list(_told_parts(root, compatible))
    if not told:
        return None, ""
    place, part = told[0]
    other = next((found for found in told if found[1] != part), None)
    doubt = "" if other is None else f"{place} says {part}, {other[0]} says {other[1]}"
    return part, doubt


def _told_parts(root: Path, compatible: Tuple[str, ...]) -> Iterator[Tuple[str, str]]:
    for name in compatible:
        for board, sku, _ in _PART.findall(name):
            if board in _MODULES:
                yield "the device tree", f"p{board}-{sku}"
    conf = text(below(root, "/etc/nv_boot_control.conf"))
    for board, sku in () if isinstance(conf, Missing) else _TNSPEC.findall(conf):
        yield "/etc/nv_boot_control.conf", f"p{board}-{sku}"
    source = text(below(root, f"{TREE}/nvidia,dtsfilename"))
    for board, sku, _ in () if isinstance(source, Missing) else _PART.findall(source):
        if board in _MODULES:
            yield "nvidia,dtsfilename", f"p{board}-{sku}"
    boards = text(below(root, f"{TREE}/nvidia,boardids"))
    for board, sku in () if isinstance(boards, Missing) else _BOARD_ID.findall(boards):
        if board in _MODULES:
            yield "nvidia,boardids", f"p{board}-{sku}"


def _power_modes(root: Path) -> Dict[int, str]:
    said = text(below(root, "/etc/nvpmodel.conf"))
    if isinstance(said, Missing):
        return {}
    return {int(number): name for number, name in _POWER_MODEL.findall(said)}


def _mode_now(root: Path, modes: Dict[int, str]) -> Optional[str]:
    said = text(below(root, "/var/lib/nvpmodel/status"))
    found = None if isinstance(said, Missing) else _PMODE.search(said)
    return None if found is None else modes.get(int(found.group(1)))


def _table(root: Path, compatible: Tuple[str, ...], modes: Dict[int, str]) -> Optional[str]:
    """Which nvpmodel table is linked; without one, which the bootloader's name asks for.

    At boot L4T links the table that the device tree's name asks for, so the two agree unless
    somebody linked another.
    """
    if modes:
        linked = _link_name(below(root, "/etc/nvpmodel.conf"))
        is_super = "super" in linked or any("SUPER" in name for name in modes.values())
        return "super" if is_super else "plain"
    parts = [match for name in compatible for match in _PART.findall(name)]
    if not any(board in _MODULES for board, _, _ in parts):
        return None
    return "super" if any(suffix for _, _, suffix in parts) else "plain"


def _link_name(path: Path) -> str:
    try:
        return Path(os.readlink(str(path))).name
    except OSError:
        return ""


def _profile(part: Optional[str], table: str, jetson: bool) -> Tuple[Optional[Profile], str]:
    if part is None and not jetson:
        return None, "not a Jetson: no device tree and no /etc/nv_tegra_release name one"
    if part is None:
        return None, (
            "a Jetson whose module is not named: neither /proc/device-tree nor "
            "/etc/nv_boot_control.conf could be read"
        )
    try:
        return profile_for(part, table), ""
    except ProfileError as error:
        return None, f"{error.where}: {error.found}"


def _profile_mode(
    profile: Optional[Profile], now: Optional[str], table: Optional[str]
) -> Optional[str]:
    """The profile's name for what nvpmodel calls "MODE_15W_6CORE"; None when it has none."""
    if profile is None or now is None:
        return None
    known = {mode.name.upper(): mode.name for mode in load_profile(profile.name).power_modes}
    words = _MODE_WORDS.match(now.upper())
    short = words.group(1) if words else now.upper()
    wanted = [now.upper(), short]
    if table == "super" and not profile.nvpmodel_table:
        wanted.insert(0, f"SUPER_{short}")
    return next((known[name] for name in wanted if name in known), None)
