"""Sweeps: every cell once, in order, in one table; finished cells are kept and killed sweeps go on."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import distributed
import pytest
import sweep_cells

from adaptive_core.errors import InvalidInputError
from adaptive_core.training import sweep


def _calls(folder):
    return {place.name: len((place / "calls").read_text()) for place in folder.iterdir() if place.is_dir()}


def test_finished_cells_are_kept_and_failed_ones_tried_again(tmp_path):
    cells = [{"number": number, "overrides": {"rate": 0.1}} for number in (3, -1, 5)]
    seen = []
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=False) as own:
        address = own.scheduler_address
        with pytest.raises(sweep.SweepError, match=r"1 of 3 cells failed; -1-[0-9a-f]{8}: no negative numbers"):
            sweep.run_cells(sweep_cells.square, cells, tmp_path, address, report=lambda *state: seen.append(state[:2]))
        assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
        more = [cells[2], {"number": 7}, cells[0]]
        rows = sweep.run_cells(sweep_cells.square, more, tmp_path, address)
    assert [row["square"] for row in rows] == [25, 49, 9]
    assert sorted(_calls(tmp_path).values()) == [1, 1, 1, 1]
    with (tmp_path / sweep.TABLE).open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [row["square"] for row in table] == ["25", "49", "9"]
    assert [row["overrides.rate"] for row in table] == ["0.1", "", "0.1"]
    assert [row["more.half"] for row in table] == ["2.5", "3.5", "1.5"]
    assert sweep.printed_table(rows).splitlines()[0].split() == ["number", "overrides.rate", "square", "more.half"]


def test_a_finished_sweep_starts_no_workers(tmp_path, monkeypatch):
    place = sweep.cell_folder(tmp_path, {"number": 2})
    place.mkdir()
    (place / sweep.RESULT).write_text(json.dumps({"cell": {"number": 2}, "figures": {"square": 4}}))
    monkeypatch.setattr(distributed, "Client", None)
    assert sweep.run_cells(sweep_cells.square, [{"number": 2}], tmp_path) == [{"number": 2, "square": 4}]


@pytest.mark.parametrize(
    ("cells", "settings", "message"),
    [
        ([{"number": 1}, {"number": 1}], {}, "must be different"),
        ([{"number": float("nan")}], {}, "plain values"),
        ([{"number": pathlib.Path()}], {}, "plain values"),
        ([{"number": 1}], {"jobs": 0}, "at least one job"),
        ([{"number": 1}], {"scheduler": "nowhere:1"}, "no dask scheduler at nowhere:1"),
    ],
)
def test_bad_sweeps_are_refused_before_anything_is_written(tmp_path, cells, settings, message, monkeypatch):
    monkeypatch.setattr(sweep, "CONNECT_S", 0.3)
    with pytest.raises(InvalidInputError, match=message):
        sweep.run_cells(sweep_cells.square, cells, tmp_path / "sweep", **settings)
    assert not (tmp_path / "sweep").exists()


def test_a_killed_sweep_goes_on_from_the_checkpoints_of_its_cells(tmp_path):
    script = (
        "import pathlib, sweep_cells\n"
        "from adaptive_core.training import sweep\n"
        "if __name__ == '__main__':\n"
        f"    cells = [{{'steps': 2}}, {{'steps': 400}}]\n"
        f"    sweep.run_cells(sweep_cells.counted, cells, pathlib.Path({str(tmp_path)!r}), jobs=2)\n"
    )
    (tmp_path / "main.py").write_text(script)
    here = str(pathlib.Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, str(pathlib.Path(here).parent.parent)])}
    process = subprocess.Popen([sys.executable, str(tmp_path / "main.py")], env=environment)
    short, long = (sweep.cell_folder(tmp_path, {"steps": steps}) for steps in (2, 400))
    try:
        deadline = time.monotonic() + 300
        while not ((short / sweep.RESULT).exists() and (long / "checkpoint").exists()):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    # The workers end with the process that started them.
    before = None
    while (reached := (long / "checkpoint").read_text()) != before:
        before = reached
        time.sleep(0.5)
    assert not (long / sweep.RESULT).exists()
    # The rest of the long cell would take too long for a test: it only has to begin where it stopped.
    (long / "checkpoint").write_text("399")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, processes=False) as own:
        cells = [{"steps": 2}, {"steps": 400}]
        rows = sweep.run_cells(sweep_cells.counted, cells, tmp_path, own.scheduler_address)
    assert [row["began_at"] for row in rows] == [0, 399]
