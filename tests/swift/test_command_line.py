"""The command ``adaptive-scan``: figures, files, refusals, exit status."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import imageio.v3
import numpy as np
import pytest
from command_tools import Run
from quiet_clock import QuietClock
from swift_context import Swift

from adaptive_core.simulation.faults import Fault, FaultKind
from adaptive_core.simulation.scan_errors import ScanErrors
from nionswift_plugin.adaptive_scan.settings import PartialScanSettings, SettingsStore

KEYS = {
    *("policy", "generator", "device", "size_px", "probes", "coverage", "dose_e_per_A2", "mse", "psnr_db", "ssim"),
    *("drift_px", "lag", "latency_ms", "seconds", "finish_reason", "journal"),
}
SPIRAL = ("--policy", "spiral", "--generator", "linear-interpolation")


def image_file(folder: pathlib.Path) -> pathlib.Path:
    """An image of two stripes and a dot."""
    y, x = np.mgrid[:128, :160]
    image = 100 * (np.sin(x / 20) > 0) + 80 * (np.hypot(y - 60, x - 80) < 20)
    path = folder / "stripes.png"
    imageio.v3.imwrite(path, image.astype(np.uint8))
    return path


@pytest.mark.usefixtures("swift_both")
def test_a_scan_of_an_image_file(run_command: Run, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "new" / "out"
    outcome = run_command(
        *("scan", "--specimen", image_file(tmp_path), "--pixel-size", "0.1", *SPIRAL, "--dwell-us", "5"),
        *("--out", out, "--json"),
    )
    assert (outcome.status, outcome.errors) == (0, [])
    report = outcome.report
    assert report.keys() >= KEYS
    assert report["finish_reason"] == "COMPLETED"
    assert (report["policy"], report["generator"]) == ("spiral", "linear-interpolation")
    assert report["device"] == "adaptive_simulator_scan"
    assert report["size_px"] == [96, 96]
    assert report["probes"] == 400
    assert report["coverage"] == pytest.approx(400 / 96**2)
    # usim's beam current of 200 pA, on the 12.8 nm that the shorter side of the image measures.
    assert report["dose_e_per_A2"] == pytest.approx(400 * 5e-6 * 200e-12 / 1.602176634e-19 / 128.0**2, rel=1e-6)
    assert 0 < report["mse"] < 1
    assert report["psnr_db"] == pytest.approx(10 * np.log10(4 / report["mse"]))
    assert report["latency_ms"].keys() == {"decide", "scan", "total"}
    assert all(value > 0 for value in report["latency_ms"].values())
    assert pathlib.Path(report["journal"]).parent == out
    assert imageio.v3.imread(out / "summary.png").std() > 0


@pytest.mark.usefixtures("swift_both")
def test_without_a_pixel_size_the_dose_is_unknown(run_command: Run, tmp_path: pathlib.Path) -> None:
    words = ("scan", "--specimen", image_file(tmp_path), *SPIRAL, "--json")
    outcome = run_command(*words, "--segments", "3", "--out", tmp_path / "out")
    assert outcome.status == 0
    assert outcome.report["dose_e_per_A2"] is None
    assert "unknown dose" in run_command("replay", tmp_path / "out").lines[1]
    outcome = run_command(*words, "--dose", "10")
    assert outcome.status == 2
    assert "--pixel-size" in outcome.errors[0]


@pytest.mark.usefixtures("swift_both")
def test_the_settings_of_the_panel_say_what_the_beam_is(run_command: Run, home: pathlib.Path) -> None:
    folder = home / "config" / "Nion" / "Nion Swift"
    folder.mkdir(parents=True)
    words = ("scan", *SPIRAL, "--segments", "3", "--json")
    doses = []
    for beam_current in ("10", "20", "NoSuchControl"):
        SettingsStore(folder).save(PartialScanSettings(beam_current=beam_current, policy="halton"))
        doses.append(run_command(*words).report["dose_e_per_A2"])
    assert doses[1] == pytest.approx(2 * doses[0])
    assert doses[2] is None


@pytest.mark.usefixtures("swift_both")
def test_a_run_is_told_again(run_command: Run, tmp_path: pathlib.Path) -> None:
    run_command("scan", "--specimen", "lattice", *SPIRAL, "--segments", "5", "--out", tmp_path / "out")
    (journal,) = (tmp_path / "out").glob("*.h5")
    summary = (tmp_path / "out" / "summary.png").read_bytes()
    for run in (tmp_path / "out", journal):
        outcome = run_command("replay", run)
        assert (outcome.status, outcome.errors) == (0, [])
        assert "100 probes on 96 x 96 px" in outcome.lines[1]
        (tmp_path / "out" / "replay.png").unlink()
    # The picture of the scan shows the truth, which its journal does not know.
    assert (tmp_path / "out" / "summary.png").read_bytes() == summary
    assert run_command("replay", journal, "--out", tmp_path / "new" / "folder").status == 0
    assert (tmp_path / "new" / "folder" / "replay.png").exists()


def test_a_lag_of_the_instrument_is_corrected_and_told(
    swift_both: Swift, run_command: Run, tmp_path: pathlib.Path
) -> None:
    request = ("scan", "--specimen", "nanoparticles", "--policy", "refinement", "--dwell-us", "10", "--out", tmp_path)
    plain = run_command(*request, "--json").report
    assert (plain["drift_px"], plain["lag"]) == (None, None)
    assert swift_both.simulator is not None
    settings = swift_both.simulator.settings
    swift_both.simulator.settings = dataclasses.replace(settings, scan_errors=ScanErrors(lag_us=8))
    lagging = run_command(*request, "--json").report
    assert lagging["drift_px"] == [0, 0]
    assert 0.05 < lagging["lag"] < 0.4
    assert lagging["mse"] < 1.5 * plain["mse"]
    told = run_command("replay", lagging["journal"], "--out", tmp_path)
    assert told.lines[2] == f"Corrected: a lag of {100 * lagging['lag']:.0f} % of each step"


@pytest.mark.usefixtures("swift_both")
def test_a_seed_repeats_a_run(run_command: Run) -> None:
    words = ("scan", "--policy", "random-segments", "--generator", "nearest-interpolation", "--json", "--seed")
    first, again, other = (run_command(*words, seed).report for seed in ("7", "7", "8"))
    assert first["mse"] == again["mse"]
    assert first["mse"] != other["mse"]


@pytest.mark.usefixtures("swift_both")
@pytest.mark.parametrize(
    ("budget", "probes"), [(("--segments", "3"), 60), (("--coverage", "0.02"), 184), (("--dose", "10"), None)]
)
def test_budgets(run_command: Run, budget: tuple[str, str], probes: int | None) -> None:
    outcome = run_command("scan", *SPIRAL, *budget, "--dwell-us", "2", "--json")
    assert outcome.status == 0
    if probes is not None:
        assert outcome.report["probes"] == probes
    else:
        assert 9.9 < outcome.report["dose_e_per_A2"] <= 10.0


@pytest.mark.usefixtures("swift_both")
def test_another_device(run_command: Run) -> None:
    outcome = run_command("scan", "--device", "usim_scan_device", *SPIRAL, "--segments", "2", "--json")
    assert outcome.status == 0
    assert outcome.report["device"] == "usim_scan_device"
    assert [outcome.report[name] for name in ("mse", "psnr_db", "ssim")] == [None, None, None]


@pytest.mark.usefixtures("swift_both")
def test_without_json_there_are_sentences(run_command: Run, home: pathlib.Path) -> None:
    outcome = run_command("scan", *SPIRAL, "--segments", "2")
    assert outcome.lines[0] == "COMPLETED: spiral with linear-interpolation on adaptive_simulator_scan"
    assert outcome.lines[1].startswith("40 probes on 96 x 96 px (coverage 0.43%)")
    assert len(list((home / "data" / "Nion" / "Nion Swift" / "Adaptive Scan" / "Runs").glob("*.h5"))) == 1


def test_a_fault_of_the_device_is_said_and_what_was_measured_is_kept(
    swift_both: Swift, run_command: Run, tmp_path: pathlib.Path
) -> None:
    assert swift_both.simulator is not None
    settings = swift_both.simulator.settings
    swift_both.simulator.settings = dataclasses.replace(settings, faults=(Fault(FaultKind.NAN, command=4),))
    outcome = run_command("scan", *SPIRAL, "--json", "--out", tmp_path / "out")
    assert outcome.status == 1
    assert len(outcome.errors) == 1
    assert "not finite" in outcome.errors[0]
    assert outcome.report["finish_reason"] == "FAILED"
    assert outcome.report["probes"] == 60
    assert run_command("replay", tmp_path / "out").lines[0].startswith("FAILED")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_scan_is_cancelled(
    run_command: Run, swift_both: Swift, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    device = swift_both.scan.scan_device
    start_frame, interrupted = device.start_frame, []

    def interrupt() -> None:
        interrupted.append(QuietClock())
        signal.raise_signal(number)

    def start_and_interrupt(is_continuous: bool) -> int:
        monkeypatch.setattr(device, "start_frame", start_frame)
        threading.Timer(0.2, interrupt).start()
        return start_frame(is_continuous)

    monkeypatch.setattr(device, "start_frame", start_and_interrupt)
    outcome = run_command("scan", *SPIRAL, "--dwell-us", "50000", "--json")
    assert outcome.status == 1
    assert outcome.report["finish_reason"] == "CANCELLED"
    assert interrupted[0].elapsed_s < 1.0


# Refused before Swift is started.
EARLY = {
    "no command": ((), "COMMAND"),
    "unknown command": (("frobnicate",), "invalid choice"),
    "unknown option": (("scan", "--frobnicate"), "unrecognized arguments: --frobnicate"),
    "no number": (("scan", "--segments", "many"), "invalid int value"),
    "negative budget": (("scan", "--segments", "-3"), "must be positive, not -3"),
    "zero dose": (("scan", "--dose", "0"), "must be positive"),
    "infinite dose": (("scan", "--dose", "inf"), "must be positive, not inf"),
    "two budgets": (("scan", "--dose", "5", "--segments", "3"), "not allowed with"),
    "negative seed": (("scan", "--seed", "-1"), "must not be negative"),
    "small region": (("scan", "--size", "4"), "8 to 8192 px"),
    "negative dwell": (("scan", "--dwell-us", "-1"), "must be positive"),
    "pixel size of nothing": (("scan", "--pixel-size", "1"), "--specimen"),
    "unknown policy": (("scan", "--policy", "nobody"), "nobody"),
    "missing model": (("scan", "--policy", "nowhere.onnx"), "nowhere.onnx"),
    "no model": (("scan", "--generator", __file__ + ".onnx"), "cannot be read"),
    "missing run": (("replay", "nowhere"), "There is no run"),
    "no journal": (("replay", __file__), "no readable journal"),
    "no model to show": (("models", "show", "nobody"), "nobody"),
    "no model to add": (("models", "add", __file__), "ONNX"),
    "no card": (("models", "add", __file__, "--card", "nowhere.json"), "nowhere.json"),
}


@pytest.mark.parametrize("name", EARLY)
def test_bad_input_is_refused_early(run_command: Run, name: str) -> None:
    words, message = EARLY[name]
    outcome = run_command(*words)
    assert outcome.status == 2
    assert len(outcome.errors) == 1
    assert outcome.errors[0].startswith("adaptive-scan: ")
    assert message in outcome.errors[0]
    assert outcome.lines == []


LATE = {
    "unknown device": (("--device", "nothing"), "there are: usim_scan_device, adaptive_simulator_scan"),
    "unknown specimen": (("--specimen", "nothing"), "nothing"),
    "unreadable specimen": (("--specimen", __file__), __file__),
    "specimen in a real device": (("--device", "usim_scan_device", "--specimen", "lattice"), "adaptive_simulator_scan"),
    "too short a dwell": (("--dwell-us", "0.01"), "at least 0.5 us"),
    "coverage beyond 1": (("--coverage", "1.5"), "at most 1"),
    "budget too small": (("--dose", "1e-9"), "raise it"),
}


@pytest.mark.usefixtures("swift_both")
@pytest.mark.parametrize("name", LATE)
def test_bad_input_is_refused_before_the_beam_moves(run_command: Run, home: pathlib.Path, name: str) -> None:
    words, message = LATE[name]
    outcome = run_command("scan", *SPIRAL, *words)
    assert outcome.status == 2
    assert len(outcome.errors) == 1
    assert message in outcome.errors[0]
    assert outcome.lines == []
    assert list(home.rglob("*.h5")) == []


@pytest.mark.usefixtures("swift_both")
def test_a_folder_that_cannot_be_made(run_command: Run, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = run_command("scan", *SPIRAL, "--out", tmp_path / "file" / "out")
    assert outcome.status == 2
    assert "cannot be made" in outcome.errors[0]


# In a process of its own, as users start it.


def start_command(home: pathlib.Path, *words: str | pathlib.Path) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "OMP_NUM_THREADS": "1",
    }
    code = "import sys; from nionswift_plugin.adaptive_scan.command_line import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_the_command_finds_the_simulator_through_swift(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    process = start_command(home, "scan", *SPIRAL, "--specimen", image_file(tmp_path), "--json")
    output, errors = process.communicate(timeout=300)
    assert errors == ""
    assert process.returncode == 0
    report = json.loads(output.splitlines()[-1])
    assert report["finish_reason"] == "COMPLETED"
    assert report["probes"] == 400
    assert report["mse"] > 0


def test_a_demonstration_leaves_a_project_of_swift(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "demo"
    for times in (1, 2):
        process = start_command(home, "demo", *SPIRAL, "--segments", "10", "--out", out)
        output, errors = process.communicate(timeout=300)
        assert errors == ""
        assert process.returncode == 0
        assert output.startswith("COMPLETED: spiral with linear-interpolation on adaptive_simulator_scan")
        # Completed, measured and path.
        assert len(list((out / "Projects").rglob("*.ndata"))) == 3 * times
        assert len(list(out.glob("*.h5"))) == times
        assert (out / "summary.png").exists()
    project = json.loads((out / "Projects" / "Adaptive Scan.nsproj").read_text())
    assert len(project["display_items"]) == 6


def test_a_refusal_is_one_line_without_a_traceback(home: pathlib.Path) -> None:
    process = start_command(home, "scan", *SPIRAL, "--device", "nothing")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert output == ""
    assert errors.count("\n") == 1


def test_the_command_is_quick_to_start() -> None:
    """Help needs neither Swift nor a model."""
    code = (
        "import sys; from nionswift_plugin.adaptive_scan.command_line import _parser; _parser([]).format_help(); "
        "print([name for name in ('nion', 'numpy', 'torch', 'matplotlib') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert result.stdout == "[]\n"
