"""A CalibrationSet holds the pictures it was made from, in order, or says which it lost."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from calib.errors import CalibrationError
from calib.images import read_image
from calib.samples import CalibrationSet

cv2 = pytest.importorskip("cv2", reason="reads images and video with OpenCV")


def picture(seed, hw=(24, 32)):
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)


def write_image(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture(seed))


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(["b.png", "a.png", "deep/c.PNG", "z.bmp"]):
        write_image(tmp_path / "set" / name, seed)
    (tmp_path / "set" / "notes.txt").write_text("not a picture")
    write_image(tmp_path / "set" / ".cache" / "hidden.png", 9)
    return tmp_path / "set"


def write_video(path, frames=12, hw=(240, 320)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, hw[::-1])
    for index in range(frames):
        writer.write(picture(index, hw) // 8 + np.uint8(index * 10))
    writer.release()


@pytest.fixture
def video(tmp_path):
    write_video(tmp_path / "clip.avi")
    return tmp_path / "clip.avi"


def test_a_folder_is_read_in_the_order_of_its_names(folder):
    pictures = CalibrationSet.from_folder(folder)
    assert [s.source for s in pictures.samples] == ["a.png", "b.png", "deep/c.PNG", "z.bmp"]
    assert (pictures.kind, len(pictures), pictures.skipped) == ("folder", 4, ())
    for found, seed in zip(pictures.frames(), [1, 0, 2, 3]):
        np.testing.assert_array_equal(found, picture(seed))


def test_the_hash_is_of_the_pixels_and_their_order(folder, tmp_path):
    whole = CalibrationSet.from_folder(folder)
    shutil.copytree(str(folder), str(tmp_path / "elsewhere"))
    assert CalibrationSet.from_folder(tmp_path / "elsewhere").sha256 == whole.sha256
    names = [folder / s.source for s in whole.samples]
    assert CalibrationSet.from_list(names).sha256 == whole.sha256
    assert CalibrationSet.from_list(names[::-1]).sha256 != whole.sha256
    assert CalibrationSet.from_list(names[:3]).sha256 != whole.sha256


def test_a_list_keeps_its_order_and_may_repeat(folder):
    pictures = CalibrationSet.from_list([folder / "z.bmp", folder / "a.png", folder / "z.bmp"])
    assert [s.source for s in pictures.samples] == ["z.bmp", "a.png", "z.bmp"]
    assert len(list(pictures.frames())) == 3


def test_a_text_file_of_paths_is_a_list(folder):
    (folder.parent / "list.txt").write_text("# mine\nset/z.bmp\n\nset/a.png\n")
    pictures = CalibrationSet.from_path(folder.parent / "list.txt")
    assert [s.source for s in pictures.samples] == ["z.bmp", "a.png"]


@pytest.mark.parametrize(
    ("every", "limit", "names"),
    [(1, 2, ["a.png", "deep/c.PNG"]), (3, None, ["a.png", "z.bmp"]), (1, 99, None)],
)
def test_choices_are_even(folder, every, limit, names):
    pictures = CalibrationSet.from_folder(folder, every=every, limit=limit)
    assert [s.source for s in pictures.samples] == (
        names or ["a.png", "b.png", "deep/c.PNG", "z.bmp"]
    )


def test_video_frames_are_the_ones_asked_for(video):
    pictures = CalibrationSet.from_video(video, indices=[7, 0, 3, 7])
    assert [s.source for s in pictures.samples] == [f"clip.avi#{i:06d}" for i in (0, 3, 7)]
    assert [round((float(f.mean()) - 15.5) / 10) for f in pictures.frames()] == [0, 3, 7]
    every = CalibrationSet.from_video(video, every=4)
    assert [s.source[-2:] for s in every.samples] == ["00", "04", "08"]
    few = CalibrationSet.from_path(video, limit=3)
    assert [s.source[-2:] for s in few.samples] == ["00", "04", "08"]


@pytest.mark.parametrize("make", ["folder", "video", "list"])
def test_a_saved_set_comes_back_and_moves_with_its_pictures(folder, video, tmp_path, make):
    pictures = {
        "folder": lambda: CalibrationSet.from_folder(folder),
        "video": lambda: CalibrationSet.from_video(video, every=5),
        "list": lambda: CalibrationSet.from_list([folder / "z.bmp", folder / "deep" / "c.PNG"]),
    }[make]()
    pictures.save(tmp_path / "set.json")
    assert str(tmp_path) not in (tmp_path / "set.json").read_text()
    again = CalibrationSet.load(tmp_path / "set.json")
    assert (again.samples, again.sha256, again.kind) == (
        pictures.samples, pictures.sha256, make)  # fmt: skip
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("set", "clip.avi", "set.json"):
        shutil.move(str(tmp_path / name), str(moved / name))
    there = CalibrationSet.load(moved / "set.json")
    assert len(list(there.frames())) == len(pictures)


def test_saving_twice_gives_the_same_bytes(folder, tmp_path):
    for name in ("1.json", "2.json"):
        CalibrationSet.from_folder(folder).save(tmp_path / name)
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: (root / "b.png").unlink(), r"b.png: found No such file.*put it back"),
        (lambda root: write_image(root / "b.png", 77), r"b.png: found pixels of sha256 .*expected"),
        (lambda root: (root / "b.png").write_bytes(b"x"), r"b.png: found OpenCV cannot decode it"),
    ],
)
def test_a_missing_or_changed_picture_is_refused_on_reload(folder, tmp_path, spoil, words):
    CalibrationSet.from_folder(folder).save(tmp_path / "set.json")
    spoil(folder)
    with pytest.raises(CalibrationError, match=words):
        CalibrationSet.load(tmp_path / "set.json")
    assert len(CalibrationSet.load(tmp_path / "set.json", check=False)) == 4


def test_corrupt_pictures_are_skipped_and_counted(folder):
    (folder / "bad1.png").write_bytes(b"not a picture")
    (folder / "bad2.png").write_bytes(b"not one either")
    (folder / "empty.jpg").write_bytes(b"")
    pictures = CalibrationSet.from_folder(folder)
    assert [s.source for s in pictures.samples] == ["a.png", "b.png", "deep/c.PNG", "z.bmp"]
    assert {(r.reason, r.count) for r in pictures.skipped} == {
        ("OpenCV cannot decode it", 2),
        ("empty file", 1),
    }
    assert pictures.skipped_count == 3


def test_more_than_half_corrupt_is_refused(folder):
    for index in range(5):
        (folder / f"bad{index}.png").write_bytes(b"no")
    with pytest.raises(CalibrationError, match=r"5 of 9 pictures unreadable: 5 x OpenCV cannot"):
        CalibrationSet.from_folder(folder)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_truncated_picture_is_not_filled_up_with_grey(tmp_path, suffix):
    path = tmp_path / f"whole{suffix}"
    cv2.imwrite(str(path), picture(0, (64, 64)))
    assert isinstance(read_image(path), np.ndarray)
    path.write_bytes(path.read_bytes()[:-200])
    assert read_image(path) == "truncated file"


def test_a_jpeg_with_fill_bytes_and_bare_markers_is_whole(tmp_path):
    path = tmp_path / "photo.jpg"
    write_image(path, 1)
    plain, data = read_image(path), path.read_bytes()
    second = 4 + int.from_bytes(data[4:6], "big")  # where the segment after the first begins
    assert data[second] == 0xFF
    filled = data[:2] + b"\xff\x01" + data[2:second] + b"\xff" * 3 + data[second:]
    path.write_bytes(filled)
    np.testing.assert_array_equal(read_image(path), plain)
    for kept in (len(data[:2]) + 1, second + 3, len(filled) // 2):
        path.write_bytes(filled[:kept])
        assert read_image(path) == "truncated file"


def test_a_thumbnails_end_is_not_the_pictures_end(tmp_path):
    path = tmp_path / "photo.jpg"
    cv2.imwrite(str(path), picture(0, (64, 64)))
    data = path.read_bytes()
    thumbnail = b"\xff\xe5\x00\x0aTHUMB\x00\xff\xd9"
    path.write_bytes(data[:2] + thumbnail + data[2:])
    assert isinstance(read_image(path), np.ndarray)
    path.write_bytes((data[:2] + thumbnail + data[2:])[:-300])
    assert read_image(path) == "truncated file"


def test_a_truncated_video_is_counted(video):
    data = video.read_bytes()
    video.write_bytes(data[: int(len(data) * 0.8)])
    pictures = CalibrationSet.from_video(video, indices=range(12))
    assert 6 <= len(pictures) < 12
    (refusal,) = pictures.skipped
    assert refusal.count == 12 - len(pictures)
    assert refusal.reason == "the video ends before it"
    words = r"3 of 4 pictures unreadable: 3 x the video ends before it .* expected 50 %"
    with pytest.raises(CalibrationError, match=words) as caught:
        CalibrationSet.from_video(video, indices=[0, 50, 60, 70])
    assert caught.value.where == str(video)
    assert caught.value.cure.startswith("record or copy the video again")


def test_pictures_are_read_one_at_a_time(folder, monkeypatch):
    alive, most = [], []

    class Counted(np.ndarray):
        def __del__(self):
            alive.pop()

    def read(path):
        alive.append(1)
        most.append(len(alive))
        return read_image(path).view(Counted)

    monkeypatch.setattr("calib.samples.read_image", read)
    for _ in CalibrationSet.from_folder(folder).frames():
        pass
    assert len(most) == 8
    assert max(most) <= 2  # the next is read while the caller still holds the last


def test_nothing_to_read_is_an_error_with_a_cure(tmp_path):
    (tmp_path / "readme.md").write_text("")
    cases = [
        (lambda: CalibrationSet.from_folder(tmp_path), r"found no image; expected .*\.jpg"),
        (lambda: CalibrationSet.from_folder(tmp_path / "no"), "found no such folder"),
        (lambda: CalibrationSet.from_video(tmp_path / "no.avi"), "found no such file"),
        (lambda: CalibrationSet.from_list([]), "found an empty list"),
        (lambda: CalibrationSet.from_video(tmp_path / "readme.md"), "found 0 frames to take"),
        (lambda: CalibrationSet.load(tmp_path / "readme.md"), "a set written by `calib set`"),
        (lambda: CalibrationSet.load(tmp_path / "no.json"), "found No such file"),
    ]
    for make, words in cases:
        with pytest.raises(CalibrationError, match=words):
            make()


def test_a_set_edited_into_disorder_is_refused(video, tmp_path):
    CalibrationSet.from_video(video, every=5).save(tmp_path / "set.json")
    data = json.loads((tmp_path / "set.json").read_text())
    data["samples"].reverse()
    (tmp_path / "set.json").write_text(json.dumps(data))
    with pytest.raises(CalibrationError, match="frames out of order"):
        CalibrationSet.load(tmp_path / "set.json")


def test_a_full_disk_leaves_the_old_set(folder, tmp_path, monkeypatch):
    path = tmp_path / "set.json"
    CalibrationSet.from_folder(folder, limit=2).save(path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("devices.wholefile.os.fsync", full)  # half of the bytes are there by then
    with pytest.raises(CalibrationError, match="No space left on device"):
        CalibrationSet.from_folder(folder).save(path)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".set.json*"))


def test_a_damaged_video_writes_nothing_of_its_own_to_standard_error(tmp_path):
    """In a process of its own: FFmpeg writes past Python, and reads its level once."""
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (160, 120))
    rng = np.random.default_rng(0)
    for _ in range(20):
        writer.write(rng.integers(0, 255, (120, 160, 3), dtype=np.uint8))
    writer.release()
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start + 40_000 : start + 42_000] = bytes(2000)
    path.write_bytes(bytes(data))
    read = "import sys; from calib.samples import CalibrationSet as C; from pathlib import Path; "
    read += "print(len(C.from_video(Path(sys.argv[1]))))"
    done = subprocess.run([sys.executable, "-c", read, str(path)], capture_output=True, text=True,
                          cwd=str(Path(__file__).parents[2]), check=True)  # fmt: skip
    assert (int(done.stdout) > 0, done.stderr) == (True, "")
