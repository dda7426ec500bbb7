"""Runs many independent cells (trainings, data sets) on dask.distributed, and goes on where it was interrupted.

A cell is a dict of plain JSON values; a function of the cell and a folder does the work and returns a dict of figures.
Each cell has a folder of its own, named by its contents, so that a sweep that is started again, with the same cells or
others, keeps what is finished (``result.json``), and a function that finds its own unfinished files can resume from
them.
"""

from __future__ import annotations

import collections.abc
import contextlib
import csv
import hashlib
import json
import os
import pathlib
import sys
import typing

import distributed

from adaptive_core.errors import AdaptiveScanError, InvalidInputError

Cell = dict[str, typing.Any]
Work = collections.abc.Callable[[Cell, pathlib.Path], Cell]
"""Does a cell in a folder and returns its figures; must be importable by workers."""
Report = collections.abc.Callable[[int, int, str], None]

RESULT = "result.json"
TABLE = "sweep.csv"
CONNECT_S = 10.0  # for a scheduler to answer


class SweepError(AdaptiveScanError):
    """Some cells of a sweep failed; the others are finished and kept."""


def cell_folder(folder: pathlib.Path, cell: Cell) -> pathlib.Path:
    """Where a cell's files lie: a name made of its short values, and the hash of its contents.

    Raises:
        InvalidInputError: the cell holds something that JSON cannot.
    """
    try:
        contents = json.dumps(cell, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"A cell must hold plain values only: {error}.") from error
    words = [str(value) for value in cell.values() if isinstance(value, str | int) and "/" not in str(value)]
    readable = "".join(c if c.isalnum() or c in "-_." else "-" for c in "-".join(words))[:60]
    return folder / f"{readable}-{hashlib.sha256(contents.encode()).hexdigest()[:8]}"


def unfinished(cells: collections.abc.Sequence[Cell], folder: pathlib.Path) -> list[Cell]:
    """The cells of a sweep that have no result yet. Raises InvalidInputError if some are equal."""
    places = [cell_folder(folder, cell) for cell in cells]
    if len(set(places)) < len(places):
        raise InvalidInputError("All cells of a sweep must be different.")
    return [cell for cell, place in zip(cells, places, strict=True) if not (place / RESULT).exists()]


def run_cells(
    function: Work,
    cells: collections.abc.Sequence[Cell],
    folder: pathlib.Path,
    scheduler: str | None = None,
    jobs: int | None = None,
    report: Report = lambda _done, _total, _name: None,
) -> list[Cell]:
    """Do every cell that is not finished yet, and write the table of all of them, ``sweep.csv``.

    Args:
        function: does the work in the folder that it is given; must be importable by workers.
        cells: dicts of plain values, all different.
        folder: of the sweep; every worker must see it under this path.
        scheduler: address of a dask scheduler; None starts workers on this machine.
        jobs: largest number of workers on this machine, one thread each; None takes one for each core.
        report: called with the number of finished cells, their total and the last one's name.

    Returns:
        For each cell, in order, its values and its figures.

    Raises:
        InvalidInputError: equal cells, a number of jobs below 1, or a scheduler that cannot be reached.
        SweepError: cells that failed, after all others are done; the next run tries them again.
    """
    folder = folder.resolve()
    waiting = unfinished(cells, folder)
    if jobs is not None and jobs < 1:
        raise InvalidInputError(f"A sweep needs at least one job, not {jobs}.")
    done, failed = len(cells) - len(waiting), dict[str, BaseException]()
    report(done, len(cells), "")
    if waiting:
        with contextlib.ExitStack() as stack:
            client = _client(scheduler, min(jobs or len(os.sched_getaffinity(0)), len(waiting)), stack)
            folder.mkdir(parents=True, exist_ok=True)
            places = [cell_folder(folder, cell) for cell in waiting]
            futures = {
                client.submit(_work, function, cell, place, pure=False): place.name
                for cell, place in zip(waiting, places, strict=True)
            }
            for future in distributed.as_completed(futures):  # type: ignore[no-untyped-call]
                name = futures[future]
                if future.status == "error":
                    failed[name] = future.exception()
                done += 1
                report(done, len(cells), name)
    rows = [_row(cell, cell_folder(folder, cell)) for cell in cells]
    if rows:
        write_table(folder / TABLE, rows)
    if failed:
        first, error = next(iter(failed.items()))
        raise SweepError(f"{len(failed)} of {len(cells)} cells failed; {first}: {error}")
    return rows


def _client(scheduler: str | None, workers: int, stack: contextlib.ExitStack) -> typing.Any:
    """A client that is closed with the stack, and so are the workers on this machine if they are its own."""
    if scheduler is None:
        local = distributed.LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=workers, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        )
        client = distributed.Client(stack.enter_context(local))  # type: ignore[no-untyped-call]
        return stack.enter_context(client)
    try:
        remote = distributed.Client(scheduler, timeout=CONNECT_S)  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as error:
        raise InvalidInputError(f"There is no dask scheduler at {scheduler}: {error}.") from error
    return stack.enter_context(remote)


def _work(function: Work, cell: Cell, place: pathlib.Path) -> None:
    """On a worker: do the cell and leave its result, whole or not at all."""
    place.mkdir(parents=True, exist_ok=True)
    result = json.dumps({"cell": cell, "figures": function(cell, place)}, indent=1)
    new = place / f"{RESULT}.new"
    new.write_text(result, encoding="utf-8")
    new.replace(place / RESULT)


def _row(cell: Cell, place: pathlib.Path) -> Cell:
    result = place / RESULT
    figures = json.loads(result.read_text(encoding="utf-8"))["figures"] if result.exists() else {}
    return {**cell, **figures}


def _flat(row: Cell, prefix: str = "") -> Cell:
    """A row without nested dicts: their keys are joined by points."""
    flat: Cell = {}
    for name, value in row.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value})
    return flat


def write_table(path: pathlib.Path, rows: collections.abc.Sequence[Cell]) -> None:
    """Write rows as CSV; nested dicts become columns, and what a row lacks is left empty."""
    flat = [_flat(row) for row in rows]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in flat for name in row)))
        writer.writeheader()
        writer.writerows(flat)


def progress_bar(done: int, total: int, _name: str, width: int = 40) -> None:
    """A :data:`Report` that draws a bar on the standard error, in one line."""
    filled = width if total == 0 else width * done // total
    end = "\n" if done >= total else ""
    print(f"\r[{'#' * filled}{'.' * (width - filled)}] {done} of {total}", end=end, file=sys.stderr, flush=True)


def printed_table(rows: collections.abc.Sequence[Cell]) -> str:
    """Rows as text in aligned columns."""
    flat = [_flat(row) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    table = [columns] + [[_text(row.get(name, "")) for name in columns] for row in flat]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in table)


def _text(value: typing.Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
