"""The append-only record of a run, written as it goes and readable after a crash at any moment.

An HDF5 file in single-writer-multiple-reader mode (SWMR): an action has been handed to the operating system before
``append`` returns, and the library orders its writes such that a reader, or whoever opens the file after the writer was
killed, sees a whole number of actions. It has these parts:

==================  ==============  ==========================================================================
``header``          text            JSON: format, version, time of the start (UTC), plan, models, channel names
``probes``          one a probe     position (y, x) in px, float64, and a value for every channel, float32
``actions``         one an action   kind, number of probes, times in s, dose in e-/A^2, checksum of all of it
``estimates``       one an estimate image and its predicted error (NaN where there is none), float32
``estimate_index``  one an estimate number of actions it is based on, checksum of all of it
``finish_reason``   text            empty while the run lasts and after a crash
==================  ==============  ==========================================================================

It knows nothing of what the actions mean, so that every loop can use it. :mod:`adaptive_core.journal_reader` reads it.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import re
import tempfile
import time
import typing
import zlib

import h5py
import numpy as np
import numpy.typing as npt

from adaptive_core.errors import JournalError
from adaptive_core.scan_path import FloatArray, Size

FORMAT = "adaptive_scan_journal"
VERSION = 1
_PROBES_A_CHUNK = 1024
_ACTIONS_A_CHUNK = 256
_TEXT = np.dtype("S32")


@dataclasses.dataclass(frozen=True)
class ModelRecord:
    """A model of a run; ``sha256`` is None for one that is built in and has no file."""

    name: str
    sha256: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class JournalEntry:
    """One finished action.

    Attributes:
        positions: where the probe was, shape (n, 2), float64, (y, x) in px.
        values: what came back, shape (channels, n), float32.
        kind: what sort of action it was, such as "segment".
        start_s: when the decision began, in s since the journal began; None: the times below before the append.
        decide_s: time that the decision took.
        scan_s: time that the device took.
        dose_e_per_A2: dose delivered so far (e-/A^2); None if unknown.
    """

    positions: FloatArray
    values: npt.NDArray[np.float32]
    kind: str = ""
    start_s: float | None = None
    decide_s: float = 0.0
    scan_s: float = 0.0
    dose_e_per_A2: float | None = None


def probe_type(channels: int) -> np.dtype[np.void]:
    """A row of ``probes``."""
    return np.dtype([("position", "f8", (2,)), ("values", "f4", (channels,))])


ACTION_TYPE: np.dtype[np.void] = np.dtype(
    [
        ("kind", _TEXT),
        ("probes", "u4"),
        ("start_s", "f8"),
        ("decide_s", "f8"),
        ("scan_s", "f8"),
        ("dose_e_per_A2", "f8"),
        ("checksum", "u4"),
    ]
)
ESTIMATE_TYPE: np.dtype[np.void] = np.dtype([("actions", "u8"), ("checksum", "u4")])


def checksum(row: npt.NDArray[np.void], data: npt.NDArray[typing.Any]) -> int:
    """CRC-32 of one row of ``actions`` or ``estimate_index``, less its own checksum at the end, and of its data."""
    return zlib.crc32(data.tobytes(), zlib.crc32(row.tobytes()[: -row.dtype["checksum"].itemsize]))


class JournalWriter:
    """Writes the journal of one run.

    Args:
        path: a file that does not exist yet; a record is never overwritten.
        plan: what was decided before the run; anything that JSON can hold.
        models: the models by their part in the run, such as "policy".
        channels: names of the values of a probe.
        estimate_px: size (height, width) of the estimates; None if none will be written.

    Raises:
        JournalError: if the file cannot be made; also by the methods, if it cannot be written any more. What was
            written before stays readable.
    """

    def __init__(
        self,
        path: pathlib.Path,
        plan: collections.abc.Mapping[str, typing.Any],
        models: collections.abc.Mapping[str, ModelRecord],
        channels: collections.abc.Sequence[str],
        estimate_px: Size | None = None,
    ) -> None:
        self.path = path
        self._begin = time.monotonic()
        self._channels = len(channels)
        self._estimate_px = estimate_px
        header = {
            "format": FORMAT,
            "version": VERSION,
            "started": datetime.datetime.now(datetime.UTC).isoformat(),
            "plan": dict(plan),
            "models": {part: dataclasses.asdict(model) for part, model in models.items()},
            "channels": list(channels),
        }
        try:
            image = _empty_journal(json.dumps(header, allow_nan=False), probe_type(self._channels), estimate_px)
        except (TypeError, ValueError) as error:
            raise JournalError(f"The journal's plan cannot be written as JSON: {error}.") from error
        self._file: h5py.File | None = None
        self._refusal: str | None = None
        with self._writing():
            _write_new(path, image)
            self._file = _open_for_appending(path)
            self._finish = self._file["finish_reason"].id
            self._rows = {name: _Rows(dataset.id) for name, dataset in self._file.items() if dataset.shape}

    def append(self, entry: JournalEntry) -> None:
        """Record a finished action; it is on its way to the disk when this returns."""
        probes = len(entry.positions)
        if entry.positions.shape != (probes, 2) or entry.values.shape != (self._channels, probes) or not probes:
            raise JournalError(
                f"An action needs positions of the shape (n, 2) and values of the shape ({self._channels}, n), "
                f"not {entry.positions.shape} and {entry.values.shape}."
            )
        start_s = entry.start_s
        if start_s is None:
            start_s = time.monotonic() - self._begin - entry.decide_s - entry.scan_s
        data = np.empty(probes, probe_type(self._channels))
        data["position"] = entry.positions
        data["values"] = entry.values.T
        dose = np.nan if entry.dose_e_per_A2 is None else entry.dose_e_per_A2
        row = (entry.kind.encode(), probes, start_s, entry.decide_s, entry.scan_s, dose, 0)
        self._commit("probes", data, "actions", np.array([row], ACTION_TYPE))

    def write_estimate(
        self, actions: int, image: npt.NDArray[np.float32], error: npt.NDArray[np.float32] | None = None
    ) -> None:
        """Record an estimate that is based on the first ``actions`` actions.

        Args:
            image: shape (height, width).
            error: its predicted error, of the same shape; None if there is none.
        """
        if image.shape != self._estimate_px or (error is not None and error.shape != image.shape):
            raise JournalError(
                f"An estimate and its error need the shape {self._estimate_px}, not {image.shape}"
                + ("." if error is None else f" and {error.shape}.")
            )
        data = np.stack([image, np.full_like(image, np.nan) if error is None else error]).astype(np.float32)
        self._commit("estimates", data[np.newaxis], "estimate_index", np.array([(actions, 0)], ESTIMATE_TYPE))

    def close(self, finish_reason: str) -> None:
        """Record how the run ended and close the file; once it is closed, or has failed, this does nothing."""
        if self._file is None:
            return
        with self._writing():
            # HDF5 survives a failure to flush a dataset, but not one to close a file with data to write.
            self._finish.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(finish_reason.encode(), _TEXT))
            self._finish.flush()
            self._file.close()
        self._file = None
        self._refusal = f"The journal {self.path} is closed."

    def _commit(self, data_name: str, data: npt.NDArray[typing.Any], name: str, row: npt.NDArray[np.void]) -> None:
        """Write the data first and then the row that makes them valid."""
        row["checksum"] = checksum(row, data)
        with self._writing():
            self._rows[data_name].append(data)
            self._rows[name].append(row)

    @contextlib.contextmanager
    def _writing(self) -> collections.abc.Iterator[None]:
        """Turn what HDF5 or the system raise into a JournalError, and leave the file as it was written so far."""
        if self._refusal is not None:
            raise JournalError(self._refusal)
        try:
            yield
        # h5py raises RuntimeError or OSError, depending on the layer in which HDF5 failed.
        except (OSError, RuntimeError) as error:
            file, self._file = self._file, None
            if file is not None:
                _abandon(file)
            self._refusal = f"The journal {self.path} cannot be written: {_reason(error)}."
            raise JournalError(self._refusal) from error


class _Rows:
    """A dataset that grows along its first axis.

    It uses the low-level interface of h5py, which takes a quarter of the time.
    """

    def __init__(self, dataset: h5py.h5d.DatasetID) -> None:
        self._dataset = dataset
        self._type = h5py.h5t.py_create(dataset.dtype)
        self._count = 0

    def append(self, rows: npt.NDArray[typing.Any]) -> None:
        """Append rows and hand them to the operating system."""
        self._dataset.set_extent((self._count + len(rows), *rows.shape[1:]))
        space = self._dataset.get_space()
        space.select_hyperslab((self._count, *(0 for _ in rows.shape[1:])), rows.shape)
        self._dataset.write(h5py.h5s.create_simple(rows.shape), space, rows, self._type)
        self._dataset.flush()
        self._count += len(rows)


def _empty_journal(header: str, probe: np.dtype[np.void], estimate_px: Size | None) -> bytes:
    """The bytes of a journal without actions.

    It is made in memory, because HDF5 can bring the process down when it cannot write to a file that it is closing.
    """
    with h5py.File("journal", "w", driver="core", backing_store=False, libver="latest") as file:
        file.create_dataset("header", data=header)
        file.create_dataset("finish_reason", data=np.zeros((), _TEXT))

        def rows(name: str, dtype: np.dtype[typing.Any], chunk: int, shape: tuple[int, ...] = ()) -> None:
            file.create_dataset(name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(chunk, *shape))

        rows("probes", probe, _PROBES_A_CHUNK)
        rows("actions", ACTION_TYPE, _ACTIONS_A_CHUNK)
        if estimate_px is not None:
            rows("estimates", np.dtype(np.float32), 1, (2, *estimate_px))
            rows("estimate_index", ESTIMATE_TYPE, _ACTIONS_A_CHUNK)
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _write_new(path: pathlib.Path, content: bytes) -> None:
    """Write a file that must not exist yet; nothing is left if that fails."""
    with open(path, "xb") as file:
        try:
            file.write(content)
            file.flush()
        except OSError:
            path.unlink()
            raise


def _open_for_appending(path: pathlib.Path) -> h5py.File:
    """Open in SWMR mode at once: if it were switched afterwards, a crash in between would leave it unreadable."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_LATEST, h5py.h5f.LIBVER_LATEST)
    # Not every network drive can lock files.
    access.set_file_locking(True, True)
    flags = h5py.h5f.ACC_RDWR | h5py.h5f.ACC_SWMR_WRITE
    return h5py.File(h5py.h5f.open(os.fsencode(path), flags, access))


def _abandon(file: h5py.File) -> None:
    """Close a file that cannot be written any more, without writing to it.

    HDF5 cannot let go of a file before what it still has in memory is written. If that fails it crashes the process, at
    once or when it ends (HDF5 2.0), so its file descriptor is pointed at a file in memory that takes everything.
    """
    with _sink() as sink:
        os.dup2(sink, file.id.get_vfd_handle(), inheritable=False)
    file.close()


@contextlib.contextmanager
def _sink() -> collections.abc.Iterator[int]:
    """A file descriptor of an unnamed file, in memory where the system can do that."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("journal")
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    else:
        with tempfile.TemporaryFile() as file:
            yield file.fileno()


def _reason(error: OSError | RuntimeError) -> str:
    """Why the system refused, out of the long message of HDF5."""
    if isinstance(error, OSError) and error.strerror and not error.strerror.startswith(("Unable", "Can")):
        return error.strerror
    found = re.search(r"error message = '([^']+)'", str(error))
    return found[1] if found else " ".join(str(error).split())
