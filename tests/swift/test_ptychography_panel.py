"""Ptychographic scans from the panel: what an operator gets."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import tiny_models
from nion.utils import Geometry
from panel_tools import open_panel
from ptychography_tools import AMPLITUDE, FOV_A, FRC, PHASE, POSITIONS, Ptychography, set_up
from swift_context import Swift

from adaptive_core.finish_reason import FinishReason
from adaptive_core.ptychography import scan_file
from nionswift_plugin.adaptive_scan import console
from nionswift_plugin.adaptive_scan.ptychography_model import PtychographyModel
from nionswift_plugin.adaptive_scan.ptychography_settings import PtychographyStore
from nionswift_plugin.adaptive_scan.settings import RegionKind

# what an operator gets


def test_a_scan_is_shown_live_and_kept(ptychography: Ptychography) -> None:
    model, swift = ptychography.model, ptychography.swift
    assert model.prediction.startswith("20 patterns of 1 ms on 1.2 \N{MULTIPLICATION SIGN} 1.2 nm: ")
    assert "at least 4.33e+04 e-/" in model.prediction
    swift.scan.probe_position = Geometry.FloatPoint(0.3, 0.7)
    _, *before = ptychography.state()
    model.start(defocus_nm=6.0, policy="halton")
    swift.pump(lambda: PHASE in ptychography.opened.titles())
    assert ptychography.opened.item(PHASE).is_live
    assert model.button_text == "Abort"
    ptychography.finish()
    blanked, *after = ptychography.state()
    assert (blanked, after) == (1.0, before)

    outcome = ptychography.outcome
    assert outcome.reason is FinishReason.COMPLETED
    assert outcome.is_final
    assert ptychography.opened.titles() == [FRC, AMPLITUDE, PHASE, POSITIONS]
    phase, amplitude, positions, frc = (ptychography.opened.item(t) for t in (PHASE, AMPLITUDE, POSITIONS, FRC))
    assert not any(item.is_live for item in (phase, amplitude, positions, frc))
    assert outcome.data is not None
    assert outcome.image is not None
    assert phase.data.shape == amplitude.data.shape
    assert positions.data.shape == (*(4 * n for n in phase.data.shape), 3) or positions.data.ndim == 3
    np.testing.assert_allclose(phase.data, outcome.image.phase(outcome.prepared.image_pixel_A))  # type: ignore[union-attr]
    for item in (phase, amplitude, positions):
        assert [c.units for c in item.dimensional_calibrations] == ["nm", "nm"]
        sides = [c.scale * n for c, n in zip(item.dimensional_calibrations, item.data.shape[:2], strict=True)]
        assert sides == pytest.approx([FOV_A / 10] * 2)
    assert phase.intensity_calibration.units == "rad"
    assert frc.dimensional_calibrations[0].units == "1/nm"
    assert frc.data[0] == 1.0
    # Dots are the whole scan, crosses its last sub-sequence.
    graphics = swift.document_model.get_display_item_for_data_item(positions).graphics
    places = np.array([graphic.position for graphic in graphics if graphic.type == "point-graphic"])
    np.testing.assert_allclose(places * FOV_A, outcome.data.positions_A[-5:])

    how = ptychography.opened.how(PHASE)
    assert how["policy"] == "halton"
    assert how["positions"] == 20
    assert how["finish_reason"] == "COMPLETED"
    assert how["dose_e_per_A2"] == pytest.approx(20 * 50e-12 * 1e-3 / 1.602e-19 / FOV_A**2, rel=0.01)
    assert how["ssim_truth"] == pytest.approx(outcome.similarity)
    kept = scan_file.read_scan(pathlib.Path(how["file"]))
    np.testing.assert_array_equal(kept.patterns, outcome.data.patterns)
    np.testing.assert_array_equal(kept.positions_A, outcome.data.positions_A)
    assert kept.defocus_of_each() == pytest.approx(60.0)
    assert ptychography.status.startswith("Completed: 20 positions, 4.33e+04 e-/")
    assert outcome.file is not None
    assert outcome.file.name in ptychography.status


def test_the_image_is_that_of_the_specimen(ptychography: Ptychography) -> None:
    ptychography.scan(positions=60, subsequences=2, defocus_nm=8.0)
    # Against the known phase of the simulated specimen, where the instrument put it.
    assert ptychography.outcome.similarity == pytest.approx(0.9, abs=0.1), ptychography.status
    resolution_A = ptychography.outcome.resolution_A
    assert resolution_A is not None
    assert resolution_A < 1.0
    frc = ptychography.opened.item(FRC).data
    assert frc[3:12].min() > 0.9


def test_a_second_scan_is_predicted_by_the_first_and_shown_beside_it(ptychography: Ptychography) -> None:
    ptychography.scan()
    ptychography.swift.pump(lambda: "about 4.33e+04 e-/" in ptychography.model.prediction)
    ptychography.scan(stop_similarity=0.05)
    assert f"{PHASE} 2" in ptychography.opened.titles()
    assert ptychography.status.startswith("Stopped early, the image has settled: ")
    assert ptychography.outcome.data is not None
    assert 10 <= ptychography.outcome.data.count < 20


def test_a_rectangle_is_scanned_where_it_is(ptychography: Ptychography) -> None:
    model, swift = ptychography.model, ptychography.swift
    model.region_index = list(RegionKind).index(RegionKind.SUBSCAN)
    swift.pump(lambda: "subscan is off" in model.prediction)
    swift.scan.subscan_enabled = True
    swift.scan.subscan_region = Geometry.FloatRect.from_tlhw(0.25, 0.5, 0.5, 0.25)
    swift.pump(lambda: "on 0.6 \N{MULTIPLICATION SIGN} 0.3 nm" in model.prediction)
    ptychography.scan(positions=12, subsequences=2)
    assert ptychography.outcome.data is not None
    assert ptychography.outcome.data.calibration.fov_A == pytest.approx((6.0, 3.0))
    top, left = ptychography.opened.item(PHASE).dimensional_calibrations
    assert (top.offset, left.offset) == pytest.approx((-0.3, 0.0), abs=0.01)


def test_a_model_of_ones_own_with_its_encoder(ptychography: Ptychography, tmp_path: pathlib.Path) -> None:
    model, swift = ptychography.model, ptychography.swift
    encoder = tiny_models.save(tmp_path / "mine", "code.onnx", tiny_models.ptychography_encoder())
    policy = tiny_models.save(
        tmp_path / "mine", "walk.onnx", tiny_models.ptychography_policy(5, 70.0, encoder="Tiny encoder")
    )
    model.models.add(encoder)
    swift.pump(lambda: ptychography.status == "Added code.onnx.")
    model.models.add(policy)
    swift.pump(lambda: ptychography.status == "Added walk.onnx.")
    assert model.models.policy_titles[model.models.policy_index] == "Tiny ptychography"
    ptychography.scan()
    data = ptychography.outcome.data
    assert data is not None, ptychography.status
    assert data.defocus_of_each() == pytest.approx(70.0)
    diagonal = (np.linspace(-0.8, 0.8, 5) / 2 + 1) / 2 * FOV_A
    np.testing.assert_allclose(data.positions_A[:5], np.stack([diagonal, diagonal], axis=1), atol=1e-3)
    model.change(positions=21, subsequences=3)
    swift.pump(lambda: "was trained for 5 positions a sub-sequence, not 7" in model.prediction)


def test_choices_survive_a_restart(ptychography: Ptychography, tmp_path: pathlib.Path) -> None:
    model, swift = ptychography.model, ptychography.swift
    model.defocus_text, model.exposure_text, model.stop_text = "12", "2.5", "0.9"
    model.models.policy_index = model.models.policy_titles.index("Two pass")
    store = PtychographyStore(tmp_path / "configuration")
    swift.pump(lambda: store.load() == model.settings)
    again = PtychographyModel(swift.document_controller, tmp_path / "configuration", tmp_path, tmp_path, model._beam)
    assert again.settings == model.settings
    assert (again.settings.defocus_nm, again.settings.policy) == (12.0, "two-pass")
    again.close()


def test_the_console(ptychography: Ptychography, monkeypatch: pytest.MonkeyPatch) -> None:
    window = ptychography.swift.document_controller
    monkeypatch.setattr(window, "find_dock_panel", lambda _: ptychography.opened.panel)
    assert "sparse-grid" in console.ptychography_policies(window=window)
    console.ptychography(window=window, policy="random", seed=5)
    ptychography.swift.pump(lambda: ptychography.model.session.progress_percent > 0)
    console.abort_ptychography(window=window)
    ptychography.finish()
    figures = console.ptychography_result(window=window)
    assert figures["finish_reason"] == "CANCELLED"
    assert 5 <= figures["positions"] < 20
    with pytest.raises(ValueError, match="There is no choice 'speed'"):
        console.ptychography(window=window, speed=3)


# other instruments


def test_usim(swift_usim: Swift, tmp_path: pathlib.Path) -> None:
    swift = swift_usim
    swift.controller.SetVal("S_VOA", 1.0)
    set_up(swift, fov_nm=4.0, exposure_ms=10.0)
    opened = open_panel(swift, tmp_path)
    ptychography = Ptychography(swift, opened)
    swift.pump(lambda: ptychography.model.models.menu.policies)
    try:
        assert abs(swift.controller.GetVal("C10")) > 1e-7
        ptychography.scan(positions=6, subsequences=2)
        assert "go nearer to focus" in ptychography.status
        ptychography.scan(positions=6, subsequences=2, defocus_nm=0.0)
        assert ptychography.outcome.reason is FinishReason.COMPLETED, ptychography.status
        assert ptychography.outcome.file is not None
        assert opened.titles() == [AMPLITUDE, PHASE, POSITIONS]
    finally:
        opened.panel.close()
