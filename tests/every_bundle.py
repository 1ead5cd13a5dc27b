"""Which bundles of a test run are for an Orin or Thor, and what NVIDIA's builder says to them.

A bundle counts when the workshop sealed it for the board (its lineage ends in `seal`). The same
file is built once. Without the package `tensorrt_rtx` nothing is asked, and the figure says so.
"""

from __future__ import annotations

import hashlib
import importlib.util
import tempfile
from pathlib import Path

FAMILIES = ("ampere", "blackwell")
MODELS = ("model.onnx", "model.strong.onnx", "model.float.onnx")
MISSING = "needs NVIDIA's parser: pip install 'jetpress[check]'"


class Sealed:
    """Bundle's sha256 -> its profile and model files; the files' bytes by their own sha256."""

    def __init__(self):
        self.bundles = {}
        self.files = {}

    def remember(self, bundle):
        manifest = bundle.manifest
        steps = manifest.lineage
        if not (steps and steps[-1].name == "seal" and is_for(manifest.profile)):
            return
        models = {}
        for name in MODELS:
            if name in manifest.files:
                data = bundle.read(name)
                digest = hashlib.sha256(data).hexdigest()
                models[name] = digest
                self.files[digest] = data
        self.bundles[bundle.sha256] = (manifest.profile, manifest.precision, models)


def check(sealed):
    """Plain values for another process: how many bundles, what was refused; None for no bundle."""
    if not sealed.bundles:
        return None
    result = {"bundles": sorted(sealed.bundles), "files": sorted(sealed.files), "refused": [],
              "profiles": sorted({profile for profile, _, _ in sealed.bundles.values()}),
              "asked": importlib.util.find_spec("tensorrt_rtx") is not None}  # fmt: skip
    if not result["asked"]:
        return result
    faults = {digest: _fault(data) for digest, data in sealed.files.items()}
    for digest, (profile, precision, models) in sealed.bundles.items():
        wrong = [f"{name}: {faults[found]}" for name, found in models.items() if faults[found]]
        if wrong:
            result["refused"].append((digest, f"{profile} {precision}: {'; '.join(wrong)}"))
    return result


def summary(results):
    """The figure, in lines for a terminal."""
    if not results:
        return []
    bundles = {digest for result in results for digest in result["bundles"]}
    refused = dict(pair for result in results for pair in result["refused"])
    profiles = {name for result in results for name in result["profiles"]}
    if not all(result["asked"] for result in results):
        return [f"NVIDIA's builder was not asked about {len(bundles)} bundles for Orin/Thor: "
                f"it {MISSING}"]  # fmt: skip
    taken = len(bundles) - len(refused)
    files = {digest for result in results for digest in result["files"]}
    return [
        f"{taken} of {len(bundles)} bundles for Orin/Thor profiles parse and build in "
        f"tensorrt_rtx ({len(files)} model files, {len(profiles)} profiles; not on a board)",
        *(f"  refused: {words}" for words in refused.values()),
    ]


def _fault(data):
    """What is wrong with one file; "" when it parses and builds without a word about Q/DQ."""
    from compress.rtx import parse_and_build

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(data)
        seen = parse_and_build(path)
    if not seen.built:
        return "; ".join([*(fault.text for fault in seen.faults), *seen.errors][:2]) or "refused"
    return "; ".join(dict.fromkeys(seen.qdq_warnings))


def is_for(profile):
    from devices.profile import load_profile

    return profile is not None and load_profile(profile).family in FAMILIES
