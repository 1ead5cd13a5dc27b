"""The packaged net: golden outputs tell wrong engines from honest ones, and by how many dB."""

from __future__ import annotations

import numpy as np
import pytest

from compress.passes import Context, run_passes
from compress.progress import Quiet
from devices.profile import load_profile
from edge.golden import LIMIT_DB, check_golden, read_golden
from edge.models import STRONG_MODEL
from tests.compress.faults import FAULTS, answers, as_tf32, as_uint8, rounded, weights

pytest.importorskip("torch", reason="needs the extra 'compress'")
pytest.importorskip("nncf", reason="needs the extra 'compress'")
pytest.importorskip("cv2", reason="needs the extra 'compress'")

ROOM_DB = 7.0  # on either side; the figures that are printed are in edge/golden.py


@pytest.fixture(scope="module")
def bundles(assets_cache, tmp_path_factory):
    """precision -> the packaged net, untrained, sealed for an Orin that may have TensorRT 11."""
    from calib.samples import CalibrationSet
    from compress.import_model import import_model, source_from_text
    from compress.press import Fp16, Int8, Seal

    store = tmp_path_factory.mktemp("packaged")
    board = load_profile("jetson-agx-orin")
    source = source_from_text(None, spec=None, image_hw=None)
    first = import_model(source, board, store, assets_cache.__getitem__)
    train = CalibrationSet.from_video(assets_cache["scene"], indices=range(0, 520, 26))
    context = Context(profile=board, train=train, teacher=None, progress=Quiet(), scratch=store)
    made = {}
    for precision, step in (("fp16", Fp16()), ("int8", Int8())):
        *_, last = run_passes(first, [step, Seal()], store, context)
        made[precision] = last.bundle
    return made


@pytest.mark.assets
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_wrong_and_honest_engines_of_the_packaged_net_lie_far_apart(bundles, precision):
    bundle = bundles[precision]
    golden = read_golden(bundle)
    exact = answers(bundle)
    honest = {"rounded as the board rounds": rounded(bundle),
              "TF32": answers(bundle, change=as_tf32)}  # fmt: skip
    if STRONG_MODEL in bundle:
        honest["the typed twin"] = answers(bundle, STRONG_MODEL)
    wrong = {fault: answers(bundle, **how) for fault, how in FAULTS.items()}
    wrong["weights off by a twentieth"] = answers(
        bundle,
        change=weights(lambda w: w * (1 + np.random.default_rng(1).normal(0, 0.05, w.shape))),
    )
    wrong["the first picture's answer to all"] = [exact[0]] * len(exact)
    wrong["zeros"] = [{name: 0 * value for name, value in row.items()} for row in exact]
    if precision == "int8":
        wrong["int8 read as uint8"] = answers(bundle, change=as_uint8)
    figures = {
        what: check_golden(golden, found, precision).sqnr_db
        for what, found in (*honest.items(), *wrong.items())
    }
    for what, sqnr_db in figures.items():
        print(f"{precision}, {what}: {sqnr_db:.1f} dB")  # noqa: T201 - the figure
    limit_db = LIMIT_DB[precision]
    assert all(figures[what] > limit_db + ROOM_DB for what in honest), figures
    assert all(figures[what] < limit_db - ROOM_DB for what in wrong), figures
    assert (STRONG_MODEL in bundle) == (precision == "fp16")  # all in Q/DQ says it all itself
    assert 500_000 < bundle.manifest.files["golden.npz"].bytes < 1_000_000
