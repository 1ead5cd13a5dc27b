"""An export is written whole or not at all, and nothing that was there is touched."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.commands.export import export
from edge.export import Export, ExportError, folder
from edge.export.folder import check_place, write_export, write_exports
from edge.export.triton import plan_repository
from tests.edge.export_cases import options, sealed

SMALL = Export(files={"a/one": b"1", "a/two": b"2"})


@pytest.fixture
def bundle(tmp_path):
    return sealed(tmp_path / "b")


def names(place):
    return sorted(path.name for path in place.iterdir())


def disk_fails(monkeypatch, at, code=errno.ENOSPC):
    """The `at`-th file cannot be written; the names of those that were tried."""
    tried, write = [], folder.write_whole

    def failing(path, data):
        tried.append(path.name)
        if len(tried) == at:
            raise OSError(code, os.strerror(code), str(path))
        write(path, data)

    monkeypatch.setattr(folder, "write_whole", failing)
    return tried


def test_a_folder_with_files_is_left_as_it_was(bundle, tmp_path):
    planned = plan_repository(bundle, options(bundle))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("elsewhere")
    os.mkfifo(str(tmp_path / "pipe"))
    for place, words in (
        (tmp_path / "full", "a folder with files in it"),
        (tmp_path / "file", "found a file"),
        (tmp_path / "pipe", "found a pipe"),
        (tmp_path / "link", "found a link"),
        (tmp_path / "b" / "inside", "inside a bundle"),
        (tmp_path / "b", "inside a bundle"),
    ):
        with pytest.raises(ExportError, match=words):
            write_export(place, planned, bundle)
    assert names(tmp_path / "full") == ["mine.txt"]
    assert (tmp_path / "file").read_text() == "mine"
    assert names(tmp_path) == ["b", "file", "full", "link", "pipe"]


def test_what_fails_half_way_leaves_nothing_and_names_what_was_asked_for(
    bundle, tmp_path, monkeypatch
):
    tried = disk_fails(monkeypatch, at=2)
    with pytest.raises(ExportError) as caught:
        write_export(tmp_path / "out", SMALL, bundle)
    assert tried == ["one", "two"]
    assert names(tmp_path) == ["b"]
    assert (caught.value.where, caught.value.found) == (
        str(tmp_path / "out"), "No space left on device")  # fmt: skip


def test_of_two_exports_none_is_left_when_the_second_fails(bundle, tmp_path, monkeypatch):
    disk_fails(monkeypatch, at=3)
    with pytest.raises(ExportError, match="/second: found No space left on device"):
        write_exports([(tmp_path / "first", SMALL), (tmp_path / "second", SMALL)], bundle)
    assert names(tmp_path) == ["b"]


def test_of_two_exports_none_is_left_when_the_second_has_no_place_any_more(
    bundle, tmp_path, monkeypatch
):
    fill = folder._fill

    def and_meanwhile(partial, content):
        fill(partial, content)
        (tmp_path / "second").mkdir(exist_ok=True)
        (tmp_path / "second" / "theirs").write_text("theirs")

    monkeypatch.setattr(folder, "_fill", and_meanwhile)
    jobs = [(tmp_path / "first", SMALL), (tmp_path / "second", SMALL)]
    with pytest.raises(ExportError, match="/second: found Directory not empty"):
        write_exports(jobs, bundle)
    assert names(tmp_path) == ["b", "second"]
    assert names(tmp_path / "second") == ["theirs"]


@pytest.mark.parametrize("bad", ["file/d", "full", "b/d"])
@pytest.mark.parametrize("kinds", [("--triton", "--deepstream"), ("--deepstream", "--triton")])
def test_no_target_is_written_where_the_other_cannot_be(bundle, tmp_path, bad, kinds):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    before = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(
        export, [str(bundle.root), kinds[0], str(tmp_path / "t"), kinds[1], str(tmp_path / bad)]
    )
    assert isinstance(done.exception, ExportError), done.output
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_looks_like_a_partial_is_somebodys(bundle, tmp_path):
    for name in (".out.partial", ".0123456789abcdef.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    (tmp_path / "out").mkdir()
    write_export(tmp_path / "out", Export(files={"whole": b"x"}), bundle)
    assert names(tmp_path) == [".0123456789abcdef.partial", ".out.partial", "b", "out"]
    assert names(tmp_path / "out") == ["whole"]
    assert (tmp_path / ".out.partial" / "mine").read_text() == "mine"


def test_of_runs_at_the_same_time_one_writes_and_the_others_say_so(bundle, tmp_path, monkeypatch):
    """All are past the check of the place before any has a file there."""
    checked, real, said = threading.Barrier(4), folder._fill, []

    def together(partial, content):
        checked.wait(timeout=30)
        real(partial, content)

    def run(number):
        try:
            write_export(tmp_path / "out", Export(files={"who": number * b"x"}), bundle)
        except ExportError as error:
            said.append(error.found)

    monkeypatch.setattr(folder, "_fill", together)
    threads = [threading.Thread(target=run, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == ["Directory not empty"] * 3
    assert 1 <= (tmp_path / "out" / "who").stat().st_size <= 4
    assert names(tmp_path) == ["b", "out"]


@pytest.mark.parametrize("place", ["x" * 300, "file/x", "loop/x"])
def test_a_place_that_cannot_be_is_one_error(bundle, tmp_path, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ExportError, match="expected a folder that can be written") as caught:
        check_place(tmp_path / place, bundle)
    assert caught.value.where == str(tmp_path / place)


def test_a_folder_that_may_not_be_looked_into_is_one_error(bundle, tmp_path, stranger):
    (tmp_path / "closed").mkdir()
    with stranger(tmp_path / "closed"), pytest.raises(ExportError) as caught:
        check_place(tmp_path / "closed" / "x", bundle)
    assert (caught.value.where, caught.value.found) == (
        str(tmp_path / "closed" / "x"), "Permission denied")  # fmt: skip


def test_the_folder_one_is_in_can_be_filled(bundle, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_export(Path(), SMALL, bundle)
    assert names(tmp_path / "here") == ["a"]
