"""Reads the journal of a run: finished, still being written, or left behind by a crash."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import typing

import h5py
import numpy as np
import numpy.typing as npt

from adaptive_core import journal
from adaptive_core.errors import JournalError
from adaptive_core.journal import JournalEntry, ModelRecord
from adaptive_core.journal_recovery import without_writer

Rows = npt.NDArray[typing.Any]


@dataclasses.dataclass(frozen=True, eq=False)
class JournalEstimate:
    """An estimate that was recorded.

    Attributes:
        actions: how many actions it is based on.
        image: shape (height, width), float32.
        error: its predicted error, of the same shape; None if there is none.
    """

    actions: int
    image: npt.NDArray[np.float32]
    error: npt.NDArray[np.float32] | None


@dataclasses.dataclass(frozen=True, eq=False)
class Journal:
    """What a journal holds.

    Attributes:
        plan: what was decided before the run.
        models: the models by their part in the run.
        channels: names of the values of a probe.
        started: time of the start, ISO 8601, UTC.
        entries: every finished action.
        estimates: the estimates that were recorded.
        finish_reason: None if the run has not ended, or its process has died.
    """

    plan: dict[str, typing.Any]
    models: dict[str, ModelRecord]
    channels: tuple[str, ...]
    started: str
    entries: tuple[JournalEntry, ...]
    estimates: tuple[JournalEstimate, ...]
    finish_reason: str | None


def read_journal(path: pathlib.Path) -> Journal:
    """Read a whole journal into memory. Raises JournalError if there is none, or if it is damaged."""
    try:
        image = path.read_bytes()
    except FileNotFoundError as error:
        raise JournalError(f"There is no journal {path}.") from error
    except OSError as error:
        raise JournalError(f"The journal {path} cannot be read: {error.strerror or error}.") from error
    try:
        with h5py.File(h5py.h5f.open_file_image(without_writer(image))) as file:
            return _read(file)
    except JournalError as error:
        raise JournalError(f"{path}: {error}") from error
    # What h5py raises on a damaged file depends on what is damaged.
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, MemoryError) as error:
        raise JournalError(f"{path} is no readable journal: {' '.join(str(error).split())}.") from error


def _read(file: h5py.File) -> Journal:
    header = json.loads(file["header"][()])
    if not isinstance(header, dict) or header.get("format") != journal.FORMAT:
        raise JournalError(f"It is not an {journal.FORMAT}.")
    if header.get("version") != journal.VERSION:
        raise JournalError(f"The journal has the version {header.get('version')}; expected {journal.VERSION}.")
    finish_reason = file["finish_reason"][()].decode() or None
    actions: Rows = file["actions"][()]
    estimate_index: Rows = (
        file["estimate_index"][()] if "estimate_index" in file else np.empty(0, journal.ESTIMATE_TYPE)
    )
    ends = np.cumsum(actions["probes"], dtype=np.int64)
    probes = file["probes"][()]
    finished = [probes[end - row["probes"] : end] for row, end in zip(actions, ends, strict=True)]
    pictures = [file["estimates"][i] for i in range(len(estimate_index))]
    return Journal(
        plan=header["plan"],
        models={part: ModelRecord(**model) for part, model in header["models"].items()},
        channels=tuple(header["channels"]),
        started=header["started"],
        entries=tuple(_entry(row, data) for row, data in _valid("action", actions, finished, finish_reason)),
        estimates=tuple(
            _estimate(row, data) for row, data in _valid("estimate", estimate_index, pictures, finish_reason)
        ),
        finish_reason=finish_reason,
    )


def _valid(
    what: str, rows: Rows, data: list[Rows], finish_reason: str | None
) -> typing.Iterator[tuple[npt.NDArray[np.void], Rows]]:
    """The rows with their data; the last one may be torn, and is left out, if the writer did not finish."""
    for i, (row, content) in enumerate(zip(rows, data, strict=True)):
        if row["checksum"] != journal.checksum(row, content):
            if finish_reason is None and i == len(rows) - 1:
                return
            raise JournalError(f"The journal is damaged: the checksum of {what} {i} of {len(rows)} is wrong.")
        yield row, content


def _entry(row: npt.NDArray[np.void], data: Rows) -> JournalEntry:
    dose = float(row["dose_e_per_A2"])
    return JournalEntry(
        positions=np.ascontiguousarray(data["position"]),
        values=np.ascontiguousarray(data["values"].T),
        kind=bytes(row["kind"]).decode(),
        start_s=float(row["start_s"]),
        decide_s=float(row["decide_s"]),
        scan_s=float(row["scan_s"]),
        dose_e_per_A2=None if np.isnan(dose) else dose,
    )


def _estimate(row: npt.NDArray[np.void], data: Rows) -> JournalEstimate:
    image, error = data
    return JournalEstimate(int(row["actions"]), image, None if np.isnan(error).all() else error)
