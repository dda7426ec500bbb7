"""Journals: what is written is read back, whatever happens to the writer, the disk or the file."""

import errno
import os
import pathlib
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from adaptive_core import journal
from adaptive_core.errors import JournalError
from adaptive_core.journal import JournalEntry, JournalWriter, ModelRecord
from adaptive_core.journal_reader import read_journal
from adaptive_core.journal_recovery import checksum, without_writer

PLAN = {"size_px": [96, 96], "seed": 3, "name": "Å"}
MODELS = {"policy": ModelRecord("Walker", "ab" * 32), "generator": ModelRecord("spiral")}


def writer(path, channels=("HAADF", "BF"), estimate_px=(8, 6)):
    return JournalWriter(path, PLAN, MODELS, channels, estimate_px)


def entry(i, probes=20, channels=2):
    """An entry that can be recognised."""
    return JournalEntry(np.full((probes, 2), float(i)), np.full((channels, probes), i, np.float32), "segment")


def is_entry(read, i):
    return bool((read.positions == i).all() and (read.values == i).all())


def entries():
    finite = st.floats(-1e6, 1e6, width=32)

    def of(probes):
        return st.builds(
            JournalEntry,
            positions=arrays.arrays(np.float64, (probes, 2), elements=finite),
            values=arrays.arrays(np.float32, (2, probes), elements=st.floats(width=32)),
            kind=st.sampled_from(["segment", "positions", ""]),
            start_s=st.floats(0, 1e6),
            decide_s=st.floats(0, 10),
            scan_s=st.floats(0, 10),
            dose_e_per_A2=st.none() | st.floats(0, 1e6),
        )

    return st.integers(1, 50).flatmap(of)


@given(st.lists(entries(), max_size=5), st.sampled_from(["COMPLETED", "CANCELLED", "FAILED"]))
def test_what_is_written_is_read_back(tmp_path_factory, written, finish_reason):
    path = tmp_path_factory.mktemp("run") / "journal.h5"
    with_journal = writer(path)
    for one in written:
        with_journal.append(one)
    with_journal.close(finish_reason)
    read = read_journal(path)
    assert (read.plan, read.models, read.channels) == (PLAN, MODELS, ("HAADF", "BF"))
    assert read.finish_reason == finish_reason
    assert len(read.entries) == len(written)
    for ours, theirs in zip(written, read.entries, strict=True):
        np.testing.assert_array_equal(theirs.positions, ours.positions)
        np.testing.assert_array_equal(theirs.values, ours.values)
        for name in ("kind", "start_s", "decide_s", "scan_s", "dose_e_per_A2"):
            assert getattr(theirs, name) == getattr(ours, name)
        assert (theirs.positions.dtype, theirs.values.dtype) == (np.float64, np.float32)


def test_estimates_are_read_back(tmp_path):
    with_journal = writer(tmp_path / "journal.h5")
    image, error = np.random.default_rng(0).random((2, 8, 6), np.float32)
    with_journal.append(entry(0))
    with_journal.write_estimate(1, image, error)
    with_journal.write_estimate(1, error)
    with_journal.close("COMPLETED")
    first, second = read_journal(tmp_path / "journal.h5").estimates
    assert (first.actions, second.actions) == (1, 1)
    np.testing.assert_array_equal(first.image, image)
    np.testing.assert_array_equal(first.error, error)
    np.testing.assert_array_equal(second.image, error)
    assert second.error is None


def test_an_entry_is_stamped_with_its_start(tmp_path):
    with_journal = writer(tmp_path / "journal.h5")
    time.sleep(0.02)
    with_journal.append(JournalEntry(np.zeros((1, 2)), np.zeros((2, 1), np.float32), decide_s=0.004, scan_s=0.006))
    with_journal.close("COMPLETED")
    assert 0.01 <= read_journal(tmp_path / "journal.h5").entries[0].start_s < 5


def test_a_journal_can_be_read_while_it_is_written(tmp_path):
    path = tmp_path / "journal.h5"
    with_journal = writer(path)
    for i in range(40):
        read = read_journal(path)
        assert len(read.entries) == i
        assert all(is_entry(one, k) for k, one in enumerate(read.entries))
        assert read.finish_reason is None
        with_journal.append(entry(i, probes=i + 1))
    with_journal.close("CANCELLED")
    assert read_journal(path).finish_reason == "CANCELLED"


def test_any_program_can_read_it(tmp_path):
    with_journal = writer(tmp_path / "journal.h5")
    with_journal.append(entry(7))
    with_journal.close("COMPLETED")
    with h5py.File(tmp_path / "journal.h5") as file:
        assert file["probes"]["position"].tolist() == [[7, 7]] * 20
        assert file["probes"]["values"].tolist() == [[7, 7]] * 20
        assert file["actions"]["probes"].tolist() == [20]
        assert file["finish_reason"][()] == b"COMPLETED"


def test_a_record_is_never_overwritten(tmp_path):
    path = tmp_path / "journal.h5"
    writer(path).close("COMPLETED")
    before = path.read_bytes()
    with pytest.raises(JournalError, match="cannot be written: File exists"):
        writer(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("positions", "values"), [((0, 2), (2, 0)), ((3, 3), (2, 3)), ((3, 2), (1, 3)), ((3, 2), (2, 4)), ((3, 2), (3,))]
)
def test_an_entry_of_the_wrong_shape_is_refused_and_the_journal_goes_on(tmp_path, positions, values):
    with_journal = writer(tmp_path / "journal.h5")
    with pytest.raises(JournalError, match="An action needs positions of the shape"):
        with_journal.append(JournalEntry(np.zeros(positions), np.zeros(values, np.float32)))
    with pytest.raises(JournalError, match="need the shape"):
        with_journal.write_estimate(0, np.zeros((3, 3), np.float32))
    with_journal.append(entry(0))
    with_journal.close("COMPLETED")
    assert len(read_journal(tmp_path / "journal.h5").entries) == 1


@pytest.mark.parametrize("plan", [{"a": float("nan")}, {"a": object()}])
def test_a_plan_that_json_cannot_hold_is_refused(tmp_path, plan):
    with pytest.raises(JournalError, match="cannot be written as JSON"):
        JournalWriter(tmp_path / "journal.h5", plan, {}, ["HAADF"])
    assert not list(tmp_path.iterdir())


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(JournalError, match="cannot be written: No such file or directory"):
        writer(tmp_path / "none" / "journal.h5")


def test_a_closed_journal_takes_no_more(tmp_path):
    with_journal = writer(tmp_path / "journal.h5")
    with_journal.close("COMPLETED")
    with_journal.close("FAILED")
    with pytest.raises(JournalError, match="is closed"):
        with_journal.append(entry(0))
    assert read_journal(tmp_path / "journal.h5").finish_reason == "COMPLETED"


def fill_the_disk(path):
    """From now on every write to the open file fails as on a full disk: its descriptor becomes that of /dev/full."""
    full = os.open("/dev/full", os.O_RDWR)
    for link in pathlib.Path("/proc/self/fd").iterdir():
        if link.exists() and link.resolve() == path:
            os.dup2(full, int(link.name))
    os.close(full)


@pytest.mark.parametrize("step", ["append", "write_estimate", "close"])
def test_a_full_disk_is_reported_and_what_was_written_stays_readable(tmp_path, step):
    path = tmp_path / "journal.h5"
    with_journal = writer(path)
    for i in range(60):
        with_journal.append(entry(i))
    with_journal.write_estimate(60, np.zeros((8, 6), np.float32))
    fill_the_disk(path)
    with pytest.raises(JournalError, match=f"cannot be written: {os.strerror(errno.ENOSPC)}") as error:
        {
            "append": lambda: with_journal.append(entry(60)),
            "write_estimate": lambda: with_journal.write_estimate(60, np.ones((8, 6), np.float32)),
            "close": lambda: with_journal.close("COMPLETED"),
        }[step]()
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(JournalError, match=os.strerror(errno.ENOSPC)):
        with_journal.append(entry(61))
    with_journal.close("FAILED")
    read = read_journal(path)
    assert [is_entry(one, i) for i, one in enumerate(read.entries)] == [True] * 60
    assert len(read.estimates) == 1
    assert read.finish_reason is None


def test_a_disk_that_is_full_from_the_start_leaves_nothing(tmp_path, monkeypatch):
    class FullDisk:
        def __init__(self, file):
            self._file = file

        def __enter__(self):
            return self

        def __exit__(self, *_error):
            self._file.close()

        def write(self, _content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open_on_full_disk(path, mode):
        return FullDisk(path.open(mode))

    monkeypatch.setattr(journal, "open", open_on_full_disk, raising=False)
    with pytest.raises(JournalError, match="cannot be written: No space left on device"):
        writer(tmp_path / "journal.h5")
    assert not list(tmp_path.iterdir())


CRASHING = """
import itertools, pathlib, sys
import numpy as np
from adaptive_core.journal import JournalEntry, JournalWriter

writer = JournalWriter(pathlib.Path(sys.argv[1]), {}, {}, ["a", "b"], (32, 32))
print("begun", flush=True)
for i in itertools.count():
    n = i % 37 + 1
    writer.append(JournalEntry(np.full((n, 2), float(i)), np.full((2, n), i, np.float32), "segment"))
    print(i, flush=True)
    if i % 5 == 0:
        writer.write_estimate(i + 1, np.full((32, 32), i, np.float32))
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.003, 0.05, 0.11, 0.23])
def test_after_sigkill_every_finished_action_is_there(tmp_path, delay_s):
    path = tmp_path / "journal.h5"
    process = subprocess.Popen([sys.executable, "-c", CRASHING, str(path)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "begun\n"
        time.sleep(delay_s)
        process.kill()
        # The last line may have been cut by the kill.
        finished = process.stdout.read().split("\n")[:-1]
    read = read_journal(path)
    assert len(finished) <= len(read.entries) <= len(finished) + 1
    assert all(is_entry(one, i) for i, one in enumerate(read.entries))
    assert len(read.entries) // 5 - 1 <= len(read.estimates) <= len(read.entries) // 5 + 1
    assert read.finish_reason is None


@pytest.fixture(scope="module")
def journals(tmp_path_factory):
    """The bytes of a journal of 30 actions while it is written and when it is finished."""
    path = tmp_path_factory.mktemp("run") / "journal.h5"
    with_journal = writer(path)
    for i in range(30):
        with_journal.append(entry(i))
    with_journal.write_estimate(30, np.zeros((8, 6), np.float32))
    unfinished = path.read_bytes()
    with_journal.close("COMPLETED")
    return {"unfinished": unfinished, "finished": path.read_bytes()}


@pytest.fixture
def finished(journals):
    """The bytes of a finished journal of 30 actions."""
    return journals["finished"]


@pytest.mark.parametrize("state", ["finished", "unfinished"])
@given(fraction=st.floats(0, 0.99))
def test_a_truncated_journal_is_refused_at_once(tmp_path_factory, journals, state, fraction):
    path = tmp_path_factory.mktemp("run") / "journal.h5"
    path.write_bytes(journals[state][: int(len(journals[state]) * fraction)])
    with pytest.raises(JournalError) as error:
        read_journal(path)
    assert str(path) in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("state", ["finished", "unfinished"])
@given(data=st.data())
def test_a_journal_with_flipped_bits_is_refused_or_unharmed(tmp_path_factory, journals, state, data):
    image = bytearray(journals[state])
    for _ in range(data.draw(st.integers(1, 20))):
        image[data.draw(st.integers(0, len(image) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("run") / "journal.h5"
    path.write_bytes(image)
    try:
        read = read_journal(path)
    except JournalError:
        return
    # The plan and the parts of the file that nothing points to have no checksum; measured values do.
    assert len(read.entries) >= 29
    assert all(is_entry(one, i) for i, one in enumerate(read.entries))


@pytest.mark.parametrize("size", [0, 1, 10, 1000])
def test_the_mark_of_a_writer_is_taken_off(tmp_path, size):
    with h5py.File(tmp_path / "file.h5", "w", libver="latest") as file:
        file["data"] = np.arange(size)
        file.swmr_mode = True
        marked = (tmp_path / "file.h5").read_bytes()
    unmarked = (tmp_path / "file.h5").read_bytes()
    assert checksum(unmarked[:44]).to_bytes(4, "little") == unmarked[44:48]
    assert marked[11] != 0
    assert without_writer(marked)[:48] == unmarked[:48]
    assert without_writer(unmarked) == unmarked


def test_altered_values_are_noticed(tmp_path, finished):
    path = tmp_path / "journal.h5"
    path.write_bytes(finished)
    with h5py.File(path, "r+") as file:
        rows = file["probes"][10 * 20 : 11 * 20]
        rows["values"][3, 0] += 1
        file["probes"][10 * 20 : 11 * 20] = rows
    with pytest.raises(JournalError, match="damaged: the checksum of action 10 of 30 is wrong"):
        read_journal(path)


def test_a_torn_last_action_of_a_crashed_run_is_left_out(tmp_path, finished):
    path = tmp_path / "journal.h5"
    path.write_bytes(finished)
    with h5py.File(path, "r+") as file:
        file["finish_reason"][()] = b""
        file["probes"].resize(29 * 20 + 5, 0)
    assert len(read_journal(path).entries) == 29


def hdf5(content):
    def write(path):
        with h5py.File(path, "w", libver="latest") as file:
            for name, data in content.items():
                file[name] = data

    return write


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "There is no journal"),  # noqa: ARG005
        (lambda path: path.mkdir(), "cannot be read: Is a directory"),
        (lambda path: path.write_bytes(b"garbage" * 1000), "no readable journal"),
        (hdf5({}), "no readable journal"),
        (hdf5({"header": b"{"}), "no readable journal"),
        (hdf5({"header": b'{"format": "other"}'}), "is not an adaptive_scan_journal"),
        (hdf5({"header": b'{"format": "adaptive_scan_journal", "version": 2}'}), "has the version 2; expected 1"),
        (hdf5({"header": b'{"format": "adaptive_scan_journal", "version": 1}'}), "no readable journal"),
    ],
    ids=["missing", "folder", "garbage", "empty", "bad header", "other format", "other version", "incomplete"],
)
def test_what_is_no_journal_is_refused(tmp_path, make, message):
    make(tmp_path / "journal.h5")
    with pytest.raises(JournalError, match=message) as error:
        read_journal(tmp_path / "journal.h5")
    assert len(str(error.value).splitlines()) == 1


def test_ten_thousand_actions_are_quick_and_memory_stays_flat(tmp_path):
    with_journal = writer(tmp_path / "journal.h5")
    seconds = []
    resident = []
    for i in range(10_000):
        one = entry(i)
        begin = time.perf_counter()
        with_journal.append(one)
        seconds.append(time.perf_counter() - begin)
        if i in (1_000, 9_999):
            resident.append(resident_bytes())
    with_journal.close("COMPLETED")
    assert np.median(seconds) < 1e-3
    assert resident[1] - resident[0] < 8 * 2**20
    assert len(read_journal(tmp_path / "journal.h5").entries) == 10_000


def resident_bytes():
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
