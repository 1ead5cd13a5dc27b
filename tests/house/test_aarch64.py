"""Every JetPack line's Python packages: each a wheel for its glibc and Python, of the pinned hash.

`Dockerfile.jetson` installs what edge/jetson/requirements-LINE.txt pins. Here pip resolves the same
for the board on this computer, which has another processor, Python and glibc.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.house.jetson_pins import (
    FOLDER,
    GLIBC_MINOR,
    LINES,
    PYCUDA_NEEDS,
    Pin,
    canonical,
    dry_run,
    line_of,
    on_board,
    read_pins,
    unmet,
    wanted,
)

packaging = pytest.importorskip("packaging.requirements", reason="it comes with pytest")


@pytest.mark.parametrize(
    ("name", "python", "newest", "count"),
    [("4.6", "3.8", "manylinux_2_27_aarch64", 12), ("5.1", "3.8", "manylinux_2_31_aarch64", 16),
     ("6.2", "3.10", "manylinux_2_35_aarch64", 20), ("7.1", "3.12", "manylinux_2_39_aarch64", 24),
     ("7.2", "3.12", "manylinux_2_39_aarch64", 24)],
)  # fmt: skip
def test_a_board_takes_wheels_of_its_glibc_and_older(name, python, newest, count):
    line = line_of(name)
    assert line.python == python
    assert (line.tags[0], len(line.tags)) == (newest, count)
    assert "manylinux2014_aarch64" in line.tags
    assert not any("x86_64" in tag for tag in line.tags)
    assert f"glibc 2.{GLIBC_MINOR[line.ubuntu]}" in _text(name)


@pytest.mark.parametrize("name", LINES)
def test_pins_are_what_the_project_asks_for_there(name):
    pins = read_pins(name)
    assert len(re.findall(r"^[^#\-\n]", _text(name), re.M)) == len(pins)
    for text in wanted(name):
        requirement = packaging.Requirement(text)
        version, _ = pins[canonical(requirement.name)]
        assert requirement.specifier.contains(version), text
    assert pins["pycuda"][0] in PYCUDA_NEEDS
    assert ("tomli" in pins) == (line_of(name).python != "3.12")


@pytest.mark.parametrize("name", LINES)
def test_numpy_is_the_one_opencv_and_tensorrt_of_the_board_were_built_for(name):
    major, minor = map(int, read_pins(name)["numpy"][0].split(".")[:2])
    assert major == 1
    if line_of(name).python == "3.8":
        assert minor < 24  # np.bool, which TensorRT up to 8.5 names


@pytest.mark.parametrize("name", LINES)
def test_only_pycuda_is_compiled(name):
    lines = _text(name).splitlines()
    assert "--only-binary :all:" in lines
    assert "--no-binary pycuda" in lines


def test_two_lines_of_one_python_and_ubuntu_have_the_same_pins():
    assert read_pins("7.1") == read_pins("7.2")


def test_what_a_marker_asks_for_on_the_board_is_missed():
    line = line_of("4.6")
    asked = ["tomli; python_version < '3.11'", "never; sys_platform == 'win32'"]
    assert on_board(asked, line) == ["tomli"]
    pin = Pin("a", "1", "a.whl", "", ("tomli>=2; python_version < '3.11'",))
    assert list(unmet([pin], line)) == ["tomli>=2"]
    assert list(unmet([pin], line_of("7.2"))) == []
    assert list(unmet([pin, Pin("tomli", "1.0", "t.whl", "")], line)) == ["tomli>=2"]


def test_the_tools_that_build_are_pinned_for_every_python():
    text = (FOLDER / "requirements-build.txt").read_text()
    names = re.findall(r"^(\w+)==\S+ --hash=sha256:[0-9a-f]{64}$", text, re.M)
    assert names == ["pip", "setuptools", "wheel"]


@pytest.fixture(scope="session")
def index():
    """Skips where no package index answers; a missing wheel is no such case."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "index", "versions", "click"], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip("no package index can be reached: nothing can be resolved")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LINES if name != "7.2"])  # the same as 7.1's
def test_every_pin_has_a_wheel_for_the_board_and_needs_no_other(name, index, tmp_path):
    done, pins = dry_run(line_of(name), _rows(name), tmp_path, "--require-hashes")
    assert done.returncode == 0, done.stderr
    pins_of_file = {k: v for k, v in read_pins(name).items() if k != "pycuda"}
    found = {canonical(pin.name): (pin.version, pin.sha256) for pin in pins}
    print(f"JetPack {name}:", *(f"{key}=={version}" for key, (version, _) in found.items()))  # noqa: T201
    assert found == pins_of_file
    assert all(pin.file.endswith(".whl") for pin in pins)
    assert list(unmet(pins, line_of(name))) == []
    for pin in pins:
        assert "aarch64" in pin.file or pin.file.endswith("-none-any.whl"), pin.file


@pytest.mark.slow
def test_a_package_without_a_wheel_for_the_board_is_noticed(index, tmp_path):
    done, _ = dry_run(line_of("4.6"), ["numpy==1.26.4"], tmp_path)  # none for Python 3.8
    assert done.returncode != 0
    assert "numpy" in done.stderr


def _text(name):
    return (FOLDER / f"requirements-{name}.txt").read_text()


def _rows(name):
    """The file's pins that are wheels, as pip reads them."""
    return [row for row in _text(name).splitlines() if not row.startswith(("pycuda", "-", "#"))]
