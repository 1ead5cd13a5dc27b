"""Settings that make no sense are no settings, whether they are given or read from a cache."""

from __future__ import annotations

import math

import msgspec
import pytest

from edge.engines.tensorrt.settings import BuildSettings
from edge.manifest import PRECISIONS


def settings(**changes):
    return BuildSettings(**{"precision": "fp16", "workspace_mb": 16.0, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"precision": "fp8"}, "precision 'fp8' is not one of fp32, fp16, int8"),
        ({"precision": "FP16"}, "precision 'FP16' is not one of"),
        ({"precision": ""}, "precision '' is not one of"),
        ({"batch": (0, 1, 1)}, "1 or more and rise"),
        ({"batch": (-1, 1, 1)}, "1 or more and rise"),
        ({"batch": (2, 1, 2)}, "1 or more and rise"),
        ({"batch": (1, 3, 2)}, "1 or more and rise"),
        ({"workspace_mb": 0.0}, "workspace_mb 0.0 must be above 0"),
        ({"workspace_mb": -1.0}, "must be above 0"),
        ({"workspace_mb": math.inf}, "must be above 0 and finite"),
        ({"workspace_mb": math.nan}, "must be above 0 and finite"),
        ({"dla_core": -1}, "dla_core -1 must be 0 or more"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_was_found(changes, words):
    with pytest.raises(ValueError, match=words):
        settings(**changes)


def test_the_edges_of_what_makes_sense():
    for precision in PRECISIONS:
        assert settings(precision=precision).precision == precision
    assert settings(batch=(1, 1, 1)).batch == settings().batch
    assert settings(batch=(3, 3, 3)).batch == (3, 3, 3)
    assert settings(dla_core=0).dla_core == 0
    assert settings().dla_core is None
    assert settings(workspace_mb=1e-3).workspace_mb == 1e-3


def test_they_come_back_from_json_as_they_were():
    given = settings(precision="int8", batch=(1, 2, 4), dla_core=1, version_compatible=True)
    assert msgspec.json.decode(msgspec.json.encode(given), type=BuildSettings) == given


@pytest.mark.parametrize(
    "text",
    [
        b'{"precision":"fp16","workspace_mb":16,"batch":[1,2]}',
        b'{"precision":"fp16","workspace_mb":16,"batch":[4,2,1]}',
        b'{"precision":"fp16","workspace_mb":16,"batch":[1,2.5,3]}',
        b'{"precision":"fp16","workspace_mb":16,"optimization_level":5}',
        b'{"precision":"fp16"}',
    ],
    ids=["two sizes", "falling", "no whole number", "unknown", "incomplete"],
)
def test_what_is_read_is_checked_too(text):
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=BuildSettings)
