"""Python packages of each JetPack line: resolved for aarch64, its Python and its glibc.

python -m tests.house.jetson_pins write [LINE ...]    resolves anew and writes edge/jetson/

pip's resolver does the work, told of the board by platform tags. It evaluates markers
(`python_version < "3.11"`) for the interpreter it runs on, not for the one it resolves for, so what
the board's own markers ask for is added here until nothing is missing.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Tuple

from devices.jetpack import jetpack_line

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "edge" / "jetson"
GLIBC_MINOR = {"18.04": 27, "20.04": 31, "22.04": 35, "24.04": 39}  # 2.27 of Ubuntu 18.04 ...
UBUNTU = {"4": "18.04", "5": "20.04", "6": "22.04", "7": "24.04"}  # of each JetPack
FIRST_AARCH64 = 17  # manylinux2014, the first of its tags for aarch64
# NumPy below 2: OpenCV of Ubuntu 20.04 to 24.04 is compiled for NumPy 1. Below 1.24 beside
# TensorRT up to 8.5, whose `nptype` names np.bool.
# pycuda: each line the newest of when its CUDA was current; 2022.1 is the last that names 10.2.
LINES: Dict[str, Tuple[str, ...]] = {
    "4.6": ("numpy<1.24", "pycuda==2022.1"),
    "5.1": ("numpy<1.24", "pycuda==2024.1.2"),
    "6.2": ("numpy<2", "pycuda==2026.1"),
    "7.1": ("numpy<2", "pycuda==2026.1"),
    "7.2": ("numpy<2", "pycuda==2026.1"),
}
# An sdist's needs cannot be asked for another platform, so pycuda's stand here, by its release.
PYCUDA_NEEDS = {
    "2022.1": ("pytools>=2011.2", "appdirs>=1.4.0", "mako"),
    "2024.1.2": ("pytools>=2011.2", "platformdirs>=2.2.0", "mako"),
    "2026.1": ("pytools>=2011.2", "platformdirs>=2.2.0", "mako"),
}


class Pin(NamedTuple):
    """One package, its version, and the file it comes as."""

    name: str
    version: str
    file: str
    sha256: str
    requires: Tuple[str, ...] = ()


class Line(NamedTuple):
    """What decides which wheels a board of this JetPack takes."""

    name: str
    ubuntu: str
    python: str

    @property
    def tags(self) -> Tuple[str, ...]:
        """Every manylinux tag whose glibc is at most the board's, newest first."""
        minors = range(GLIBC_MINOR[self.ubuntu], FIRST_AARCH64 - 1, -1)
        return (*(f"manylinux_2_{minor}_aarch64" for minor in minors), "manylinux2014_aarch64")

    @property
    def environment(self) -> Dict[str, str]:
        """What markers are evaluated against, on the board."""
        return {
            "python_version": self.python, "python_full_version": f"{self.python}.0",
            "implementation_name": "cpython", "implementation_version": f"{self.python}.0",
            "platform_python_implementation": "CPython", "os_name": "posix",
            "sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64",
            "platform_release": "", "platform_version": "", "extra": "",
        }  # fmt: skip


def line_of(name: str) -> Line:
    """The line of that JetPack; 4.6 runs Ubuntu's python3.8, not its default 3.6."""
    python = jetpack_line(name).python
    return Line(name, UBUNTU[name.split(".")[0]], "3.8" if python == "3.6" else python)


def wanted(name: str) -> List[str]:
    """What the board needs: the base dependencies, the extra `jetson`, pycuda's own needs."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["jetson"], *LINES[name]]
    pycuda = next(text for text in LINES[name] if text.startswith("pycuda=="))
    needs = PYCUDA_NEEDS[pycuda.partition("==")[2]]
    return [*on_board(asked, line_of(name)), *needs]


def on_board(requirements: Iterable[str], line: Line) -> List[str]:
    """Those whose marker is true on the board, without it."""
    from packaging.requirements import Requirement

    kept = []
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(line.environment):
            requirement.marker = None
            kept.append(str(requirement))
    return kept


def resolve(name: str, extra: Iterable[str] = ()) -> Tuple[Pin, ...]:
    """The wheels pip chooses for the board. Raises RuntimeError with pip's words."""
    line = line_of(name)
    asked = [text for text in (*wanted(name), *extra) if not text.startswith("pycuda")]
    for _ in range(8):
        pins = _pip(line, asked)
        missing = list(unmet(pins, line))
        if not missing:
            return pins
        asked += missing
    raise RuntimeError(f"{name}: still missing {missing}")


def unmet(pins: Iterable[Pin], line: Line) -> Iterable[str]:
    """Requirements of the pins that are true on the board and that no pin fulfils."""
    from packaging.requirements import Requirement

    versions = {canonical(pin.name): pin.version for pin in pins}
    for pin in pins:
        for text in on_board(pin.requires, line):
            requirement = Requirement(text)
            found = versions.get(canonical(requirement.name))
            if found is None or not requirement.specifier.contains(found, prereleases=True):
                yield text


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(name: str) -> Dict[str, Tuple[str, str]]:
    """Version and sha256 by name, as the line's file in edge/jetson has them."""
    text = (FOLDER / f"requirements-{name}.txt").read_text(encoding="utf-8")
    found = re.findall(r"^(\S+)==(\S+) --hash=sha256:([0-9a-f]{64})$", text, re.M)
    return {canonical(package): (version, digest) for package, version, digest in found}


def write_pins(name: str) -> None:
    line = line_of(name)
    pins = {canonical(pin.name): pin for pin in resolve(name)}
    pycuda = _pycuda(next(text for text in LINES[name] if text.startswith("pycuda==")))
    pins["pycuda"] = pycuda
    rows = [f"{key}=={pin.version} --hash=sha256:{pin.sha256}" for key, pin in sorted(pins.items())]
    head = (
        f"# Python packages of JetPack {name}: aarch64, Python {line.python}, glibc 2."
        f"{GLIBC_MINOR[line.ubuntu]}. OpenCV and TensorRT\n# come from the board. pycuda is "
        "compiled there; everything else is a wheel.\n"
        "# Written by python -m tests.house.jetson_pins write; a test resolves it again.\n"
        "--only-binary :all:\n--no-binary pycuda\n"
    )
    path = FOLDER / f"requirements-{name}.txt"
    path.write_text(head + "\n".join(rows) + "\n", encoding="utf-8")


def _pip(line: Line, asked: List[str]) -> Tuple[Pin, ...]:
    with tempfile.TemporaryDirectory() as folder:
        done, pins = dry_run(line, asked, Path(folder))
        if done.returncode != 0:
            raise RuntimeError(f"JetPack {line.name}: {done.stderr.strip()[-2000:]}")
        return pins


def dry_run(
    line: Line, asked: Iterable[str], folder: Path, *flags: str
) -> Tuple[subprocess.CompletedProcess[str], Tuple[Pin, ...]]:
    """What pip would install on the board for these lines of a file: its answer, and the pins."""
    report, listing = folder / "report.json", folder / "asked.txt"
    listing.write_text("\n".join(asked) + "\n")
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed",
        "--only-binary", ":all:", "--python-version", line.python, "--implementation", "cp",
        "--abi", "cp" + line.python.replace(".", ""), "--abi", "abi3", "--abi", "none",
        "--target", str(folder / "none"), "--report", str(report), "-r", str(listing), *flags,
    ]  # fmt: skip
    for tag in line.tags:
        command += ["--platform", tag]
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    items = json.loads(report.read_text())["install"] if report.exists() else []
    return done, tuple(map(_pin, items))


def _pin(item: dict) -> Pin:
    source, meta = item["download_info"], item["metadata"]
    digest = source["archive_info"]["hashes"]["sha256"]
    file = source["url"].rsplit("/", 1)[1]
    requires = tuple(meta.get("requires_dist", ()))
    return Pin(meta["name"], meta["version"], file, digest, requires)


def _pycuda(requirement: str) -> Pin:
    import hashlib

    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary",
             "pycuda", "--dest", folder, requirement], check=True,
        )  # fmt: skip
        file = next(Path(folder).iterdir())
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        return Pin("pycuda", requirement.partition("==")[2], file.name, digest)


if __name__ == "__main__":
    if sys.argv[1:2] != ["write"]:
        sys.exit(__doc__)
    for chosen in sys.argv[2:] or LINES:
        write_pins(chosen)
        print(chosen, *(f"{k}=={v}" for k, (v, _) in read_pins(chosen).items()))  # noqa: T201
