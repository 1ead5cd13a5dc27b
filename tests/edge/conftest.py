"""A tiny sealed bundle, made once; tests that change it take a copy."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location(
    "make_bundle", Path(__file__).parent / "make_bundle.py"
)
make_bundle = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(make_bundle)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    make_bundle.make_bundle(folder)
    return folder


@pytest.fixture
def tiny_copy(tiny, tmp_path):
    return Path(shutil.copytree(str(tiny), str(tmp_path / "tiny")))


@pytest.fixture
def maker():
    return make_bundle


@pytest.fixture
def stranger():
    """A context in which this process may not look into a folder, whoever runs the tests.

    Permissions do not stop root, who becomes nobody meanwhile.
    """

    @contextlib.contextmanager
    def stopped_at(folder):
        folder.chmod(0)
        is_root = os.geteuid() == 0
        try:
            if is_root:
                os.seteuid(65534)
            yield
        finally:
            if is_root:
                os.seteuid(0)
            folder.chmod(0o755)

    return stopped_at
