"""``adaptive-scan ptychography``, on the simulated instrument, on usim and on recorded scans."""

from __future__ import annotations

import contextlib
import pathlib

import numpy as np
import pytest
from command_tools import Run
from swift_context import Swift

from adaptive_core.errors import DeviceError
from adaptive_core.ptychography import positions, scan_file
from adaptive_core.ptychography.experiments import SimulatedRegion, experiment
from nionswift_plugin.adaptive_scan.command_line import ptychography as command
from nionswift_plugin.adaptive_scan.diffraction_scanner import SwiftDiffractionScanner

PNG = b"\x89PNG"
QUICK = ("--positions", "30", "--subsequences", "3", "--dose", "5e4", "--json")


@pytest.fixture(autouse=True)
def _in_this_swift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "headless_swift", lambda _: contextlib.nullcontext())


def test_a_scan_of_the_simulated_instrument(swift_simulator: Swift, run_command: Run, tmp_path: pathlib.Path) -> None:  # noqa: ARG001
    outcome = run_command("ptychography", *QUICK, "--policy", "halton", "--out", tmp_path / "run")
    report = outcome.report
    assert outcome.status == 0, outcome.errors
    assert (report["finish_reason"], report["positions"]) == ("COMPLETED", 30)
    assert report["dose_e_per_A2"] == pytest.approx(5e4, rel=1e-3)
    quality = [part["ssim"] for part in report["subsequences"]]
    assert [part["positions"] for part in report["subsequences"]] == [10, 20, 30]
    assert quality == sorted(quality)
    assert report["final"]["ssim"] > 0.15
    assert report["final"]["frc_resolution_A"] < 2
    data = scan_file.read_scan(pathlib.Path(report["scan_file"]))
    np.testing.assert_allclose(data.positions_A, positions.halton(30, (20.0, 20.0)), atol=1e-6)
    assert pathlib.Path(report["picture"]).read_bytes().startswith(PNG)


def test_lines_for_people_and_a_defocused_region(swift_simulator: Swift, run_command: Run) -> None:  # noqa: ARG001
    words = ("--positions", "20", "--subsequences", "1", "--exposure-ms", "0.5", "--defocus", "6", "--region", "1.5")
    outcome = run_command("ptychography", *words, "--specimen", "dwcnt")
    assert outcome.status == 0, outcome.errors
    assert "COMPLETED: 20 of 20 positions" in outcome.lines[0]
    assert "6 nm underfocus" in outcome.lines[0]
    assert any("against the truth: SSIM" in line for line in outcome.lines)


def test_another_vendors_instrument(swift_usim: Swift, run_command: Run) -> None:
    swift_usim.controller.SetVal("S_VOA", 1.0)
    swift_usim.controller.SetVal("C10", 0.0)
    words = ("--positions", "4", "--subsequences", "1", "--exposure-ms", "10", "--region", "3", "--json")
    outcome = run_command("ptychography", *words)
    assert outcome.status == 0, outcome.errors
    assert outcome.report["device"] == "usim_scan_device"
    assert outcome.report["final"] == {"ssim": None, "frc_resolution_A": None}


def test_a_recorded_scan(run_command: Run, tmp_path: pathlib.Path) -> None:
    side, region = 30, SimulatedRegion(experiment("mos2"), 11)
    place = positions.raster(side, side, (20.0, 20.0))
    patterns = region.measure(place, None, np.random.default_rng(0)).patterns
    np.save(tmp_path / "scan.npy", patterns.reshape(side, side, 64, 64))
    told = ("--energy-kev", "60", "--convergence-mrad", "33", "--mrad-per-px", "1.5798", "--step-nm", str(2.0 / side))
    words = ("ptychography", "--recording", tmp_path / "scan.npy", "--positions", "100", "--subsequences", "2")
    outcome = run_command(*words, *told, "--json", "--out", tmp_path)
    assert outcome.status == 0, outcome.errors
    data = scan_file.read_scan(tmp_path / "scan.h5")
    off = data.positions_A[:, None] - place
    assert np.hypot(*off.T).min(0).max() < 1e-6  # they snap to the grid
    assert outcome.report["dose_e_per_A2"] is None
    missing = run_command(*words, *told[2:])
    assert missing.status == 2
    assert "does not say its beam energy" in missing.errors[-1]


def test_what_was_measured_before_a_failure_is_kept(
    swift_simulator: Swift,  # noqa: ARG001
    run_command: Run,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take, taken = SwiftDiffractionScanner._signal, []

    def failing(self: SwiftDiffractionScanner, *arguments: object) -> object:
        taken.append(1)
        if len(taken) == 25:
            raise DeviceError("The camera stopped.")
        return take(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(SwiftDiffractionScanner, "_signal", failing)
    outcome = run_command("ptychography", *QUICK, "--out", tmp_path)
    assert outcome.status == 1
    assert "The camera stopped" in outcome.errors[-1]
    assert (outcome.report["finish_reason"], outcome.report["positions"]) == ("FAILED", 24)
    assert scan_file.read_scan(tmp_path / "scan.h5").count == 24
    assert (tmp_path / "summary.png").is_file()


BAD_INPUT: dict[tuple[str, ...], str] = {
    ("--positions", "7"): "multiple of the number of sub-sequences",
    ("--dose", "-1"): "--dose must be positive",
    ("--recording", "x.npy", "--camera", "c"): "--camera is not for a recording",
    ("--recording", "x.npy"): "cannot be read",
    ("--recording", "x.npy", "--synchronized"): "--synchronized is not for a recording",
    ("--saturation", "0"): "saturation must be a positive number",
    ("--step-nm", "1"): "--step-nm is for a recording",
    ("--policy", "nothing"): "nothing",
    ("--device", "nothing"): "no scan device nothing",
    ("--camera", "nothing"): "no camera nothing",
    ("--specimen", "nothing"): "nothing",
    ("--convergence-mrad", "190"): "must show the bright-field disk",
    ("--defocus", "900"): "go nearer to focus",
}


def test_bad_input_is_refused_in_one_line(swift_simulator: Swift, run_command: Run) -> None:  # noqa: ARG001
    for words, message in BAD_INPUT.items():
        outcome = run_command("ptychography", *words)
        assert outcome.status == 2, words
        assert len(outcome.errors) == 1, words
        assert message in outcome.errors[0]
