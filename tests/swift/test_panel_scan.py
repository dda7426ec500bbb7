"""Scans from the panel: what an operator gets."""

from __future__ import annotations

import pathlib
import re
import resource
import time
import typing

import numpy as np
import pytest
from nion.swift.model import Graphics
from nion.utils import Geometry
from panel_tools import COMPLETED, MEASURED, PATH, QUICK, Opened
from scanner_tools import quiet

from adaptive_core.partial_scan import FinishReason
from nionswift_plugin.adaptive_scan import live_items
from nionswift_plugin.adaptive_scan.settings import RegionKind


def test_twenty_segments_take_less_than_a_second(opened: Opened) -> None:
    opened.scan(**QUICK)  # the first scan makes the simulator prepare its specimen
    seconds = opened.scan(**QUICK, dwell_us=10.0)
    assert opened.session.status.startswith("Completed: 400 probes")
    assert seconds < 1.0


def test_results_are_calibrated_and_say_how_they_were_made(opened: Opened) -> None:
    swift = opened.swift
    quiet(swift)
    opened.scan(**QUICK, segments=30)
    assert opened.titles() == [COMPLETED, MEASURED, PATH]
    measured = opened.item(MEASURED)
    assert measured.xdata is not None
    fov_nm = swift.scan.get_current_frame_parameters().fov_nm
    for calibration in measured.xdata.dimensional_calibrations:
        assert calibration.units == "nm"
        assert calibration.scale == pytest.approx(fov_nm / 96)
        assert calibration.offset == pytest.approx(-fov_nm / 2)
    assert measured.xdata.intensity_calibration.units == "counts"
    path = opened.item(PATH).xdata
    assert path is not None
    assert path.dimensional_calibrations[0].scale * path.data_shape[0] == pytest.approx(fov_nm)
    for title in opened.titles():
        how = opened.how(title)
        assert how["finish_reason"] == "COMPLETED"
        assert how["probes"] == 600
        assert how["coverage"] == pytest.approx(600 / 96**2)
        assert how["dose_e_per_A2"] == pytest.approx(opened.session.outcome.progress.dose_e_per_A2)
        assert how["plan"]["budget"]["segments"] == 30
        assert how["models"]["policy"]["name"] == "random-segments"
        assert how["device"] == "adaptive_simulator_scan"
        assert pathlib.Path(how["journal"]).parent == opened.folders.journals
        assert opened.item(title).metadata["scan"]["fov_nm"] == fov_nm
        assert opened.item(title).session_metadata["project_acquisition_index"] == 1
        assert not opened.item(title).is_live
    assert swift.document_model.transaction_count == 0


def test_values_are_those_of_the_specimen(opened: Opened) -> None:
    swift = opened.swift
    quiet(swift)
    opened.scan(**QUICK, segments=60)
    data = opened.item(MEASURED).data
    assert swift.simulator is not None
    truth = swift.simulator.truth(opened.session.outcome.prepared.scanner.context)
    known = np.isfinite(data)
    assert 0.08 < known.mean() < 0.14
    # A probe may be half a pixel away from the centre of its pixel.
    assert np.corrcoef(data[known], truth[known])[0, 1] > 0.9
    assert np.isfinite(opened.item(COMPLETED).data).all()


def test_the_path_is_drawn(opened: Opened) -> None:
    opened.scan(**QUICK)
    display_item = opened.swift.document_model.get_display_item_for_data_item(opened.item(MEASURED))
    assert display_item is not None
    opened.swift.pump(lambda: len(display_item.graphics) == 20)
    segments = opened.session.outcome.scan.actions
    for graphic, segment in zip(display_item.graphics, segments, strict=True):
        assert isinstance(graphic, Graphics.LineGraphic)
        np.testing.assert_allclose(graphic.start, np.array(segment.start) / 96)
        np.testing.assert_allclose(graphic.end, np.array(segment.end) / 96)
    assert opened.item(PATH).data.any()


def test_a_second_scan_has_items_of_its_own(opened: Opened) -> None:
    opened.scan(**QUICK)
    first = opened.item(MEASURED).data.copy()
    opened.scan(**QUICK, seed=1)
    assert opened.titles() == sorted(
        f"{title}{suffix}" for title in (COMPLETED, MEASURED, PATH) for suffix in ("", " 2")
    )
    np.testing.assert_array_equal(opened.item(MEASURED).data, first)


def test_a_long_scan_is_shown_as_it_goes_and_keeps_the_window_free(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[float] = []
    post = opened.model._document_controller.queue_task

    def timed_post(task: typing.Callable[[], None]) -> None:
        def timed() -> None:
            begin = time.thread_time()
            task()
            calls.append(time.thread_time() - begin)

        post(timed)

    monkeypatch.setattr(opened.model._document_controller, "queue_task", timed_post)
    opened.model.start(**QUICK, segments=250, dwell_us=200.0)
    seen: set[int] = set()
    percents: set[int] = set()
    was_live = False
    while opened.session.is_busy:
        opened.round()
        percents.add(opened.session.progress_percent)
        if MEASURED in opened.titles():
            was_live |= opened.item(MEASURED).is_live
            seen.add(int(np.isfinite(opened.item(MEASURED).data).sum()))
    assert was_live
    assert len(seen) >= 4
    assert len(percents) >= 4
    assert max(calls) < 0.05


def test_a_scan_that_ends_while_its_items_are_made_is_shown_to_its_end(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_item = live_items.add_item

    def add_slowly(*arguments: typing.Any) -> typing.Any:
        item = add_item(*arguments)
        time.sleep(0.1)
        return item

    monkeypatch.setattr(live_items, "add_item", add_slowly)
    opened.scan(**QUICK, dwell_us=500.0)
    probes = [opened.how(title)["probes"] for title in opened.titles()]
    assert probes == [400, 400, 400]
    assert {opened.how(title)["finish_reason"] for title in opened.titles()} == {"COMPLETED"}


def test_continue_adds_the_budget_to_the_last_scan(opened: Opened) -> None:
    opened.scan(**QUICK)
    first = opened.item(MEASURED).data.copy()
    opened.model.continue_last(**QUICK, segments=15)
    opened.run()
    assert opened.titles() == [COMPLETED, MEASURED, PATH]
    assert opened.session.outcome.scan.probes == 700
    assert opened.how(MEASURED)["probes"] == 700
    data = opened.item(MEASURED).data
    assert (np.isfinite(data) >= np.isfinite(first)).all()
    assert np.isfinite(data).sum() > np.isfinite(first).sum()


def test_verify_leaves_no_items_of_swifts_own(opened: Opened) -> None:
    opened.scan(**QUICK)
    opened.session.verify()
    opened.run()
    assert len(opened.swift.document_model.data_items) == len(opened.titles())


def test_verify_shows_raster_and_difference(opened: Opened) -> None:
    opened.scan(**QUICK, segments=60)
    enabled = list(opened.swift.scan.get_enabled_channel_indexes())
    opened.session.verify()
    opened.run()
    assert opened.session.status.startswith("Against a raster: RMS error")
    raster, difference = opened.item("Adaptive Scan (raster)"), opened.item("Adaptive Scan (difference)")
    np.testing.assert_allclose(difference.data, opened.item(COMPLETED).data - raster.data, rtol=1e-5)
    assert opened.how("Adaptive Scan (difference)")["psnr_db"] > 5
    assert raster.dimensional_calibrations == opened.item(COMPLETED).dimensional_calibrations
    assert list(opened.swift.scan.get_enabled_channel_indexes()) == enabled
    assert opened.swift.controller.GetVal("C_Blank") == 1.0
    opened.model.unblank()
    opened.swift.pump(lambda: opened.swift.controller.GetVal("C_Blank") == 0.0)


def test_other_channels_are_completed_on_demand(opened: Opened) -> None:
    opened.swift.scan.set_channel_enabled(1, True)
    opened.scan(**QUICK, channel=2)
    assert opened.session.outcome.prepared.plan.setup.channels == ("BF", "HAADF", "MAADF")
    assert opened.model.has_other_channels
    opened.session.complete_channels()
    opened.run()
    for name in ("HAADF", "MAADF"):
        item = opened.item(f"Adaptive Scan (completed, {name})")
        assert item.metadata["hardware_source"]["channel_name"] == name
        assert np.isfinite(item.data).all()
    assert opened.session.status == "Completed HAADF, MAADF."


def test_a_subscan_and_a_rectangle_are_regions(opened: Opened) -> None:
    swift = opened.swift
    opened.scan(**QUICK, region=RegionKind.SUBSCAN)
    assert "subscan is off" in opened.session.status
    opened.scan(**QUICK, region=RegionKind.RECTANGLE)
    assert "Draw a rectangle" in opened.session.status
    swift.scan.subscan_enabled = True
    swift.scan.subscan_region = Geometry.FloatRect.from_tlhw(0.25, 0.25, 0.25, 0.5)
    opened.scan(**QUICK, region=RegionKind.SUBSCAN, size_px=64)
    assert opened.item(MEASURED).data.shape == (32, 64)
    fov_nm = swift.scan.get_current_frame_parameters().fov_nm
    calibrations = opened.item(MEASURED).dimensional_calibrations
    assert [c.scale for c in calibrations] == pytest.approx([fov_nm / 128] * 2)
    assert [c.offset for c in calibrations] == pytest.approx([-fov_nm / 4, -fov_nm / 4])


def test_a_rectangle_is_scanned_where_its_image_was_taken(opened: Opened) -> None:
    swift = opened.swift
    opened.scan(**QUICK)
    fov_nm = swift.scan.get_current_frame_parameters().fov_nm
    display_item = swift.document_model.get_display_item_for_data_item(opened.item(COMPLETED))
    assert display_item is not None
    rectangle = Graphics.RectangleGraphic()
    rectangle.bounds = Geometry.FloatRect.from_tlhw(0.5, 0.25, 0.25, 0.25)
    display_item.add_graphic(rectangle)
    display_item.graphic_selection.set(0)

    def is_selected() -> bool:
        # Swift's list of items follows a little later.
        swift.document_controller.select_display_items_in_data_panel([display_item])
        return swift.document_controller.selected_display_item is display_item

    swift.pump(is_selected)
    parameters = swift.scan.get_current_frame_parameters()
    parameters.fov_nm = fov_nm / 2
    swift.scan.set_current_frame_parameters(parameters)
    opened.scan(**QUICK, region=RegionKind.RECTANGLE, size_px=48)
    assert opened.session.status.startswith("Completed")
    item = opened.item(f"{MEASURED} 2")
    assert item.data.shape == (48, 48)
    assert [c.scale for c in item.dimensional_calibrations] == pytest.approx([fov_nm / 4 / 48] * 2)
    assert [c.offset for c in item.dimensional_calibrations] == pytest.approx([0.0, -fov_nm / 4])


def test_another_vendors_device(on_usim: Opened) -> None:
    on_usim.scan(**QUICK, dwell_us=10.0)
    seconds = on_usim.scan(**QUICK, dwell_us=10.0)
    assert on_usim.session.status.startswith("Completed: 400 probes")
    assert seconds < 2.0
    on_usim.session.verify()
    on_usim.run()
    assert on_usim.session.status.startswith("Against a raster")


def test_a_scan_stops_at_the_predicted_error(opened: Opened) -> None:
    generator = next(line for line in opened.model.models.menu.generators if line.usable)
    opened.scan(policy="predicted-error", generator=generator.name, segments=50, stop_error=10.0)
    assert opened.session.outcome.reason is FinishReason.COMPLETED
    assert opened.session.outcome.scan.probes < 100
    assert re.fullmatch(r"Completed: .*; predicted error [\d.]+ SD\.", opened.session.status)
    assert "Adaptive Scan (uncertainty)" in opened.titles()


def test_the_live_view_is_restarted_only_if_asked(opened: Opened) -> None:
    scan = opened.swift.scan
    for restart in (False, True):
        scan.start_playing()
        opened.swift.pump(lambda: scan.is_playing and scan.get_next_xdatas_to_finish)
        opened.scan(**QUICK, restart_view=restart)
        assert opened.session.status.startswith("Completed")
        assert scan.is_playing == restart


def test_a_large_scan_is_quick_and_keeps_its_memory(opened: Opened) -> None:
    opened.scan(**QUICK, size_px=512, segments=100)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = opened.scan(**QUICK, size_px=512, segments=570, dwell_us=1.0)
    assert seconds < 10.0
    assert opened.session.outcome.scan.probes == 11400
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 60e3
    display_item = opened.swift.document_model.get_display_item_for_data_item(opened.item(f"{MEASURED} 2"))
    assert display_item is not None
    opened.swift.pump(lambda: display_item.graphics)
    assert len(display_item.graphics) <= 40
