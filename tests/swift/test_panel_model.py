"""The panel's fields, menus and prediction, and the settings that it keeps."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest
import tiny_models
from nion.ui import UserInterface
from panel_tools import Opened, open_panel, set_scan
from swift_context import Swift

from nionswift_plugin.adaptive_scan.alignment_settings import AlignmentChoices, AlignmentStore
from nionswift_plugin.adaptive_scan.settings import BudgetKind, PartialScanSettings, RegionKind, SettingsStore
from nionswift_plugin.adaptive_scan.settings_store import FILE_NAME


def predicted(opened: Opened) -> str:
    """The prediction for the present settings."""
    done: list[None] = []
    opened.model.refresh()
    opened.model._background.submit("after the prediction", lambda: None, done.append, pytest.fail)
    opened.swift.pump(lambda: done)
    return opened.model.prediction


def widgets(opened: Opened) -> list[UserInterface.Widget]:
    found: list[UserInterface.Widget] = []

    def collect(widget: UserInterface.Widget) -> None:
        found.append(widget)
        for child in widget._contained_widgets:
            collect(child)

    collect(opened.panel.widget)
    return found


def test_what_a_scan_takes_is_told_before_it_starts(opened: Opened) -> None:
    opened.model.models.policy_index = opened.model.models.policy_titles.index("Random segments")
    opened.model.dwell_text = "20"
    fov_nm = opened.swift.scan.get_current_frame_parameters().fov_nm
    electrons = 50e-12 * 400 * 20e-6 / 1.602176634e-19
    dose = electrons / (fov_nm * 10) ** 2
    first, second = predicted(opened).splitlines()
    assert first == "400 probes of 20 \N{MICRO SIGN}s on 96 \N{MULTIPLICATION SIGN} 96 px: 4.34 %"
    assert second == f"{dose:.3g} e-/\N{ANGSTROM SIGN}\N{SUPERSCRIPT TWO} at 50 pA, less than 0.1 s and decisions"
    opened.model.beam_text = "NoSuchControl"
    assert "an unknown dose, " in predicted(opened)
    opened.model.beam_text = "100"
    assert f"{2 * dose:.3g} e-/" in predicted(opened)
    opened.model.beam_text = ""
    assert "an unknown dose, " in predicted(opened)


def test_each_budget_has_its_own_number(opened: Opened) -> None:
    model = opened.model
    model.budget_text = "33"
    model.budget_index = 1
    model.budget_text = "2.5 %"
    model.budget_index = 2
    model.budget_text = "12,5"
    assert model.settings.segments == 33
    assert model.settings.coverage == pytest.approx(0.025)
    assert model.settings.dose_e_per_A2 == 12.5
    model.budget_index = 1
    assert model.budget_text == "2.5"
    assert "px: 2.5 %" in predicted(opened)


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("size_text", "abc", "The size in px must be a positive whole number, not 'abc'."),
        ("size_text", "-3", "must be a positive whole number"),
        ("dwell_text", "0", "The dwell time must be a positive number, not '0'."),
        ("dwell_text", "nan", "The dwell time must be a positive number"),
        ("budget_text", "2.5", "The number of segments must be a positive whole number, not '2.5'."),
        ("stop_text", "soon", "The predicted error must be a positive number, not 'soon'."),
        ("beam_text", "-5", "The beam current must be positive, not -5.0 pA."),
    ],
)
def test_what_cannot_be_read_stays_and_is_told(opened: Opened, field: str, text: str, message: str) -> None:
    before = opened.model.settings
    setattr(opened.model, field, text)
    assert getattr(opened.model, field) == text
    assert opened.model.settings == before
    assert message in opened.model.prediction
    opened.model.start()
    assert not opened.session.is_busy
    assert message in opened.session.status
    setattr(opened.model, field, "20")
    assert message not in predicted(opened)


def test_empty_fields_take_what_swift_has(opened: Opened) -> None:
    set_scan(opened.swift.scan, (64, 128), 3.0)
    opened.model.size_text = opened.model.dwell_text = ""
    assert "400 probes of 3 \N{MICRO SIGN}s on 64 \N{MULTIPLICATION SIGN} 128 px" in predicted(opened)


def test_a_change_in_swift_is_seen(opened: Opened) -> None:
    set_scan(opened.swift.scan, dwell_us=7.0)
    opened.swift.pump(lambda: "of 7 \N{MICRO SIGN}s" in opened.model.prediction, 5.0)


def test_settings_survive_a_restart(opened: Opened) -> None:
    model = opened.model
    model.models.policy_index = model.models.policy_titles.index("Halton")
    model.models.generator_index = model.models.generator_titles.index("Nearest interpolation")
    model.channel_index = 1
    model.region_index = 2
    model.size_text, model.dwell_text, model.stop_text, model.beam_text = "128", "2.5", "0.3", "12"
    model.budget_index = 2
    model.budget_text = "55"
    model.restart_view = True
    opened.swift.pump(lambda: SettingsStore(opened.folders.configuration).load() == model.settings)
    again = SettingsStore(opened.folders.configuration).load()
    assert again == PartialScanSettings(
        device=None,
        channel=1,
        policy="halton",
        generator="nearest-interpolation",
        budget=BudgetKind.DOSE,
        dose_e_per_A2=55.0,
        stop_error=0.3,
        region=RegionKind.SUBSCAN,
        size_px=128,
        dwell_us=2.5,
        beam_current="12",
        restart_view=True,
    )


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        json.dumps([1, 2]),
        json.dumps({"partial_scan": {"segments": "many", "budget": "money", "size_px": 3.5, "dwell_us": 2}}),
    ],
)
def test_broken_settings_become_the_defaults(tmp_path: pathlib.Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    settings = SettingsStore(tmp_path).load()
    assert settings == PartialScanSettings(dwell_us=2.0 if "dwell_us" in content else None)


def test_sections_share_a_file_and_keep_each_others_settings(tmp_path: pathlib.Path) -> None:
    scan, alignment = SettingsStore(tmp_path), AlignmentStore(tmp_path)
    assert scan.first_start()
    scan.save(PartialScanSettings(segments=7))
    alignment.save(AlignmentChoices(tolerance=0.4))
    scan.save(PartialScanSettings(segments=8))
    assert not SettingsStore(tmp_path).first_start()
    assert SettingsStore(tmp_path).load() == PartialScanSettings(segments=8)
    assert AlignmentStore(tmp_path).load() == AlignmentChoices(tolerance=0.4)
    (tmp_path / FILE_NAME).write_text(json.dumps({"alignment": {"tolerance": -1, "settle_ms": 0, "limit": 2, "x": 1}}))
    assert AlignmentStore(tmp_path).load() == AlignmentChoices(settle_ms=0.0, limit=2.0)


def test_settings_that_cannot_be_written_stop_nothing(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE_NAME).mkdir()
    SettingsStore(tmp_path).save(PartialScanSettings())
    assert "cannot be written" in caplog.text


def test_a_model_is_added_and_chosen(opened: Opened, tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(tiny_models.direction_policy())
    (tmp_path / "completion.onnx").write_bytes(tiny_models.generator())
    models = opened.model.models
    for name in ("mine.onnx", "completion.onnx"):
        models.add(tmp_path / name)
        opened.swift.pump(lambda name=name: opened.session.status == f"Added {name}.")
    assert models.policy_titles[models.policy_index] == "Tiny policy"
    assert models.generator_titles[models.generator_index] == "Tiny generator"
    assert "Acts without thinking.\nTrained on: nothing." in models.cards
    assert "mse 1 on none; zero 2." in models.cards
    opened.scan()
    assert opened.session.status.startswith("Completed: 400 probes")
    sha256 = opened.how("Adaptive Scan (completed)")["models"]["policy"]["sha256"]
    assert len(sha256) == 64
    assert (opened.folders.models / "mine.onnx").is_file()


def test_a_policy_brings_its_own_generator_until_another_is_chosen(opened: Opened) -> None:
    models = opened.model.models
    for policy, generator in {
        "Refinement": "Completion of refined positions",
        "Spiral": "Completion of spirals",
        "Predicted error": "Universal completion",
    }.items():
        models.policy_index = models.policy_titles.index(policy)
        assert models.generator_titles[models.generator_index] == generator
        models.generator_index = models.generator_index  # as a combo box of Qt answers what it is told to show
    models.generator_index = models.generator_titles.index("Linear interpolation")
    models.policy_index = models.policy_titles.index("Spiral")
    assert models.generator_titles[models.generator_index] == "Linear interpolation"


def test_a_refused_model_is_told_and_changes_nothing(opened: Opened, tmp_path: pathlib.Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a model at all")
    (tmp_path / "alignment.onnx").write_bytes(
        tiny_models.with_card(tiny_models.model([], {}, {}), tiny_models.ALIGNMENT_CARD)
    )
    before = opened.model.settings
    for name in ("broken.onnx", "alignment.onnx", "missing.onnx"):
        opened.session.status = ""
        opened.model.models.add(tmp_path / name)
        opened.swift.pump(lambda: opened.session.status)
        assert opened.session.status.startswith(f"{name}: ")
    assert opened.model.settings == before
    assert not list(opened.folders.models.glob("*.onnx"))


def test_a_bad_file_in_the_folder_stays_listed_with_its_refusal(opened: Opened) -> None:
    opened.folders.models.mkdir(exist_ok=True)
    (opened.folders.models / "broken.onnx").write_bytes(b"not a model at all")
    models = opened.model.models
    models.read()
    opened.swift.pump(lambda: "broken (refused)" in models.policy_titles)
    models.policy_index = models.policy_titles.index("broken (refused)")
    assert "Refused: Not an ONNX file" in models.cards
    opened.swift.pump(lambda: "broken.onnx: Not an ONNX file" in opened.model.prediction)
    opened.scan()
    assert "broken.onnx: Not an ONNX file" in opened.session.status
    models.policy_index = models.policy_titles.index("Spiral")
    opened.scan(generator="nearest-interpolation")
    assert opened.session.status.startswith("Completed")


def test_the_menu_asks_for_a_file(opened: Opened, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.onnx").write_bytes(tiny_models.direction_policy())
    answers: list[list[str]] = [[], [str(tmp_path / "mine.onnx")]]
    monkeypatch.setattr(opened.swift.document_controller, "get_file_paths_dialog", lambda *_: (answers.pop(0), "", ""))
    models = opened.model.models
    chosen = models.policy_index
    box = next(w for w in widgets(opened) if isinstance(w, UserInterface.ComboBoxWidget) and "Halton" in w.items)
    box._behavior.current_text = box.items[-1]  # as a click does
    box._behavior.on_current_text_changed(box.items[-1])
    opened.swift.pump(lambda: len(answers) == 1 and models.policy_index == chosen)
    assert box.current_text == models.policy_titles[chosen]
    models.policy_index = len(models.policy_titles) - 1
    opened.swift.pump(lambda: opened.session.status == "Added mine.onnx.")
    assert models.policy_titles[models.policy_index] == "Tiny policy"


def test_menus_keep_the_choice_when_their_lines_change(opened: Opened) -> None:
    models = opened.model.models
    models.policy_index = models.policy_titles.index("Halton")
    box = next(w for w in widgets(opened) if isinstance(w, UserInterface.ComboBoxWidget) and "Halton" in w.items)
    assert box.current_text == "Halton"
    opened.folders.models.mkdir(exist_ok=True)
    (opened.folders.models / "a.onnx").write_bytes(tiny_models.direction_policy())
    models.read()
    opened.swift.pump(lambda: "Tiny policy" in models.policy_titles)
    assert "Tiny policy" in box.items
    assert opened.model.settings.policy == "halton"
    assert box.current_text == "Halton"


def test_the_button_starts_and_aborts(opened: Opened) -> None:
    opened.model.change(policy="random-segments", generator="nearest-interpolation", segments=300, dwell_us=500.0)
    buttons = {w.text: w for w in widgets(opened) if isinstance(w, UserInterface.PushButtonWidget)}
    assert not buttons["Verify"].enabled
    buttons["Adaptive Scan"].on_clicked()
    opened.swift.pump(lambda: opened.session.progress_percent > 0)
    assert buttons["Adaptive Scan"].text == "Abort"
    buttons["Adaptive Scan"].on_clicked()
    opened.run()
    assert buttons["Adaptive Scan"].text == "Adaptive Scan"
    assert buttons["Verify"].enabled
    assert buttons["Continue"].enabled
    assert not buttons["Channels"].enabled


def test_devices_come_and_go(swift_both: Swift, tmp_path: pathlib.Path) -> None:
    opened = open_panel(swift_both, tmp_path)
    assert opened.model.devices.names == ["uSim Scan", "Adaptive Simulator Scan"]
    assert opened.model.devices.chosen is swift_both.usim_scan
    opened.model.devices.index = 1
    assert opened.model.devices.chosen is swift_both.scan
    assert opened.model.settings.device == "adaptive_simulator_scan"
    opened.swift.pump(lambda: opened.model.channel_names == ["HAADF", "MAADF", "BF"])
    opened.scan(policy="random-segments", generator="nearest-interpolation")
    assert opened.session.status.startswith("Completed")
    opened.panel.close()


def test_nothing_of_the_training_is_loaded() -> None:
    code = (
        "import sys, nionswift_plugin.adaptive_scan.console; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'onnx', 'gymnasium', 'skimage')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
