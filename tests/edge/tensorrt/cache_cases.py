"""Keys and engines for the tests of the engine cache; also run as a process of its own.

python -m tests.edge.tensorrt.cache_cases kill|obtain|overfill|protected FOLDER ...
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from pathlib import Path

import msgspec

from edge.engines.tensorrt.cache import CacheError, EngineCache, FreshEngine
from edge.engines.tensorrt.enginekey import BuiltOn, EngineKey
from edge.engines.tensorrt.settings import BuildSettings

PLACE = BuiltOn(
    board="jetson-orin-nano", device="Orin", compute_capability="8.7", tensorrt="10.3.0",
    cuda="12.6", power_mode="15W", sm_count=8,
)  # fmt: skip
KEY = EngineKey(
    bundle="person", bundle_sha256="3f" * 32, model="model.onnx", built_on=PLACE,
    settings=BuildSettings(precision="int8", workspace_mb=512.0),
)  # fmt: skip
SAVES = ("alpha", "beta", "gamma")  # names of the bundles that `write` writes engines of
TORN_BYTES = 300_000


def silent(line):
    pass


def placed(key, **changes):
    return msgspec.structs.replace(key, built_on=msgspec.structs.replace(key.built_on, **changes))


def built(key, **changes):
    return msgspec.structs.replace(key, settings=msgspec.structs.replace(key.settings, **changes))


def plan_of(seed, size_bytes=5000):
    return random.Random(seed).getrandbits(8 * size_bytes).to_bytes(size_bytes, "little")


def fresh(seed=1, size_bytes=5000):
    return FreshEngine(plan=plan_of(seed, size_bytes), build_s=12.5, peak_memory_mb=900.0,
                       notes=("a note",))  # fmt: skip


def kept(folder, key=KEY, seed=1):
    """A cache with one engine in it, and that engine's file."""
    cache = EngineCache(folder)
    return cache, cache.store(key, fresh(seed)).path


def named(name):
    return msgspec.structs.replace(KEY, bundle=name)


def write_for_ever(folder):
    """Engines whose content says whether they are whole, one after the other."""
    cache, number = EngineCache(folder), 0
    while True:
        for name in SAVES:
            number += 1
            with cache.locked(named(name), silent):
                cache.store(named(name), FreshEngine(plan=self_proving(number), build_s=1.0))


def self_proving(number):
    body = number.to_bytes(8, "little") * (TORN_BYTES // 8)
    return hashlib.sha256(body).digest() + body


def kill_and_say(folder):
    """For each number of seconds read, kill a writer after that long; say it is dead."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            write_for_ever(folder)
        time.sleep(float(line))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        say("killed")


def obtain(folder, go, die):
    """Obtain one engine; its build adds a line to GO.log and ends when the file GO is there."""

    def build():
        with go.with_suffix(".log").open("a") as log:
            log.write(f"{os.getpid()}\n")
        while not go.exists():
            time.sleep(0.01)
        if die:
            os._exit(9)
        return FreshEngine(plan=plan_of(7), build_s=1.0)

    engine = EngineCache(folder).obtain(KEY, build, tell=say)
    say(hashlib.sha256(engine.plan).hexdigest())


def overfill(folder):
    """On a disk of 2 MB: an engine known to be too large, then one whose size nobody knew."""
    cache = EngineCache(folder / "engines")
    for expected_bytes in (3_000_000, 0):
        refused(cache, KEY, expected_bytes)
    say("left: " + ", ".join(path.name for path in folder.rglob("*.engine*")))
    cache.store(KEY, fresh())
    say(f"whole: {cache.find(KEY).plan == plan_of(1)}")


def write_protected(folder):
    """On a disk that is only read: the engine on it is used, another one is refused."""
    cache = EngineCache(folder / "engines")
    say(f"whole: {cache.find(KEY).plan == plan_of(1)}")
    refused(cache, named("face"), 0)


def refused(cache, key, expected_bytes):
    try:
        cache.obtain(key, lambda: fresh(size_bytes=3_000_000), tell=say,
                     expected_bytes=expected_bytes)  # fmt: skip
    except CacheError as error:
        say(f"refused: {error}")


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(what, folder, *rest):
    if what == "kill":
        kill_and_say(folder)
    elif what == "obtain":
        obtain(folder, Path(rest[0]), die=rest[1:] == ("die",))
    elif what == "overfill":
        overfill(folder)
    else:
        write_protected(folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
