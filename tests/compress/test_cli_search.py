"""`compress --search` end to end on small nets: what is found, said, kept, shared and refused."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner

from devices.command import EXIT_STOPPED
from edge.bundle import open_bundle

pytest.importorskip("torch", reason="needs the extra 'compress'")
pytest.importorskip("nncf", reason="needs the extra 'compress'")
pytest.importorskip("optuna", reason="needs the extra 'compress'")
cv2 = pytest.importorskip("cv2", reason="needs the extra 'compress'")

SMALL = "tests.compress.user_nets:small"
LARGE = "tests.compress.user_nets:large"
WIDE = "tests.compress.user_nets:wide"
ORIN = "jetson-orin-nano"
TRAINED = ("--teacher", LARGE, "--accuracy-drop-max", 100, "--profile", ORIN)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Forty pictures of coloured light and noise."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    for index in range(40):
        picture = rng.integers(0, 60, (40, 50, 3)) + 180 * (np.arange(3) == index % 3)
        cv2.imwrite(str(folder / f"{index:02}.png"), picture.astype(np.uint8))
    return folder


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text("prune = [1.0]\nsteps = [4, 8, 12]\n")
    return path


@pytest.fixture
def compress(tmp_path, monkeypatch):
    from compress.cli import cli

    monkeypatch.setenv("JETPRESS_CACHE", str(tmp_path / "cache"))

    def run(*arguments, out=tmp_path / "run"):
        words = [str(word) for word in (*arguments, "--out", out)]
        return CliRunner().invoke(cli, words, catch_exceptions=False)

    run.out = tmp_path / "run"
    return run


def report(folder):
    return json.loads((folder / "report.json").read_bytes())


def table(folder, name):
    return next(table for table in report(folder)["tables"] if table["name"] == name)


def outcome(folder):
    """All that a search leaves for others, as bytes."""
    names = ("report.json", "report.html", "report.md", "recipe.toml", "bundle/bundle.sha256")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.slow
def test_a_search_takes_the_most_accurate_that_fits_and_its_recipe_makes_it_again(
    compress, pictures, tmp_path
):
    """The whole net is too slow for the limit, so what is taken was cut."""
    path = tmp_path / "space.toml"
    path.write_text("prune = [1.0, 0.65, 0.48, 0.3]\nsteps = [4]\n")
    words = (WIDE, "--profile", "jetson-nano", "--data", pictures, "--accuracy-drop-max", 100,
             "--fps-min", 1000)  # fmt: skip
    result = compress(*words, "--trials", 2, "--space", path)
    assert result.exit_code in (0, 4), result.output
    assert re.search(r"refused +candidates that break fps_min: predicted", result.output)
    rows = table(compress.out, "search_trials")["rows"]
    assert len(rows) == 2
    assert all("cut to" in row[0] for row in rows)
    assert [row[-1] for row in rows].count("taken") == 1
    front = table(compress.out, "search_front")["rows"]
    taken = next(row for row in rows if row[-1] == "taken")
    assert taken[0] in {row[0] for row in front}
    assert taken[1]["basis"] == "emulated"
    assert taken[2]["basis"] == "predicted"
    page = (compress.out / "report.html").read_text()
    assert "Accuracy drop against latency: what was tried" in page
    assert "Accuracy drop against memory: what was tried" in page
    assert any("flatters its accuracy" in note for note in report(compress.out)["notes"])
    refusals = report(compress.out)["refusals"]
    assert sum(r["count"] for r in refusals if "never trained" in r.get("instead", "")) > 0
    again = compress(*words, "--recipe", compress.out / "recipe.toml", out=tmp_path / "again")
    assert again.exit_code == result.exit_code, again.output
    sealed = [
        open_bundle(folder / "bundle").sha256 for folder in (compress.out, tmp_path / "again")
    ]
    assert sealed[0] == sealed[1]


@pytest.mark.slow
def test_a_search_killed_at_any_candidate_goes_on_to_the_same_bytes(
    compress, pictures, space, tmp_path, monkeypatch
):
    from compress.search.evaluation import Bench

    words = (SMALL, *TRAINED, "--data", pictures, "--trials", 5, "--space", space)
    assert compress(*words, out=tmp_path / "once").exit_code in (0, 4)
    evaluate, calls = Bench.__call__, []

    def mortal(self, candidate):
        calls.append(candidate)
        if len(calls) in (1, 4, 7):
            raise KeyboardInterrupt
        return evaluate(self, candidate)

    monkeypatch.setattr(Bench, "__call__", mortal)
    codes = [compress(*words).exit_code for _ in range(4)]
    assert codes[:3] == [EXIT_STOPPED] * 3
    assert codes[3] in (0, 4)
    assert outcome(compress.out) == outcome(tmp_path / "once")


@pytest.mark.slow
def test_two_worker_processes_find_what_one_finds(compress, pictures, space, tmp_path):
    words = (SMALL, *TRAINED, "--data", pictures, "--trials", 3, "--space", space)
    assert compress(*words, out=tmp_path / "once").exit_code in (0, 4)
    result = compress(*words, "--workers", 2)
    assert result.exit_code in (0, 4), result.output
    assert outcome(compress.out) == outcome(tmp_path / "once")


@pytest.mark.slow
def test_a_smaller_image_is_tried_where_the_net_takes_one_and_its_recipe_makes_it_again(
    compress, pictures, tmp_path, monkeypatch
):
    from compress.passes import PASSES

    monkeypatch.setitem(PASSES, "resize", "compress.resize:Resize")
    path = tmp_path / "space.toml"
    path.write_text('prune = [1.0]\nimages = ["16x16"]\nsteps = [0]\n'
                    'precisions = ["fp16"]\n')  # fmt: skip
    words = (SMALL, "--profile", ORIN, "--data", pictures, "--accuracy-drop-max", 100)
    result = compress(*words, "--search", "--space", path)
    assert result.exit_code in (0, 4), result.output
    manifest = open_bundle(compress.out / "bundle").manifest
    assert manifest.inputs[0].shape == (1, 3, 16, 16)
    again = compress(*words, "--recipe", compress.out / "recipe.toml", out=tmp_path / "again")
    assert again.exit_code == result.exit_code, again.output
    assert open_bundle(tmp_path / "again" / "bundle").sha256 == (
        open_bundle(compress.out / "bundle").sha256
    )


def test_a_limit_out_of_reach_is_said_with_the_nearest_before_anything_is_trained(
    compress, pictures, space
):
    result = compress(SMALL, *TRAINED, "--data", pictures, "--search", "--space", space,
                      "--fps-min", 1e6)  # fmt: skip
    assert result.exit_code == 2
    assert "fps_min 1e+06 frames/s" in result.output
    assert re.search(r"nearest is \w+, whole, .*frames/s", result.output)
    assert "loosen the limit" in result.output
    assert not list((compress.out / ".passes").glob("distil-*"))


def test_without_frames_there_is_nothing_to_search_by(compress):
    result = compress(SMALL, "--profile", ORIN, "--search")
    assert result.exit_code == 2
    assert "frames to judge candidates by" in result.output


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--search", "--recipe", "r.toml"], ["--search", "--recipe beside it"]),
        (["--trials", "3", "--prune", "0.5"], ["--prune beside it", "--space"]),
        (["--search-time", "30m", "--distil-steps", "3"], ["--distil-steps beside it"]),
        (["--trials", "0"], ["--trials", "found 0", "1 or more"]),
        (["--search", "--workers", "0"], ["--workers", "1 to 64"]),
        (["--search-time", "30"], ["--search-time", "30m"]),
        (["--search-time", "0s"], ["--search-time", "above 0"]),
        (["--workers", "2"], ["--workers", "--search beside it"]),
        (["--space", "s.toml"], ["--space", "--search beside it"]),
        (["--search", "--space", "no.toml"], ["no.toml", "no such file"]),
    ],
)
def test_flags_that_do_not_go_together_are_refused_in_four_parts(compress, pictures, words, parts):
    result = compress(SMALL, "--profile", ORIN, "--data", pictures, *words)
    assert result.exit_code == 2, result.output
    assert all(part in result.output for part in [*parts, "expected"]), result.output


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (f"{ORIN},jetson-nan", ["jetson-nan", "did you mean 'jetson-nano'"]),
        (f"{ORIN},,jetson-nano", ["between its commas"]),
        ("all-oring", ["no group 'all-oring'", "all-orin"]),
    ],
)
def test_a_list_of_boards_with_a_fault_is_refused_before_anything_runs(compress, text, parts):
    result = compress(SMALL, "--profile", text)
    assert result.exit_code == 2
    assert all(part in result.output for part in parts), result.output
    assert not compress.out.exists()


@pytest.mark.slow
def test_two_boards_of_a_family_share_their_passes_and_are_compared(
    compress, pictures, monkeypatch
):
    import compress.material as material
    from compress.press import Distil, Int8, Seal

    done = []
    for kind in (Distil, Int8, Seal):

        def counted(self, source, folder, context, apply=kind.apply):
            done.append(self.name)
            return apply(self, source, folder, context)

        monkeypatch.setattr(kind, "apply", counted)
    imported = material.import_model
    monkeypatch.setattr(material, "import_model",
                        lambda *given: done.append("import") or imported(*given))  # fmt: skip
    result = compress(
        SMALL, "--profile", f"{ORIN},jetson-orin-nx", "--data", pictures, "--teacher", LARGE,
        "--distil-steps", 3, "--accuracy-drop-max", 100,
    )  # fmt: skip
    assert result.exit_code in (0, 4), result.output
    assert sorted(done) == ["distil", "import", "int8", "int8", "seal", "seal"]
    learnt = set()
    for board in (ORIN, "jetson-orin-nx"):
        manifest = open_bundle(compress.out / board / "bundle").manifest
        assert manifest.profile == board
        learnt.update(step.input_sha256 for step in manifest.lineage if step.name == "int8")
        assert report(compress.out / board)["profile"] == board
    assert len(learnt) == 1  # INT8 is chosen by a board's own predicted times
    rows = json.loads((compress.out / "boards.json").read_bytes())["rows"]
    assert [row[0] for row in rows] == [ORIN, "jetson-orin-nx"]
    assert rows[0][3]["value"] > rows[1][3]["value"]  # the NX is faster
    assert "| jetson-orin-nx | pass | int8 |" in (compress.out / "boards.md").read_text()


@pytest.mark.slow
def test_several_boards_end_in_the_worst_exit_code_and_one_that_fails_stops_no_other(
    compress, pictures, space
):
    result = compress(
        SMALL, "--profile", f"jetson-nano,{ORIN}", "--data", pictures, "--teacher", LARGE,
        "--accuracy-drop-max", 100, "--trials", 1, "--space", space, "--fps-min", 16000,
    )  # fmt: skip
    assert result.exit_code == 2, result.output
    assert re.search(r"failed +jetson-nano: the budget on jetson-nano", result.output)
    rows = json.loads((compress.out / "boards.json").read_bytes())["rows"]
    assert rows[0][1] == "failed"
    assert rows[1][1] in ("pass", "inconclusive")


@pytest.mark.slow
def test_a_plain_run_that_breaks_a_limit_says_how_to_search(compress, pictures):
    result = compress(SMALL, "--profile", ORIN, "--data", pictures, "--fps-min", 1e6)
    assert result.exit_code == 3
    assert re.search(r"search +the board's own recipe breaks fps_min", result.output)
    assert any("--search" in note for note in report(compress.out)["notes"])


def test_a_search_under_torchrun_is_refused(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from compress.cli import cli

    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    words = ["tests.compress.user_nets:small", "--profile", "jetson-nano", "--trials", "2",
             "--out", str(tmp_path / "run")]  # fmt: skip
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 2
    assert "a search under torchrun" in result.output
