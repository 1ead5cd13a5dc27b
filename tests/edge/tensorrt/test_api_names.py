"""Every name of TensorRT that the code uses exists in every version the module serves."""

from __future__ import annotations

import re
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from tests.edge.tensorrt import api
from tests.edge.tensorrt.api_rules import checked, faults_of, has
from tests.edge.tensorrt.api_uses import declared, read_file

ROOT = Path(__file__).parents[3]
SOURCES = sorted((ROOT / "edge").rglob("*.py"))
FOLDER = ROOT / "edge" / "engines" / "tensorrt"


def files():
    texts = {path: path.read_text() for path in SOURCES}
    fields, returns = declared(list(texts.values()))
    return {path: read_file(text, fields, returns) for path, text in texts.items()}


FILES = files()
NAMING = sorted(
    path for path, file in FILES.items() if any(use.name != "__version__" for use in file.uses)
)


def faults(source):
    text = textwrap.dedent(source)
    return faults_of(read_file(text, *declared([text])))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_name_is_in_every_version(path):
    assert faults_of(FILES[path]) == ()


def test_only_the_engine_and_its_self_test_name_tensorrt():
    places = {path.parent for path in NAMING} - {FOLDER, ROOT / "edge" / "selftest"}
    assert not places


def test_the_coverage_is_what_it_says(capsys):
    """The table of the figures: names used, names looked up per version, unknown."""
    used, looked, unknown = set(), Counter(), Counter()
    for file in FILES.values():
        used |= {(use.owner, use.name) for use in file.uses}
        pairs = {(version, use.owner, use.name) for version, use in checked(file)}
        looked.update(version for version, _, _ in pairs)
        unknown.update(version for version, *name in pairs if not has(version, *name))
    with capsys.disabled():
        sys.stdout.write(f"\nTensorRT's names: {len(used)} used in {len(NAMING)} modules\n")
        for version in (*api.versions(), api.RTX):
            line = f"  {version:10} {looked[version]:4} checked, {unknown[version]} unknown\n"
            sys.stdout.write(line)
    assert set(looked) == {*api.versions(), api.RTX}
    assert sum(unknown.values()) == 0
    assert len(used) > 80
    assert min(looked.values()) > 50


HEAD = """
from edge.engines.tensorrt.names import Builder, IBuilderConfig, ICudaEngine, TensorRT
VERSIONS = ("{}", "{}")
"""


def with_versions(body, first="8.0.1", last="11.4.0"):
    return faults(HEAD.format(first, last) + textwrap.dedent(body))


def test_a_name_that_one_version_lacks_is_caught():
    (fault,) = with_versions("""
        def ask(trt: TensorRT, config: IBuilderConfig) -> None:
            config.set_flag(trt.BuilderFlag.FP16)
    """)
    assert fault == "line 6: no BuilderFlag.FP16 in 11.0.0, 11.4.0, rtx-1.7.1"


@pytest.mark.parametrize("line", [
    "trt.BuilderFlag.FP61", "trt.Bilder(log)", "builder.build_cuda_engine(1)",
    "config.max_batch = 1", "getattr(trt.BuilderFlag, 'FP61')",
    "trt.ILogger.Severity.LOUD", "hasattr(trt, 'Bilder')",
])  # fmt: skip
def test_a_name_that_no_version_has_is_caught(line):
    assert len(with_versions(f"""
        def ask(trt: TensorRT, builder: Builder, config: IBuilderConfig, log) -> None:
            {line}
    """)) == 1  # fmt: skip


def test_a_name_in_its_own_versions_is_fine():
    assert with_versions("""
        def ask(trt: TensorRT, config: IBuilderConfig) -> None:
            config.set_flag(trt.BuilderFlag.FP16)
    """, last="10.16.1") == ()  # fmt: skip


def test_a_line_may_serve_some_versions_when_it_says_which():
    body = """
        def ask(trt: TensorRT, config: IBuilderConfig) -> None:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)  # trt: from {}
    """
    assert with_versions(body.format("8.6.1")) == ()
    assert "no BuilderFlag.VERSION_COMPATIBLE in 8.5.2" in with_versions(body.format("8.5.2"))[0]
    assert "but 8.6.1 has" in with_versions(body.format("10.0.1"))[0]
    assert "names no version" in with_versions(body.format("8.6.0"))[-1]


def test_a_mark_that_nothing_needs_is_caught():
    (fault,) = with_versions("""
        def ask(trt: TensorRT, config: IBuilderConfig) -> None:
            config.set_flag(trt.BuilderFlag.TF32)  # trt: until 8.6.1
    """)
    assert "names are everywhere" in fault


def test_tensorrt_rtx_counts_where_eleven_does():
    body = """
        def ask(trt: TensorRT, builder: Builder) -> None:
            builder.build_engine_with_config(1, 2){}
    """
    assert with_versions(body.format(""), "10.7.0")[0].endswith("in rtx-1.7.1")
    assert with_versions(body.format("  # trt: not in rtx"), "10.7.0") == ()
    assert with_versions(body.format(""), "10.7.0", "10.16.1") == ()


def test_an_object_that_gets_a_name_without_annotation_is_caught():
    (fault,) = with_versions("""
        def ask(builder: Builder) -> None:
            network = builder.create_network(0)
    """)
    assert "gets a name, no annotation" in fault


def test_a_name_of_an_object_without_annotation_is_caught():
    (fault,) = with_versions("""
        def ask(builder: Builder) -> None:
            builder.create_network(0).num_layers
    """)
    assert "num_layers of Builder.create_network" in fault


def test_a_subclass_overrides_what_is_there():
    body = """
        def ask(trt: TensorRT) -> None:
            class Log(trt.ILogger):
                def {}(self, severity, msg):
                    pass
    """
    assert with_versions(body.format("log")) == ()
    assert "ILogger.lug" in with_versions(body.format("lug"))[0]


def test_a_module_without_versions_is_caught():
    assert "no VERSIONS" in faults("""
        from edge.engines.tensorrt.names import TensorRT
        def ask(trt: TensorRT) -> None:
            trt.Builder
    """)[0]  # fmt: skip


@pytest.mark.parametrize("path", NAMING, ids=lambda path: path.name)
def test_a_misspelt_name_is_caught_in_each_module(path):
    """Change one name that the module uses; the check must see it."""
    text = path.read_text()
    fields, returns = declared([p.read_text() for p in SOURCES])
    file = FILES[path]
    names = {use.name for use in file.uses if use.kind == "use" and f".{use.name}" in text}
    for name in names - {"__version__"}:
        changed = re.sub(rf"\.{name}\b", f".{name}_x", text)
        assert faults_of(read_file(changed, fields, returns)), name


def test_the_table_holds_the_versions_of_the_jetpacks():
    assert api.versions()[0] == "8.0.1"
    assert api.versions()[-1] == "11.4.0"
    assert len(api.versions()) == 12
    assert "FP16" in api.members("10.16.1", "BuilderFlag")
    assert "FP16" not in api.members("11.0.0", "BuilderFlag")
    assert "execute_async_v3" not in api.members("8.4.1", "IExecutionContext")
    assert "execute_async_v3" in api.members("8.5.2", "IExecutionContext")
    assert api.members("8.0.1", "ILogger.Severity") == api.members("10.3.0", "ILogger.Severity")
    assert "IInt8EntropyCalibrator2" not in api.classes("11.0.0")
    assert (Path(__file__).parent / "api_names.json").stat().st_size < 150_000
