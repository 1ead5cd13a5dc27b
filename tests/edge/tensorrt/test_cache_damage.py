"""1,000 engines that are not what was written: none of them reaches a deserializer."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys

import msgspec
import pytest

from edge.engines.tensorrt.cache import EngineCache
from edge.engines.tensorrt.planfile import open_plan, write_plan
from tests.edge.tensorrt.cache_cases import KEY, built, fresh, kept, named, placed, plan_of

PREFIX = 48  # magic, format, length and hash of the header
CASES = 1000


def load(cache, key, deserialize):
    """What an engine's user does: whatever the cache hands out is deserialized."""
    engine = cache.find(key)
    if engine is not None:
        deserialize(engine.plan)


def spy(plan):
    pytest.fail(f"{len(plan)} bytes of a damaged engine reached the deserializer")


def flips(data, header_end, rng):
    """One bit each, over prefix, header and plan."""
    for low, high, count in (
        (0, PREFIX, 130),
        (PREFIX, header_end, 130),
        (header_end, len(data), 190),
    ):
        for _ in range(count):
            changed = bytearray(data)
            changed[rng.randrange(low, high)] ^= 1 << rng.randrange(8)
            yield bytes(changed)


def cuts(data, header_end, rng):
    """Ends at every boundary and beside it, and anywhere."""
    edges = [0, 8, 12, 16, PREFIX, header_end, len(data)]
    ends = {edge + by for edge in edges for by in (-1, 0, 1) if 0 <= edge + by < len(data)}
    while len(ends) < 150:
        ends.add(rng.randrange(len(data)))
    yield from (data[:end] for end in sorted(ends))


def additions(data, rng):
    """Bytes behind the end, in front, and in the middle."""
    for size in range(1, 31):
        more = rng.getrandbits(8 * size).to_bytes(size, "little")
        at = rng.randrange(1, len(data))
        yield from (data + more, more + data, data[:at] + more + data[at:])


def lost_blocks(data, rng):
    """A block of 512 bytes that never came to the disk, as after a power loss."""
    starts = range(0, len(data), 512)
    for start in starts:
        yield data[:start] + bytes(len(data[start : start + 512])) + data[start + 512 :]
    for _ in range(60 - len(starts)):
        start, size = rng.randrange(len(data) - 64), rng.randrange(1, 64)
        kept_out = rng.getrandbits(8 * size).to_bytes(size, "little")
        yield data[:start] + kept_out + data[start + size :]


def lies(header, plan, folder):
    """Files whose hashes agree with themselves and whose headers say what is not so."""
    fields = json.loads(header)
    changes = [
        {"plan_bytes": len(plan) - 1}, {"plan_bytes": len(plan) + 1}, {"plan_bytes": -1},
        {"plan_bytes": 2**62}, {"plan_bytes": "5000"}, {"plan_sha256": "00" * 32},
        {"plan_sha256": ""}, {"plan_sha256": None}, {"key": None}, {"key": {}}, {"unknown": 1},
        {"build_s": "long"}, {"notes": 3}, {"refusals": [{}]},
    ]  # fmt: skip
    documents = [json.dumps({**fields, **change}).encode() for change in changes]
    for name in ("key", "plan_bytes", "plan_sha256", "built_at_s", "build_s"):
        rest = {field: value for field, value in fields.items() if field != name}
        documents.append(json.dumps(rest).encode())
    for name, wrong in (("settings", {"batch": [4, 2, 1]}), ("settings", {"workspace_mb": -1}),
                        ("settings", {"dla_core": -1}), ("built_on", {"board": 7}),
                        ("built_on", {"extra": ""})):  # fmt: skip
        key = {**fields["key"], name: {**fields["key"][name], **wrong}}
        documents.append(json.dumps({**fields, "key": key}).encode())
    documents += [b"", b"{}", b"null", b"[]", b"\xff\xfe", b"{" * 5000, header[:-1], b"[" * 100_000]
    for document in documents:
        write_plan(folder / "lie", document, plan)
        yield (folder / "lie").read_bytes()
    for other in (b"", plan[:-1], plan + b"x", plan[::-1], plan_of(99)):
        write_plan(folder / "lie", header, other)
        yield (folder / "lie").read_bytes()


def strangers(folder):
    """Whole engines of another bundle, board, version or build, renamed to this one's name."""
    others = [
        placed(KEY, board=board, tensorrt=tensorrt)
        for board in ("jetson-nano", "jetson-orin-nx", "jetson-agx-orin", "jetson-agx-thor")
        for tensorrt in ("8.2.1", "8.5.2", "10.3.0", "10.7.0", "10.16.2", "11.4.1")
    ]
    others += [placed(KEY, **{name: value}) for name, value in (
        ("compute_capability", "7.2"), ("device", "Xavier"), ("cuda", "13.2"), ("sm_count", 4),
        ("power_mode", "7W"), ("power_mode", None), ("module", "tensorrt_rtx"))]  # fmt: skip
    others += [built(KEY, **{name: value}) for name, value in (
        ("precision", "fp16"), ("precision", "fp32"), ("dla_core", 0), ("batch", (1, 1, 2)),
        ("workspace_mb", 511.0), ("version_compatible", True))]  # fmt: skip
    others += [named(name) for name in ("face", "person-2", "Person", "")]
    others += [msgspec.structs.replace(KEY, bundle_sha256=f"{n:064x}") for n in range(6)]
    others += [msgspec.structs.replace(KEY, model="model.strong.onnx")]
    for number, other in enumerate(others):
        yield EngineCache(folder).store(other, fresh(number)).path.read_bytes()


def noise(data, rng):
    for _ in range(CASES):
        size = rng.randrange(1, 2 * len(data))
        body = rng.getrandbits(8 * size).to_bytes(size, "little")
        yield body if size % 2 else data[:PREFIX] + body


def cases(folder):
    rng = random.Random(20261124)
    path = kept(folder / "original")[1]
    data = path.read_bytes()
    with open_plan(path) as file:
        header = file.header
    end = PREFIX + len(header)
    yield from (("bit flipped", case) for case in flips(data, end, rng))
    yield from (("truncated", case) for case in cuts(data, end, rng))
    yield from (("bytes added", case) for case in additions(data, rng))
    yield from (("block lost", case) for case in lost_blocks(data, rng))
    yield from (("header that lies", case) for case in lies(header, plan_of(1), folder))
    yield from (("another's engine", case) for case in strangers(folder / "others"))
    yield from (("noise", case) for case in noise(data, rng))


def test_a_thousand_damaged_engines_are_refused_before_they_are_deserialized(tmp_path, capsys):
    folder = tmp_path / "cache"
    path, counts, reasons = kept(folder)[1], {}, set()
    whole = path.read_bytes()
    for number, (kind, data) in enumerate(cases(tmp_path)):
        if number == CASES:
            break
        assert data != whole
        path.write_bytes(data)
        cache = EngineCache(folder)
        load(cache, KEY, spy)
        why = cache.why(KEY)
        assert why.startswith("the one there was refused: "), why
        assert not path.exists()
        reasons.add(why.partition(": ")[2][:24])
        counts[kind] = counts.get(kind, 0) + 1
    assert sum(counts.values()) == CASES
    assert len(counts) == 7
    assert len(reasons) > 10
    assert len(list(folder.iterdir())) == 1  # the last one that was set aside
    with capsys.disabled():
        told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        sys.stdout.write(
            f"\n{CASES} damaged engines, {CASES} refused before deserializing: {told}\n"
        )


def test_the_spy_sees_the_engine_that_was_not_damaged(tmp_path):
    cache, _ = kept(tmp_path)
    seen = []
    load(cache, KEY, seen.append)
    assert [hashlib.sha256(plan).hexdigest() for plan in seen] == [
        hashlib.sha256(plan_of(1)).hexdigest()
    ]


def test_what_is_no_plain_file_is_refused(tmp_path):
    cache, path = kept(tmp_path)
    path.unlink()
    os.mkfifo(str(path))  # opening it to read would wait for a writer
    load(cache, KEY, spy)
    assert cache.why(KEY) == "the one there was refused: no plain file"
    path.mkdir()
    load(cache, KEY, spy)
    assert "no plain file" in cache.why(KEY)


def test_of_damaged_engines_the_last_one_is_kept_to_look_at(tmp_path):
    cache, path = kept(tmp_path)
    for text in (b"first", b"second"):
        path.write_bytes(text)
        load(cache, KEY, spy)
    assert [(item.name, item.read_bytes()) for item in tmp_path.iterdir()] == [
        (path.name + ".damaged", b"second")
    ]
