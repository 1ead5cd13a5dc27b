"""The script that makes api_names.json: what it reads in source, how it merges versions."""

from __future__ import annotations

import json

from tests.edge.tensorrt import api
from tests.edge.tensorrt.read_api import cleaned, compact, dumped, in_source

SOURCE = """
void bind(py::module& m)
{
    py::enum_<Color>(m, "Color", ColorDoc::descr)
        .value("RED", Color::kRED)
        // .value("GONE", Color::kGONE)
        .value("BLUE", Color::kBLUE);

    py::class_<IThing>(m, "IThing")
        .def(py::init<>())
        .def_property("size", &IThing::getSize, &IThing::setSize)
        .def("act", lambdas::act,
            "x"_a);

    py::class_<IBetterThing, IThing, std::unique_ptr<IBetterThing>>(m, "IBetterThing")
        /* .def("hidden", 1) */
        .def_property_readonly("depth", &IBetterThing::depth);

    py::enum_<ILogger::Severity>(m, "Severity")
        .value("ERROR", ILogger::Severity::kERROR);

    m.def("volume", &volume);
}
"""


def test_source_gives_values_methods_properties_and_what_is_inherited(tmp_path):
    (tmp_path / "pyThings.cpp").write_text(SOURCE)
    found = {name: set(names) for name, names in in_source(tmp_path).items()}
    assert found == {
        "<module>": {"volume"},
        "Color": {"RED", "BLUE"},
        "IThing": {"size", "act"},
        "IBetterThing": {"size", "act", "depth"},
        "Severity": {"ERROR"},
    }


def test_a_severity_of_source_is_where_an_imported_one_is():
    found = cleaned({"Severity": ["ERROR", "log"], "ILogger": ["log", "__init__"]})
    assert found["ILogger"] >= {"log", "ERROR", "Severity"}
    assert found["ILogger.Severity"] == {"ERROR"}
    assert "Severity" not in found


def test_versions_are_merged_in_their_order_and_read_back(tmp_path, monkeypatch):
    tables = {
        "10.0.1": {"<module>": [], "A": ["x", "y"], "B": []},
        "8.0.1": {"<module>": ["os", "f"], "A": ["x", "z"]},
        "8.2.1": {"<module>": [], "A": ["x"]},
        "rtx-1.0": {"<module>": [], "A": ["x", "z"]},
    }
    stored = compact(tables)
    assert stored["versions"] == ["8.0.1", "8.2.1", "10.0.1", "rtx-1.0"]
    assert stored["classes"]["A"] == {
        "8.0.1..10.0.1 rtx-1.0": "x", "10.0.1": "y", "8.0.1 rtx-1.0": "z",
    }  # fmt: skip
    assert stored["classes"][""]["8.0.1"] == "f"
    (tmp_path / "names.json").write_text(dumped(stored))
    monkeypatch.setattr(api, "NAMES", tmp_path / "names.json")
    monkeypatch.setattr(api, "_tables", api._tables.__wrapped__)
    assert json.loads((tmp_path / "names.json").read_text()) == stored
    assert api.members("8.0.1", "A") == {"x", "z"}
    assert api.members("rtx-1.0", "A") == {"x", "z"}
    assert api.classes("10.0.1") == {"", "A", "B"}
    assert api.members("8.0.1", "B") == frozenset()
