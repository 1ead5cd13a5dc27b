"""A bundle is what was sealed, byte for byte, or it is refused before anything in it is parsed."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil

import pytest

from calib.preprocess import Preprocess
from devices.budget import Refusal
from edge import bundle as room
from edge.bundle import BundleError, Manifest, Step, TensorSpec, open_bundle, seal
from edge.heads import SsdHead

FILES = {
    "model.onnx": b"not really a model \x00\xff" * 3,
    "costs.json": b"{}",
    "workshop/weights.npz": b"w" * 9,
}


def manifest(**changes):
    fields = {
        "name": "tiny",
        "task": "detect",
        "precision": "fp16",
        "preprocess": Preprocess(height=300, width=300),
        "head": SsdHead(),
        "classes": ("person",),
        "inputs": (TensorSpec(name="images", shape=(1, 3, 300, 300)),),
        "outputs": (TensorSpec(name="logits", shape=(1, 1917, 2)),),
        "opset": 13,
        "lineage": (Step(name="import", key="k", params={"b": 1, "a": [1.5, None]}),),
        "refusals": (Refusal(what="int8", reason="no int8 on this GPU"),),
    }
    return Manifest(**{**fields, **changes})


def make(folder, files=FILES):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return seal(folder, manifest())


def test_a_sealed_bundle_opens_as_it_was_sealed(tmp_path):
    sealed = make(tmp_path / "b")
    opened = open_bundle(tmp_path / "b")
    assert opened == sealed
    assert set(opened.manifest.files) == set(FILES)
    assert opened.manifest.lineage[0].params == {"a": [1.5, None], "b": 1}
    assert opened.path("model.onnx").read_bytes() == FILES["model.onnx"]
    assert "model.onnx" in opened
    assert "x" not in opened
    with pytest.raises(BundleError, match=r"x: found no such file in the manifest"):
        opened.path("x")


def test_what_is_read_is_what_was_sealed(tmp_path):
    make(tmp_path)
    opened = open_bundle(tmp_path)
    for name, data in FILES.items():
        assert opened.read(name) == data
    (tmp_path / "costs.json").write_bytes(b"[]")
    (tmp_path / "model.onnx").write_bytes(FILES["model.onnx"] + b"more")
    (tmp_path / "workshop/weights.npz").unlink()
    (tmp_path / "later.json").write_bytes(b"{}")
    for name, words in (
        ("costs.json", "costs.json: found sha256 .*as sealed"),
        ("model.onnx", "model.onnx: found 67 bytes; expected 63 as sealed"),
        ("workshop/weights.npz", "weights.npz: found No such file"),
        ("later.json", "later.json: found no such file in the manifest"),
    ):
        with pytest.raises(BundleError, match=words):
            opened.read(name)


def test_the_same_files_seal_to_the_same_bytes(tmp_path):
    first = make(tmp_path / "a")
    second = make(tmp_path / "b", dict(reversed(list(FILES.items()))))
    assert first.sha256 == second.sha256
    for name in ("manifest.json", "bundle.sha256"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert seal(tmp_path / "a", manifest()).sha256 == first.sha256  # sealing again changes nothing


def test_every_flipped_byte_is_refused_before_parsing(tmp_path, monkeypatch):
    make(tmp_path)
    parsed = []
    real = room.manifest_from_bytes
    monkeypatch.setattr(room, "manifest_from_bytes", lambda *a: parsed.append(a) or real(*a))
    for path in sorted(p for p in tmp_path.rglob("*") if p.is_file()):
        good = path.read_bytes()
        for position in range(len(good)):
            bad = bytearray(good)
            bad[position] ^= 0x20 if position % 2 else 0x01  # 0x20 swaps the case of a letter
            path.write_bytes(bytes(bad))
            parsed.clear()
            with pytest.raises(BundleError):
                open_bundle(tmp_path)
            assert not parsed or path.name not in ("manifest.json", "bundle.sha256")
        path.write_bytes(good)
    open_bundle(tmp_path)


def test_the_error_shows_both_hashes_and_what_to_do(tmp_path):
    make(tmp_path)
    (tmp_path / "model.onnx").write_bytes(FILES["model.onnx"][::-1])
    with pytest.raises(BundleError) as caught:
        open_bundle(tmp_path)
    assert re.fullmatch(
        re.escape(str(tmp_path)) + r"/model.onnx: found sha256 [0-9a-f]{8}…; "
        r"expected [0-9a-f]{8}… as sealed; "
        r"do not run it: get the bundle again, or compress the model again",
        str(caught.value),
    )


def _add(root):
    (root / "extra.txt").write_text("hello")


def _link(root):
    (root / "model.onnx").unlink()
    (root / "model.onnx").symlink_to("/etc/hostname")


def _link_folder(root):
    shutil.move(str(root / "workshop"), str(root.parent / "elsewhere"))
    (root / "workshop").symlink_to(root.parent / "elsewhere")


def _fifo(root):
    os.mkfifo(str(root / "pipe"))


def _unseal(root):
    (root / "bundle.sha256").unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_add, "extra.txt: found a file the manifest does not list"),
        (lambda root: (root / "costs.json").unlink(), "costs.json: found no such file"),
        (_link, "model.onnx: found a link"),
        (_link_folder, "workshop: found a link"),
        (_fifo, "pipe: found a link or special file"),
        (_unseal, "bundle.sha256: found no such file"),
        (lambda root: (root / "manifest.json").unlink(), "manifest.json: found no such file"),
        (lambda root: (root / "hollow").mkdir(), "hollow: found an empty folder"),
        (lambda root: (root / "costs.json").write_bytes(b"{} "), "3 bytes; expected 2 as sealed"),
    ],
)
def test_every_other_change_is_refused(tmp_path, spoil, words):
    root = tmp_path / "b"
    make(root)
    spoil(root)
    with pytest.raises(BundleError, match=words) as caught:
        open_bundle(root)
    assert caught.value.where.startswith(f"{root}/"), "the bundle is named"
    assert "seal" not in caught.value.cure, "no command seals"


@pytest.mark.parametrize(
    ("seal_of", "found"),
    [
        (lambda digest: b"", "an empty file"),
        (lambda digest: b"\n", r"'\n'"),
        (lambda digest: b"x" * 10**6, "'" + "x" * 24 + "'…"),
        (lambda digest: b"\x1b]0;title\x07\xff", r"'\x1b]0;title\x07\xff'"),
        (lambda digest: digest.upper() + b"  manifest.json\n", None),
        (lambda digest: digest + b"  model.onnx\n", None),
        (lambda digest: digest + b"\n", None),
        (lambda digest: digest + b"  manifest.json\n\n", None),
        (lambda digest: digest[:-1] + b"  manifest.json\n", None),
    ],
)
def test_a_damaged_seal_is_named_itself_and_printed_safely(tmp_path, seal_of, found):
    digest = make(tmp_path).sha256.encode()
    (tmp_path / "bundle.sha256").write_bytes(seal_of(digest))
    with pytest.raises(BundleError) as caught:
        open_bundle(tmp_path)
    start = seal_of(digest)[:24].decode("latin-1")
    assert caught.value.where == str(tmp_path / "bundle.sha256")
    assert caught.value.found == (found or f"'{start}'…")
    assert caught.value.expected == "64 hexadecimal digits and the name manifest.json"
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/hostname", "a/../../outside", "./model.onnx", "", "a\\b", "a//b"]
)
def test_a_resealed_manifest_cannot_name_a_path_outside(tmp_path, name):
    root = tmp_path / "b"
    sealed = make(root)
    (tmp_path / "outside").write_bytes(b"secret")
    text = (root / "manifest.json").read_text().replace('"costs.json"', json.dumps(name))
    (root / "manifest.json").write_text(text)
    digest = room.hashlib.sha256(text.encode()).hexdigest()
    (root / "bundle.sha256").write_bytes(room._seal_bytes(digest))
    assert digest != sealed.sha256
    with pytest.raises(BundleError, match=r"leaves the bundle|no such file|not list"):
        open_bundle(root)


def test_a_newer_format_is_refused_by_name(tmp_path):
    make(tmp_path)
    text = (tmp_path / "manifest.json").read_text().replace('"format": 1', '"format": 2')
    (tmp_path / "manifest.json").write_text(text)
    digest = room.hashlib.sha256(text.encode()).hexdigest()
    (tmp_path / "bundle.sha256").write_bytes(room._seal_bytes(digest))
    with pytest.raises(BundleError, match="format 2 is not 1"):
        open_bundle(tmp_path)


def test_a_missing_folder_and_a_plain_file_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    os.mkfifo(str(tmp_path / "pipe"))
    for path, words in ((tmp_path / "none", "no folder"), (tmp_path / "file", "a file"),
                        (tmp_path / "pipe", "a pipe")):  # fmt: skip
        with pytest.raises(BundleError, match=words):
            open_bundle(path)


@pytest.mark.parametrize("sealed_before", [False, True])
def test_a_full_disk_leaves_nothing_that_opens(tmp_path, monkeypatch, sealed_before):
    if sealed_before:
        make(tmp_path)
        (tmp_path / "model.onnx").write_bytes(b"new")
    else:
        (tmp_path / "model.onnx").write_bytes(b"new")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(room.os, "fsync", full)
        with pytest.raises(BundleError, match=r"No space left on device.*make room"):
            seal(tmp_path, manifest())
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(BundleError):
        open_bundle(tmp_path)
    assert seal(tmp_path, manifest()).manifest.files["model.onnx"].bytes == 3


def test_what_a_killed_seal_left_is_not_sealed_in(tmp_path):
    make(tmp_path)
    (tmp_path / ".manifest.json.partial").write_bytes(b"{")
    assert set(seal(tmp_path, manifest()).manifest.files) == set(FILES)


def test_links_cannot_be_sealed(tmp_path):
    (tmp_path / "model.onnx").symlink_to("/etc/hostname")
    with pytest.raises(BundleError, match=r"model.onnx: found a link"):
        seal(tmp_path, manifest())
