"""A user's classifier and folders of pictures: the report says how good it is at each class."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="pip install 'jetpress[compress]'")
pytest.importorskip("nncf", reason="pip install 'jetpress[compress]'")
cv2 = pytest.importorskip("cv2", reason="pip install 'jetpress[compress]'")


def coloured(root):
    """Sixty pictures of blue, green and red light, in the folders a, b and c."""
    rng = np.random.default_rng(5)
    for index in range(60):
        folder = root / "abc"[index % 3]
        folder.mkdir(parents=True, exist_ok=True)
        picture = rng.integers(0, 60, (40, 50, 3)) + 180 * (np.arange(3) == index % 3)
        cv2.imwrite(str(folder / f"{index:02}.png"), picture.astype(np.uint8))


@pytest.mark.slow
def test_folders_given_as_labels_become_top_1_and_tables(tmp_path, monkeypatch):
    from compress.cli import cli

    monkeypatch.setenv("JETPRESS_CACHE", str(tmp_path / "cache"))
    coloured(tmp_path / "data")
    words = ("tests.compress.user_nets:small", "--profile", "jetson-nano", "--distil-steps", 0,
             "--data", tmp_path / "data", "--labels", tmp_path / "data",
             "--out", tmp_path / "run")  # fmt: skip
    result = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code in (0, 3, 4), result.output
    assert "Top-1" in result.output
    assert "F1" not in result.output  # the console stays short
    report = json.loads((tmp_path / "run" / "report.json").read_bytes())
    facts = {fact["name"] for fact in report["stages"][-1]["facts"]}
    assert {"top1", "agreement", "accuracy_drop_pt"} <= facts
    names = [table["name"] for table in report["tables"]]
    assert names == ["accuracy-detail", "accuracy-by-class", "confusions"]
    assert [row[0] for row in report["tables"][1]["rows"]] == ["a", "b", "c"]
    assert sum(sum(row[1:]) for row in report["tables"][2]["rows"]) == 30  # every second judges
    reasons = " ".join(refusal["instead"] for refusal in report["refusals"])
    assert "alphabetical order" in reasons
    for name in ("report.md", "report.html"):
        assert "Confusions" in (tmp_path / "run" / name).read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("student", "teacher", "said"), [("colours", "small", True),
                                                          ("small", "colours", False)])  # fmt: skip
def test_a_teacher_worse_than_its_student_is_said(tmp_path, monkeypatch, student, teacher, said):
    from compress.cli import cli

    monkeypatch.setenv("JETPRESS_CACHE", str(tmp_path / "cache"))
    coloured(tmp_path / "data")
    nets = "tests.compress.user_nets"
    words = (f"{nets}:{student}", "--teacher", f"{nets}:{teacher}", "--profile", "jetson-nano",
             "--distil-steps", 0, "--data", tmp_path / "data", "--labels", tmp_path / "data",
             "--out", tmp_path / "run")  # fmt: skip
    result = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code in (0, 3, 4), result.output
    report = json.loads((tmp_path / "run" / "report.json").read_bytes())
    doubts = [item for item in report["refusals"] if "teacher" in item["what"]]
    assert bool(doubts) == said, report["refusals"]
    if said:
        assert "top-1" in doubts[0]["reason"]
        assert doubts[0]["what"] in result.output
