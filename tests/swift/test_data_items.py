"""What a path looks like: its picture, and its graphics on an image."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from nion.swift.model import DataItem, DisplayItem, Graphics
from panel_tools import open_panel, set_scan
from swift_context import Swift

from adaptive_core import static_path
from adaptive_core.scan_path import Action, Positions, Segment
from nionswift_plugin.adaptive_scan.data_items import show_items
from nionswift_plugin.adaptive_scan.path_graphics import (
    GRAPHIC_ID,
    MOST_GRAPHICS,
    PathGraphics,
    path_colours,
    straight_parts,
)
from nionswift_plugin.adaptive_scan.path_picture import PathPicture


def segments(count: int) -> list[Action]:
    """Parallel segments of 20 probes in 96 x 96 px."""
    return [Segment((4.0 + i % 90, 10.0), (4.0 + i % 90, 40.0), 20) for i in range(count)]


@pytest.fixture
def display_item(swift_simulator: Swift) -> DisplayItem.DisplayItem:
    item = DataItem.DataItem(np.zeros((96, 96), np.float32))
    swift_simulator.document_model.append_data_item(item)
    found = swift_simulator.document_model.get_display_item_for_data_item(item)
    assert found is not None
    return found


def draw(graphics: PathGraphics, actions: list[Action]) -> int:
    """Draw all that is new; the number of steps that it took."""
    graphics.add(actions)
    return len(list(graphics.draw()))


def test_a_picture_has_the_path_and_its_order() -> None:
    picture = PathPicture((96, 64), 40, path_colours())
    assert picture.scale == 4
    assert picture.image.shape == (384, 256, 3)
    assert picture.draw([Segment((10.5, 5.5), (10.5, 50.5), 20)])
    rows, columns = np.nonzero(picture.image.any(axis=2))
    assert rows.min() >= 41
    assert rows.max() <= 43
    assert columns.min() == pytest.approx(22, abs=1)
    assert columns.max() == pytest.approx(202, abs=1)
    # Blue and green are cyan, the first colour; the second half of the probes is more red.
    first, last = picture.image[42, 22], picture.image[42, 202]
    assert tuple(first) == (255, 255, 0)
    assert 110 < last[2] < 140


def test_a_picture_grows_and_says_whether_it_did() -> None:
    picture = PathPicture((96, 96), 400, path_colours())
    actions = segments(1)
    assert picture.draw(actions)
    assert not picture.draw(actions)
    before = picture.image.copy()
    actions.append(Positions(np.array([[95.9, 95.9], [0.0, 0.0], [96.0, 96.0]])))
    assert picture.draw(actions)
    assert picture.image[-1, -1].any()
    assert picture.image[0, 0].any()
    assert (picture.image != before).any()


def test_a_large_region_keeps_its_size() -> None:
    assert PathPicture((1024, 512), 10, path_colours()).image.shape == (1024, 512, 3)


@pytest.mark.parametrize(("probes", "drawn"), [(1, 5), (1024**2, 1)])
def test_probes_of_a_large_picture_are_seen_unless_they_are_close_to_each_other(probes: int, drawn: int) -> None:
    picture = PathPicture((1024, 1024), probes, path_colours())
    picture.draw([Positions(np.array([[100.5, 200.5]]))])
    assert np.count_nonzero(picture.image.any(axis=2)) == drawn
    assert picture.image[100, 200].any()


def test_which_lines_show_an_action() -> None:
    assert straight_parts(Segment((1.0, 2.0), (3.0, 4.0), 20)) == [((1.0, 2.0), (3.0, 4.0))]
    assert straight_parts(Segment((1.0, 2.0), (1.0, 2.0), 1)) == []
    spiral = Positions(static_path.spiral((96, 96), 400)[200:220])
    parts = straight_parts(spiral)
    assert len(parts) == 2
    assert parts[0][0] == tuple(spiral.positions[0])
    assert parts[0][1] == parts[1][0]
    assert parts[1][1] == tuple(spiral.positions[-1])
    assert straight_parts(Positions(static_path.halton((96, 96), 20))) == []
    zigzag = np.stack([3.0 * (np.arange(20) % 2), np.arange(20.0)], axis=1)
    assert straight_parts(Positions(zigzag)) == []


def test_graphics_are_made_once_and_then_moved(display_item: DisplayItem.DisplayItem) -> None:
    graphics = PathGraphics(display_item, (96, 96), 20 * 100, 100)
    actions = segments(30)
    assert draw(graphics, actions) == 30
    made = list(display_item.graphics)
    assert draw(graphics, actions) == 0
    actions = segments(100)
    draw(graphics, actions)
    assert len(display_item.graphics) == MOST_GRAPHICS
    assert list(display_item.graphics)[:30] == made
    rows = sorted(round(graphic.start.y * 96 - 4) for graphic in display_item.graphics)
    assert rows == sorted(i % 90 for i in range(100 - MOST_GRAPHICS, 100))
    assert len({graphic.stroke_color for graphic in display_item.graphics}) == 1


def test_a_short_path_is_coloured_by_its_order(display_item: DisplayItem.DisplayItem) -> None:
    draw(PathGraphics(display_item, (96, 96), 200, 10), segments(10))
    colours = [graphic.stroke_color for graphic in display_item.graphics]
    assert colours[0] == "#00ffff"
    assert len(set(colours)) == 10
    assert all(graphic.is_position_locked and graphic.is_shape_locked for graphic in display_item.graphics)


def test_graphics_of_an_earlier_path_are_used_again_and_others_are_left_alone(
    display_item: DisplayItem.DisplayItem,
) -> None:
    own = Graphics.LineGraphic()
    display_item.add_graphic(own)
    draw(PathGraphics(display_item, (96, 96), 200, 10), segments(10))
    draw(PathGraphics(display_item, (96, 96), 300, 15), segments(15))
    assert sum(graphic.graphic_id == GRAPHIC_ID for graphic in display_item.graphics) == 15
    assert own in display_item.graphics


def test_results_take_free_panels_and_those_of_earlier_results(swift_simulator: Swift, tmp_path: pathlib.Path) -> None:
    set_scan(swift_simulator.scan)
    opened = open_panel(swift_simulator, tmp_path)
    workspace = swift_simulator.document_controller.workspace_controller
    assert workspace is not None
    workspace.apply_layouts(workspace.display_panels[0], [workspace.display_panels[0]], 2, 2)
    choices = {"policy": "random-segments", "generator": "nearest-interpolation"}

    def shown() -> list[str | None]:
        return [panel.data_item.title if panel.data_item else None for panel in workspace.display_panels]

    opened.scan(**choices)
    roles = ("completed", "measured", "path")
    assert shown() == [*(f"Adaptive Scan ({role})" for role in roles), None]
    opened.session.verify()
    opened.run()
    opened.swift.pump(lambda: shown()[3] == "Adaptive Scan (difference)")
    opened.swift.pump(lambda: shown()[1] == "Adaptive Scan (raster)")
    opened.scan(**choices)
    assert shown() == [*(f"Adaptive Scan ({role}) 2" for role in roles), "Adaptive Scan (difference)"]
    opened.panel.close()


def test_a_single_panel_shows_the_first_result(swift_simulator: Swift) -> None:
    window = swift_simulator.document_controller
    assert window.workspace_controller is not None
    items = [DataItem.DataItem(np.zeros((8, 8), np.float32)) for _ in range(3)]
    for item in items:
        swift_simulator.document_model.append_data_item(item)
    list(show_items(window, items[:1]))
    list(show_items(window, items[1:]))
    assert window.workspace_controller.display_panels[0].data_item is items[1]
